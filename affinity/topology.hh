#pragma once
// The machine as hwloc sees it, and which part of it this process may use.
//
// A topology is immutable once loaded and may be read from any thread. Loading costs a few
// milliseconds and never uses hwloc's x86 component, which visits every CPU and hangs behind a
// SCHED_FIFO spinner (HWLOC_COMPONENTS=linux,stop unless the user set the variable, or gave another
// machine in HWLOC_XMLFILE or HWLOC_SYNTHETIC). Variables are set while it loads and put back: not
// at a time when another thread reads the environment.

#include "affinity/cpu_set.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

struct hwloc_topology;

namespace schedlab::affinity {

// One processing unit (hardware thread). Logical numbers are hwloc's (L#), dense and in the order
// of the tree; -1 where the machine has no such object.
struct Cpu {
  unsigned os = 0;       // the kernel's number, P#
  unsigned logical = 0;  // L# of the PU
  int core = -1;         // L# of the core, and so on
  int l2 = -1;
  int l3 = -1;
  int die = -1;
  int package = -1;
  int numa = -1;     // L# of the closest NUMA node; -1 for a CPU without local memory
  int numa_os = -1;  // its P#
  int kind = -1;     // index of the CPU kind, 0 the least performant; -1 if unknown
  unsigned smt = 0;  // position among the PUs of its core
};

struct Cache {
  int level = 0;
  char type = 'u';         // d data, i instruction, u unified
  std::uint64_t size = 0;  // bytes
  unsigned line = 0;       // bytes
  int ways = 0;            // 0 unknown, -1 fully associative
  CpuSet cpus;
};

struct Node {
  unsigned os = 0;
  unsigned logical = 0;
  std::uint64_t memory = 0;  // bytes
  CpuSet cpus;               // those whose own node it is; empty for a memory-only node
};

struct Kind {
  CpuSet cpus;
  int efficiency = -1;  // rank, 0 the least performant; -1 unknown
  std::string name;     // "CoreType=IntelAtom", or empty
};

// The hwloc library that runs, "2.9.0"; "API 2.8" where it does not tell.
std::string hwloc_version();

// How two CPUs are related: their closest shared object, in this order.
enum class Relation : std::uint8_t { same_pu, smt, l2, l3, die, numa, package, remote, unpinned };

// "same-pu", "smt", "l2", ...; the words of the placement language and of the result file.
const char* name(Relation relation);
std::optional<Relation> relation_from(std::string_view name);

class Topology {
public:
  // This machine, restricted to nothing: what may be used is usable(). Throws Unsupported without
  // a /sys that tells of CPUs. Another machine that the user describes in HWLOC_XMLFILE or
  // HWLOC_SYNTHETIC stands in for it, as from_xml() and from_synthetic() would have it.
  static Topology machine();
  // From an hwloc XML file, or a synthetic description such as "pack:2 core:4 pu:2". Both are
  // foreign: placements are computed, pins are refused. Throws BadInput naming the input.
  static Topology from_xml(const std::string& path);
  static Topology from_synthetic(const std::string& description);
  // A path if such a file exists, else a synthetic description.
  static Topology from_input(const std::string& input);

  Topology(Topology&&) noexcept;
  Topology& operator=(Topology&&) noexcept;
  ~Topology();

  // Does it describe another machine than this one?
  [[nodiscard]] bool foreign() const noexcept;

  // All CPUs of the tree, in hwloc's logical order, whether usable or not.
  [[nodiscard]] const std::vector<Cpu>& cpus() const noexcept;
  [[nodiscard]] const Cpu* find(unsigned os) const noexcept;
  [[nodiscard]] const std::vector<Cache>& caches() const noexcept;
  [[nodiscard]] const std::vector<Node>& nodes() const noexcept;
  // CPU kinds, each cut down to the CPUs of the tree; empty or one where all are alike.
  [[nodiscard]] const std::vector<Kind>& kinds() const noexcept;
  // Distances between nodes as the firmware gives them, row-major by logical number, 0 where it
  // gives none; empty without any.
  [[nodiscard]] const std::vector<std::uint64_t>& node_distances() const noexcept;

  // The CPUs of the tree, and those that the machine has beside them but are switched off.
  [[nodiscard]] const CpuSet& online() const noexcept;
  [[nodiscard]] const CpuSet& offline() const noexcept;
  // What the cgroup allows, what sched_getaffinity gave when the topology was loaded, and both
  // together with online. For a foreign topology all are the whole tree (an XML's own allowed set).
  [[nodiscard]] const CpuSet& allowed() const noexcept;
  [[nodiscard]] const CpuSet& affinity() const noexcept;
  [[nodiscard]] const CpuSet& usable() const noexcept;

  // The one relation of two CPUs of this tree.
  [[nodiscard]] Relation relation(unsigned os_a, unsigned os_b) const;
  // "L#3(P#7)".
  [[nodiscard]] std::string label(unsigned os) const;
  // A shape without names or readings that drift: "1 package, 1 node, 2 cores, 2 PUs, L3 32 MiB".
  [[nodiscard]] std::string shape() const;
  // The size of the largest data or unified cache of a level that the CPU sits under, 0 if none.
  [[nodiscard]] std::uint64_t cache_size(unsigned os, int level) const;

  // hwloc XML of this topology.
  [[nodiscard]] std::string xml() const;
  [[nodiscard]] hwloc_topology* hwloc() const noexcept;

private:
  struct Data;
  explicit Topology(std::unique_ptr<Data> data);
  std::unique_ptr<Data> data_;
};

}  // namespace schedlab::affinity
