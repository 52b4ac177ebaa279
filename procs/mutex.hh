#pragma once
#include "procs/futex_calls.hh"
#include "procs/waiting.hh"

namespace schedlab::procs {

// A lock of one futex word with three states (Drepper, "Futexes Are Tricky", 2011): free, held, and
// held while somebody may sleep, so that without contention nobody enters the kernel. Whoever comes
// takes a lock that is free, also before those who slept for it: quick, and unfair.
//
// TimedLockable, not recursive. A holder may destroy it once it has the lock, though the unlock
// that let it in has not yet returned. A process that is killed as its holder, or between having
// been woken and having the lock, leaves it shut: see RobustMutex.
class Mutex : public TimedLock<Mutex> {
public:
  // With patience a thread asks so often before it sleeps. Ask for it (Patience::of) in a thread
  // that may run where the users of the lock may: on one CPU it is none.
  explicit Mutex(Sharing sharing = Sharing::threads, Patience patience = {}) noexcept
      : patience_(patience), sharing_(sharing) {}
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void lock() noexcept {
    if (!try_lock()) [[unlikely]]
      lock_slowly(nullptr);
  }
  bool try_lock() noexcept {
    std::uint32_t seen = free;
    return word_.compare_exchange_strong(seen, held, std::memory_order_acquire,
                                         std::memory_order_relaxed);
  }
  // False if it was not to be had until this point of CLOCK_MONOTONIC.
  bool lock_until(const timespec* until) noexcept { return try_lock() || lock_slowly(until); }
  void unlock() noexcept {
    const Sharing sharing = sharing_;  // after the exchange the lock may be gone
    if (word_.exchange(free, std::memory_order_release) == slept_for) [[unlikely]]
      futex::wake(&word_, 1, sharing);
  }

private:
  friend class Condition;
  static constexpr std::uint32_t free = 0;
  static constexpr std::uint32_t held = 1;
  static constexpr std::uint32_t slept_for = 2;  // held, and somebody may sleep

  bool lock_slowly(const timespec* until) noexcept;
  // Takes it in the state slept_for, as who was woken must: others may sleep still.
  bool lock_for_sleepers(const timespec* until) noexcept;

  futex::Word word_{free};
  Patience patience_;
  Sharing sharing_;
};

}  // namespace schedlab::procs
