#pragma once
// Runs work in an executor of the program's own, a pool of threads or processes, and gives its
// value or throws what it threw: `co_await run_in(pool, work)`.
//
// The wait lasts until the work is done, also when it is cancelled: then the value counts and
// Cancelled is thrown at the next wait. The executor must outlive the wait.

#include "iouring/suspension.hh"
#include "lab/base/executor.hh"

#include <optional>
#include <utility>

namespace schedlab::iouring {

template <Executor E, typename F>
class [[nodiscard]] RunIn final : private Posted, private detail::Suspension {
public:
  RunIn(E& executor, F&& work) : executor_(executor), work_(std::move(work)) {}

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  // Throws what submit throws.
  template <std::derived_from<detail::PromiseBase> Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) {
    if (!suspend(coroutine, [this] { future_.emplace(executor_.submit(std::move(work_))); }))
      return false;
    Loop& loop = *task_->loop;
    future_->on_ready([this, &loop]() noexcept { loop.post(*this); });
    return true;
  }
  decltype(auto) await_resume() {
    throw_if_cancelled();
    return future_->get();
  }

private:
  void posted() noexcept override { resume(); }
  void on_cancel() noexcept override {}  // the end of the work ends the wait

  E& executor_;
  F work_;
  std::optional<decltype(std::declval<E&>().submit(std::declval<F>()))> future_;
};

template <Executor E, typename F>
RunIn<E, F> run_in(E& executor, F work) {
  return RunIn<E, F>(executor, std::move(work));
}

}  // namespace schedlab::iouring
