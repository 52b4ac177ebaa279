#include "iouring/queue.hh"

#include "iouring/gather.hh"
#include "lab/base/random.hh"
#include "tests/iouring_case.hh"

#include <memory>
#include <numeric>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;

namespace bdata = boost::unit_test::data;

namespace {

template <typename Q>
Task<> put_all(Q& queue, std::vector<int> items) {
  for (const int item : items)
    co_await queue.put(item);
}

template <typename Q>
Task<std::vector<int>> get_some(Q& queue, int count) {
  std::vector<int> items;
  for (; count > 0; --count)
    items.push_back(co_await queue.get());
  co_return items;
}

template <typename Q>
Task<> get_and_log(Q& queue, Log& log, std::string name) {
  std::string text;
  try {
    const int item = co_await queue.get();
    text = std::to_string(item);
  } catch (const Cancelled&) {
    text = "cancelled";
  } catch (const QueueShutDown&) {
    text = "shut down";
  }
  log.push_back(name + " " + text);
}

template <typename Q>
Task<> put_and_log(Q& queue, int item, Log& log, std::string name) {
  std::string text = "put";
  try {
    co_await queue.put(item);
  } catch (const Cancelled&) {
    text = "cancelled";
  } catch (const QueueShutDown&) {
    text = "shut down";
  }
  log.push_back(name + " " + text);
}

// Items that were accepted and those that came out, with tasks cancelled at random.
struct Traffic {
  explicit Traffic(std::size_t size) : queue(size) {}
  Queue<int> queue;
  std::vector<int> accepted;
  std::vector<int> got;
  int cancelled = 0;
};

Task<> put_one(Traffic& traffic, int item) {
  try {
    co_await traffic.queue.put(item);
    traffic.accepted.push_back(item);
  } catch (const Cancelled&) {
    ++traffic.cancelled;
  }
}

Task<> get_one(Traffic& traffic) {
  try {
    traffic.got.push_back(co_await traffic.queue.get());
  } catch (const Cancelled&) {
    ++traffic.cancelled;
  }
}

Task<> random_traffic(Traffic& traffic, std::uint64_t seed, int operations) {
  Random random(seed);
  std::vector<Running<>> tasks;
  for (int i = 0; i < operations; ++i) {
    const auto kind = random.below(10);
    if (kind < 3)
      tasks.push_back(create_task(put_one(traffic, i)));
    else if (kind < 6)
      tasks.push_back(create_task(get_one(traffic)));
    else if (kind < 8 && !tasks.empty())
      tasks[random.below(tasks.size())].cancel();
    else
      co_await turns(static_cast<int>(random.below(3)));
    if (tasks.size() > 30) {
      co_await turns(3);
      std::erase_if(tasks, [](const Running<>& task) { return task.done(); });
      if (tasks.size() > 20)
        tasks.erase(tasks.begin());  // given up, and cancelled
    }
  }
  tasks.clear();
  co_await turns(4);
  while (auto item = traffic.queue.get_nowait())
    traffic.got.push_back(*item);
}

constexpr std::uint64_t seeds[] = {1, 2, 3, 4};

}  // namespace

BOOST_DATA_TEST_CASE(items_come_out_in_the_order_they_went_in, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    std::vector<int> items(1000);
    std::iota(items.begin(), items.end(), 0);
    Queue<int> queue(7);
    const auto both = co_await gather(put_all(queue, items), get_some(queue, 1000));
    BOOST_TEST(std::get<1>(both) == items, boost::test_tools::per_element());
    BOOST_TEST(queue.empty());
  });
}

BOOST_DATA_TEST_CASE(the_least_comes_first_or_the_last, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    PriorityQueue<int> least;
    PriorityQueue<int, std::greater<>> greatest;
    LifoQueue<int> last;
    const std::vector<int> items = {3, 1, 4, 1, 5};
    co_await gather(put_all(least, items), put_all(greatest, items), put_all(last, items));
    BOOST_TEST(co_await get_some(least, 5) == (std::vector<int>{1, 1, 3, 4, 5}));
    BOOST_TEST(co_await get_some(greatest, 5) == (std::vector<int>{5, 4, 3, 1, 1}));
    BOOST_TEST(co_await get_some(last, 5) == (std::vector<int>{5, 1, 4, 1, 3}));
  });
}

BOOST_DATA_TEST_CASE(items_that_only_move_go_through, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    Queue<std::unique_ptr<int>> queue(1);
    co_await queue.put(std::make_unique<int>(7));
    auto kept = std::make_unique<int>(8);
    BOOST_TEST(!queue.put_nowait(std::move(kept)));
    BOOST_TEST(*kept == 8);
    BOOST_TEST(*co_await queue.get() == 7);
    BOOST_TEST(queue.put_nowait(std::move(kept)));
    BOOST_TEST(queue.full());
  });
}

BOOST_DATA_TEST_CASE(one_who_waited_gets_the_best_item_that_is_there_when_it_runs, on_all_drivers,
                     driver) {
  run_on(driver, []() -> Task<> {
    PriorityQueue<int> queue;
    auto getter = create_task(get_some(queue, 1));
    co_await turns(2);
    BOOST_TEST(queue.put_nowait(5));
    BOOST_TEST(queue.put_nowait(1));
    const auto got = co_await std::move(getter);
    BOOST_TEST(got.at(0) == 1);
    BOOST_TEST(queue.get_nowait().value() == 5);
  });
}

