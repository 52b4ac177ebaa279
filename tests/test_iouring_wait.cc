#include "iouring/wait.hh"

#include "iouring/shield.hh"
#include "iouring/this_task.hh"
#include "tests/iouring_case.hh"

#include <optional>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;
using namespace std::chrono_literals;

namespace {

using Numbers = std::vector<std::size_t>;

std::vector<Running<int>> start_all(std::initializer_list<int> turns_each) {
  std::vector<Running<int>> running;
  for (const int count : turns_each)
    running.push_back(create_task(value_after(static_cast<int>(running.size()), count)));
  return running;
}

Task<int> fail_with_value(int count) {
  co_await turns(count);
  throw std::runtime_error("bad");
}

}  // namespace

BOOST_DATA_TEST_CASE(waiting_for_the_first_leaves_the_others_running, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto running = start_all({9, 3, 3, 12});
    const Waited now = co_await wait(running, When::first_completed);
    BOOST_TEST(now.done == (Numbers{1, 2}), boost::test_tools::per_element());
    BOOST_TEST(now.pending == (Numbers{0, 3}), boost::test_tools::per_element());
    const Waited again = co_await wait(running, When::first_completed);
    BOOST_TEST(again.done.size() == 2U);  // at once
    const Waited end = co_await wait(running);
    BOOST_TEST(end.done.size() == 4U);
    BOOST_TEST(end.pending.empty());
    BOOST_TEST(co_await running[3] == 3);
  });
}

BOOST_DATA_TEST_CASE(waiting_ends_with_the_first_failure_but_not_with_a_cancellation,
                     on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto running = start_all({1, 9});
    running.push_back(create_task(fail_with_value(5)));
    running.push_back(create_task(value_after(0, 100)));
    running[1].cancel();
    const Waited now = co_await wait(running, When::first_exception);
    BOOST_TEST(now.done == (Numbers{0, 1, 2}), boost::test_tools::per_element());
    const Waited again = co_await wait(running, When::first_exception);
    BOOST_TEST(again.pending == (Numbers{3}), boost::test_tools::per_element());
  });
}

BOOST_DATA_TEST_CASE(waiting_for_a_failure_ends_when_all_have_ended_without_one, on_all_drivers,
                     driver) {
  run_on(driver, []() -> Task<> {
    auto running = start_all({1, 4, 2});
    const Waited now = co_await wait(running, When::first_exception);
    BOOST_TEST(now.done.size() == 3U);
  });
}

BOOST_DATA_TEST_CASE(the_end_of_the_time_to_wait_is_no_error, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    std::vector<Running<>> running;
    running.push_back(create_task(forever()));
    const Waited now = co_await wait(running, When::all_completed, 1ms);
    BOOST_TEST(now.done.empty());
    BOOST_TEST(now.pending.size() == 1U);
    BOOST_TEST(!running[0].done());
    running[0].cancel();
    const Waited end = co_await wait(running, When::all_completed, 1h);
    BOOST_TEST(end.done.size() == 1U);
    BOOST_TEST(Loop::current()->timers().empty());
  });
}

BOOST_DATA_TEST_CASE(tasks_of_different_types_are_waited_for, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto number = create_task(value_after(1, 9));
    auto nothing = create_task(turns(2));
    const Waited now = co_await wait(When::first_completed, number, nothing);
    BOOST_TEST(now.done == (Numbers{1}), boost::test_tools::per_element());
    const Waited none = co_await wait(std::span<Running<int>>());
    BOOST_TEST(none.done.empty());
  });
}

BOOST_DATA_TEST_CASE(cancelling_a_wait_cancels_none_of_the_tasks, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto running = start_all({12, 14});
    auto waiter = create_task(wait(running));
    co_await turns(3);
    waiter.cancel();
    std::optional<Waited> waited;
    try {
      waited = co_await waiter;
    } catch (const Cancelled&) {
    }
    BOOST_TEST(!waited);
    BOOST_TEST(!running[0].done());
    BOOST_TEST(co_await running[0] + co_await running[1] == 1);
  });
}

BOOST_DATA_TEST_CASE(tasks_are_given_in_the_order_in_which_they_end, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto running = start_all({0, 7, 5, 3, 9});
    co_await turns(2);  // the first has ended
    auto ends = as_completed(running);
    std::vector<int> order;
    while (Running<int>* const next = co_await ends.next())
      order.push_back(co_await *next);
    BOOST_TEST(order == (std::vector<int>{0, 3, 2, 1, 4}), boost::test_tools::per_element());
    BOOST_TEST(!(co_await ends.next()));
  });
}

BOOST_DATA_TEST_CASE(one_task_at_a_time_takes_what_has_ended, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto running = start_all({3});
    auto ends = as_completed(running);
    const auto take = [&ends]() -> Task<bool> { co_return co_await ends.next() != nullptr; };
    auto first = create_task(take());
    co_await yield();
    std::vector<std::string> refusals;
    while (!first.done()) {  // also when it was woken and has not run yet
      std::string refusal = co_await thrown_by(take());
      refusals.push_back(std::move(refusal));
      co_await yield();
    }
    BOOST_TEST(co_await first);
    BOOST_TEST_REQUIRE(refusals.size() > 1u);
    for (const std::string& refusal : refusals)
      BOOST_TEST(refusal.find("busy") != refusal.npos, refusal);
    BOOST_TEST(!(co_await take()));
  });
}

