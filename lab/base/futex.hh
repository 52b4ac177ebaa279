#pragma once
#include <atomic>
#include <cstdint>
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace schedlab {

// FUTEX_WAIT: sleeps while the word has this value; returns on a wake-up, a signal, or at once.
// A private futex serves the threads of one process only and is cheaper to look up.
inline long futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, bool shared,
                       const timespec* timeout = nullptr) noexcept {
  const int flag = shared ? 0 : FUTEX_PRIVATE_FLAG;
  return ::syscall(SYS_futex, &word, FUTEX_WAIT | flag, value, timeout, nullptr, 0);
}

// FUTEX_WAKE: wakes at most `count` sleepers; gives how many.
inline long futex_wake(std::atomic<std::uint32_t>& word, int count, bool shared) noexcept {
  const int flag = shared ? 0 : FUTEX_PRIVATE_FLAG;
  return ::syscall(SYS_futex, &word, FUTEX_WAKE | flag, count, nullptr, nullptr, 0);
}

}  // namespace schedlab
