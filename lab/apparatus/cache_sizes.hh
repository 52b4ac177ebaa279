#pragma once
// Sizes of memory to measure, chosen by the caches that a CPU sits under.

#include "affinity/topology.hh"

#include <cstdint>
#include <string>
#include <vector>

namespace schedlab::apparatus {

struct CacheLevel {
  std::string name;        // "L1"
  std::uint64_t size = 0;  // bytes, as hwloc reports it
};

// The data caches of a CPU from the first level on, each larger than the one before.
std::vector<CacheLevel> caches_of(const affinity::Topology& topology, unsigned cpu);

using Sizes = std::vector<std::uint64_t>;

struct SweepOptions {
  bool coarse = false;
  // Where the sweep ends at the latest; else at four times the last cache, or where there is none
  // at without_caches.
  std::uint64_t limit = ~std::uint64_t{0};
};
inline constexpr std::uint64_t dear = std::uint64_t{64} << 20;  // sizes that take long to set up
inline constexpr std::uint64_t without_caches = std::uint64_t{256} << 20;

// Ascending: 1/2, 3/4, 7/8, 1, 9/8, 5/4, 3/2 and 2 times each cache, and a grid from 16 KiB on of
// four sizes to the octave, coarse: one. Dear sizes are fewer: not 7/8 and 9/8, coarse: only 1 and
// 2 times; and one to the octave, coarse: to two.
Sizes sweep_sizes(const std::vector<CacheLevel>& caches, const SweepOptions& options);

// One size of each level, ascending: half of the first cache, the geometric middle of every other
// between it and the one before, and the last size of the sweep for memory.
Sizes level_sizes(const std::vector<CacheLevel>& caches, const SweepOptions& options);

// "24K", "2M", "1G", "5000".
std::string size_word(std::uint64_t size);

}  // namespace schedlab::apparatus
