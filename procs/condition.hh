#pragma once
#include "procs/mutex.hh"

#include <cassert>
#include <condition_variable>
#include <cstddef>
#include <mutex>

namespace schedlab::procs {

// A condition variable of one Mutex, for as long as it exists. Those who sleep when all are told
// are not all woken, to run into the lock at once: one is, and the kernel lets the others sleep on
// at the lock itself (FUTEX_CMP_REQUEUE), to be woken by one unlock each.
//
// Where processes share it, mutex and condition lie in one mapping, and it shares as the mutex
// does. A wait may end without reason: wait for a predicate. It may be destroyed when all who
// waited have been told, though they have not yet come back. A waiter that is killed in its sleep
// costs nothing. One that is killed as it is woken, before it has the mutex, leaves those asleep
// who were behind it there; a teller that is killed before it has told, all: so processes that may
// be killed wait with a limit. The limit ends the sleep, not the wait for the mutex, which stays
// shut after one that is killed while it has it.
class Condition {
public:
  explicit Condition(Mutex& mutex) noexcept
      : to_mutex_(reinterpret_cast<std::byte*>(&mutex) - reinterpret_cast<std::byte*>(this)) {}
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  // The caller holds the mutex by `held`, and has it again afterwards.
  void wait(std::unique_lock<Mutex>& held) noexcept { wait_until(held, nullptr); }
  template <typename Predicate>
  void wait(std::unique_lock<Mutex>& held, Predicate done) {
    while (!done())
      wait(held);
  }
  // False if the time was over; until a point of CLOCK_MONOTONIC (null: no end).
  bool wait_until(std::unique_lock<Mutex>& held, const timespec* until) noexcept;
  template <typename Rep, typename Period, typename Predicate>
  bool wait_for(std::unique_lock<Mutex>& held, const std::chrono::duration<Rep, Period>& wait,
                Predicate done) {
    const timespec until = monotonic_in(std::chrono::duration<double>(wait));
    while (!done())
      if (!wait_until(held, &until))
        return done();
    return true;
  }
  template <typename Clock, typename Duration, typename Predicate>
  bool wait_until(std::unique_lock<Mutex>& held,
                  const std::chrono::time_point<Clock, Duration>& when, Predicate done) {
    return attempt_until(
        when, [&](const timespec* until) { return done() || (wait_until(held, until), done()); });
  }

  // With the mutex held or not. Nobody waiting, they do not enter the kernel.
  void notify_one() noexcept;
  void notify_all() noexcept;
  // By the holder of the mutex: wakes nobody yet, all go over to the lock.
  void notify_all(std::unique_lock<Mutex>& held) noexcept;

private:
  [[nodiscard]] Mutex& mutex() noexcept {
    return *reinterpret_cast<Mutex*>(reinterpret_cast<std::byte*>(this) + to_mutex_);
  }
  void tell_all(int woken) noexcept;

  futex::Word told_{0};  // how often; the waiters sleep on it
  // Not fewer than wait. A waiter adds itself before it sleeps; who tells takes away, so that a
  // waiter that was told does not touch this any more. One that gave up stays counted until then.
  std::atomic<std::uint32_t> waiters_{0};
  std::ptrdiff_t to_mutex_;  // from here, for processes that map it elsewhere
};

}  // namespace schedlab::procs