BOOST_DATA_TEST_CASE(a_failed_task_is_given_like_any_other, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto running = start_all({4});
    running.push_back(create_task(fail_with_value(1)));
    auto ends = as_completed(running);
    Running<int>* const first = co_await ends.next();
    BOOST_TEST(first == &running[1]);
    BOOST_CHECK_THROW(co_await *first, std::runtime_error);
  });  // the other is not waited for: it is forgotten and cancelled
}

BOOST_DATA_TEST_CASE(taking_that_is_cancelled_loses_no_task, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto running = start_all({9});
    auto ends = as_completed(running);
    const auto take = [](auto& from) -> Task<> { co_await from.next(); };
    auto taker = create_task(take(ends));
    co_await turns(3);
    taker.cancel();
    BOOST_TEST(co_await thrown_by(std::move(taker)) == "cancelled");
    BOOST_TEST((co_await ends.next()) == &running[0]);
  });
}

BOOST_DATA_TEST_CASE(a_shielded_task_goes_on_when_the_wait_is_cancelled, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto inner = create_task(value_after(7, 9));
    const auto shielded = [](Running<int>& running) -> Task<int> {
      co_return co_await shield(running);
    };
    auto outer = create_task(shielded(inner));
    co_await turns(3);
    outer.cancel();
    bool cancelled = false;
    try {
      co_await outer;
    } catch (const Cancelled&) {
      cancelled = true;
    }
    BOOST_TEST(cancelled);
    BOOST_TEST(!inner.done());
    BOOST_TEST(co_await inner == 7);
    BOOST_TEST(co_await shield(inner) == 7);
  });
}

BOOST_DATA_TEST_CASE(without_a_shield_the_task_is_cancelled_with_the_wait, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto inner = create_task(forever());
    const auto unshielded = [](Running<>& running) -> Task<> { co_await running; };
    auto outer = create_task(unshielded(inner));
    co_await turns(3);
    outer.cancel();
    BOOST_TEST(co_await thrown_by(std::move(outer)) == "cancelled");
    BOOST_TEST(inner.done());
  });
}

BOOST_DATA_TEST_CASE(a_shield_passes_on_what_the_task_throws, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    auto bad = create_task(fail_with_value(2));
    BOOST_CHECK_THROW(co_await shield(bad), std::runtime_error);
    auto cancelled = create_task(value_after(0, 100));
    cancelled.cancel();
    BOOST_CHECK_THROW(co_await shield(cancelled), Cancelled);
    co_await yield();  // this task was not cancelled
  });
}

BOOST_DATA_TEST_CASE(a_task_knows_its_requests_and_takes_them_back, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    const ThisTask self = co_await this_task();
    BOOST_TEST(&self.loop() == Loop::current());
    BOOST_TEST(self.cancel_requests() == 0U);
    self.cancel();
    self.cancel();
    BOOST_TEST(self.cancel_requests() == 2U);
    BOOST_TEST(co_await thrown_by(yield()) == "cancelled");
    BOOST_TEST(co_await thrown_by(yield()) == "");  // an edge, not a level
    BOOST_TEST(self.uncancel() == 1U);
    BOOST_TEST(self.uncancel() == 0U);
    self.cancel();
    BOOST_TEST(self.uncancel() == 0U);
    BOOST_TEST(co_await thrown_by(yield()) == "");
  });
}

BOOST_DATA_TEST_CASE(the_stop_token_is_the_tasks_and_tells_of_its_cancellation, on_all_drivers,
                     driver) {
  run_on(driver, []() -> Task<> {
    const auto child = []() -> Task<std::stop_token> {
      const ThisTask own = co_await this_task();
      co_return own.stop_token();
    };
    const ThisTask self = co_await this_task();
    const auto token = self.stop_token();
    const auto inherited = co_await child();
    BOOST_TEST((token == inherited));
    BOOST_TEST(!token.stop_requested());
    self.cancel();
    BOOST_TEST(token.stop_requested());
    BOOST_TEST(self.uncancel() == 0U);
    BOOST_TEST(!self.stop_token().stop_requested());
    auto other = create_task(child());
    other.cancel();
    const auto seen = co_await std::move(other);
    BOOST_TEST(seen.stop_requested());
  });
}

BOOST_DATA_TEST_CASE(a_task_knows_where_it_was_started, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    const auto line = []() -> Task<std::uint_least32_t> {
      const ThisTask own = co_await this_task();
      co_return own.started().line();
    };
    const auto here = std::source_location::current().line() + 1;
    auto running = create_task(line());
    BOOST_TEST(co_await running == here);
  });
}
