#pragma once
#include "procs/futex_calls.hh"

namespace schedlab::procs {

// A lock whose holder inherits the priority of the most urgent thread that waits for it, so that a
// thread of a priority between the two cannot hold both up. The word holds the thread number of the
// holder, and the kernel hands it over (FUTEX_LOCK_PI2; before Linux 5.14 FUTEX_LOCK_PI, whose
// limit is a time of day).
//
// TimedLockable, not recursive: a thread that locks twice gets std::system_error
// (resource_deadlock_would_occur). For threads or processes (Sharing). A holder that dies breaks
// the mutex: whoever locks it from then on, or waits already, gets std::system_error (owner_dead).
// Forked by other means than fork(), a child must not use it in the thread that made it.
class PiMutex : public TimedLock<PiMutex> {
public:
  explicit PiMutex(Sharing sharing = Sharing::threads) noexcept : sharing_(sharing) {}
  PiMutex(const PiMutex&) = delete;
  PiMutex& operator=(const PiMutex&) = delete;

  // Throw std::system_error, also with function_not_supported where the kernel has no such futex.
  void lock() {
    if (!try_lock()) [[unlikely]]
      lock_slowly(nullptr);
  }
  bool try_lock() noexcept {
    std::uint32_t seen = 0;
    if (!word_.compare_exchange_strong(seen, own_tid(), std::memory_order_acquire,
                                       std::memory_order_relaxed))
      return false;
    if (!broken_.load(std::memory_order_relaxed)) [[likely]]
      return true;
    unlock();
    return false;
  }
  bool lock_until(const timespec* until) { return try_lock() || lock_slowly(until); }
  void unlock() noexcept {
    const Sharing sharing = sharing_;
    std::uint32_t seen = own_tid();
    if (!word_.compare_exchange_strong(seen, 0, std::memory_order_release,
                                       std::memory_order_relaxed)) [[unlikely]]
      unlock_slowly(sharing);
  }

private:
  static std::uint32_t own_tid() noexcept;
  bool lock_slowly(const timespec* until);
  void unlock_slowly(Sharing sharing) noexcept;

  futex::Word word_{0};
  // Raised with each hand-over by the kernel, which no memory order of ours shows.
  std::atomic<std::uint32_t> handed_{0};
  std::atomic<bool> broken_{false};
  Sharing sharing_;
};

}  // namespace schedlab::procs
