#pragma once
// Memory that a policy has put on one node or several, and walks that reach it: a chase for the
// latency, a streaming read for the bandwidth.
//
// A last-level cache may be larger than any memory that is quickly made. So the lines of a walk are
// flushed from all caches when it is over, outside of the clock (x86-64 and aarch64), and the next
// one finds none of them there.

#include "affinity/cpu_set.hh"
#include "affinity/memory.hh"
#include "lab/apparatus/chase.hh"
#include "lab/apparatus/loop.hh"
#include "lab/base/mapping.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <span>
#include <vector>

namespace schedlab::apparatus {

struct NodeMemoryOptions {
  std::uint64_t size = 0;  // bytes, a multiple of a page
  affinity::Policy policy = affinity::Policy::bind;
  std::vector<unsigned> nodes;  // of the policy, kernel numbers
  unsigned writer = 0;          // the CPU that touches each page first
  affinity::CpuSet usable;
  std::map<unsigned, double> shares;  // of the pages that must lie on each node, by kernel number
};

// Base pages that hold one chase, written once and only read afterwards. Made by the first series
// that asks; the others of its process share it, and are told the same if it cannot be had. For one
// thread.
class NodeMemory {
public:
  explicit NodeMemory(NodeMemoryOptions options) : options_(std::move(options)) {}

  // Throws Unsupported, BadInput or std::system_error where it cannot be had.
  void make();
  // To be asked once it is made.
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return memory_.bytes(); }
  [[nodiscard]] const Link* start() const noexcept { return start_; }
  // Links of the chase.
  [[nodiscard]] std::uint64_t places() const noexcept;
  // The pages on each node, beside those that must be there.
  [[nodiscard]] std::vector<harness::Check> checks() const;

private:
  NodeMemoryOptions options_;
  Mapping memory_;
  const Link* start_ = nullptr;
  std::exception_ptr failure_;
};

// Takes the lines of some memory out of the caches of all CPUs.
void flush_lines(std::span<const std::byte> memory) noexcept;

// An operation is one load, of a task on loop.cpu.
std::unique_ptr<harness::Subject> make_memory_chase(const LoopOptions& loop,
                                                    const std::shared_ptr<NodeMemory>& memory);

struct MemoryReadOptions {
  std::vector<unsigned> cpus;  // of the readers, all different
  affinity::CpuSet usable;
  std::uint64_t bytes = 0;  // read at a time, by all readers together; at most the whole memory
  std::size_t metric = 0;   // gets bytes in a second, of all readers together
};

// An operation is one streaming read of the next `bytes` of the memory, each reader taking its part
// of them; they begin together. What they read is added up and compared with what is there.
std::unique_ptr<harness::Subject> make_memory_read(const MemoryReadOptions& options,
                                                   const std::shared_ptr<NodeMemory>& memory);

}  // namespace schedlab::apparatus
