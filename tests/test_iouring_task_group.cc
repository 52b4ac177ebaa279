#include "iouring/task_group.hh"

#include "iouring/gather.hh"
#include "iouring/this_task.hh"
#include "tests/iouring_case.hh"

#include <optional>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;
using namespace std::chrono_literals;

namespace {

Task<> note_after(Log& log, std::string name, int count) {
  co_await turns(count);
  log.push_back(name);
}

// Starts as many below it, and so on.
Task<> tree(TaskGroup& group, int depth, int& count) {
  ++count;
  co_await yield();
  for (int i = 0; depth > 0 && i < 3; ++i)
    group.start(tree(group, depth - 1, count));
}

std::vector<std::string> texts_of(const GroupError& error) {
  std::vector<std::string> texts;
  for (const auto& one : error.errors())
    try {
      std::rethrow_exception(one);
    } catch (const std::exception& known) {
      texts.emplace_back(known.what());
    }
  return texts;
}

// The failures of a group, or none.
template <typename Body>
Task<std::vector<std::string>> failures_of(Body body) {
  std::vector<std::string> texts;
  try {
    co_await TaskGroup::run(std::move(body));
  } catch (const GroupError& error) {
    texts = texts_of(error);
  }
  co_return texts;
}

}  // namespace

BOOST_DATA_TEST_CASE(all_tasks_have_ended_when_the_group_ends, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    co_await TaskGroup::run([&log](TaskGroup& group) -> Task<> {
      group.start(note_after(log, "slow", 5));
      group.start(note_after(log, "fast", 1));
      log.push_back("body");
      BOOST_TEST(group.size() == 2U);
      co_return;
    });
    log.push_back("end");
  });
  const Log expected = {"body", "fast", "slow", "end"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(without_a_group_a_task_is_left_over, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    create_task(note_after(log, "left over", 5)).detach();
    co_await turns(2);
    log.push_back("end");
  });
  BOOST_TEST(log.front() == "end");
}

BOOST_DATA_TEST_CASE(a_group_without_tasks_ends_with_its_body, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    co_await TaskGroup::run([](TaskGroup&) -> Task<> { co_return; });
    const auto texts = co_await failures_of([](TaskGroup&) { return fail_after("body", 0); });
    BOOST_TEST(texts == std::vector<std::string>{"body"}, boost::test_tools::per_element());
  });
}

BOOST_DATA_TEST_CASE(tasks_of_a_group_may_start_more, on_all_drivers, driver) {
  int count = 0;
  run_on(driver, [&count]() -> Task<> {
    co_await TaskGroup::run([&count](TaskGroup& group) -> Task<> {
      group.start(tree(group, 6, count));
      co_return;
    });
  });
  BOOST_TEST(count == (2187 - 1) / 2);  // 1 + 3 + ... + 3^6
}

BOOST_DATA_TEST_CASE(a_failure_cancels_siblings_and_body_and_waits_for_them, on_all_drivers,
                     driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    const auto texts = co_await failures_of([&log](TaskGroup& group) -> Task<> {
      group.start(last_long(log, "a", 3));
      group.start(fail_after("bad", 2));
      co_await last_long(log, "body", 1);
    });
    BOOST_TEST(texts == std::vector<std::string>{"bad"}, boost::test_tools::per_element());
    log.push_back("thrown");
  });
  const std::size_t end = log.size() - 1;
  BOOST_TEST(log.size() == 5U);
  BOOST_TEST(log[end] == "thrown");
  BOOST_TEST(log[end - 1] == "a ended");
}

BOOST_DATA_TEST_CASE(the_error_holds_every_failure_in_order, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    const auto texts = co_await failures_of([](TaskGroup& group) -> Task<> {
      group.start(fail_after("one", 1));
      group.start(fail_after("two", 1));
      std::string waited = co_await thrown_by(turns(9));
      BOOST_TEST(waited == "cancelled");
      throw std::runtime_error("body");
    });
    const std::vector<std::string> expected = {"one", "two", "body"};
    BOOST_TEST(texts == expected, boost::test_tools::per_element());
  });
}

BOOST_DATA_TEST_CASE(a_failure_that_the_body_passes_on_is_listed_once, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    const auto texts = co_await failures_of([](TaskGroup& group) -> Task<> {
      auto running = group.create_task(fail_after("bad", 1));
      std::exception_ptr passed;
      try {
        co_await running;
      } catch (...) {
        passed = std::current_exception();
      }
      std::rethrow_exception(passed);
    });
    BOOST_TEST(texts == std::vector<std::string>{"bad"}, boost::test_tools::per_element());
  });
}

BOOST_DATA_TEST_CASE(a_result_is_had_within_the_group, on_all_drivers, driver) {
  int sum = 0;
  run_on(driver, [&sum]() -> Task<> {
    co_await TaskGroup::run([&sum](TaskGroup& group) -> Task<> {
      auto one = group.create_task(value_after(1, 4));
      auto two = group.create_task(value_after(2, 1));
      sum = co_await one + co_await std::move(two);
    });
  });
  BOOST_TEST(sum == 3);
}

