#pragma once
#include "lab/base/clock.hh"

#include <atomic>
#include <cstdint>

namespace schedlab::apparatus {

// Ends a sample early where others keep the CPUs busy: then each meeting and each yield can take a
// time slice, and what was calibrated in a quiet moment would take minutes. One thread asks in each
// round; all that meet in it end with the same round.
class Curb {
public:
  // Five times the longest sample: never reached on a machine that measures.
  static constexpr std::int64_t most_ns = 100'000'000;

  // Before the threads begin.
  void begin() noexcept {
    deadline_ns_ = clock::now_ns() + most_ns;
    last_.store(UINT64_MAX, std::memory_order_relaxed);
  }
  // By one thread, before it meets the others for this round: it is the last one if time is up.
  void ask(std::uint64_t round) noexcept {
    if (round % 16 == 0 && clock::now_ns() > deadline_ns_)
      last_.store(round, std::memory_order_relaxed);
  }
  // By all, after they have met.
  [[nodiscard]] bool ends(std::uint64_t round) const noexcept {
    return round >= last_.load(std::memory_order_relaxed);
  }
  // Is time up, for those who do not meet?
  [[nodiscard]] bool is_over() const noexcept { return clock::now_ns() > deadline_ns_; }

private:
  std::int64_t deadline_ns_ = 0;
  std::atomic<std::uint64_t> last_{UINT64_MAX};
};

}  // namespace schedlab::apparatus
