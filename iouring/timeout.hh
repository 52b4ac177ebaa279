#pragma once
// A limit of time for a task: `co_await timeout(2s, fetch(url))`.
//
// When the time is over the task is cancelled, and once it has ended TimeoutError is thrown. What
// it achieved counts: a value or another failure that it ends with all the same is what the wait
// gives. If the waiting task is cancelled too, before or after the time was over, then Cancelled is
// thrown. Unlike in asyncio, what runs under the limit is a task of its own: the limit cancels that
// one, and the requests to the waiting task are not touched. Limits nest; each throws its own
// error.

#include "iouring/loop.hh"
#include "iouring/timers.hh"

#include <chrono>
#include <concepts>
#include <coroutine>
#include <exception>

namespace schedlab::iouring {

// The time for it was over. Not Cancelled, which is an order from outside.
struct TimeoutError final : std::exception {
  [[nodiscard]] const char* what() const noexcept override { return "timed out"; }
};

namespace detail {

// Runs a task until its end or the deadline, and then until its end.
class Deadline final : public Waiting, private Timer, private TaskState {
public:
  // On CLOCK_MONOTONIC.
  Deadline(std::int64_t due_ns, PromiseBase& promise, std::coroutine_handle<> coroutine) noexcept
      : limit_ns_(due_ns), promise_(promise), task_(coroutine) {}

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  template <std::derived_from<PromiseBase> Promise>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> coroutine) {
    begin(*coroutine.promise().state, coroutine);
    return task_;
  }
  // Throws TimeoutError, Cancelled or nothing: then the promise has the result.
  void await_resume() const;

private:
  void begin(TaskState& waiter, std::coroutine_handle<> coroutine);
  void expired() noexcept override;
  void on_cancel() noexcept override;

  std::int64_t limit_ns_;
  PromiseBase& promise_;
  std::coroutine_handle<> task_;
  TaskState* waiter_ = nullptr;
  std::coroutine_handle<> coroutine_;
  bool expired_ = false;
  bool cancelled_ = false;
};

}  // namespace detail

template <typename T>
Task<T> timeout_at(std::chrono::steady_clock::time_point when, Task<T> task) {
  using std::chrono::nanoseconds;
  const std::int64_t due_ns = nanoseconds(when.time_since_epoch()).count();
  detail::Deadline deadline(due_ns, task.handle().promise(), task.handle());
  co_await deadline;
  co_return task.handle().promise().take();
}

// Such a time, that long from now; the latest there is if the sum is beyond it.
inline std::chrono::steady_clock::time_point deadline_in(std::chrono::nanoseconds limit) noexcept {
  return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(from_now(limit)));
}

// From when it is awaited. With no time left the task runs up to its first wait.
template <typename T>
Task<T> timeout(std::chrono::nanoseconds limit, Task<T> task) {
  detail::Deadline deadline(from_now(limit), task.handle().promise(), task.handle());
  co_await deadline;
  co_return task.handle().promise().take();
}

}  // namespace schedlab::iouring
