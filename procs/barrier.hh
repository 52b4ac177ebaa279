#pragma once
#include "procs/futex_calls.hh"
#include "procs/waiting.hh"

#include <cassert>
#include <optional>

namespace schedlab::procs {

// Where a fixed number of threads wait for each other, again and again. What each wrote before it
// came is seen by all who go on. Destroy it when all have returned.
//
// Threads of several processes may meet (Sharing). One that is killed before it has come is waited
// for, for ever; one that is killed after it has come counts. The last to come, killed before it
// has woken the others, leaves those asleep who wait without a limit: the next phase wakes them.
class Barrier {
public:
  // At least one party. Of the patience see Mutex.
  explicit Barrier(std::uint32_t parties, Sharing sharing = Sharing::threads,
                   Patience patience = {}) noexcept
      : parties_(parties), patience_(patience), sharing_(sharing) {
    assert(parties > 0);
  }
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;

  // Returns when all parties have called it; true for exactly one of them, the last to come.
  bool arrive_and_wait() noexcept { return *arrive_and_wait_until(nullptr); }
  // Nothing if some have not come until this point of CLOCK_MONOTONIC (null: no end). Who gave up
  // has come all the same, and must not come again in this phase: nobody knows when it ends.
  std::optional<bool> arrive_and_wait_until(const timespec* until) noexcept;
  template <typename Rep, typename Period>
  std::optional<bool> arrive_and_wait_for(const std::chrono::duration<Rep, Period>& wait) {
    const timespec until = monotonic_in(std::chrono::duration<double>(wait));
    return arrive_and_wait_until(&until);
  }

private:
  std::atomic<std::uint32_t> here_{0};
  futex::Word phase_{0};
  const std::uint32_t parties_;
  const Patience patience_;
  const Sharing sharing_;
};

}  // namespace schedlab::procs
