#pragma once
// What tests of tasks share: a case runs on every driver that works here, and says where one does
// not.

#include "iouring/sleep.hh"
#include "iouring/start.hh"
#include "tests/iouring_drivers.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

namespace schedlab::testing {

// Runs a coroutine function as a loop's main task.
template <typename F>
void run_on(iouring::DriverChoice choice, F function) {
  iouring::Loop loop(on(choice));
  loop.run(function());
}

// What happened, in order.
using Log = std::vector<std::string>;

inline iouring::Task<int> value_after(int value, int turns) {
  for (; turns > 0; --turns)
    co_await iouring::yield();
  co_return value;
}

inline iouring::Task<> fail_after(const char* text, int turns) {
  for (; turns > 0; --turns)
    co_await iouring::yield();
  throw std::runtime_error(text);
}

inline iouring::Task<> forever() {
  co_await iouring::sleep_for(std::chrono::hours(1));
}

// Waits until it is cancelled; then puts its things away for some turns.
inline iouring::Task<> last_long(Log& log, std::string name, int turns_to_end = 0) {
  bool cancelled = false;
  try {
    co_await forever();
  } catch (const iouring::Cancelled&) {
    cancelled = true;
  }
  log.push_back(name + " cancelled");
  for (; turns_to_end > 0; --turns_to_end)
    co_await iouring::yield();
  log.push_back(name + " ended");
  if (cancelled)
    throw iouring::Cancelled();
}

// Lets that many turns pass.
inline iouring::Task<> turns(int count) {
  for (; count > 0; --count)
    co_await iouring::yield();
}

// The text of what a task throws; "" if it throws nothing.
template <typename Awaited>
iouring::Task<std::string> thrown_by(Awaited awaited) {
  std::string text;
  try {
    co_await std::move(awaited);
  } catch (const std::exception& error) {
    text = error.what();
  }
  co_return text;
}

}  // namespace schedlab::testing
