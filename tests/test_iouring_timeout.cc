#include "iouring/timeout.hh"

#include "iouring/call_later.hh"
#include "iouring/gather.hh"
#include "iouring/this_task.hh"
#include "tests/iouring_case.hh"

#include <optional>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;
using namespace std::chrono_literals;

namespace {

using Clock = std::chrono::steady_clock;

// Goes on when it is told to end.
Task<int> stubborn(int value) {
  try {
    co_await sleep_for(1h);
  } catch (const Cancelled&) {
  }
  co_return value;
}

Task<int> fails_when_told_to_end() {
  co_await thrown_by(forever());
  throw std::runtime_error("while ending");
}

enum class First { deadline, cancel };

struct Cancel {
  void operator()() noexcept { task.cancel(); }
  Running<>& task;
};

// The deadline of a task and its cancellation, both due at the same instant.
Task<std::string> both_at_once(First first) {
  const auto due = Clock::now() + 2ms;
  const std::int64_t due_ns = std::chrono::nanoseconds(due.time_since_epoch()).count();
  Running<> limited;
  std::optional<Call<Cancel>> call;
  if (first == First::cancel)
    call.emplace(due_ns, Cancel{limited});
  limited = create_task(timeout_at(due, forever()));
  co_await turns(2);  // its timer is set
  if (first == First::deadline)
    call.emplace(due_ns, Cancel{limited});
  std::string text;
  try {
    co_await limited;
  } catch (const std::exception& error) {
    text = error.what();
  }
  co_return text;
}

}  // namespace

BOOST_DATA_TEST_CASE(what_ends_in_time_gives_its_value, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    BOOST_TEST(co_await timeout(1h, value_after(7, 3)) == 7);
    co_await timeout(1h, turns(1));
    BOOST_TEST(co_await thrown_by(timeout(1h, fail_after("bad", 1))) == "bad");
    BOOST_TEST(Loop::current()->timers().empty());
  });
}

BOOST_DATA_TEST_CASE(what_takes_too_long_is_cancelled_and_has_ended, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    log.push_back(co_await thrown_by(timeout(1ms, last_long(log, "a", 3))));
    co_await yield();  // the request was to the inner task
    const ThisTask self = co_await this_task();
    BOOST_TEST(self.cancel_requests() == 0U);
  });
  const Log expected = {"a cancelled", "a ended", "timed out"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_timeout_is_not_taken_for_a_cancellation, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    bool timed_out = false;
    bool cancelled = false;
    try {
      co_await timeout(1ms, forever());
    } catch (const Cancelled&) {
      cancelled = true;
    } catch (const TimeoutError&) {
      timed_out = true;
    }
    BOOST_TEST(timed_out);
    BOOST_TEST(!cancelled);
  });
}

BOOST_DATA_TEST_CASE(without_time_the_task_runs_to_its_first_wait, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    BOOST_TEST(co_await timeout(0ns, value_after(7, 0)) == 7);
    BOOST_TEST(co_await thrown_by(timeout(0ns, last_long(log, "a"))) == "timed out");
    BOOST_TEST(co_await thrown_by(timeout(-1h, forever())) == "timed out");
    BOOST_TEST(co_await thrown_by(timeout_at(Clock::now() - 1h, forever())) == "timed out");
    BOOST_TEST(co_await timeout(std::chrono::nanoseconds::max(), value_after(1, 2)) == 1);
  });
  BOOST_TEST(log.size() == 2U);
}

BOOST_DATA_TEST_CASE(what_succeeds_or_fails_after_its_time_counts, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    BOOST_TEST(co_await timeout(1ms, stubborn(7)) == 7);
    BOOST_TEST(co_await thrown_by(timeout(1ms, fails_when_told_to_end())) == "while ending");
    co_await yield();
  });
}

BOOST_DATA_TEST_CASE(a_cancellation_from_outside_is_no_timeout, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    auto limited = create_task(timeout(1h, last_long(log, "a", 2)));
    co_await turns(3);
    limited.cancel();
    BOOST_TEST(co_await thrown_by(std::move(limited)) == "cancelled");
    BOOST_TEST(Loop::current()->timers().empty());
  });
  const Log expected = {"a cancelled", "a ended"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_cancellation_wins_over_a_deadline_in_the_same_turn, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    BOOST_TEST(co_await both_at_once(First::deadline) == "cancelled");
    BOOST_TEST(co_await both_at_once(First::cancel) == "cancelled");
  });
}

