#pragma once
// Waiting for time, and for the next turn.

#include "iouring/suspension.hh"

#include <chrono>
#include <concepts>

namespace schedlab::iouring {

// Suspends the task for that long; for one turn if that is zero or negative.
class [[nodiscard]] Sleep final : private Timer, private detail::Suspension {
public:
  explicit Sleep(std::chrono::nanoseconds time) noexcept : time_(time) {}

  bool await_ready() noexcept { return false; }
  template <std::derived_from<detail::PromiseBase> Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) {
    return suspend(coroutine, [this] { task_->loop->timers().set(*this, from_now(time_)); });
  }
  void await_resume() const { throw_if_cancelled(); }

private:
  void expired() noexcept override { resume(); }
  void on_cancel() noexcept override {
    task_->loop->timers().unset(*this);
    cut_short();
  }

  std::chrono::nanoseconds time_;
};

inline Sleep sleep_for(std::chrono::nanoseconds time) noexcept {
  return Sleep(time);
}

// Lets every other ready task run first.
class [[nodiscard]] Yield final {
public:
  bool await_ready() noexcept { return false; }
  template <std::derived_from<detail::PromiseBase> Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) {
    auto& task = *coroutine.promise().state;
    cancelled_ = task.take_cancel();
    if (!cancelled_)
      task.loop->ready(coroutine);
    return !cancelled_;
  }
  void await_resume() const {
    if (cancelled_)
      throw Cancelled();
  }

private:
  bool cancelled_ = false;
};

inline Yield yield() noexcept {
  return {};
}

}  // namespace schedlab::iouring
