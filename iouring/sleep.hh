#pragma once
// Waiting for time, and for the next turn.

#include "iouring/loop.hh"

#include <chrono>
#include <concepts>

namespace schedlab::iouring {

// Suspends the task for that long; not at all if it is negative, for one turn if it is zero.
class [[nodiscard]] Sleep final : public Timer, public detail::Waiting {
public:
  explicit Sleep(std::chrono::nanoseconds time) noexcept : time_(time) {}

  bool await_ready() noexcept { return false; }
  template <std::derived_from<detail::PromiseBase> Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) {
    task_ = coroutine.promise().state;
    if (task_->take_cancel()) {
      cancelled_ = true;
      return false;
    }
    coroutine_ = coroutine;
    task_->waiting = this;
    task_->loop->timers().set(*this, from_now(time_));
    return true;
  }
  void await_resume() {
    if (cancelled_) {
      task_->cancel_pending = false;
      throw Cancelled();
    }
  }

private:
  void expired() noexcept override { resume(); }
  void on_cancel() noexcept override {
    cancelled_ = true;
    task_->loop->timers().unset(*this);
    resume();
  }
  void resume() noexcept {
    task_->waiting = nullptr;
    task_->loop->ready(coroutine_);
  }

  std::chrono::nanoseconds time_;
  detail::TaskState* task_ = nullptr;
  std::coroutine_handle<> coroutine_;
  bool cancelled_ = false;
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
