#pragma once
// Threads that take turns at points of their own choosing, in an order drawn from a seed: the same
// seed plays the same case again, step for step, on any machine.

#include "affinity/cpu_set.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/random.hh"
#include "lab/harness/sample.hh"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace schedlab::apparatus {

// Lets one of its members run at a time. Each thread that takes part calls point() before each of
// its steps and leave() after the last. Whoever reaches a point draws who goes on, himself among
// them. One object plays one case.
class Interleaving {
public:
  static constexpr unsigned most_members = 32;

  // At most 32 members.
  Interleaving(std::uint64_t seed, unsigned members) noexcept;

  // Returns when it is this member's turn.
  void point(unsigned member) noexcept;
  void leave(unsigned member) noexcept;

  // Whose steps they were, in order, when all have left; and the same without any thread, for
  // members that all take `steps` steps.
  [[nodiscard]] const std::vector<std::uint8_t>& trace() const noexcept { return trace_; }
  static std::vector<std::uint8_t> foretold(std::uint64_t seed, unsigned members, unsigned steps);

private:
  static unsigned draw(Random& random, std::uint32_t present) noexcept;
  void hand_on() noexcept;

  // Below: only whoever has the turn touches it.
  Random random_;
  std::uint32_t present_;      // a bit for each member that has not left
  std::uint32_t started_ = 0;  // a bit for each that has had a turn
  std::vector<std::uint8_t> trace_;
  alignas(line_pair) std::atomic<std::uint32_t> turn_;
};

struct SeededOptions {
  unsigned cpu = 0;  // kernel number; both threads are on it
  affinity::CpuSet usable;
  unsigned updates = 4;    // by each of two threads, less than 1000
  std::uint64_t seed = 0;  // of the first case; the next ones follow
  std::size_t lost = 0;    // metric: share of updates lost
  std::size_t each = 1;    // metric: ns for a step
};

// An operation is a case: two threads that update one counter, with a point before each reading and
// before each writing. Each case is played twice and worked out without threads; the checks say
// how often all three ended alike, step for step.
std::unique_ptr<harness::Subject> make_seeded_updates(const SeededOptions& options);

}  // namespace schedlab::apparatus
