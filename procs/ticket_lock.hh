#pragma once
#include "procs/futex_calls.hh"
#include "procs/waiting.hh"

namespace schedlab::procs {

// A spin lock that goes strictly in the order in which threads came: each draws a number and waits
// until it is shown. All waiters watch one word, so that each unlock costs as many transfers of its
// line as there are waiters; McsLock does not.
//
// For threads that each have a CPU. Where they share one, the next in line may not be running while
// it is its turn, and nobody else can go on; hence a waiter that has asked `patience` times gives
// its CPU away (sched_yield) each time it asks again. A lock without sleep does not need the kernel
// and serves processes as it is. Lockable; a number once drawn cannot be given back, so there are
// no timed attempts. A process that is killed with a number in its hand leaves it shut.
class TicketLock {
public:
  // Asks whether spinning helps: see Patience. Throws std::system_error.
  TicketLock() : TicketLock(Patience::of(Waiting::adaptive)) {}
  explicit TicketLock(Patience patience) noexcept : patience_(patience) {}
  TicketLock(const TicketLock&) = delete;
  TicketLock& operator=(const TicketLock&) = delete;

  void lock() noexcept {
    const std::uint32_t number = next_.fetch_add(1, std::memory_order_relaxed);
    if (shown_.load(std::memory_order_acquire) != number) [[unlikely]]
      await(number);
  }
  bool try_lock() noexcept {
    std::uint32_t number = shown_.load(std::memory_order_acquire);
    return next_.compare_exchange_strong(number, number + 1, std::memory_order_acquire,
                                         std::memory_order_relaxed);
  }
  // Only the holder writes what is shown.
  void unlock() noexcept {
    shown_.store(shown_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }

private:
  void await(std::uint32_t number) noexcept;

  std::atomic<std::uint32_t> next_{0};
  std::atomic<std::uint32_t> shown_{0};
  Patience patience_;
};

}  // namespace schedlab::procs
