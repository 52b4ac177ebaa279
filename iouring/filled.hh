#pragma once
// A void task's result where a type is needed: in a tuple, a variant, an optional.

#include "iouring/task.hh"

#include <type_traits>
#include <variant>

namespace schedlab::iouring::detail {

template <typename T>
using Filled = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

template <typename T>
Filled<T> take_filled(Task<T>& task) {
  if constexpr (std::is_void_v<T>) {
    task.handle().promise().take();
    return {};
  } else {
    return task.handle().promise().take();
  }
}

}  // namespace schedlab::iouring::detail
