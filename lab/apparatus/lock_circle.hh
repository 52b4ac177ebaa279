#pragma once
// Tasks around a table with a lock between each two: each takes its own and then its neighbour's.
// Two of them are the pair that takes two locks in opposite orders, five the dining philosophers.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

enum class Taking : std::uint8_t {
  circular,  // own first, then the neighbour's: can deadlock, is seen and undone
  ordered,   // the one with the smaller number first
  scoped,    // std::scoped_lock
  back_off,  // try the second one; if it is taken give the first back and begin again
};
std::string_view to_text(Taking taking) noexcept;

struct LockCircleOptions {
  std::vector<std::optional<unsigned>> places;  // of two threads or more; nothing: anywhere
  affinity::CpuSet usable;
  Taking taking = Taking::circular;
  std::uint32_t hold_ns = 0;  // between the first lock and the second
  std::uint32_t skew_ns = 0;  // the threads meet for each round and then begin up to so much late,
                              // drawn; 0: they go on and on. Threads with CPUs of their own only
  bool yields = false;        // between the two locks the thread yields, as if it were preempted
  std::uint64_t seed = 0;
  // Indexes of the metrics that a sample fills in.
  std::size_t odds = 0;      // deadlocks, for each round of all threads; of `circular`
  std::size_t each = 1;      // ns from first start to last end, for a pair of locks; without a skew
  std::size_t retries = 2;   // locks given back unused, for a pair taken
  std::size_t evenness = 3;  // pairs of the slowest thread to those of the quickest at half time
};

// An operation is a round: one pair of locks by each thread. A deadlock is seen by the thread that
// completes it: it counts it, gives its lock back and begins again, so that thousands can be
// counted. The checks say that nobody was inside with a neighbour and that all took their pairs.
std::unique_ptr<harness::Subject> make_lock_circle(const LockCircleOptions& options);

// How likely two threads are to hold their first locks at the same time, if each begins at a moment
// drawn from [0, skew) and holds it for `hold` before it asks for the second.
double expected_odds(double hold_ns, double skew_ns) noexcept;

}  // namespace schedlab::apparatus
