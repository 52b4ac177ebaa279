#pragma once
// Waiting, with a lock held, for what others do under that lock:
//
//   auto guard = co_await lock.acquire();
//   co_await condition.wait_for(guard, [&] { return !jobs.empty(); });
//
// A wait gives the lock back and has it again when it ends, also when it ends by Cancelled. A task
// that is notified lines up for the lock in that moment. Unlike in asyncio whoever notifies need
// not hold the lock. Loop's thread only.

#include "iouring/lock.hh"

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <limits>

namespace schedlab::iouring {

class Condition {
public:
  class [[nodiscard]] Wait final : public detail::Waiter {
  public:
    explicit Wait(Condition& condition) noexcept : condition_(condition) {}
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <std::derived_from<detail::PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      if (!enter(condition_.line_, coroutine))
        return false;
      condition_.lock_.release();
      return true;
    }
    void await_resume() const { throw_if_cancelled(); }

  private:
    // It must have the lock before it ends.
    void on_cancel() noexcept override {
      cancelled_ = true;
      condition_.line_.remove(*this);
      condition_.lock_.give(*this);
    }

    Condition& condition_;
  };

  explicit Condition(Lock& lock) noexcept : lock_(lock) {}
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  // Until somebody notifies. The guard holds the lock before and after. Throws Cancelled.
  Wait wait([[maybe_unused]] const Lock::Guard& guard) noexcept {
    assert(guard.holds(lock_));
    return Wait(*this);
  }
  // Until it holds; not at all if it does. The guard must live as long.
  template <std::predicate Predicate>
  Task<> wait_for(const Lock::Guard& guard, Predicate holds) {
    while (!holds())
      co_await wait(guard);
  }
  // Lets so many go on, in the order in which they came.
  void notify(std::size_t count = 1) noexcept {
    for (; count > 0; --count) {
      detail::Waiter* const waiter = line_.pop();
      if (!waiter)
        return;
      waiter->hold_on();
      lock_.give(*waiter);
    }
  }
  void notify_all() noexcept { notify(std::numeric_limits<std::size_t>::max()); }
  // Tasks in line.
  [[nodiscard]] std::size_t waiting() const noexcept { return line_.size(); }

private:
  Lock& lock_;
  detail::Line line_;
};

}  // namespace schedlab::iouring
