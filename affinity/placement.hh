#pragma once
// The placement language of --place: where one, two or N tasks go.
//
//   relations   same-pu smt l2 l3 die numa package remote unpinned all
//   strategies  compact scatter per-core           (workers)
//   locations   core:0.pu:1  numa:0  package:1.core:0-1  0xff  (hwloc)   cpus:0,2-5  (kernel list)
//
// Items are separated by commas; in "cpus:" a comma goes on with the list as long as what follows
// is a number or range. A text of hexadecimal words alone is one mask, commas and all: "0x1,,0x3".
// In hwloc's names numbers are logical. A range is N, N-M, N- (to the last), N:COUNT (goes on at
// the first after the last), all, odd or even. Only usable CPUs count: what is named by number must
// have one, while all, odd and even pass over objects without.

#include "affinity/topology.hh"

#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace schedlab::affinity {

enum class Strategy : std::uint8_t { compact, scatter, per_core };

const char* name(Strategy strategy);

// A parsed --place. Parsing needs the topology, because a location that does not exist is an error.
struct Placement {
  // One item: a relation, a strategy, "all", or a location (its usable CPUs in tree order; those
  // of "cpus:" in the order they are written).
  struct All {};
  struct Location {
    std::string text;
    std::vector<unsigned> cpus;
  };
  using Item = std::variant<All, Relation, Strategy, Location>;

  std::vector<Item> items;
  std::string text;
};

// Throws BadInput for an unknown or empty location: it names the item and lists what exists.
Placement parse_placement(std::string_view text, const Topology& topology);

// Where a pair of tasks goes; cpus are kernel numbers. first == second for same-pu; for unpinned
// both may run anywhere.
struct Pair {
  Relation relation = Relation::unpinned;
  unsigned first = 0;
  unsigned second = 0;
};

// A relation (or CPU) that was asked for and cannot be had here, with the reason.
struct Absent {
  std::string name;
  std::string reason;
};

template <typename T>
struct Choice {
  std::vector<T> chosen;
  std::vector<Absent> absent;
};

// One pair for each relation asked for, of like cores if there is one: "all" means every relation,
// those the machine lacks are absent. A strategy gives the pair of its first two workers. Locations
// together give one pair, the first two CPUs named (one CPU: both on it).
Choice<Pair> choose_pairs(const Topology& topology, const Placement& placement);

// Every pair of usable CPUs, ordered so that each relation and each pair of core kinds has a
// representative first, then round robin over the relations.
std::vector<Pair> all_pairs(const Topology& topology);

// Single CPUs: all of the locations; for anything else one CPU for each core kind.
Choice<unsigned> choose_ones(const Topology& topology, const Placement& placement);

// `count` CPUs for workers. compact fills a core, then its neighbours; scatter goes to where the
// fewest workers are: package, then node, die, caches, core; per-core takes one PU of each core
// first, and stands for "all". Locations are taken in order; beside a strategy they say which CPUs
// it may use. A relation takes CPUs that share one such object (same-pu: all on one; remote:
// scatter; unpinned: any, and the caller binds nobody). Throws Unsupported if there are fewer
// usable CPUs than asked for.
std::vector<unsigned> choose_workers(const Topology& topology, const Placement& placement,
                                     unsigned count);

}  // namespace schedlab::affinity