BOOST_DATA_TEST_CASE(an_item_that_was_promised_cannot_be_snatched, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    Queue<int> queue;
    auto getter = create_task(get_some(queue, 1));
    co_await turns(2);
    BOOST_TEST(queue.put_nowait(5));
    BOOST_TEST(!queue.get_nowait().has_value());
    const auto got = co_await std::move(getter);
    BOOST_TEST(got.at(0) == 5);
  });
}

BOOST_DATA_TEST_CASE(getters_are_served_in_their_order_and_a_cancelled_one_leaves, on_all_drivers,
                     driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Queue<int> queue;
    auto a = create_task(get_and_log(queue, log, "a"));
    auto b = create_task(get_and_log(queue, log, "b"));
    auto c = create_task(get_and_log(queue, log, "c"));
    co_await turns(2);
    b.cancel();
    BOOST_TEST(queue.put_nowait(1));
    BOOST_TEST(queue.put_nowait(2));
    co_await turns(2);
  });
  const Log expected = {"b cancelled", "a 1", "c 2"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_get_that_was_promised_an_item_gets_it_though_cancelled, on_all_drivers,
                     driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Queue<int> queue;
    auto a = create_task(get_and_log(queue, log, "a"));
    co_await turns(2);
    BOOST_TEST(queue.put_nowait(1));
    a.cancel();
    co_await turns(2);
    BOOST_TEST(queue.empty());
  });
  BOOST_TEST(log.at(0) == "a 1");
}

BOOST_DATA_TEST_CASE(putters_wait_for_room_in_their_order, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Queue<int> queue(1);
    auto a = create_task(put_and_log(queue, 1, log, "a"));
    auto b = create_task(put_and_log(queue, 2, log, "b"));
    auto c = create_task(put_and_log(queue, 3, log, "c"));
    auto d = create_task(put_and_log(queue, 4, log, "d"));
    co_await turns(2);
    c.cancel();
    const auto got = co_await get_some(queue, 3);
    BOOST_TEST(got == (std::vector<int>{1, 2, 4}), boost::test_tools::per_element());
    co_await turns(2);
  });
  const Log expected = {"a put", "c cancelled", "b put", "d put"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(joining_waits_until_all_is_dealt_with, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Queue<int> queue;
    co_await queue.join();  // nothing to wait for
    BOOST_TEST(queue.put_nowait(1));
    BOOST_TEST(queue.put_nowait(2));
    const auto join = [](Queue<int>& what, Log& into) -> Task<> {
      co_await what.join();
      into.push_back("joined");
    };
    auto joined = create_task(join(queue, log));
    co_await get_some(queue, 2);
    queue.task_done();
    co_await turns(3);
    log.push_back("one done");
    queue.task_done();
    co_await joined;
    BOOST_CHECK_THROW(queue.task_done(), std::logic_error);
  });
  const Log expected = {"one done", "joined"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_queue_that_is_shut_down_gives_what_it_has_and_takes_no_more, on_all_drivers,
                     driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Queue<int> queue(1);
    BOOST_TEST(queue.put_nowait(1));
    auto putter = create_task(put_and_log(queue, 2, log, "putter"));
    co_await turns(2);
    queue.shut_down();
    co_await turns(2);
    BOOST_CHECK_THROW(co_await queue.put(3), QueueShutDown);
    BOOST_CHECK_THROW((void)queue.put_nowait(3), QueueShutDown);
    co_await get_and_log(queue, log, "first");
    co_await get_and_log(queue, log, "second");
    BOOST_CHECK_THROW(queue.get_nowait(), QueueShutDown);
  });
  const Log expected = {"putter shut down", "first 1", "second shut down"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(those_who_wait_at_an_empty_queue_learn_of_its_end, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Queue<int> queue;
    auto a = create_task(get_and_log(queue, log, "a"));
    auto b = create_task(get_and_log(queue, log, "b"));
    co_await turns(2);
    BOOST_TEST(queue.put_nowait(1));  // promised to a
    queue.shut_down();
    co_await turns(2);
  });
  const Log expected = {"a 1", "b shut down"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(an_immediate_end_drops_the_items_and_ends_the_join, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Queue<int> queue;
    auto a = create_task(get_and_log(queue, log, "a"));
    co_await turns(2);
    BOOST_TEST(queue.put_nowait(1));  // promised to a, which does not get it
    BOOST_TEST(queue.put_nowait(2));
    queue.shut_down(true);
    BOOST_TEST(queue.empty());
    co_await queue.join();
    co_await get_and_log(queue, log, "b");
  });
  BOOST_TEST(log.size() == 2U);
  BOOST_TEST(log.front().ends_with("shut down"));
  BOOST_TEST(log.back().ends_with("shut down"));
}

BOOST_DATA_TEST_CASE(no_item_is_lost_or_given_twice_whoever_is_cancelled,
                     on_all_drivers* bdata::make(seeds), driver, seed) {
  run_on(driver, [seed]() -> Task<> {
    Traffic traffic(seed % 3);
    co_await random_traffic(traffic, seed, 25'000);
    BOOST_TEST(traffic.cancelled > 50);  // races happened
    BOOST_TEST(traffic.got.size() > 1000U);
    std::ranges::sort(traffic.accepted);
    std::ranges::sort(traffic.got);
    BOOST_TEST(traffic.accepted == traffic.got, boost::test_tools::per_element());
  });
}
