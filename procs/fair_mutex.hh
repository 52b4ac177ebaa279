#pragma once
#include "procs/futex_calls.hh"

namespace schedlab::procs {

// A lock with bounded unfairness. At first it is a Mutex: whoever comes takes it when it is free.
// A thread that has waited for `patience` draws a ticket, and while there are tickets the lock is
// not freed any more but handed over, in the order of the tickets. So nobody waits longer than
// `patience` and the turns of those who lost theirs before: 0.5 ms by default, as in WebKit's
// locks. With a patience of 0 every thread that does not find the lock free draws a ticket at once,
// and the lock goes strictly in the order in which they came; each hand-over is then a sleep.
//
// TimedLockable, not recursive. A timed attempt draws no ticket, because it could not give it back:
// it competes until its time is over. May be destroyed as a Mutex. A process that is killed while
// it holds the lock or a ticket leaves it shut.
class FairMutex : public TimedLock<FairMutex> {
public:
  explicit FairMutex(Sharing sharing = Sharing::threads,
                     std::chrono::nanoseconds patience = std::chrono::microseconds(500)) noexcept
      : sharing_(sharing), patience_(patience) {}
  FairMutex(const FairMutex&) = delete;
  FairMutex& operator=(const FairMutex&) = delete;

  void lock() noexcept {
    if (!try_lock()) [[unlikely]]
      lock_slowly();
  }
  bool try_lock() noexcept { return take(0, held); }
  bool lock_until(const timespec* until) noexcept;
  void unlock() noexcept {
    const Sharing sharing = sharing_;
    std::uint32_t seen = held;
    if (!word_.compare_exchange_strong(seen, 0, std::memory_order_release,
                                       std::memory_order_relaxed)) [[unlikely]]
      unlock_slowly(seen, sharing);
  }

private:
  // The word. It is 0 when free. "handed": nobody holds it, it waits for the owner of the first
  // ticket. First and last ticket are 14 bits each; both are 0 again when no ticket is out.
  static constexpr std::uint32_t held = 1;
  static constexpr std::uint32_t slept_for = 2;  // somebody without a ticket may sleep
  static constexpr std::uint32_t handed = 4;

  bool take(std::uint32_t from, std::uint32_t to) noexcept {
    return word_.compare_exchange_strong(from, to, std::memory_order_acquire,
                                         std::memory_order_relaxed);
  }
  void lock_slowly() noexcept;
  bool compete(const timespec* until) noexcept;
  bool draw_ticket(std::uint32_t& ticket) noexcept;
  void await_turn(std::uint32_t ticket) noexcept;
  void unlock_slowly(std::uint32_t seen, Sharing sharing) noexcept;

  futex::Word word_{0};
  Sharing sharing_;
  std::chrono::nanoseconds patience_;
};

}  // namespace schedlab::procs
