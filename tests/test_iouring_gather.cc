#include "iouring/gather.hh"

#include "iouring/race.hh"
#include "tests/iouring_case.hh"

#include <memory>
#include <numeric>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;
using namespace std::chrono_literals;

namespace {

std::vector<Task<int>> values(int count, int turns_each = 1) {
  std::vector<Task<int>> tasks;
  for (int i = 0; i < count; ++i)
    tasks.push_back(value_after(i, turns_each));
  return tasks;
}

Task<> gather_and_log(Log& log, std::vector<Task<>> tasks) {
  co_await gather(std::move(tasks));
  log.push_back("gathered");
}

// Cancels the task that awaits, from within one of its members, which then succeeds.
Task<int> cancel_from_within(Running<int>& whole, int value) {
  co_await yield();
  whole.cancel();
  co_return value;
}

}  // namespace

BOOST_DATA_TEST_CASE(values_come_in_the_order_of_the_tasks, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    std::vector<Task<int>> tasks;
    for (int i = 0; i < 10; ++i)
      tasks.push_back(value_after(i, 10 - i));
    const std::vector<int> got = co_await gather(std::move(tasks));
    std::vector<int> expected(10);
    std::iota(expected.begin(), expected.end(), 0);
    BOOST_TEST(got == expected, boost::test_tools::per_element());
  });
}

BOOST_DATA_TEST_CASE(nothing_is_gathered_without_a_wait, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    const auto turns_before = Loop::current()->counts().turns;
    const auto values = co_await gather(std::vector<Task<int>>());
    BOOST_TEST(values.empty());
    co_await gather(std::vector<Task<>>());
    const auto outcomes = co_await settle(std::vector<Task<int>>());
    BOOST_TEST(outcomes.empty());
    BOOST_TEST(Loop::current()->counts().turns == turns_before);
  });
}

BOOST_DATA_TEST_CASE(tasks_of_different_types_give_a_tuple, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    const auto got = co_await gather(value_after(1, 3), turns(2), thrown_by(fail_after("x", 1)));
    BOOST_TEST(std::get<0>(got) == 1);
    BOOST_TEST(std::get<2>(got) == "x");
  });
}

BOOST_DATA_TEST_CASE(values_that_only_move_are_gathered, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    std::vector<Task<std::unique_ptr<int>>> tasks;
    tasks.push_back([]() -> Task<std::unique_ptr<int>> { co_return std::make_unique<int>(7); }());
    const auto got = co_await gather(std::move(tasks));
    BOOST_TEST(*got.front() == 7);
  });
}

BOOST_DATA_TEST_CASE(the_first_failure_ends_the_others_and_all_have_ended, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    std::vector<Task<>> tasks;
    tasks.push_back(last_long(log, "a", 3));
    tasks.push_back(fail_after("first", 2));
    tasks.push_back(last_long(log, "b", 1));
    tasks.push_back(fail_after("second", 3));
    const std::string text = co_await thrown_by(gather(std::move(tasks)));
    BOOST_TEST(text == "first");
    log.push_back("thrown");
  });
  const Log expected = {"a cancelled", "b cancelled", "b ended", "a ended", "thrown"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_failure_counts_more_than_a_cancellation_before_it, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto whole = create_task(gather([]() -> Task<> { co_await sleep_for(1h); }(),
                                    []() -> Task<> {
                                      try {
                                        co_await sleep_for(1h);
                                      } catch (const Cancelled&) {
                                      }
                                      co_await yield();
                                      throw std::runtime_error("while putting things away");
                                    }()));
    co_await turns(3);
    whole.cancel();
    std::string text;
    try {
      co_await whole;
    } catch (const std::exception& error) {
      text = error.what();
    }
    BOOST_TEST(text == "while putting things away");
  });
}

BOOST_DATA_TEST_CASE(cancelling_reaches_every_member_once, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    std::vector<Task<>> tasks;
    tasks.push_back(last_long(log, "a", 1));
    tasks.push_back(last_long(log, "b", 5));  // a's end must not disturb it again
    auto whole = create_task(gather_and_log(log, std::move(tasks)));
    co_await turns(3);
    whole.cancel();
    BOOST_TEST(co_await thrown_by(std::move(whole)) == "cancelled");
  });
  const Log expected = {"a cancelled", "b cancelled", "a ended", "b ended"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_gather_that_is_cancelled_before_it_begins_runs_to_the_first_wait,
                     on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    std::vector<Task<>> tasks;
    tasks.push_back(last_long(log, "a"));
    auto whole = create_task(gather_and_log(log, std::move(tasks)));
    whole.cancel();
    BOOST_TEST(co_await thrown_by(std::move(whole)) == "cancelled");
  });
  const Log expected = {"a cancelled", "a ended"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(success_beats_cancel_and_cancelled_comes_at_the_next_wait, on_all_drivers,
                     driver) {
  bool got_values = false;
  bool cancelled_next = false;
  run_on(driver, [&]() -> Task<> {
    Running<int> whole;
    const auto body = [&]() -> Task<int> {
      const auto both = co_await gather(cancel_from_within(whole, 1), value_after(2, 1));
      got_values = std::get<0>(both) + std::get<1>(both) == 3;
      try {
        co_await yield();
      } catch (const Cancelled&) {
        cancelled_next = true;
      }
      co_await yield();  // once only
      co_return 0;
    };
    whole = create_task(body());
    BOOST_TEST(co_await whole == 0);
  });
  BOOST_TEST(got_values);
  BOOST_TEST(cancelled_next);
}

BOOST_DATA_TEST_CASE(a_hundred_thousand_are_gathered, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    constexpr int count = 100'000;
    const std::vector<int> got = co_await gather(values(count));
    BOOST_TEST(std::accumulate(got.begin(), got.end(), std::int64_t{0}) ==
               std::int64_t{count} * (count - 1) / 2);
  });
}

