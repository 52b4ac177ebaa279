#include "procs/pi_mutex.hh"

#include "lab/base/error.hh"

#include <linux/futex.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>

namespace schedlab::procs {
namespace {

thread_local std::uint32_t cached_tid = 0;

void forget_tid() {
  cached_tid = 0;
}

[[noreturn]] void refuse(int error) {
  throw_errno(error == ESRCH ? EOWNERDEAD : error, "futex(FUTEX_LOCK_PI)");
}

}  // namespace

std::uint32_t PiMutex::own_tid() noexcept {
  if (cached_tid == 0) [[unlikely]] {
    static const int forgets = ::pthread_atfork(nullptr, nullptr, forget_tid);
    static_cast<void>(forgets);
    cached_tid = static_cast<std::uint32_t>(::gettid());
  }
  return cached_tid;
}

// EAGAIN: the holder is about to die. A broken mutex is refused to each who gets it, in turn.
bool PiMutex::lock_slowly(const timespec* until) {
  int error = EAGAIN;
  while (error == EAGAIN || error == EINTR) {
    if (broken_.load(std::memory_order_acquire))
      refuse(ESRCH);
    error = futex::lock_pi(word_, sharing_, until);
  }
  if (error == ETIMEDOUT)
    return false;
  if (error == ESRCH)
    broken_.store(true, std::memory_order_release);
  if (error != 0)
    refuse(error);
  static_cast<void>(handed_.load(std::memory_order_acquire));
  if (word_.load(std::memory_order_relaxed) & FUTEX_OWNER_DIED)
    broken_.store(true, std::memory_order_release);
  if (!broken_.load(std::memory_order_acquire))
    return true;
  unlock_slowly(sharing_);
  refuse(ESRCH);
}

void PiMutex::unlock_slowly(Sharing sharing) noexcept {
  handed_.fetch_add(1, std::memory_order_release);
  futex::unlock_pi(word_, sharing);
}

}  // namespace schedlab::procs
