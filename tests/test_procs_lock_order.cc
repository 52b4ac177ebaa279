#include "procs/lock_order.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <deque>
#include <functional>
#include <mutex>
#include <numeric>
#include <source_location>
#include <stdexcept>
#include <thread>

using schedlab::procs::Hold;
using schedlab::procs::LockOrder;
using schedlab::procs::Watched;

namespace {

// Of threads that run one after the other nobody ever waits, and ThreadSanitizer, which watches
// mutexes as well, has nothing to say.
struct Free {
  void lock() {}
  bool try_lock() { return true; }
  void unlock() {}
};
using Mutex = Watched<Free>;

// One thread after the other, so that no deadlock happens whatever they do.
void one_by_one(std::initializer_list<std::function<void()>> threads) {
  for (const auto& body : threads)
    std::thread(body).join();
}

struct Locks {
  explicit Locks(unsigned count) {
    for (unsigned i = 0; i < count; ++i)
      locks.emplace_back(order, "lock " + std::to_string(i));
  }
  // What takes these locks, each while it holds the ones before.
  std::function<void()> takes(std::vector<unsigned> numbers) {
    return [this, numbers] {
      for (const auto number : numbers)
        locks[number].lock();
      for (const auto number : numbers)
        locks[number].unlock();
    };
  }
  LockOrder order;
  std::deque<Mutex> locks;
};

// Whether a cycle goes through exactly these locks, in any rotation.
bool goes_through(const LockOrder::Cycle& cycle, std::vector<LockOrder::Lock> numbers) {
  std::vector<LockOrder::Lock> held;
  for (std::size_t i = 0; i < cycle.size(); ++i) {
    held.push_back(cycle[i].held);
    if (cycle[i].wanted != cycle[(i + 1) % cycle.size()].held)
      return false;
  }
  std::ranges::sort(held);
  return held == numbers;
}

}  // namespace

BOOST_AUTO_TEST_CASE(two_threads_with_opposite_orders_are_a_cycle_though_nothing_happened) {
  Locks three(3);
  one_by_one({three.takes({0, 1}), three.takes({1, 0})});
  const auto cycles = three.order.cycles();
  BOOST_TEST_REQUIRE(cycles.size() == 1u);
  BOOST_TEST(goes_through(cycles[0], {0, 1}));
  BOOST_TEST(cycles[0][0].thread != cycles[0][1].thread);
  BOOST_TEST(three.order.standstill().empty());
  BOOST_TEST(three.order.stood_still_ns() == 0);
}

BOOST_AUTO_TEST_CASE(the_places_of_both_locks_of_both_threads_are_told) {
  LockOrder order;
  Mutex a(order, "account a"), b(order, "account b");
  unsigned first = 0, second = 0;
  one_by_one({[&] {
                const Hold one(a);
                first = std::source_location::current().line() - 1;
                const Hold other(b);
              },
              [&] {
                const Hold one(b);
                second = std::source_location::current().line() - 1;
                const Hold other(a);
              }});
  const auto cycles = order.cycles();
  BOOST_TEST_REQUIRE(cycles.size() == 1u);
  for (const auto& edge : cycles[0]) {
    const unsigned line = edge.held == a.number() ? first : second;
    BOOST_TEST(edge.held_at.line() == line);
    BOOST_TEST(edge.wanted_at.line() == line + 2);
  }
  const std::string text = order.text(cycles[0]);
  BOOST_TEST(text.find("holds account a (test_procs_lock_order.cc:" + std::to_string(first) +
                       ") and wants account b") != std::string::npos,
             text);
  BOOST_TEST(text.find("holds account b (test_procs_lock_order.cc:" + std::to_string(second)) !=
                 std::string::npos,
             text);
}