BOOST_DATA_TEST_CASE(a_hundred_thousand_are_cancelled, on_all_drivers, driver) {
  int ended = 0;
  run_on(driver, [&ended]() -> Task<> {
    const auto sleeper = [](int& count) -> Task<> {
      try {
        co_await sleep_for(1h);
      } catch (const Cancelled&) {
        ++count;
      }
    };
    std::vector<Task<>> tasks;
    for (int i = 0; i < 100'000; ++i)
      tasks.push_back(sleeper(ended));
    tasks.push_back(fail_after("enough", 1));
    BOOST_TEST(co_await thrown_by(gather(std::move(tasks))) == "enough");
  });
  BOOST_TEST(ended == 100'000);
}

BOOST_DATA_TEST_CASE(settling_gives_every_outcome, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    std::vector<Task<>> tasks;
    tasks.push_back(fail_after("one", 2));
    tasks.push_back(turns(3));
    tasks.push_back(fail_after("three", 1));
    auto outcomes = co_await settle(std::move(tasks));
    BOOST_TEST_REQUIRE(outcomes.size() == 3U);
    BOOST_TEST(outcomes[0].failed());
    BOOST_TEST(!outcomes[1].failed());
    std::move(outcomes[1]).get();
    BOOST_CHECK_THROW(std::move(outcomes[2]).get(), std::runtime_error);
  });
}

BOOST_DATA_TEST_CASE(settling_that_is_cancelled_throws_cancelled, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    std::vector<Task<>> tasks;
    tasks.push_back(last_long(log, "a", 2));
    tasks.push_back(turns(1));
    auto whole = create_task(settle(std::move(tasks)));
    co_await turns(5);
    whole.cancel();
    std::string text;
    try {
      co_await std::move(whole);
    } catch (const Cancelled&) {
      text = "cancelled";
    }
    BOOST_TEST(text == "cancelled");
  });
  BOOST_TEST(log.back() == "a ended");
}

BOOST_DATA_TEST_CASE(the_fastest_wins_and_the_others_have_ended, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    const auto slow = [](Log& into) -> Task<int> {
      co_await last_long(into, "slow", 3);
      co_return 0;
    };
    std::vector<Task<int>> tasks;
    tasks.push_back(slow(log));
    tasks.push_back(value_after(7, 2));
    tasks.push_back(value_after(8, 3));
    const auto won = co_await race(std::move(tasks));
    BOOST_TEST(won.index == 1U);
    BOOST_TEST(won.value == 7);
    log.push_back("won");
  });
  const Log expected = {"slow cancelled", "slow ended", "won"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_race_of_different_types_gives_a_variant, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    const auto timed = co_await race(value_after(5, 1), turns(9));
    BOOST_TEST(timed.index() == 0U);
    BOOST_TEST(std::get<0>(timed) == 5);
    const auto same = co_await race(value_after(5, 4), value_after(6, 2), value_after(7, 9));
    BOOST_TEST(same.index() == 1U);
    BOOST_TEST(std::get<1>(same) == 6);
  });
}

BOOST_DATA_TEST_CASE(a_race_throws_what_the_first_to_end_threw, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    BOOST_TEST(co_await thrown_by(race(turns(9), fail_after("first", 1))) == "first");
    BOOST_TEST(co_await thrown_by(race(turns(1), fail_after("late", 2))) == "");
  });
}

BOOST_DATA_TEST_CASE(cancelling_a_race_cancels_all_runners, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    auto whole = create_task(race(last_long(log, "a"), last_long(log, "b", 2)));
    co_await turns(3);
    whole.cancel();
    bool cancelled = false;
    try {
      co_await whole;
    } catch (const Cancelled&) {
      cancelled = true;
    }
    BOOST_TEST(cancelled);
  });
  const Log expected = {"a cancelled", "a ended", "b cancelled", "b ended"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}
