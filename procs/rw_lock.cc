#include "procs/rw_lock.hh"

#include <cerrno>
#include <climits>

namespace schedlab::procs {
namespace {

constexpr std::uint32_t readers = 1;
constexpr std::uint32_t writers = 2;

}  // namespace

bool RwLock::try_lock_shared() noexcept {
  std::uint32_t seen = state_.load(std::memory_order_relaxed);
  while (may_read(seen))
    if (state_.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire,
                                     std::memory_order_relaxed))
      return true;
  return false;
}

// Held by nobody while somebody sleeps, the lock waits for a writer that was woken.
bool RwLock::lock_shared_slowly(const timespec* until) noexcept {
  for (;;) {
    std::uint32_t seen = state_.load(std::memory_order_relaxed);
    const bool kept_free = (seen & writing) == 0 && seen != 0;
    if (!kept_free && may_read(seen & ~readers_sleep)) {
      if (state_.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire,
                                       std::memory_order_relaxed))
        return true;
      continue;
    }
    if (!(seen & readers_sleep) &&
        !state_.compare_exchange_weak(seen, seen | readers_sleep, std::memory_order_relaxed))
      continue;
    if (futex::wait(state_, seen | readers_sleep, sharing_, until, readers) == ETIMEDOUT)
      return false;
  }
}

bool RwLock::lock_slowly(const timespec* until) noexcept {
  std::uint32_t others = 0;  // who has slept must suppose that other writers do
  for (;;) {
    std::uint32_t seen = state_.load(std::memory_order_relaxed);
    if ((seen & writing) == 0) {
      if (state_.compare_exchange_weak(seen, seen | writing | others, std::memory_order_acquire,
                                       std::memory_order_relaxed))
        return true;
      continue;
    }
    if (!(seen & writers_sleep) &&
        !state_.compare_exchange_weak(seen, seen | writers_sleep, std::memory_order_relaxed))
      continue;
    others = writers_sleep;
    if (futex::wait(state_, seen | writers_sleep, sharing_, until, writers) != ETIMEDOUT)
      continue;
    // Our mark kept readers out, perhaps for no writer but us: let all look again.
    if ((seen & writing) != writing) {
      state_.fetch_and(writing, std::memory_order_relaxed);
      futex::wake(&state_, INT_MAX, sharing_, readers | writers);
    }
    return false;
  }
}

// Nobody holds it, until somebody else does, who will leave it in turn. Those who look meanwhile
// may add their marks. While a mark of readers stands they stay out, for the woken writer.
void RwLock::wake_others(std::uint32_t seen, Sharing sharing) noexcept {
  while (seen != 0 && (seen & writing) == 0) {
    const bool writer = (seen & writers_sleep) != 0;
    const std::uint32_t rest = writer ? seen & readers_sleep : 0;
    if (!state_.compare_exchange_weak(seen, rest, std::memory_order_relaxed))
      continue;
    if (!writer)
      futex::wake(&state_, INT_MAX, sharing, readers);
    else if (futex::wake(&state_, 1, sharing, writers) > 0)
      return;
    seen = rest;
  }
}

}  // namespace schedlab::procs
