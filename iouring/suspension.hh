#pragma once
// What most waits have in common: the task that is suspended in them, and the rules of its
// cancellation. A wait derives from it, begins in await_suspend, ends by resume(), and says in
// on_cancel how it is cut short.

#include "iouring/loop.hh"

#include <concepts>
#include <coroutine>

namespace schedlab::iouring::detail {

class Suspension : public Waiting {
protected:
  ~Suspension() = default;

  // False if the task was cancelled before: then it shall not suspend.
  template <std::derived_from<PromiseBase> Promise>
  bool suspend(std::coroutine_handle<Promise> coroutine) noexcept {
    task_ = coroutine.promise().state;
    cancelled_ = task_->take_cancel();
    if (cancelled_)
      return false;
    coroutine_ = coroutine;
    task_->waiting = this;
    return true;
  }
  // The same, and begins what is waited for; if that throws there is no wait.
  template <std::derived_from<PromiseBase> Promise, std::invocable Begin>
  bool suspend(std::coroutine_handle<Promise> coroutine, Begin begin) {
    if (!suspend(coroutine))
      return false;
    try {
      begin();
    } catch (...) {
      task_->waiting = nullptr;
      throw;
    }
    return true;
  }
  // Once for each suspend() that was true. From now on cancelling meets the next wait.
  void resume() noexcept {
    task_->waiting = nullptr;
    task_->loop->ready(coroutine_);
  }
  // Ends the wait with Cancelled.
  void cut_short() noexcept {
    cancelled_ = true;
    resume();
  }
  // For await_resume.
  void throw_if_cancelled() const {
    if (cancelled_) {
      task_->cancel_pending = false;
      throw Cancelled();
    }
  }

  TaskState* task_ = nullptr;
  std::coroutine_handle<> coroutine_;
  bool cancelled_ = false;
};

}  // namespace schedlab::iouring::detail
