#include "procs/mutex.hh"

#include "lab/base/keep.hh"

#include <algorithm>
#include <cerrno>

namespace schedlab::procs {

// Where somebody sleeps already, who comes later does not spin.
bool Mutex::lock_slowly(const timespec* until) noexcept {
  const std::uint32_t spins = std::min(patience_.spins, most_spins);
  for (std::uint32_t i = 0; i < spins; ++i) {
    const std::uint32_t seen = word_.load(std::memory_order_relaxed);
    if (seen == slept_for)
      break;
    if (seen == free && try_lock())
      return true;
    pause_cpu();
  }
  return lock_for_sleepers(until);
}

// Marks first and looks at the time afterwards: who gives up has not swallowed a wake-up, because
// the mark makes the next unlock wake another one.
bool Mutex::lock_for_sleepers(const timespec* until) noexcept {
  while (word_.exchange(slept_for, std::memory_order_acquire) != free)
    if (futex::wait(word_, slept_for, sharing_, until) == ETIMEDOUT)
      return false;
  return true;
}

}  // namespace schedlab::procs
