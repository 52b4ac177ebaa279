#include "procs/event.hh"

#include <cerrno>
#include <climits>

namespace schedlab::procs {

void Event::set() noexcept {
  const Sharing sharing = sharing_;
  std::uint32_t seen = word_.load(std::memory_order_relaxed);
  std::uint32_t wanted = 0;
  do
    wanted = seen & raised ? seen : ((seen & ~slept_for) | raised) + once;
  while (!word_.compare_exchange_weak(seen, wanted, std::memory_order_release,
                                      std::memory_order_relaxed));
  if (seen & slept_for)
    futex::wake(&word_, INT_MAX, sharing);
}

void Event::reset() noexcept {
  word_.fetch_and(~raised, std::memory_order_relaxed);
}

bool Event::wait_until(const timespec* until) noexcept {
  std::uint32_t seen = word_.load(std::memory_order_acquire);
  const std::uint32_t at_first = seen / once;
  for (;;) {
    if (seen & raised || seen / once != at_first)
      return true;
    if (!(seen & slept_for) &&
        !word_.compare_exchange_weak(seen, seen | slept_for, std::memory_order_acquire))
      continue;
    const int woke = futex::wait(word_, seen | slept_for, sharing_, until);
    seen = word_.load(std::memory_order_acquire);
    if (woke == ETIMEDOUT)
      return seen & raised || seen / once != at_first;
  }
}

}  // namespace schedlab::procs
