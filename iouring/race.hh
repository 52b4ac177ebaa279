#pragma once
// Several tasks for one result.
//
//   auto fastest = co_await race(std::move(mirrors));     fastest.index, fastest.value
//   auto either = co_await race(read(fd), button());      a std::variant: either.index()
//
// The first to end decides. The others are cancelled and have ended when the wait ends; what they
// gave or threw is dropped. If the first to end failed, its failure is thrown.

#include "iouring/family.hh"

#include <array>
#include <cassert>
#include <cstddef>
#include <utility>

namespace schedlab::iouring {

template <typename T>
struct Won {
  std::size_t index = 0;  // of the task
  [[no_unique_address]] detail::Filled<T> value;
};

// At least one task.
template <typename T>
Task<Won<T>> race(std::vector<Task<T>> tasks) {
  assert(!tasks.empty());
  detail::Crowd<T> crowd(tasks, detail::Family::Ends::first_ended);
  co_await crowd;
  const std::size_t index = crowd.winning();
  co_return Won<T>{index, detail::take_filled(tasks[index])};
}

// The variant's index is the task's; of a void task std::monostate.
template <typename... T>
requires(sizeof...(T) > 0) Task<std::variant<detail::Filled<T>...>> race(Task<T>... tasks) {
  using Result = std::variant<detail::Filled<T>...>;
  detail::Ensemble<T...> ensemble(detail::Family::Ends::first_ended, tasks...);
  co_await ensemble;
  const auto all = std::tie(tasks...);
  co_return [&]<std::size_t... I>(std::index_sequence<I...>) {
    using Take = Result (*)(decltype(all)&);
    constexpr std::array<Take, sizeof...(T)> take = {[](decltype(all)& from) {
      return Result(std::in_place_index<I>, detail::take_filled(std::get<I>(from)));
    }...};
    return take[ensemble.winning()](all);
  }
  (std::index_sequence_for<T...>());
}

}  // namespace schedlab::iouring
