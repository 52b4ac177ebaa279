#pragma once
#include "procs/futex_calls.hh"

#include <bit>
#include <cassert>

namespace schedlab::procs {

// A counting semaphore: acquire takes one of its units or sleeps until there is one. A unit belongs
// to nobody: any thread may give one back, and the unit that a killed process had is lost for good.
// A waiter that is killed asleep costs needless wake-ups; one that is killed just when it was woken
// costs the wake-up, and the unit waits for the next one who comes.
//
// Units and waiters are halves of one word, so that nothing is read after the release that may let
// the last user destroy it. The memory is shared by threads, or by processes (Sharing).
class Semaphore {
public:
  static constexpr std::uint32_t most = INT32_MAX;

  explicit Semaphore(std::uint32_t units, Sharing sharing = Sharing::threads) noexcept
      : state_(units), sharing_(sharing) {
    assert(units <= most);
  }
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  void acquire() noexcept {
    if (!try_acquire()) [[unlikely]]
      acquire_slowly(nullptr);
  }
  bool try_acquire() noexcept;
  template <typename Rep, typename Period>
  bool try_acquire_for(const std::chrono::duration<Rep, Period>& wait) {
    const timespec until = monotonic_in(std::chrono::duration<double>(wait));
    return acquire_until(&until);
  }
  template <typename Clock, typename Duration>
  bool try_acquire_until(const std::chrono::time_point<Clock, Duration>& when) {
    return attempt_until(when, [this](const timespec* until) { return acquire_until(until); });
  }
  // False if there was none until this point of CLOCK_MONOTONIC.
  bool acquire_until(const timespec* until) noexcept {
    return try_acquire() || acquire_slowly(until);
  }
  // Gives units back; at most `most` may be free.
  void release(std::uint32_t units = 1) noexcept {
    const Sharing sharing = sharing_;
    const std::uint64_t before = state_.fetch_add(units, std::memory_order_release);
    assert(units_of(before) + std::uint64_t{units} <= most);
    if (before >= waiter) [[unlikely]]
      futex::wake(word(), static_cast<int>(units), sharing);
  }
  // Units that are free, at some moment lately.
  [[nodiscard]] std::uint32_t available() const noexcept {
    return units_of(state_.load(std::memory_order_relaxed));
  }

private:
  static constexpr std::uint64_t waiter = std::uint64_t{1} << 32;
  static std::uint32_t units_of(std::uint64_t state) noexcept {
    return static_cast<std::uint32_t>(state);
  }
  // The half that the kernel compares: the units.
  [[nodiscard]] const futex::Word* word() const noexcept {
    return reinterpret_cast<const futex::Word*>(&state_) +
           (std::endian::native == std::endian::little ? 0 : 1);
  }
  bool acquire_slowly(const timespec* until) noexcept;

  std::atomic<std::uint64_t> state_;
  Sharing sharing_;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

}  // namespace schedlab::procs