BOOST_AUTO_TEST_CASE(a_circle_of_any_length_is_found_once_and_needs_its_last_edge) {
  for (unsigned count = 2; count <= 9; ++count) {
    Locks circle(count);
    for (unsigned i = 0; i + 1 < count; ++i)
      one_by_one({circle.takes({i, i + 1})});
    BOOST_TEST(circle.order.cycles().empty());
    one_by_one({circle.takes({count - 1, 0}), circle.takes({count - 1, 0})});
    const auto cycles = circle.order.cycles();
    BOOST_TEST_REQUIRE(cycles.size() == 1u);
    BOOST_TEST(cycles[0].size() == count);
    std::vector<LockOrder::Lock> all(count);
    std::iota(all.begin(), all.end(), 0u);
    BOOST_TEST(goes_through(cycles[0], all));
  }
}

BOOST_AUTO_TEST_CASE(one_order_for_all_is_no_cycle_however_many_take_part) {
  Locks many(8);
  for (unsigned a = 0; a < 8; ++a)
    for (unsigned b = a + 1; b < 8; ++b)
      for (unsigned c = b + 1; c < 8; ++c)
        one_by_one({many.takes({a, b, c}), many.takes({a, c}), many.takes({b, c})});
  BOOST_TEST(many.order.edges() > 50u);
  BOOST_TEST(many.order.cycles().empty());
}

BOOST_AUTO_TEST_CASE(one_thread_cannot_deadlock_with_itself_by_two_orders) {
  Locks two(2);
  one_by_one({[&] {
    two.takes({0, 1})();
    two.takes({1, 0})();
  }});
  BOOST_TEST(two.order.cycles().empty());
}

BOOST_AUTO_TEST_CASE(a_gate_around_both_orders_makes_them_safe_and_without_it_they_are_not) {
  Locks gated(3);
  one_by_one({gated.takes({2, 0, 1}), gated.takes({2, 1, 0})});
  BOOST_TEST(gated.order.cycles().empty());
  // One thread that passes by the gate is enough.
  one_by_one({gated.takes({1, 0})});
  BOOST_TEST(gated.order.cycles().size() == 1u);
}

BOOST_AUTO_TEST_CASE(the_levels_of_a_hierarchy_may_be_skipped) {
  Locks levels(4);
  one_by_one({levels.takes({0, 1, 2, 3}), levels.takes({0, 3}), levels.takes({1, 3}),
              levels.takes({0, 2, 3}), levels.takes({2, 3})});
  BOOST_TEST(levels.order.cycles().empty());
}