BOOST_DATA_TEST_CASE(a_cancellation_wins_while_a_timed_out_task_ends, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    auto limited = create_task(timeout(1ms, last_long(log, "a", 5)));
    while (log.empty())
      co_await yield();
    limited.cancel();
    BOOST_TEST(co_await thrown_by(std::move(limited)) == "cancelled");
  });
  BOOST_TEST(log.front() == "a cancelled");
}

BOOST_DATA_TEST_CASE(a_deadline_also_limits_what_a_cancelled_task_does, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    const auto slow_to_end = [](Log& into) -> Task<> {
      into.push_back(co_await thrown_by(forever()));
      into.push_back(co_await thrown_by(forever()));
      throw Cancelled();
    };
    auto limited = create_task(timeout(5ms, slow_to_end(log)));
    co_await turns(2);
    limited.cancel();
    BOOST_TEST(co_await thrown_by(std::move(limited)) == "cancelled");
  });
  BOOST_TEST(log.size() == 2U);
}

BOOST_DATA_TEST_CASE(of_nested_limits_each_throws_its_own_error, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    const auto inner_first = [](Log& into) -> Task<> {
      into.push_back("inner " + co_await thrown_by(timeout(1ms, forever())));
      co_await yield();
    };
    log.push_back("outer " + co_await thrown_by(timeout(1h, inner_first(log))));
    const auto outer_first = [](Log& into) -> Task<> {
      std::string text;
      try {
        co_await timeout(1h, forever());
      } catch (const Cancelled&) {
        text = "cancelled";
      }
      into.push_back("inner " + text);
      throw Cancelled();
    };
    log.push_back("outer " + co_await thrown_by(timeout(1ms, outer_first(log))));
  });
  const Log expected = {"inner timed out", "outer ", "inner cancelled", "outer timed out"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(ten_thousand_limits_at_once_leave_no_timer, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    std::vector<Task<int>> tasks;
    for (int i = 0; i < 10'000; ++i)
      tasks.push_back(timeout(1h, value_after(i, i % 7)));
    const auto got = co_await gather(std::move(tasks));
    BOOST_TEST(got[9'999] == 9'999);
    BOOST_TEST(Loop::current()->timers().empty());
  });
}

BOOST_DATA_TEST_CASE(a_call_comes_once_and_not_if_it_was_cancelled, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    int calls = 0;
    const auto count = [&calls]() noexcept { ++calls; };
    const auto due = call_later(1ms, count);
    {
      const auto dropped = call_later(1ms, count);
      auto cancelled = call_later(0ns, count);
      cancelled.cancel();
      BOOST_TEST(!cancelled.pending());
      BOOST_TEST(dropped.pending());
    }
    BOOST_TEST(due.pending());
    while (due.pending())
      co_await yield();
    co_await sleep_for(2ms);
    BOOST_TEST(calls == 1);
  });
}

BOOST_DATA_TEST_CASE(calls_come_in_the_order_of_their_times, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    const auto due = Clock::now() + 2ms;
    const auto last = call_at(due + 1ms, [&log]() noexcept { log.push_back("c"); });
    const auto first = call_at(due, [&log]() noexcept { log.push_back("a"); });
    const auto second = call_at(due, [&log]() noexcept { log.push_back("b"); });
    while (last.pending())
      co_await yield();
  });
  const Log expected = {"a", "b", "c"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(the_request_of_a_limit_reaches_the_token_of_what_it_limits_only,
                     on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    const ThisTask self = co_await this_task();
    const auto outer = self.stop_token();
    std::stop_token inner;
    const auto take = [](std::stop_token& into) -> Task<> {
      const ThisTask own = co_await this_task();
      into = own.stop_token();
      co_await forever();
    };
    BOOST_TEST(co_await thrown_by(timeout(1ms, take(inner))) == "timed out");
    BOOST_TEST(inner.stop_requested());
    BOOST_TEST(!outer.stop_requested());
  });
}