BOOST_DATA_TEST_CASE(a_running_that_is_given_up_cancels_its_task_and_nothing_else, on_all_drivers,
                     driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    co_await TaskGroup::run([&log](TaskGroup& group) -> Task<> {
      {
        const auto given_up = group.create_task(last_long(log, "given up", 2));
        group.start(note_after(log, "sibling", 9));
        co_await turns(2);
      }
      co_await turns(1);
    });
  });
  const Log expected = {"given up cancelled", "given up ended", "sibling"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(cancelling_a_group_is_no_failure, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    co_await TaskGroup::run([&log](TaskGroup& group) -> Task<> {
      group.start(last_long(log, "a", 2));
      co_await turns(2);
      group.cancel();
      group.cancel();
      co_await sleep_for(1h);
    });
    co_await yield();  // the waiting task was not cancelled
    log.push_back("end");
  });
  const Log expected = {"a cancelled", "a ended", "end"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(what_is_started_while_the_group_ends_is_cancelled_at_once, on_all_drivers,
                     driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    co_await TaskGroup::run([&log](TaskGroup& group) -> Task<> {
      group.cancel();
      group.start(last_long(log, "late"));
      co_return;
    });
  });
  const Log expected = {"late cancelled", "late ended"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(cancelling_the_wait_cancels_body_and_tasks_and_throws_cancelled,
                     on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    auto whole = create_task(TaskGroup::run([&log](TaskGroup& group) -> Task<> {
      group.start(last_long(log, "a", 3));
      co_await last_long(log, "body");
    }));
    co_await turns(3);
    whole.cancel();
    BOOST_TEST(co_await thrown_by(std::move(whole)) == "cancelled");
  });
  BOOST_TEST(log.size() == 4U);
  BOOST_TEST(log.back() == "a ended");
}

BOOST_DATA_TEST_CASE(failures_beat_the_cancel_which_comes_at_the_next_wait, on_all_drivers,
                     driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    const auto body = [](TaskGroup& group) -> Task<> {
      group.start(thrown_by(forever()));
      std::string waited = co_await thrown_by(forever());
      throw std::runtime_error("body, " + waited);
    };
    const auto around = [&]() -> Task<> {
      const auto texts = co_await failures_of(body);
      log.push_back(texts.at(0));
      log.push_back(co_await thrown_by(yield()));
    };
    auto whole = create_task(around());
    co_await turns(3);
    whole.cancel();
    co_await whole;
  });
  const Log expected = {"body, cancelled", "cancelled"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_group_whose_tasks_all_succeed_beats_the_cancel, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Running<> whole;
    const auto around = [&]() -> Task<> {
      co_await TaskGroup::run([&whole](TaskGroup&) -> Task<> {
        whole.cancel();
        co_return;
      });
      log.push_back("group ended");
      log.push_back(co_await thrown_by(yield()));
    };
    whole = create_task(around());
    co_await whole;
  });
  const Log expected = {"group ended", "cancelled"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_body_that_throws_cancelled_unasked_ends_the_group_with_it, on_all_drivers,
                     driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    const std::string text = co_await thrown_by(TaskGroup::run([&log](TaskGroup& group) -> Task<> {
      group.start(last_long(log, "a", 1));
      co_await turns(2);
      throw Cancelled();
    }));
    BOOST_TEST(text == "cancelled");
  });
  BOOST_TEST(log.back() == "a ended");
}

BOOST_DATA_TEST_CASE(groups_nest_and_errors_keep_their_shape, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    const auto texts = co_await failures_of([&log](TaskGroup& outer) -> Task<> {
      outer.start(last_long(log, "outer"));
      co_await TaskGroup::run([&log](TaskGroup& inner) -> Task<> {
        inner.start(last_long(log, "inner"));
        inner.start(fail_after("bad", 1));
        co_return;
      });
    });
    BOOST_TEST_REQUIRE(texts.size() == 1U);
    BOOST_TEST(texts[0] == "1 failure in a task group: bad");
  });
  const Log expected = {"inner cancelled", "inner ended", "outer cancelled", "outer ended"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_group_that_runs_on_keeps_nothing_of_what_has_ended, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    co_await TaskGroup::run([](TaskGroup& group) -> Task<> {
      std::uint64_t from_heap = 0;
      for (int i = 0; i < 10'000; ++i) {
        group.start(turns(1));
        co_await turns(4);
        BOOST_TEST_REQUIRE(group.size() == 0U);
        if (i == 100)
          from_heap = frame_counts().from_heap;
      }
      if (detail::pool_frames)
        BOOST_TEST(frame_counts().from_heap == from_heap);
    });
  });
}

BOOST_DATA_TEST_CASE(an_error_of_a_group_can_be_copied_and_says_how_many, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    std::optional<GroupError> kept;
    try {
      co_await TaskGroup::run([](TaskGroup& group) -> Task<> {
        group.start(fail_after("x", 1));
        group.start(fail_after("y", 1));
        co_return;
      });
    } catch (const GroupError& error) {
      kept = error;
    }
    BOOST_TEST_REQUIRE(kept.has_value());
    BOOST_TEST(kept->what() == "2 failures in a task group; the first: x");
  });
}
