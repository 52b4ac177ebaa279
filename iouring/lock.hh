#pragma once
// Mutual exclusion of tasks of one loop: `const auto guard = co_await lock.acquire();`
//
// First come, first served: a lock that is given back while tasks wait goes to the first of them at
// once and is never free in between. Not recursive. Loop's thread only.

#include "iouring/waiters.hh"

#include <concepts>
#include <coroutine>
#include <optional>
#include <utility>

namespace schedlab::iouring {

class Lock {
public:
  // Holds a lock and gives it back at its end.
  class [[nodiscard]] Guard {
  public:
    Guard(Guard&& other) noexcept : lock_(std::exchange(other.lock_, nullptr)) {}
    Guard& operator=(Guard&& other) noexcept {
      Guard taken(std::move(other));
      std::swap(lock_, taken.lock_);
      return *this;
    }
    ~Guard() { release(); }

    // Gives it back early; nothing if that is done.
    void release() noexcept {
      if (Lock* const lock = std::exchange(lock_, nullptr))
        lock->release();
    }
    [[nodiscard]] bool holds(const Lock& lock) const noexcept { return lock_ == &lock; }

  private:
    friend class Lock;
    explicit Guard(Lock& lock) noexcept : lock_(&lock) {}
    Lock* lock_;
  };

  class [[nodiscard]] Acquire final : public detail::Waiter {
  public:
    explicit Acquire(Lock& lock) noexcept : lock_(lock) {}
    [[nodiscard]] bool await_ready() noexcept { return lock_.take(); }
    template <std::derived_from<detail::PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      return enter(lock_.line_, coroutine);
    }
    Guard await_resume() {
      throw_if_cancelled();
      return Guard(lock_);
    }

  private:
    Lock& lock_;
  };

  Lock() = default;
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() { assert(!locked_); }

  // Without a wait if it is free. Throws Cancelled.
  Acquire acquire() noexcept { return Acquire(*this); }
  std::optional<Guard> try_acquire() noexcept {
    return take() ? std::optional<Guard>(Guard(*this)) : std::nullopt;
  }
  [[nodiscard]] bool locked() const noexcept { return locked_; }
  // Tasks in line.
  [[nodiscard]] std::size_t waiting() const noexcept { return line_.size(); }

private:
  friend class Condition;
  bool take() noexcept { return !std::exchange(locked_, true); }
  void release() noexcept {
    if (detail::Waiter* const next = line_.pop())
      next->wake();
    else
      locked_ = false;
  }
  // Gives the lock to a suspended waiter, now or in its turn.
  void give(detail::Waiter& waiter) noexcept {
    if (take())
      waiter.wake();
    else
      line_.push(waiter);
  }

  bool locked_ = false;
  detail::Line line_;
};

}  // namespace schedlab::iouring
