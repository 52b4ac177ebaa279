#pragma once
#include "procs/futex_calls.hh"

namespace schedlab::procs {

// A flag that threads wait for. Set, it lets all through who wait and who come, until it is reset.
// The memory is shared by threads, or by processes (Sharing). What was written before set() is seen
// after wait(). A thread that is through may destroy it, though set() has not yet returned.
//
// A waiter that is killed costs nothing. A process that is killed within set() may have set it and
// leave those asleep who wait without a limit: the next set() wakes them only after a reset() and
// another waiter. A wait with a limit ends with it, and says that it was set.
class Event {
public:
  explicit Event(Sharing sharing = Sharing::threads) noexcept : sharing_(sharing) {}
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Nobody waiting, it does not enter the kernel.
  void set() noexcept;
  void reset() noexcept;
  [[nodiscard]] bool is_set() const noexcept {
    return (word_.load(std::memory_order_acquire) & raised) != 0;
  }
  void wait() noexcept { wait_until(nullptr); }
  // False if it was not set until this point of CLOCK_MONOTONIC (null: no end).
  bool wait_until(const timespec* until) noexcept;
  template <typename Rep, typename Period>
  bool wait_for(const std::chrono::duration<Rep, Period>& wait) {
    const timespec until = monotonic_in(std::chrono::duration<double>(wait));
    return wait_until(&until);
  }
  template <typename Clock, typename Duration>
  bool wait_until(const std::chrono::time_point<Clock, Duration>& when) {
    return attempt_until(when, [this](const timespec* until) { return wait_until(until); });
  }

private:
  // The word: whether it is set, whether somebody may sleep, and how often it was set, so that a
  // waiter is let through also where the flag was lowered before it looked.
  static constexpr std::uint32_t raised = 1;
  static constexpr std::uint32_t slept_for = 2;
  static constexpr std::uint32_t once = 4;

  futex::Word word_{0};
  Sharing sharing_;
};

}  // namespace schedlab::procs
