#pragma once
// Where the event loop and the pools meet without knowing each other: the loop hands work to any
// Executor and is told of its end through on_ready, which it turns into a post to itself.

#include <concepts>

namespace schedlab {

namespace detail {
struct AnyCallback {
  void operator()() noexcept {}
};
struct AnyWork {
  int operator()() { return 0; }
};
}  // namespace detail

// The result of submitted work. on_ready runs the callback exactly once: on the thread that
// finished the work, or at once if the work is finished already; the callback neither blocks nor
// throws. get gives the value, or throws what the work threw; it is called once, when ready.
template <typename F>
concept ReadyFuture = std::movable<F> && requires(F future) {
  { future.ready() }
  noexcept->std::same_as<bool>;
  { future.on_ready(detail::AnyCallback{}) }
  noexcept;
  future.get();
};

// Runs work elsewhere: a thread pool, a process pool. submit may be called from any thread and
// throws only if the executor is shut down or cannot take the work.
template <typename E>
concept Executor = requires(E& executor) {
  { executor.submit(detail::AnyWork{}) } -> ReadyFuture;
};

}  // namespace schedlab
