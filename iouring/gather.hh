#pragma once
// Many tasks at once, until all have ended.
//
//   std::vector<int> all = co_await gather(std::move(tasks));   the first failure ends the others
//   auto outcomes = co_await settle(std::move(tasks));          each with its value or exception
//   auto both = co_await gather(fetch(url), count(file));       different types, in a tuple
//
// The tasks run beside each other in the awaiting task's loop. Unlike in asyncio none is left
// behind: the first failure cancels the others, and whatever happens, all have ended when the wait
// ends. That failure is thrown; a later one only if the first was Cancelled. Cancelling the wait
// cancels all of them; if all gave values nevertheless, the values count.

#include "iouring/family.hh"

#include <utility>

namespace schedlab::iouring {

// What became of a task.
template <typename T>
class Outcome {
public:
  explicit Outcome(Task<T>&& ended) noexcept : task_(std::move(ended)) {}
  [[nodiscard]] bool failed() const noexcept {
    return task_.handle().promise().exception != nullptr;
  }
  [[nodiscard]] std::exception_ptr exception() const noexcept {
    return task_.handle().promise().exception;
  }
  // Throws what the task threw.
  T get() && { return task_.handle().promise().take(); }

private:
  Task<T> task_;
};

// The values in the order of the tasks; of a void task nothing.
template <typename T>
Task<std::vector<T>> gather(std::vector<Task<T>> tasks) {
  detail::Crowd<T> crowd(tasks, detail::Family::Ends::first_failed);
  co_await crowd;
  std::vector<T> values;
  values.reserve(tasks.size());
  for (auto& task : tasks) {
    const Task<T> ended = std::move(task);  // goes at once, while its frame is in the cache
    values.push_back(ended.handle().promise().take());
  }
  co_return values;
}
inline Task<> gather(std::vector<Task<>> tasks) {
  detail::Crowd<void> crowd(tasks, detail::Family::Ends::first_failed);
  co_await crowd;
}

// Different types at once; of a void task std::monostate.
template <typename... T>
requires(sizeof...(T) > 0) Task<std::tuple<detail::Filled<T>...>> gather(Task<T>... tasks) {
  detail::Ensemble<T...> ensemble(detail::Family::Ends::first_failed, tasks...);
  co_await ensemble;
  co_return std::tuple<detail::Filled<T>...>{detail::take_filled(tasks)...};
}

// What became of each task, in their order. Throws nothing of theirs; Cancelled if the wait was
// cancelled and that ended one of them.
template <typename T>
Task<std::vector<Outcome<T>>> settle(std::vector<Task<T>> tasks) {
  detail::Crowd<T> crowd(tasks, detail::Family::Ends::all_ended);
  co_await crowd;
  std::vector<Outcome<T>> outcomes;
  outcomes.reserve(tasks.size());
  for (auto& task : tasks)
    outcomes.emplace_back(std::move(task));
  co_return outcomes;
}

}  // namespace schedlab::iouring
