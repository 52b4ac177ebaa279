#pragma once
// What the scenarios of iouring_parity.py are made of.

#include "iouring/barrier.hh"
#include "iouring/sleep.hh"
#include "iouring/task_group.hh"
#include "iouring/timeout.hh"

#include <chrono>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace schedlab::testing {

using iouring::Cancelled;
using iouring::Task;

using Log = std::vector<std::string>;

inline constexpr std::chrono::nanoseconds tick = std::chrono::milliseconds(5);

inline Task<> nap(int ticks) {
  co_await iouring::sleep_for(ticks * tick);
}

inline Task<int> give(int value, int ticks) {
  co_await nap(ticks);
  co_return value;
}

inline Task<> fail(const char* text, int ticks) {
  co_await nap(ticks);
  throw std::runtime_error(text);
}

inline Task<> linger(Log& log, std::string name, int ticks) {
  bool cancelled = false;
  try {
    co_await nap(1000);
  } catch (const Cancelled&) {
    cancelled = true;
  }
  if (!cancelled)
    co_return;
  log.push_back(name + "-cancelled");
  co_await nap(ticks);
  log.push_back(name + "-ended");
  throw Cancelled();
}

inline std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const iouring::TimeoutError&) {
    return "timeout";
  } catch (const iouring::BrokenBarrier&) {
    return "broken";
  } catch (const iouring::GroupError& group) {
    std::string text;
    for (const auto& one : group.errors())
      text += (text.empty() ? "" : ",") + text_of(one);
    return "group(" + text + ")";
  } catch (const std::exception& other) {
    return other.what();
  }
}

inline std::string shown(const std::string& text) {
  return text;
}
template <typename T>
std::string shown(const T& number) {
  return std::to_string(number);
}

// What an awaitable gives or throws. Of a wait that does not move, a reference.
template <typename T>
Task<std::string> outcome(Task<T> task) {
  std::exception_ptr error;
  try {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(task);
      co_return "none";
    } else {
      co_return shown(co_await std::move(task));
    }
  } catch (...) {
    error = std::current_exception();
  }
  co_return text_of(error);
}

struct Scenario {
  const char* name;
  Task<> (*run)(Log&);
};

// Of locks, queues and the like; the others are beside main.
extern const std::span<const Scenario> sync_scenarios;

}  // namespace schedlab::testing