BOOST_AUTO_TEST_CASE(a_recursive_lock_may_be_taken_again_also_below_another_one) {
  LockOrder order;
  Mutex outer(order, "outer", true), inner(order, "inner", true);
  const auto nested = [&] {
    const Hold one(outer);
    const Hold other(inner);
    const Hold again(outer);
    const Hold once_more(inner);
  };
  one_by_one({nested, nested});
  BOOST_TEST(order.cycles().empty());
  one_by_one({[&] {
    const Hold one(inner);
    const Hold other(outer);
  }});
  BOOST_TEST(order.cycles().size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_lock_that_is_tried_does_not_wait_and_makes_no_edge) {
  Locks two(2);
  const auto backing_off = [&] {
    two.locks[1].lock();
    BOOST_TEST(two.locks[0].try_lock());
    two.locks[0].unlock();
    two.locks[1].unlock();
  };
  one_by_one({two.takes({0, 1}), backing_off});
  BOOST_TEST(two.order.cycles().empty());
  BOOST_TEST(two.order.edges() == 1u);
}

BOOST_AUTO_TEST_CASE(scoped_lock_takes_opposite_orders_without_a_cycle) {
  LockOrder order;
  Watched<std::mutex> a(order, "a"), b(order, "b");
  const auto both = [](auto& first, auto& second) {
    for (int i = 0; i < 1000; ++i)
      const std::scoped_lock held(first, second);
  };
  std::thread one([&] { both(a, b); }), other([&] { both(b, a); });
  one.join();
  other.join();
  BOOST_TEST(order.standstill().empty());
}

BOOST_AUTO_TEST_CASE(a_lock_that_is_held_while_tried_counts_as_held) {
  Locks two(2);
  const auto tried_first = [&] {
    BOOST_TEST(two.locks[1].try_lock());
    two.locks[0].lock();
    two.locks[0].unlock();
    two.locks[1].unlock();
  };
  one_by_one({two.takes({0, 1}), tried_first});
  BOOST_TEST(two.order.cycles().size() == 1u);
}

BOOST_AUTO_TEST_CASE(locks_may_be_given_back_in_any_order) {
  Locks two(3);
  one_by_one({[&] {
                two.locks[0].lock();
                two.locks[1].lock();
                two.locks[0].unlock();
                two.locks[2].lock();  // while only 1 is held
                two.locks[2].unlock();
                two.locks[1].unlock();
              },
              two.takes({2, 0})});
  BOOST_TEST(two.order.edges() == 3u);  // 0-1, 1-2, 2-0
  // From 0 to 1 to 2 the first thread alone made the edges: no other one stands between.
  BOOST_TEST(two.order.cycles().empty());
}

namespace {

// Never lets anybody in: what waits for it can be looked at, and goes on by an exception.
struct Refusing {
  void lock() {
    looked->operator()();
    throw std::runtime_error("given up");
  }
  bool try_lock() { return false; }
  void unlock() {}
  const std::function<void()>* looked;
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_standstill_is_seen_while_it_lasts_and_not_before_or_after) {
  // The second thread waits for what the first holds, and the first for what the second holds;
  // waits that throw end it again.
  LockOrder order;
  std::function<void()> first_waits, second_waits;
  Watched<Refusing> a(order, "a", false, Refusing{&second_waits});
  Watched<Refusing> b(order, "b", false, Refusing{&first_waits});
  const LockOrder::Place here = LockOrder::Place::current();
  LockOrder::Cycle during;
  std::int64_t since = 0;
  second_waits = [&] {
    during = order.standstill();
    since = order.stood_still_ns();
  };
  first_waits = [&] {
    std::thread([&] {
      order.taken(b.number(), here, true);
      BOOST_TEST(order.standstill().empty());
      BOOST_CHECK_THROW(a.lock(), std::runtime_error);
      order.giving_back(b.number());
    }).join();
  };
  order.taken(a.number(), here, true);
  BOOST_CHECK_THROW(b.lock(), std::runtime_error);
  order.giving_back(a.number());
  BOOST_TEST(goes_through(during, {a.number(), b.number()}));
  BOOST_TEST(since > 0);
  BOOST_TEST(order.standstill().empty());
  BOOST_TEST(order.stood_still_ns() == since);
  BOOST_TEST(order.cycles().size() == 1u);
}

BOOST_AUTO_TEST_CASE(waiting_for_ones_own_lock_is_a_standstill_of_one) {
  LockOrder order;
  std::function<void()> nothing = [] {};
  Watched<Refusing> lock(order, "own", false, Refusing{&nothing});
  order.taken(lock.number(), LockOrder::Place::current(), true);
  LockOrder::Cycle during;
  nothing = [&] { during = order.standstill(); };
  BOOST_CHECK_THROW(lock.lock(), std::runtime_error);
  BOOST_TEST(goes_through(during, {lock.number()}));
  BOOST_TEST_REQUIRE(order.cycles().size() == 1u);
  BOOST_TEST(order.cycles()[0].size() == 1u);
}

BOOST_AUTO_TEST_CASE(threads_that_use_the_locks_at_once_lose_no_edge) {
  LockOrder order;
  std::deque<Watched<std::mutex>> locks;
  for (unsigned i = 0; i < 6; ++i)
    locks.emplace_back(order, std::to_string(i));
  std::deque<std::thread> threads;
  for (unsigned i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (unsigned round = 0; round < 200; ++round)
        for (unsigned a = 0; a + 1 < 6; ++a) {
          const Hold one(locks[a]);
          const Hold other(locks[a + 1]);
        }
    });
  for (auto& thread : threads)
    thread.join();
  BOOST_TEST(order.edges() == 4u * 5u);  // each thread's own
  BOOST_TEST(order.cycles().empty());
}
