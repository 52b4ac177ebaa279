#include "iouring/barrier.hh"
#include "iouring/condition.hh"
#include "iouring/event.hh"
#include "iouring/gather.hh"
#include "iouring/lock.hh"
#include "iouring/semaphore.hh"
#include "lab/base/random.hh"
#include "tests/iouring_case.hh"

#include <algorithm>
#include <deque>
#include <map>
#include <set>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;

namespace bdata = boost::unit_test::data;

namespace {

// Reads, lets others run, writes: an increment that can be lost.
Task<> increment(int& counter, Lock* lock, int times) {
  for (int i = 0; i < times; ++i) {
    std::optional<Lock::Guard> guard;
    if (lock)
      guard = co_await lock->acquire();
    const int read = counter;
    co_await yield();
    counter = read + 1;
  }
}

Task<int> count_together(Lock* lock) {
  int counter = 0;
  std::vector<Task<>> tasks;
  for (int i = 0; i < 20; ++i)
    tasks.push_back(increment(counter, lock, 50));
  co_await gather(std::move(tasks));
  co_return counter;
}

Task<> hold(Lock& lock, Log& log, std::string name, int count) {
  try {
    const auto guard = co_await lock.acquire();
    log.push_back(name + " has it");
    co_await turns(count);
  } catch (const Cancelled&) {
    log.push_back(name + " cancelled");
  }
}

Task<> await_notice(Lock& lock, Condition& condition, Log& log, std::string name) {
  auto guard = co_await lock.acquire();
  std::string text;
  try {
    co_await condition.wait(guard);
  } catch (const Cancelled&) {
    text = " cancelled";
  }
  BOOST_TEST(lock.locked());
  log.push_back(name + text);
}

Task<> meet(Barrier& barrier, Log& log, std::string name) {
  std::string text;
  try {
    const std::size_t place = co_await barrier.wait();
    text = std::to_string(place);
  } catch (const BrokenBarrier&) {
    text = "broken";
  } catch (const Cancelled&) {
    text = "cancelled";
  }
  log.push_back(name + " " + text);
}

// What a semaphore should do, and tasks that use the real one.
struct World {
  explicit World(std::size_t count) : semaphore(count), permits(count) {}

  void arrive(int task) {
    if (permits > 0) {
      --permits;
      expected.insert(task);
    } else {
      line.push_back(task);
    }
  }
  void give_back() {
    if (line.empty()) {
      ++permits;
      return;
    }
    expected.insert(line.front());
    line.pop_front();
  }
  void leave(int task) { std::erase(line, task); }
  bool agrees() const {
    std::set<int> holders;
    for (const auto& [task, permit] : held)
      holders.insert(task);
    return holders == expected && semaphore.permits() == permits &&
           semaphore.waiting() == line.size();
  }

  Semaphore semaphore;
  std::map<int, Semaphore::Permit> held;
  std::size_t permits;
  std::deque<int> line;
  std::set<int> expected;
  int cancelled = 0;
};

Task<> acquire_in(World& world, int number) {
  world.arrive(number);
  try {
    world.held.emplace(number, co_await world.semaphore.acquire());
  } catch (const Cancelled&) {
    ++world.cancelled;
    world.leave(number);  // cancelled before it came
  }
}

template <typename Map>
auto any_of(Map& map, Random& random) {
  return std::next(map.begin(), static_cast<std::ptrdiff_t>(random.below(map.size())));
}

// A random operation; what it changes is seen two turns later.
void operate(World& world, std::map<int, Running<>>& tasks, int& next, Random& random) {
  const auto kind = random.below(8);
  if (kind < 3 && world.line.size() < 20) {
    tasks.emplace(next, create_task(acquire_in(world, next)));
    ++next;
  } else if (kind < 6 && !world.held.empty()) {
    const auto holder = any_of(world.held, random);
    world.expected.erase(holder->first);
    world.held.erase(holder);
    world.give_back();
  } else if (!tasks.empty()) {
    const auto task = any_of(tasks, random);
    world.leave(task->first);
    task->second.cancel();
  }
}

Task<> compare_with_model(World& world, std::uint64_t seed, int operations) {
  Random random(seed);
  std::map<int, Running<>> tasks;
  int next = 0;
  for (int i = 0; i < operations; ++i) {
    // Several before anybody runs: a permit may be given and its taker cancelled in one turn.
    for (auto together = random.below(3); together > 0; --together)
      operate(world, tasks, next, random);
    co_await turns(3);
    BOOST_TEST_REQUIRE(world.agrees(), "operation " << i);
    std::erase_if(tasks, [](const auto& task) { return task.second.done(); });
  }
  tasks.clear();
  world.held.clear();
  co_await turns(3);
  world.held.clear();
}

constexpr std::uint64_t seeds[] = {1, 2, 3, 4};

}  // namespace

