#include "procs/futex_calls.hh"

#include "lab/base/clock.hh"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace schedlab::procs {
namespace {

constexpr int lock_pi2 = 13;  // FUTEX_LOCK_PI2 of Linux 5.14

thread_local std::uint64_t calls = 0;

int flag(Sharing sharing) noexcept {
  return sharing == Sharing::threads ? FUTEX_PRIVATE_FLAG : 0;
}

// Its result, or an error below 0.
int call(const futex::Word* word, int operation, std::uint32_t value, const void* timeout,
         const futex::Word* other, std::uint32_t last) noexcept {
  ++calls;
  const int before = errno;
  const long result = ::syscall(SYS_futex, word, operation, value, timeout, other, last);
  const int answer = result < 0 ? -errno : static_cast<int>(result);
  errno = before;
  return answer;
}

}  // namespace

std::uint64_t futex_calls() noexcept {
  return calls;
}

int futex::wait(const Word& word, std::uint32_t value, Sharing sharing, const timespec* until,
                std::uint32_t bits) noexcept {
  return -call(&word, FUTEX_WAIT_BITSET | flag(sharing), value, until, nullptr, bits);
}

int futex::wake(const Word* word, int count, Sharing sharing, std::uint32_t bits) noexcept {
  return call(word, FUTEX_WAKE_BITSET | flag(sharing), static_cast<std::uint32_t>(count), nullptr,
              nullptr, bits);
}

int futex::requeue(const Word& word, std::uint32_t value, int count, const Word& other,
                   Sharing sharing) noexcept {
  // The place of the timeout holds how many may go over: all.
  const auto all = reinterpret_cast<const void*>(std::uintptr_t{INT32_MAX});
  const int answer = call(&word, FUTEX_CMP_REQUEUE | flag(sharing),
                          static_cast<std::uint32_t>(count), all, &other, value);
  return answer < 0 ? -answer : 0;
}

int futex::lock_pi(const Word& word, Sharing sharing, const timespec* until) noexcept {
  static std::atomic<bool> has_lock_pi2{true};
  if (has_lock_pi2.load(std::memory_order_relaxed)) {
    const int error = -call(&word, lock_pi2 | flag(sharing), 0, until, nullptr, 0);
    if (error != ENOSYS)
      return error;
    has_lock_pi2.store(false, std::memory_order_relaxed);
  }
  if (!until)
    return -call(&word, FUTEX_LOCK_PI | flag(sharing), 0, nullptr, nullptr, 0);
  // The older call knows CLOCK_REALTIME only: a clock that is set meanwhile moves the end.
  const timespec real =
      clock::to_timespec(clock::read_ns(CLOCK_REALTIME) + clock::to_ns(*until) - clock::now_ns());
  return -call(&word, FUTEX_LOCK_PI | flag(sharing), 0, &real, nullptr, 0);
}

int futex::unlock_pi(const Word& word, Sharing sharing) noexcept {
  return -call(&word, FUTEX_UNLOCK_PI | flag(sharing), 0, nullptr, nullptr, 0);
}

timespec monotonic_in(std::chrono::duration<double> wait) noexcept {
  constexpr double longest_s = 1e9;
  const double seconds = std::clamp(wait.count(), 0.0, longest_s);
  return clock::to_timespec(clock::now_ns() + static_cast<std::int64_t>(seconds * 1e9));
}

}  // namespace schedlab::procs
