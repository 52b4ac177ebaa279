#pragma once
#include "procs/futex_calls.hh"

#include <pthread.h>

namespace schedlab::procs {

// A lock that survives its holder: when a thread or process dies with it (or calls exec), the next
// one gets it together with the news, and repairs what it guards before anybody else sees it. The
// kernel finds the locks of a dying thread by a list that the thread registered. There is one list
// for each thread and glibc's mutexes are on it, so this is a robust mutex of glibc: a list of our
// own would take glibc's away.
//
// lock(repair) calls repair() when the holder died. If repair returns, the lock goes on as ever; if
// it throws, or there is none, the lock is given up for good: this caller gets the exception, or
// std::system_error (owner_dead), and all others std::system_error (state_not_recoverable).
// For threads or processes (Sharing); never destroyed, and its memory may just go away unused.
class RobustMutex {
public:
  // Throws std::system_error.
  explicit RobustMutex(Sharing sharing = Sharing::threads);
  RobustMutex(const RobustMutex&) = delete;
  RobustMutex& operator=(const RobustMutex&) = delete;

  // Without repair.
  void lock() { finish(acquire(nullptr)); }
  bool try_lock() { return finish(try_acquire()); }
  // lock: true if it was repaired. try_lock_for: false if the time was over.
  template <typename Repair>
  bool lock(Repair&& repair) {
    return mend(acquire(nullptr), repair) == Got::orphaned;
  }
  template <typename Rep, typename Period, typename Repair>
  bool try_lock_for(const std::chrono::duration<Rep, Period>& wait, Repair&& repair) {
    const timespec until = monotonic_in(std::chrono::duration<double>(wait));
    return mend(acquire(&until), repair) != Got::nothing;
  }
  void unlock() noexcept { ::pthread_mutex_unlock(&mutex_); }

private:
  enum class Got : std::uint8_t { nothing, sound, orphaned };

  // Until a point of CLOCK_MONOTONIC; null: no end.
  Got acquire(const timespec* until);
  Got try_acquire();
  // Gives an orphan up and throws; true if it is ours.
  bool finish(Got got);

  template <typename Repair>
  Got mend(Got got, Repair& repair) {
    if (got != Got::orphaned)
      return got;
    try {
      repair();
    } catch (...) {
      unlock();
      throw;
    }
    ::pthread_mutex_consistent(&mutex_);
    return got;
  }

  pthread_mutex_t mutex_;
};

}  // namespace schedlab::procs
