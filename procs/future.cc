#include "procs/future.hh"

#include "lab/base/clock.hh"
#include "lab/base/futex.hh"
#include "lab/base/keep.hh"

#include <algorithm>
#include <climits>
#include <limits>

namespace schedlab::procs::detail {

std::int64_t deadline_after(std::chrono::nanoseconds most) noexcept {
  const std::int64_t now = clock::now_ns();
  const std::int64_t left = std::numeric_limits<std::int64_t>::max() - now;
  return now + std::clamp<std::int64_t>(most.count(), 0, left);
}

std::chrono::nanoseconds time_until(std::int64_t deadline_ns) noexcept {
  if (deadline_ns == std::numeric_limits<std::int64_t>::max())
    return std::chrono::nanoseconds::max();
  return std::chrono::nanoseconds(std::max<std::int64_t>(deadline_ns - clock::now_ns(), 0));
}

bool FutureCore::cancel() noexcept {
  std::uint32_t seen = word_.load(std::memory_order_relaxed);
  while ((seen & state_mask) == to_word(FutureState::pending))
    if (word_.compare_exchange_weak(seen, seen | to_word(FutureState::cancelled), order)) {
      settle(seen);
      return true;
    }
  return false;
}

void FutureCore::tell(std::uint32_t before) noexcept {
  if ((before & sleeper) != 0)
    futex_wake(word_, INT_MAX, false);
  if ((before & callbacks) != 0)
    run_callbacks();
}

// Whoever gets the list runs it: the one that ends the work, or one that adds a callback later.
void FutureCore::run_callbacks() noexcept {
  Callback* newest = callbacks_.exchange(nullptr, std::memory_order_acq_rel);
  Callback* oldest = nullptr;
  while (newest) {
    Callback* const next = newest->next;
    newest->next = oldest;
    oldest = std::exchange(newest, next);
  }
  while (oldest) {
    Callback* const first = std::exchange(oldest, oldest->next);
    first->run(first);
  }
}

void FutureCore::attach(Callback* callback) noexcept {
  callback->next = callbacks_.load(std::memory_order_relaxed);
  while (!callbacks_.compare_exchange_weak(callback->next, callback, order)) {
  }
  // If the end came before the mark, nobody else looks at the list any more.
  const std::uint32_t before = word_.fetch_or(callbacks, order);
  if ((before & state_mask) >= to_word(FutureState::done))
    run_callbacks();
}

bool FutureCore::spin() const noexcept {
  for (std::uint32_t i = 0; i < spins_ || spins_ == Patience::forever; ++i) {
    if (ready())
      return true;
    pause_cpu();
  }
  return ready();
}

// Until the word changes, a wake-up, or the end of the time; the caller looks again.
void FutureCore::sleep(const timespec* most) noexcept {
  std::uint32_t seen = word_.load(std::memory_order_acquire);
  if ((seen & state_mask) >= to_word(FutureState::done))
    return;
  if ((seen & sleeper) == 0 && !word_.compare_exchange_strong(seen, seen | sleeper, order))
    return;
  futex_wait(word_, seen | sleeper, false, most);
}

void FutureCore::wait() noexcept {
  if (ready())
    return;
  help();
  if (spin())
    return;
  while (!ready())
    sleep(nullptr);
}

bool FutureCore::wait_until(std::int64_t deadline_ns) noexcept {
  while (!ready()) {
    const std::int64_t left = deadline_ns - clock::now_ns();
    if (left <= 0)
      return false;
    const timespec most = clock::to_timespec(left);
    sleep(&most);
  }
  return true;
}

}  // namespace schedlab::procs::detail
