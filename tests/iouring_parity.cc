// The scenarios of iouring_parity.py in our library: a line for each, with its events in order.
#include "tests/iouring_parity.hh"
#include "iouring/call_later.hh"
#include "iouring/gather.hh"
#include "iouring/shield.hh"
#include "iouring/this_task.hh"
#include "iouring/to_thread.hh"
#include "iouring/wait.hh"
#include "lab/base/error.hh"

#include <cstdio>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;

namespace {

std::string numbers(const std::vector<std::size_t>& all) {
  std::string text;
  for (const std::size_t one : all)
    text += std::to_string(one);
  return text;
}

Task<> drop(Task<std::tuple<std::monostate, std::monostate>> both) {
  co_await std::move(both);
}

Task<> gather_values(Log& log) {
  std::vector<Task<int>> tasks;
  tasks.push_back(give(1, 3));
  tasks.push_back(give(2, 1));
  tasks.push_back(give(3, 2));
  for (const int value : co_await gather(std::move(tasks)))
    log.push_back(std::to_string(value));
}

Task<> gather_cancelled(Log& log) {
  auto whole = create_task(outcome(drop(gather(linger(log, "a", 3), nap(0)))));
  co_await nap(1);
  whole.cancel();
  log.push_back(co_await whole);
}

Task<> gather_failure(Log& log) {
  log.push_back(co_await outcome(drop(gather(nap(3), fail("bad", 1)))));
}

Task<> settle_all(Log& log) {
  std::vector<Task<std::string>> tasks;
  tasks.push_back([]() -> Task<std::string> {
    co_await fail("one", 3);
    co_return "";
  }());
  tasks.push_back(outcome(give(2, 1)));
  tasks.push_back([]() -> Task<std::string> {
    co_await fail("three", 2);
    co_return "";
  }());
  auto outcomes = co_await settle(std::move(tasks));
  for (auto& one : outcomes)
    log.push_back(one.failed() ? text_of(one.exception()) : std::move(one).get());
}

Task<> group_failure(Log& log) {
  log.push_back(co_await outcome(TaskGroup::run([&log](TaskGroup& group) -> Task<> {
    group.start(linger(log, "a", 6));
    group.start(fail("bad", 1));
    co_await linger(log, "body", 4);
  })));
}

Task<> group_failures(Log& log) {
  const auto bad_end = []() -> Task<> {
    bool cancelled = false;
    try {
      co_await nap(1000);
    } catch (const Cancelled&) {
      cancelled = true;
    }
    co_await nap(2);
    if (cancelled)
      throw std::runtime_error("late");
  };
  log.push_back(co_await outcome(TaskGroup::run([&bad_end](TaskGroup& group) -> Task<> {
    group.start(bad_end());
    group.start(fail("early", 1));
    co_await nap(2000);
  })));
}

Task<> group_body_fails(Log& log) {
  log.push_back(co_await outcome(TaskGroup::run([&log](TaskGroup& group) -> Task<> {
    group.start(linger(log, "a", 1));
    co_await fail("body", 1);
  })));
}

Task<> group_nested(Log& log) {
  log.push_back(co_await outcome(TaskGroup::run([&log](TaskGroup& outer) -> Task<> {
    outer.start(linger(log, "outer", 1));
    log.push_back(co_await outcome(TaskGroup::run([&log](TaskGroup& inner) -> Task<> {
      inner.start(linger(log, "inner", 2));
      co_await fail("bad", 2);
    })));
    throw std::runtime_error("outer");
  })));
}

Task<> group_cancelled(Log& log) {
  auto whole = create_task(outcome(TaskGroup::run([&log](TaskGroup& group) -> Task<> {
    group.start(linger(log, "a", 2));
    co_return;
  })));
  co_await nap(1);
  whole.cancel();
  log.push_back(co_await whole);
}

Task<> group_child_cancelled(Log& log) {
  log.push_back(co_await outcome(TaskGroup::run([&log](TaskGroup& group) -> Task<> {
    auto child = group.create_task(linger(log, "a", 1));
    co_await nap(1);
    child.cancel();
    co_await nap(4);
    log.push_back("body");
  })));
}

Task<> timeout_in_time(Log& log) {
  log.push_back(co_await outcome(timeout(100 * tick, give(7, 1))));
  log.push_back(co_await outcome(timeout(100 * tick, fail("bad", 1))));
}

Task<> timeout_too_late(Log& log) {
  log.push_back(co_await outcome(timeout(tick, linger(log, "a", 2))));
}

Task<> timeout_cancelled(Log& log) {
  auto whole = create_task(outcome(timeout(100 * tick, linger(log, "a", 2))));
  co_await nap(1);
  whole.cancel();
  log.push_back(co_await whole);
}

Task<> timeout_and_cancel(Log& log) {
  auto whole = create_task(outcome(timeout(tick, linger(log, "a", 8))));
  co_await nap(4);
  whole.cancel();
  log.push_back(co_await whole);
}

Task<> timeout_value_after(Log& log) {
  const auto stubborn = []() -> Task<std::string> {
    try {
      co_await nap(1000);
    } catch (const Cancelled&) {
    }
    co_return "all the same";
  };
  log.push_back(co_await outcome(timeout(tick, stubborn())));
}

Task<> timeouts_nested(Log& log) {
  log.push_back(co_await outcome(timeout(100 * tick, timeout(tick, nap(1000)))));
  const auto inner = [](Log& into) -> Task<> {
    try {
      co_await timeout(100 * tick, nap(1000));
    } catch (const Cancelled&) {
      into.push_back("inner-cancelled");
      throw;
    }
  };
  log.push_back(co_await outcome(timeout(tick, inner(log))));
}

Task<> shield_inner(Log& log) {
  const auto text = []() -> Task<std::string> {
    co_await nap(4);
    co_return "inner";
  };
  const auto wait_shielded = [](Running<std::string>& running) -> Task<std::string> {
    co_return co_await shield(running);
  };
  auto inner = create_task(text());
  auto outer = create_task(outcome(wait_shielded(inner)));
  co_await nap(1);
  outer.cancel();
  log.push_back(co_await outer);
  log.push_back(co_await inner);
}

Task<> await_cancels(Log& log) {
  auto inner = create_task(linger(log, "inner", 2));
  const auto waits = [](Running<>& running) -> Task<> { co_await running; };
  auto outer = create_task(outcome(waits(inner)));
  co_await nap(1);
  outer.cancel();
  log.push_back(co_await outer);
}

// The second time while what was cancelled puts its things away.
template <typename T>
Task<> cancel_twice(Log& log, Task<T> whole) {
  auto outer = create_task(outcome(std::move(whole)));
  co_await nap(1);
  outer.cancel();
  co_await nap(3);
  outer.cancel();
  log.push_back(co_await outer);
}

Task<> await_cancelled_twice(Log& log) {
  auto inner = create_task(linger(log, "inner", 300));
  const auto waits = [](Running<>& running) -> Task<> { co_await running; };
  co_await cancel_twice(log, waits(inner));
}

Task<> gather_cancelled_twice(Log& log) {
  co_await cancel_twice(log, drop(gather(linger(log, "a", 300), linger(log, "b", 300))));
}

Task<> timeout_cancelled_twice(Log& log) {
  co_await cancel_twice(log, timeout(1000 * tick, linger(log, "a", 300)));
}

Task<> group_cancelled_twice(Log& log) {
  co_await cancel_twice(log, TaskGroup::run([&log](TaskGroup& group) -> Task<> {
                          group.start(linger(log, "a", 8));
                          co_return;
                        }));
}

Task<> wait_first(Log& log) {
  std::vector<Running<int>> running;
  for (const int ticks : {9, 2, 20})
    running.push_back(create_task(give(0, ticks)));
  log.push_back(numbers((co_await wait(running, When::first_completed)).done));
  log.push_back(numbers((co_await wait(running)).done));
}

Task<> wait_failure(Log& log) {
  std::vector<Running<>> running;
  running.push_back(create_task(nap(1)));
  running.push_back(create_task(fail("bad", 4)));
  running.push_back(create_task(nap(30)));
  running.push_back(create_task(nap(1000)));
  running[3].cancel();
  log.push_back(numbers((co_await wait(running, When::first_exception)).done));
}

Task<> wait_limited(Log& log) {
  std::vector<Running<int>> running;
  for (const int ticks : {1, 200})
    running.push_back(create_task(give(0, ticks)));
  log.push_back(numbers((co_await wait(running, When::all_completed, 10 * tick)).done));
}

Task<> in_order_of_ends(Log& log) {
  std::vector<Running<int>> running;
  for (const int ticks : {6, 2, 8, 4})
    running.push_back(create_task(give(static_cast<int>(running.size()), ticks)));
  auto ends = as_completed(running);
  while (Running<int>* const one = co_await ends.next())
    log.push_back(std::to_string(co_await *one));
}

Task<> cancel_requests(Log& log) {
  const ThisTask self = co_await this_task();
  self.cancel();
  self.cancel();
  log.push_back(std::to_string(self.cancel_requests()));
  log.push_back(co_await outcome(nap(1)));
  log.push_back(co_await outcome(nap(1)));
  std::string left = std::to_string(self.uncancel());
  left += std::to_string(self.uncancel());
  log.push_back(left);
  log.push_back(co_await outcome(nap(1)));
}

Task<> thread_results(Log& log) {
  const auto seven = []() -> Task<int> { co_return co_await to_thread([] { return 7; }); };
  const auto boom = []() -> Task<> {
    co_await to_thread([] { throw std::runtime_error("boom"); });
  };
  log.push_back(co_await outcome(seven()));
  log.push_back(co_await outcome(boom()));
}

Task<> calls(Log& log) {
  const auto c = call_later(4 * tick, [&log]() noexcept { log.push_back("c"); });
  const auto a = call_later(2 * tick, [&log]() noexcept { log.push_back("a"); });
  auto b = call_later(3 * tick, [&log]() noexcept { log.push_back("b"); });
  b.cancel();
  co_await nap(6);
  log.push_back("end");
}

constexpr Scenario scenarios[] = {
    {"gather_values", gather_values},
    {"gather_cancelled", gather_cancelled},
    {"gather_failure", gather_failure},
    {"settle", settle_all},
    {"group_failure", group_failure},
    {"group_failures", group_failures},
    {"group_body_fails", group_body_fails},
    {"group_nested", group_nested},
    {"group_cancelled", group_cancelled},
    {"group_child_cancelled", group_child_cancelled},
    {"timeout_in_time", timeout_in_time},
    {"timeout_too_late", timeout_too_late},
    {"timeout_cancelled", timeout_cancelled},
    {"timeout_and_cancel", timeout_and_cancel},
    {"timeout_value_after", timeout_value_after},
    {"timeouts_nested", timeouts_nested},
    {"shield", shield_inner},
    {"await_cancels", await_cancels},
    {"await_cancelled_twice", await_cancelled_twice},
    {"gather_cancelled_twice", gather_cancelled_twice},
    {"timeout_cancelled_twice", timeout_cancelled_twice},
    {"group_cancelled_twice", group_cancelled_twice},
    {"wait_first", wait_first},
    {"wait_failure", wait_failure},
    {"wait_limited", wait_limited},
    {"as_completed", in_order_of_ends},
    {"cancel_requests", cancel_requests},
    {"thread", thread_results},
    {"calls", calls},
};

void run_all(std::span<const Scenario> all, DriverChoice driver) {
  LoopOptions options;
  options.driver.choice = driver;
  for (const Scenario& scenario : all) {
    Loop loop(options);
    Log log;
    loop.run(scenario.run(log));
    std::string line = scenario.name + std::string(":");
    for (const std::string& event : log)
      line += " " + event;
    std::puts(line.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const DriverChoice driver = driver_choice(argc > 1 ? argv[1] : "auto");
    run_all(scenarios, driver);
    run_all(sync_scenarios, driver);
    return 0;
  } catch (const Unsupported& reason) {
    std::fprintf(stderr, "%s\n", reason.what());
    return 77;
  }
}
