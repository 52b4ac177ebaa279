#pragma once
// What the locks of this folder ask of the kernel, and what they have in common: for whom a lock
// is, and until when a thread waits for it.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>

namespace schedlab::procs {

// Whose threads use a lock. Those of one process: the kernel finds the sleepers by address alone.
// Those of several: the lock lies in memory that they share, at whatever address each has it.
enum class Sharing : std::uint8_t { threads, processes };

// Futex system calls that the locks of this folder made for the calling thread since it began;
// glibc's own, as of a RobustMutex, are not among them.
std::uint64_t futex_calls() noexcept;

// No lock asks more often than this before it sleeps or gives its CPU away, whatever its patience:
// a Patience may be from a time when the thread had more CPUs.
inline constexpr std::uint32_t most_spins = 10'000;

// Each counts its call and leaves errno as it was.
namespace futex {

using Word = std::atomic<std::uint32_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == sizeof(std::uint32_t));

inline constexpr std::uint32_t any_sleeper = UINT32_MAX;

// Sleeps while the word has this value, at most until a point of CLOCK_MONOTONIC (null: no end).
// 0 after a wake-up that has a bit in common with `bits`; else EAGAIN, EINTR or ETIMEDOUT.
int wait(const Word& word, std::uint32_t value, Sharing sharing, const timespec* until = nullptr,
         std::uint32_t bits = any_sleeper) noexcept;
// Wakes at most `count` of those that sleep with one of `bits`, who has slept longest first. Looks
// nothing up in the word's memory: it may be gone by now. Gives how many.
int wake(const Word* word, int count, Sharing sharing, std::uint32_t bits = any_sleeper) noexcept;
// If the word has this value, wakes `count` of its sleepers and lets the others sleep on `other`.
// 0, or EAGAIN.
int requeue(const Word& word, std::uint32_t value, int count, const Word& other,
            Sharing sharing) noexcept;
// FUTEX_LOCK_PI2, or FUTEX_LOCK_PI where the kernel has no other. 0 or an error.
int lock_pi(const Word& word, Sharing sharing, const timespec* until) noexcept;
int unlock_pi(const Word& word, Sharing sharing) noexcept;

}  // namespace futex

// The point of CLOCK_MONOTONIC that is so far ahead; now for what is past, and thirty years for
// what is further.
timespec monotonic_in(std::chrono::duration<double> wait) noexcept;

// Tries until `attempt`, which is given a point of CLOCK_MONOTONIC, gives true or `when` has come.
// A clock that is not steady is asked again when the time seems to be over.
template <typename Clock, typename Duration, typename Attempt>
bool attempt_until(const std::chrono::time_point<Clock, Duration>& when, Attempt attempt) {
  for (;;) {
    const timespec until = monotonic_in(std::chrono::duration<double>(when - Clock::now()));
    if (attempt(&until))
      return true;
    if (Clock::now() >= when)
      return false;
  }
}

// What makes a lock TimedLockable that has lock_until(const timespec*).
template <typename Lock>
class TimedLock {
public:
  template <typename Rep, typename Period>
  bool try_lock_for(const std::chrono::duration<Rep, Period>& wait) {
    const timespec until = monotonic_in(std::chrono::duration<double>(wait));
    return static_cast<Lock*>(this)->lock_until(&until);
  }
  template <typename Clock, typename Duration>
  bool try_lock_until(const std::chrono::time_point<Clock, Duration>& when) {
    return attempt_until(when, [this](const timespec* until) {
      return static_cast<Lock*>(this)->lock_until(until);
    });
  }

protected:
  TimedLock() = default;
  ~TimedLock() = default;
};

}  // namespace schedlab::procs
