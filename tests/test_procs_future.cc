#include "procs/futures.hh"

#include "lab/base/keep.hh"
#include "procs/task_hand.hh"
#include "tests/thrown.hh"

#include <boost/test/unit_test.hpp>

#include <barrier>
#include <optional>
#include <string>
#include <thread>

using namespace schedlab;
using namespace schedlab::procs;
using namespace schedlab::testing;
using namespace std::chrono_literals;

static_assert(ReadyFuture<Future<int>> && ReadyFuture<Future<void>>);
static_assert(ReadyFuture<Future<std::unique_ptr<int>>>);

namespace {

struct Won {
  int first = 0, second = 0, both = 0, neither = 0;
};

// Two threads do something to a promise and its future at about the same time, 2000 times; one or
// the other is held back for a while that is swept. `one` and `two` say whether they won.
template <typename One, typename Two, typename After>
Won race(One one, Two two, After after) {
  Won won;
  std::optional<Promise<int>> promise;
  Future<int> future;
  std::barrier line(2);
  constexpr int rounds = 2000;
  bool one_won = false;
  const auto dawdle = [](int turns) {
    for (int turn = 0; turn < turns; ++turn)
      pause_cpu();
    if (turns > 90)  // on one CPU nothing else lets the other go on
      std::this_thread::yield();
  };
  std::jthread other([&] {
    for (int i = 0; i < rounds; ++i) {
      line.arrive_and_wait();
      dawdle(i % 200 - 100);
      one_won = one(*promise, future);
      line.arrive_and_wait();
    }
  });
  for (int i = 0; i < rounds; ++i) {
    promise.emplace();
    future = promise->future();
    line.arrive_and_wait();
    dawdle(100 - i % 200);
    const bool two_won = two(*promise, future);
    line.arrive_and_wait();
    after();
    won.first += one_won && !two_won;
    won.second += two_won && !one_won;
    won.both += one_won && two_won;
    won.neither += !one_won && !two_won;
  }
  return won;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_future_goes_from_pending_through_running_to_done) {
  Promise<std::string> promise;
  auto future = promise.future();
  BOOST_TEST((future.state() == FutureState::pending));
  BOOST_TEST(!future.wait_for(1ms));
  BOOST_TEST(promise.start());
  BOOST_TEST((future.state() == FutureState::running));
  BOOST_TEST(!promise.start());
  BOOST_TEST(!future.cancel());
  BOOST_TEST(promise.set_value(3u, 'x'));
  BOOST_TEST(!promise.set_value("twice"));
  BOOST_TEST((future.state() == FutureState::done));
  BOOST_TEST((future.exception() == nullptr));
  BOOST_TEST(future.get() == "xxx");
}

BOOST_AUTO_TEST_CASE(a_future_that_is_pending_can_be_cancelled_once_and_its_promise_is_told) {
  Promise<int> promise;
  auto future = promise.future();
  BOOST_TEST(future.cancel());
  BOOST_TEST(!future.cancel());
  BOOST_TEST(future.ready());
  BOOST_TEST(!promise.start());
  BOOST_TEST(!promise.set_value(1));
  BOOST_CHECK_THROW(future.get(), FutureCancelled);
  BOOST_CHECK_THROW(static_cast<void>(future.exception()), FutureCancelled);
}

BOOST_AUTO_TEST_CASE(a_promise_that_is_dropped_breaks_its_future) {
  Future<int> dropped, replaced;
  {
    Promise<int> promise;
    dropped = promise.future();
    Promise<int> other;
    replaced = other.future();
    other = Promise<int>();
  }
  BOOST_CHECK_THROW(dropped.get(), BrokenPromise);
  BOOST_CHECK_THROW(replaced.get(), BrokenPromise);
}

BOOST_AUTO_TEST_CASE(a_value_that_cannot_be_made_is_an_exception) {
  struct Throws {
    explicit Throws(int) { throw std::runtime_error("not made"); }
  };
  Promise<Throws> promise;
  auto future = promise.future();
  BOOST_TEST(promise.set_value(1));
  BOOST_TEST(thrown([&] { static_cast<void>(future.get()); }) == "not made");
}

BOOST_AUTO_TEST_CASE(callbacks_run_in_order_in_the_thread_that_ends_the_work_then_at_once) {
  Promise<int> promise;
  auto future = promise.future();
  std::string log;
  std::thread::id where;
  for (const char letter : {'a', 'b', 'c'})
    future.on_ready([&, letter]() noexcept {
      log += letter;
      where = std::this_thread::get_id();
    });
  std::thread other([&] { promise.set_value(1); });
  const auto there = other.get_id();
  other.join();
  BOOST_TEST(log == "abc");
  BOOST_TEST((where == there));
  future.on_ready([&]() noexcept { where = std::this_thread::get_id(); });
  BOOST_TEST((where == std::this_thread::get_id()));
}

BOOST_AUTO_TEST_CASE(a_callback_that_races_with_the_end_runs_exactly_once) {
  int runs = 0;
  const auto won =
      race([&](Promise<int>& promise, Future<int>&) { return promise.set_value(1), false; },
           [&](Promise<int>&, Future<int>& future) {
             const bool first = !future.ready();
             future.on_ready([&]() noexcept { ++runs; });
             return first;
           },
           [&] {
             BOOST_TEST_REQUIRE(runs == 1);
             runs = 0;
           });
  BOOST_TEST_MESSAGE("added before the end: " << won.second << ", after it: " << won.neither);
  BOOST_TEST(won.second >= 20);
  BOOST_TEST(won.neither >= 20);
}

BOOST_AUTO_TEST_CASE(cancelling_and_starting_race_and_exactly_one_wins) {
  const auto won = race([](Promise<int>& promise, Future<int>&) { return promise.start(); },
                        [](Promise<int>&, Future<int>& future) { return future.cancel(); }, [] {});
  BOOST_TEST_MESSAGE("started " << won.first << ", cancelled " << won.second);
  BOOST_TEST(won.both == 0);
  BOOST_TEST(won.neither == 0);
  BOOST_TEST(won.first >= 20);
  BOOST_TEST(won.second >= 20);
}

BOOST_AUTO_TEST_CASE(many_futures_are_waited_for_by_first_end_first_failure_and_all) {
  std::vector<Promise<int>> promises(4);
  std::vector<Future<int>> futures;
  for (auto& promise : promises)
    futures.push_back(promise.future());
  const std::span all(futures);
  BOOST_TEST(wait(all, Until::all_ended, 1ms).empty());
  promises[2].set_value(2);
  const std::vector<std::size_t> first = {2}, failed = {2, 3}, every = {0, 1, 2, 3};
  BOOST_TEST(wait(all, Until::first_ended) == first, boost::test_tools::per_element());
  promises[3].set_exception(std::make_exception_ptr(std::runtime_error("third")));
  BOOST_TEST(wait(all, Until::first_failed) == failed, boost::test_tools::per_element());
  futures[0].cancel();
  promises[1].set_value(1);
  BOOST_TEST(wait(all) == every, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(futures_are_given_as_they_end_also_when_they_are_gone) {
  std::vector<Promise<int>> promises(3);
  std::vector<Future<int>> futures;
  for (auto& promise : promises)
    futures.push_back(promise.future());
  promises[1].set_value(1);
  AsCompleted ended{std::span(futures)};
  futures.clear();
  BOOST_TEST(ended.next().value() == 1u);
  BOOST_TEST(!ended.next(1ms));
  std::jthread other([&] {
    promises[2].set_value(2);
    promises[0].set_value(0);
  });
  BOOST_TEST(ended.next().value() == 2u);
  BOOST_TEST(ended.next().value() == 0u);
  BOOST_TEST(ended.left() == 0u);
  BOOST_TEST(!ended.next());
}

BOOST_AUTO_TEST_CASE(a_hand_holds_one_task_of_one_giver) {
  procs::detail::TaskHand hand;
  auto* const first = procs::detail::make_core<procs::detail::PromiseCore<int>>(Patience{}, 1u);
  auto* const second = procs::detail::make_core<procs::detail::PromiseCore<int>>(Patience{}, 1u);
  BOOST_TEST(!hand.give(first));
  BOOST_TEST(hand.open());
  BOOST_TEST(!hand.open());  // it is open already
  BOOST_TEST(!hand.take());
  BOOST_TEST(hand.give(first));
  BOOST_TEST(!hand.is_open());
  BOOST_TEST(!hand.give(second));
  BOOST_TEST(!hand.open());  // somebody's task is in it
  BOOST_TEST(hand.take() == first);
  BOOST_TEST(!hand.give(second));  // taking shut it
  BOOST_TEST(hand.open());
  BOOST_TEST(!hand.shut());
  BOOST_TEST(hand.open());
  BOOST_TEST(hand.give(second));
  BOOST_TEST(hand.shut() == second);  // given in the last moment
  BOOST_TEST(!hand.is_open());
  first->release();
  second->release();
}
