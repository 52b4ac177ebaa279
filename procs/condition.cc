#include "procs/condition.hh"

#include <cerrno>

namespace schedlab::procs {

// The count of tellings is read before this waiter is counted: who tells and counts it tells
// afterwards, and the kernel then finds another count than the one read here.
bool Condition::wait_until(std::unique_lock<Mutex>& held, const timespec* until) noexcept {
  Mutex& lock = mutex();
  assert(held.owns_lock() && held.mutex() == &lock);
  static_cast<void>(held);
  const std::uint32_t seen = told_.load(std::memory_order_relaxed);
  waiters_.fetch_add(1, std::memory_order_acq_rel);
  lock.unlock();
  const int woke = futex::wait(told_, seen, lock.sharing_, until);
  // Others may have gone over to the lock, whom the unlock that follows must wake.
  lock.lock_for_sleepers(nullptr);
  return woke != ETIMEDOUT;
}

void Condition::notify_one() noexcept {
  std::uint32_t waiters = waiters_.load(std::memory_order_acquire);
  do
    if (waiters == 0)
      return;
  while (!waiters_.compare_exchange_weak(waiters, waiters - 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire));
  const Sharing sharing = mutex().sharing_;
  told_.fetch_add(1, std::memory_order_release);
  futex::wake(&told_, 1, sharing);
}

void Condition::notify_all() noexcept {
  if (waiters_.load(std::memory_order_acquire) > 0)
    tell_all(1);
}

// Marked before they come to it: the unlock of the caller wakes the first of them.
void Condition::notify_all(std::unique_lock<Mutex>& held) noexcept {
  assert(held.owns_lock() && held.mutex() == &mutex());
  static_cast<void>(held);
  if (waiters_.load(std::memory_order_acquire) == 0)
    return;
  mutex().word_.store(Mutex::slept_for, std::memory_order_relaxed);
  tell_all(0);
}

// Somebody else may tell between our count and the kernel's look at it.
void Condition::tell_all(int woken) noexcept {
  Mutex& lock = mutex();
  waiters_.exchange(0, std::memory_order_acq_rel);
  std::uint32_t told = told_.fetch_add(1, std::memory_order_release) + 1;
  while (futex::requeue(told_, told, woken, lock.word_, lock.sharing_) == EAGAIN)
    told = told_.load(std::memory_order_relaxed);
}

}  // namespace schedlab::procs
