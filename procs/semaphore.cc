#include "procs/semaphore.hh"

#include <cerrno>

namespace schedlab::procs {

bool Semaphore::try_acquire() noexcept {
  std::uint64_t seen = state_.load(std::memory_order_relaxed);
  while (units_of(seen) > 0)
    if (state_.compare_exchange_weak(seen, seen - 1, std::memory_order_acquire,
                                     std::memory_order_relaxed))
      return true;
  return false;
}

bool Semaphore::acquire_slowly(const timespec* until) noexcept {
  std::uint64_t seen = state_.fetch_add(waiter, std::memory_order_relaxed) + waiter;
  bool in_time = true;
  for (;;) {
    // Takes a unit if there is one, also when the time is over: the wake-up may have been for us.
    const bool unit = units_of(seen) > 0;
    if (unit || !in_time) {
      if (state_.compare_exchange_weak(seen, seen - waiter - (unit ? 1 : 0),
                                       std::memory_order_acquire, std::memory_order_relaxed))
        return unit;
      continue;
    }
    in_time = futex::wait(*word(), 0, sharing_, until) != ETIMEDOUT;
    seen = state_.load(std::memory_order_relaxed);
  }
}

}  // namespace schedlab::procs
