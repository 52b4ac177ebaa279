#pragma once
// What a coroutine may ask and do about its own task: `const ThisTask self = co_await this_task();`
//
// What runs under gather, settle, race, timeout or in a TaskGroup is a task of its own, which is
// cancelled with the one that waits for it. Unlike in asyncio, cancelling one of these counts there
// and not in the task around it.

#include "iouring/loop.hh"

#include <concepts>
#include <coroutine>
#include <cstdint>
#include <source_location>
#include <stop_token>

namespace schedlab::iouring {

// Valid as long as the task. Loop's thread only, but the token may be used by any.
class ThisTask {
public:
  explicit ThisTask(detail::TaskState& state) noexcept : state_(&state) {}

  [[nodiscard]] Loop& loop() const noexcept { return *state_->loop; }
  // Where it was started; under gather and the like where the task around it was.
  [[nodiscard]] const std::source_location& started() const noexcept { return state_->started; }
  // How often it was asked to end, less what was taken back.
  [[nodiscard]] std::uint32_t cancel_requests() const noexcept { return state_->cancel_requests; }
  // Throws Cancelled at the next wait.
  void cancel() const noexcept { state_->cancel(); }
  // Takes one request back; gives how many are left. With none left the task goes on as if it had
  // never been asked, and tokens that it gives from then on are fresh.
  std::uint32_t uncancel() const noexcept {
    state_->uncancel();
    return state_->cancel_requests;
  }
  // Stops when the task is cancelled: for code that computes, or runs in another thread. The same
  // for all coroutines of the task.
  [[nodiscard]] std::stop_token stop_token() const {
    if (!state_->stop) {
      state_->stop.emplace();
      if (state_->cancel_requests > 0)
        state_->stop->request_stop();
    }
    return state_->stop->get_token();
  }

private:
  detail::TaskState* state_;
};

namespace detail {

class FindTask {
public:
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  template <std::derived_from<PromiseBase> Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
    state_ = coroutine.promise().state;
    return false;
  }
  [[nodiscard]] ThisTask await_resume() const noexcept { return ThisTask(*state_); }

private:
  TaskState* state_ = nullptr;
};

}  // namespace detail

// Not a wait: it neither suspends nor throws.
[[nodiscard]] inline detail::FindTask this_task() noexcept {
  return {};
}

}  // namespace schedlab::iouring
