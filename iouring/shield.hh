#pragma once
// Waiting for a task without passing a cancellation on to it: `co_await shield(running)`. When the
// wait is cancelled, Cancelled is thrown at once and the task goes on; its Running still owns it
// and is to be kept, awaited again or detached.

#include "iouring/start.hh"
#include "iouring/suspension.hh"

namespace schedlab::iouring {

namespace detail {

template <typename T>
class Shielded final : public Listener, public Suspension {
public:
  explicit Shielded(Started<T>& target) noexcept : target_(target) {}

  [[nodiscard]] bool await_ready() const noexcept { return target_.done; }
  template <std::derived_from<PromiseBase> Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
    assert(coroutine.promise().state != &target_);
    if (!suspend(coroutine))
      return false;
    target_.listen(*this);
    return true;
  }
  // The result by reference, or throws what the task threw, or Cancelled.
  std::add_lvalue_reference_t<T> await_resume() {
    throw_if_cancelled();
    return target_.task.handle().promise().get();
  }

private:
  void task_ended() noexcept override { resume(); }
  void on_cancel() noexcept override {
    target_.forget(*this);
    cut_short();
  }

  Started<T>& target_;
};

}  // namespace detail

template <typename T>
[[nodiscard]] detail::Shielded<T> shield(Running<T>& running) noexcept {
  return detail::Shielded<T>(running.started());
}

}  // namespace schedlab::iouring
