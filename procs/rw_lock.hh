#pragma once
#include "procs/futex_calls.hh"

namespace schedlab::procs {

// Many readers or one writer. A writer that waits keeps later readers out, so that readers who
// relieve each other cannot starve it (glibc's default lets them); hence a thread that already
// reads must not read-lock again. When a writer leaves, the next writer is woken before the
// readers. Readers change a word that they share: short ones cost the transfers of its line, and a
// Mutex is as good there.
//
// SharedTimedLockable as std::shared_timed_mutex, for threads or processes (Sharing). Destroy it
// when nobody is in its calls.
//
// A process that is killed while it writes leaves it shut; while it reads, for writers. One that is
// killed as it leaves, before it has woken the others, or a writer that is killed as it is woken,
// leaves those asleep who wait without a limit, and who comes may find it kept for the dead writer
// until another one has had it. With a limit every wait ends.
class RwLock : public TimedLock<RwLock> {
public:
  explicit RwLock(Sharing sharing = Sharing::threads) noexcept : sharing_(sharing) {}
  RwLock(const RwLock&) = delete;
  RwLock& operator=(const RwLock&) = delete;

  void lock() noexcept {
    if (!try_lock()) [[unlikely]]
      lock_slowly(nullptr);
  }
  bool try_lock() noexcept {
    std::uint32_t seen = 0;
    return state_.compare_exchange_strong(seen, writing, std::memory_order_acquire,
                                          std::memory_order_relaxed);
  }
  bool lock_until(const timespec* until) noexcept { return try_lock() || lock_slowly(until); }
  void unlock() noexcept { leave(writing); }

  void lock_shared() noexcept {
    if (!try_lock_shared()) [[unlikely]]
      lock_shared_slowly(nullptr);
  }
  bool try_lock_shared() noexcept;
  bool lock_shared_until(const timespec* until) noexcept {
    return try_lock_shared() || lock_shared_slowly(until);
  }
  void unlock_shared() noexcept { leave(1); }
  template <typename Rep, typename Period>
  bool try_lock_shared_for(const std::chrono::duration<Rep, Period>& wait) {
    const timespec until = monotonic_in(std::chrono::duration<double>(wait));
    return lock_shared_until(&until);
  }
  template <typename Clock, typename Duration>
  bool try_lock_shared_until(const std::chrono::time_point<Clock, Duration>& when) {
    return attempt_until(when, [this](const timespec* until) { return lock_shared_until(until); });
  }

private:
  // The state: how many read (or `writing`), and who may sleep.
  static constexpr std::uint32_t writing = (1u << 30) - 1;
  static constexpr std::uint32_t readers_sleep = 1u << 30;
  static constexpr std::uint32_t writers_sleep = 1u << 31;
  static bool may_read(std::uint32_t state) noexcept { return state < writing - 1; }

  bool lock_slowly(const timespec* until) noexcept;
  bool lock_shared_slowly(const timespec* until) noexcept;
  void leave(std::uint32_t share) noexcept {
    const Sharing sharing = sharing_;
    const std::uint32_t left = state_.fetch_sub(share, std::memory_order_release) - share;
    if ((left & writing) == 0 && left != 0) [[unlikely]]
      wake_others(left, sharing);
  }
  void wake_others(std::uint32_t seen, Sharing sharing) noexcept;

  // Readers and writers sleep on it, told apart by the bits of their sleep.
  futex::Word state_{0};
  Sharing sharing_;
};

}  // namespace schedlab::procs
