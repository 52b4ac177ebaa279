#pragma once
// Runs a function that blocks in one of the loop's few threads for that, and gives its value or
// throws what it threw:
//
//   auto names = co_await to_thread([&] { return list_directory(path); });
//
// The wait lasts until the function has returned, so that it may refer to what the coroutine has.
// Unlike in asyncio that holds when the wait is cancelled too: a function that has not begun never
// will; one that takes a std::stop_token is told to stop; then its value counts, and Cancelled is
// thrown at the next wait, or the function itself throws Cancelled.
//
// The function sees the context (lab/base/context.hh) in which to_thread was called.

#include "iouring/blocking_threads.hh"
#include "iouring/filled.hh"
#include "iouring/suspension.hh"
#include "lab/base/context.hh"

#include <concepts>
#include <exception>
#include <optional>
#include <stop_token>
#include <type_traits>
#include <utility>

namespace schedlab::iouring {

namespace detail {

template <typename F>
struct BlockingCall {
  using Result = std::invoke_result_t<F&>;
  auto operator()() { return function(); }
  void request_stop() noexcept {}
  F function;
};
template <std::invocable<std::stop_token> F>
struct BlockingCall<F> {
  using Result = std::invoke_result_t<F&, std::stop_token>;
  auto operator()() { return function(stop.get_token()); }
  void request_stop() noexcept { stop.request_stop(); }
  F function;
  std::stop_source stop = {};
};

}  // namespace detail

template <typename F>
class [[nodiscard]] ToThread final : private BlockingWork,
                                     private Posted,
                                     private detail::Suspension {
public:
  using Result = typename detail::BlockingCall<F>::Result;
  static_assert(!std::is_reference_v<Result>, "a reference into another thread's stack");

  explicit ToThread(F&& function) : context_(Context::current()), call_{std::move(function)} {}

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  // Throws std::system_error if not a single thread can be started.
  template <std::derived_from<detail::PromiseBase> Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) {
    return suspend(coroutine, [this] { task_->loop->blocking_threads().submit(*this); });
  }
  Result await_resume() {
    if (failure_ && asked_)
      task_->serve_cancel(failure_);
    if (failure_)
      std::rethrow_exception(failure_);
    throw_if_cancelled();
    if constexpr (!std::is_void_v<Result>)
      return std::move(*value_);
  }

private:
  void on_cancel() noexcept override {
    asked_ = true;
    if (task_->loop->blocking_threads().withdraw(*this))
      cut_short();
    else
      call_.request_stop();
  }
  // In the blocking thread.
  void run() noexcept override {
    Loop& loop = *task_->loop;
    const WithinContext inside(context_);
    try {
      if constexpr (std::is_void_v<Result>)
        call_();
      else
        value_.emplace(call_());
    } catch (...) {
      failure_ = std::current_exception();
    }
    loop.post(static_cast<Posted&>(*this));
  }
  void posted() noexcept override { resume(); }

  Context context_;
  detail::BlockingCall<F> call_;
  std::optional<detail::Filled<Result>> value_;
  std::exception_ptr failure_;
  bool asked_ = false;
};

template <typename F>
ToThread<F> to_thread(F function) {
  return ToThread<F>(std::move(function));
}

}  // namespace schedlab::iouring
