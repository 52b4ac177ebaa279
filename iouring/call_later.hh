#pragma once
// Calls a function once, later, in the loop's thread, without a task:
//
//   const auto alarm = call_later(5s, [&]() noexcept { connection.cancel(); });
//
// The object is the call: destroying or cancelling it before its time takes it back. A loop does
// not stay in run() for it.

#include "iouring/loop.hh"

#include <cassert>
#include <chrono>
#include <type_traits>
#include <utility>

namespace schedlab::iouring {

template <typename F>
requires std::is_nothrow_invocable_v<F&>
class [[nodiscard]] Call final : private Timer {
public:
  // For call_later and call_at. Throws std::bad_alloc.
  Call(std::int64_t due_ns, F function) : loop_(Loop::current()), function_(std::move(function)) {
    assert(loop_);
    loop_->timers().set(*this, due_ns);
  }
  ~Call() { cancel(); }

  // It has neither been called nor cancelled.
  [[nodiscard]] bool pending() const noexcept { return is_set(); }
  void cancel() noexcept { loop_->timers().unset(*this); }

private:
  void expired() noexcept override { function_(); }

  Loop* loop_;
  F function_;
};

template <typename F>
Call<F> call_later(std::chrono::nanoseconds time, F function) {
  return Call<F>(from_now(time), std::move(function));
}
template <typename F>
Call<F> call_at(std::chrono::steady_clock::time_point when, F function) {
  const std::chrono::nanoseconds due(when.time_since_epoch());
  return Call<F>(due.count(), std::move(function));
}

}  // namespace schedlab::iouring