BOOST_DATA_TEST_CASE(no_increment_is_lost_under_a_lock, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    Lock lock;
    BOOST_TEST(co_await count_together(&lock) == 1000);
    BOOST_TEST(!lock.locked());
  });
}

BOOST_DATA_TEST_CASE(without_the_lock_increments_are_lost, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> { BOOST_TEST(co_await count_together(nullptr) == 50); });
}

BOOST_DATA_TEST_CASE(a_lock_goes_to_those_who_wait_in_their_order, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Lock lock;
    co_await gather(hold(lock, log, "a", 3), hold(lock, log, "b", 1), hold(lock, log, "c", 0),
                    hold(lock, log, "d", 2));
    BOOST_TEST(!lock.locked());
  });
  const Log expected = {"a has it", "b has it", "c has it", "d has it"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_lock_that_is_given_back_cannot_be_snatched, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Lock lock;
    auto guard = lock.try_acquire();
    BOOST_TEST_REQUIRE(guard.has_value());
    auto waiter = create_task(hold(lock, log, "waiter", 0));
    co_await turns(2);
    guard->release();
    BOOST_TEST(!lock.try_acquire().has_value());
    co_await waiter;
    BOOST_TEST(lock.try_acquire().has_value());
  });
}

BOOST_DATA_TEST_CASE(one_that_is_cancelled_in_line_leaves_it, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Lock lock;
    auto guard = lock.try_acquire();
    auto b = create_task(hold(lock, log, "b", 0));
    auto c = create_task(hold(lock, log, "c", 0));
    auto d = create_task(hold(lock, log, "d", 0));
    co_await turns(2);
    BOOST_TEST(lock.waiting() == 3U);
    c.cancel();
    BOOST_TEST(lock.waiting() == 2U);
    guard.reset();
    co_await gather(turns(9));
  });
  const Log expected = {"c cancelled", "b has it", "d has it"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_lock_that_was_handed_over_is_not_lost_by_a_cancellation, on_all_drivers,
                     driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Lock lock;
    auto guard = lock.try_acquire();
    auto b = create_task(hold(lock, log, "b", 1));
    auto c = create_task(hold(lock, log, "c", 0));
    co_await turns(2);
    guard.reset();  // b's, though it did not run yet
    b.cancel();
    co_await gather(turns(9));
    BOOST_TEST(!lock.locked());
  });
  const Log expected = {"b has it", "b cancelled", "c has it"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(permits_are_as_many_as_given, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    Semaphore semaphore(3);
    std::size_t inside = 0;
    std::size_t most = 0;
    const auto enter = [](Semaphore& from, std::size_t& count, std::size_t& peak) -> Task<> {
      const auto permit = co_await from.acquire();
      peak = std::max(peak, ++count);
      co_await turns(3);
      --count;
    };
    std::vector<Task<>> tasks;
    for (int i = 0; i < 50; ++i)
      tasks.push_back(enter(semaphore, inside, most));
    co_await gather(std::move(tasks));
    BOOST_TEST(most == 3U);
    BOOST_TEST(semaphore.permits() == 3U);
  });
}

BOOST_DATA_TEST_CASE(a_permit_can_be_kept_and_released_by_another, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    Semaphore semaphore(0);
    semaphore.release();
    BOOST_TEST(!semaphore.locked());
    auto permit = co_await semaphore.acquire();
    permit.keep();
    BOOST_TEST(semaphore.locked());
    semaphore.release();
    semaphore.release();
    BOOST_TEST(semaphore.permits() == 2U);
  });
}

BOOST_DATA_TEST_CASE(a_bounded_semaphore_refuses_more_than_it_began_with, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    BoundedSemaphore semaphore(2);
    BOOST_CHECK_THROW(semaphore.release(), std::logic_error);
    {
      auto permit = co_await semaphore.acquire();
      permit.keep();
    }
    semaphore.release();
    BOOST_CHECK_THROW(semaphore.release(), std::logic_error);
    BOOST_TEST(semaphore.permits() == 2U);
  });
}

