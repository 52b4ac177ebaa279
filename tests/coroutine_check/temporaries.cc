// What is passed into an awaited call, as a temporary: closures, aggregates, awaiters with members.
// g++ 12 copies some of them byte by byte into the frame and destroys them twice.
#include "tests/coroutine_check/task.hh"

#include <type_traits>

using namespace coroutine_check;

namespace {

struct Pair {
  Counted first;
  Counted second;
};

Task sum(Pair pair) {
  co_return pair.first.value() + pair.second.value();
}

template <typename Function>
Task call(Function function) {
  co_return function();
}

// As a hand-over to another thread looks to the compiler: it suspends, or says that it need not.
template <typename Function>
struct Deferred {
  Function function;
  bool await_ready() noexcept { return false; }
  bool await_suspend(std::coroutine_handle<>) noexcept { return false; }
  int await_resume() { return function(); }
};

template <typename Function>
Deferred<std::decay_t<Function>> deferred(Function&& function) {
  return {std::forward<Function>(function)};
}

struct WithMember {
  Counted member;
  bool await_ready() noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) noexcept {}
  int await_resume() noexcept { return member.value(); }
};

Task an_aggregate() {
  co_return co_await sum(Pair{Counted(3), Counted(4)});
}

Task an_aggregate_from_braces() {
  co_return co_await sum({Counted(3), Counted(4)});
}

Task a_closure_into_a_task() {
  const Counted three(3);
  const Counted four(4);
  co_return co_await call([three, four] { return three.value() + four.value(); });
}

Task a_closure_into_an_awaiter() {
  const Counted three(3);
  const Counted four(4);
  co_return co_await deferred([three, four] { return three.value() + four.value(); });
}

Task an_awaiter_with_a_member() {
  co_return co_await WithMember{Counted(7)};
}

Task a_closure_that_is_a_coroutine() {
  const Counted seven(7);
  co_return co_await [](Counted value) -> Task { co_return value.value(); }(seven);
}

Task a_task_that_throws() {
  int caught = 0;
  try {
    caught = co_await [](Counted value) -> Task { throw value.value(); }(Counted(7));
  } catch (int thrown) {
    caught = thrown;
  }
  co_return caught;
}

constexpr Case cases[] = {
    {"an_aggregate", an_aggregate, 7},
    {"an_aggregate_from_braces", an_aggregate_from_braces, 7},
    {"a_closure_into_a_task", a_closure_into_a_task, 7},
    {"a_closure_into_an_awaiter", a_closure_into_an_awaiter, 7},
    {"an_awaiter_with_a_member", an_awaiter_with_a_member, 7},
    {"a_closure_that_is_a_coroutine", a_closure_that_is_a_coroutine, 7},
    {"a_task_that_throws", a_task_that_throws, 7},
};

}  // namespace

int main() {
  return run_all(cases);
}