BOOST_DATA_TEST_CASE(random_operations_agree_with_a_model, on_all_drivers* bdata::make(seeds),
                     driver, seed) {
  run_on(driver, [seed]() -> Task<> {
    World world(1 + seed % 3);
    co_await compare_with_model(world, seed, 25'000);
    BOOST_TEST(world.cancelled > 100);  // races happened
  });
}

BOOST_DATA_TEST_CASE(an_event_lets_all_go_on_even_if_it_is_cleared_at_once, on_all_drivers,
                     driver) {
  run_on(driver, []() -> Task<> {
    Event event;
    int woken = 0;
    const auto await_it = [](Event& from, int& count) -> Task<> {
      co_await from.wait();
      ++count;
    };
    auto a = create_task(await_it(event, woken));
    auto b = create_task(await_it(event, woken));
    auto c = create_task(await_it(event, woken));
    co_await turns(2);
    b.cancel();
    BOOST_TEST(event.waiting() == 2U);
    event.set();
    event.clear();
    co_await turns(2);
    BOOST_TEST(woken == 2);
    BOOST_TEST(!event.is_set());
    event.set();
    co_await event.wait();
  });
}

BOOST_DATA_TEST_CASE(notices_reach_those_who_wait_in_their_order, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Lock lock;
    Condition condition(lock);
    auto a = create_task(await_notice(lock, condition, log, "a"));
    auto b = create_task(await_notice(lock, condition, log, "b"));
    auto c = create_task(await_notice(lock, condition, log, "c"));
    co_await turns(4);
    BOOST_TEST(condition.waiting() == 3U);
    condition.notify();
    co_await turns(3);
    log.push_back("one");
    condition.notify_all();
    co_await turns(5);
    BOOST_TEST(!lock.locked());
  });
  const Log expected = {"a", "one", "b", "c"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_wait_has_the_lock_when_it_ends_also_by_cancellation, on_all_drivers,
                     driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Lock lock;
    Condition condition(lock);
    auto a = create_task(await_notice(lock, condition, log, "a"));
    auto b = create_task(await_notice(lock, condition, log, "b"));
    co_await turns(3);
    auto guard = co_await lock.acquire();
    a.cancel();
    a.cancel();
    co_await turns(5);
    BOOST_TEST(log.empty());  // it waits for the lock
    condition.notify();       // b's, since a waits no more
    guard.release();
    co_await turns(5);
    BOOST_TEST(!lock.locked());
  });
  const Log expected = {"a cancelled", "b"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_notice_is_not_lost_by_a_cancellation_after_it, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Lock lock;
    Condition condition(lock);
    auto a = create_task(await_notice(lock, condition, log, "a"));
    co_await turns(3);
    condition.notify();
    a.cancel();
    co_await turns(3);
  });
  const Log expected = {"a"};  // success beats cancel
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_condition_is_waited_for_until_it_holds, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    Lock lock;
    Condition condition(lock);
    int value = 0;
    const auto raise = [](Lock& with, Condition& of, int& to) -> Task<> {
      for (int i = 0; i < 5; ++i) {
        const auto guard = co_await with.acquire();
        ++to;
        of.notify_all();
        co_await yield();
      }
    };
    auto raising = create_task(raise(lock, condition, value));
    auto guard = co_await lock.acquire();
    co_await condition.wait_for(guard, [&value] { return value >= 3; });
    BOOST_TEST(value == 3);
    BOOST_TEST(lock.locked());
    guard.release();
    co_await raising;
  });
}

BOOST_DATA_TEST_CASE(a_barrier_lets_a_party_go_on_together_and_again, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Barrier barrier(3);
    std::vector<Task<>> tasks;
    for (const char* name : {"a", "b", "c", "d", "e", "f", "g"})
      tasks.push_back(meet(barrier, log, name));
    auto all = create_task(gather(std::move(tasks)));
    co_await turns(4);
    BOOST_TEST(barrier.waiting() == 1U);
    barrier.reset();
    co_await all;
    BOOST_TEST(!barrier.broken());
  });
  const Log expected = {"c 2", "f 2", "a 0", "b 1", "d 0", "e 1", "g broken"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(one_that_is_cancelled_had_not_come_to_the_barrier, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Barrier barrier(2);
    auto a = create_task(meet(barrier, log, "a"));
    co_await turns(2);
    a.cancel();
    auto b = create_task(meet(barrier, log, "b"));
    co_await turns(3);
    auto c = create_task(meet(barrier, log, "c"));
    co_await turns(3);
  });
  const Log expected = {"a cancelled", "c 1", "b 0"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(an_aborted_barrier_is_broken_until_it_is_reset, on_all_drivers, driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Barrier barrier(2);
    auto a = create_task(meet(barrier, log, "a"));
    co_await turns(2);
    barrier.abort();
    co_await meet(barrier, log, "b");
    co_await turns(2);
    BOOST_TEST(barrier.broken());
    barrier.reset();
    co_await gather(meet(barrier, log, "c"), meet(barrier, log, "d"));
  });
  const Log expected = {"b broken", "a broken", "d 1", "c 0"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(waiting_in_line_allocates_nothing, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    Lock lock;
    int counter = 0;
    auto a = create_task(increment(counter, &lock, 1000));
    auto b = create_task(increment(counter, &lock, 1000));
    co_await turns(3);
    const auto made = frame_counts().made;
    while (counter < 1990)
      co_await yield();
    BOOST_TEST(frame_counts().made == made);
    co_await a;
    co_await b;
  });
}
