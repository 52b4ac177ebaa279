#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/random.hh"
#include "procs/interpreter_lock.hh"
#include "procs/thread.hh"
#include "tests/left_behind.hh"
#include "tests/sanitized.hh"
#include "tests/waits.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <functional>
#include <latch>

namespace schedlab::procs {

static std::ostream& operator<<(std::ostream& out, LockRule rule) {
  return out << to_text(rule);
}

}  // namespace schedlab::procs

using namespace schedlab;
using namespace schedlab::procs;
using testing::comes_true;
namespace data = boost::unit_test::data;

namespace {

constexpr std::int64_t us = 1'000, ms = 1'000'000;
constexpr LockRule true_locks[] = {LockRule::interval, LockRule::ticks};

// Runs `body(thread, index)` in threads that begin together, each with its state of the lock.
void in_threads(InterpreterLock& lock, unsigned count,
                const std::function<void(InterpreterThread&, unsigned)>& body) {
  std::latch ready(count);
  std::vector<Thread> threads;
  for (unsigned i = 0; i < count; ++i)
    threads.emplace_back(ThreadOptions{.name = "interpreter", .cpus = {}, .sched = {}}, [&, i] {
      InterpreterThread thread(lock);
      ready.arrive_and_wait();
      body(thread, i);
    });
  for (auto& thread : threads)
    thread.join();
}

// Adds to a number that only the lock protects, and lets others run in the middle of it now and
// then, as the seed says.
void add_in_steps(InterpreterThread& thread, volatile std::uint64_t& number, unsigned additions,
                  std::uint64_t seed) {
  Random random(seed);
  HoldInterpreter hold(thread);
  for (unsigned i = 0; i < additions; ++i) {
    const std::uint64_t seen = number;
    if (random.below(32) == 0)
      ::sched_yield();
    number = seen + 1;
    thread.tick();
    if (random.below(64) == 0)
      const AllowThreads released(thread);
  }
}

struct Race {
  std::uint64_t sum = 0;
  std::uint64_t overlaps = 0;
  std::uint64_t switches = 0;
};

constexpr unsigned racers = 4, additions = 800;

Race race(LockRule rule, std::uint64_t seed) {
  HolderTrace trace(1024);
  InterpreterLock lock(
      {.rule = rule, .interval_ns = 50 * us, .check_every = 10, .times = true, .trace = &trace});
  volatile std::uint64_t number = 0;
  in_threads(lock, racers, [&](InterpreterThread& thread, unsigned i) {
    add_in_steps(thread, number, additions, seed * racers + i);
  });
  return {number, trace.overlaps(), lock.switches()};
}

}  // namespace

BOOST_DATA_TEST_CASE(holders_never_overlap_and_lose_no_addition, data::make(true_locks), rule) {
  std::uint64_t switches = 0;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const Race seen = race(rule, seed);
    BOOST_TEST(seen.sum == racers * additions);
    BOOST_TEST(seen.overlaps == 0u);
    switches += seen.switches;
  }
  BOOST_TEST(switches >= 3 * (racers - 1));  // there was something to exclude
}

// On one CPU, too: the yields are in the middle of an addition.
BOOST_AUTO_TEST_CASE(without_a_lock_holders_overlap_and_lose_additions) {
  if (testing::thread_sanitizer)
    return;  // it sees the race, or has a thread of its own in what is forked
  const Race seen = race(LockRule::none, 1);
  BOOST_TEST(seen.overlaps > 0u);
  BOOST_TEST(seen.sum < racers * additions);
}

BOOST_DATA_TEST_CASE(turns_of_the_trace_follow_one_another, data::make(true_locks), rule) {
  HolderTrace trace(64);
  InterpreterLock lock({.rule = rule, .interval_ns = 50 * us, .check_every = 5, .trace = &trace});
  volatile std::uint64_t number = 0;
  in_threads(lock, 3,
             [&](InterpreterThread& thread, unsigned i) { add_in_steps(thread, number, 500, i); });
  const auto turns = trace.turns();
  BOOST_TEST(turns.size() == std::min<std::uint64_t>(trace.count(), 64));
  BOOST_TEST(trace.count() == lock.counts().takes);
  for (std::size_t i = 0; i < turns.size(); ++i) {
    BOOST_TEST(turns[i].taken_ns <= turns[i].dropped_ns);
    BOOST_TEST((turns[i].thread >= 1 && turns[i].thread <= 3));
    if (i > 0)
      BOOST_TEST(turns[i - 1].dropped_ns <= turns[i].taken_ns);
  }
}

// Two threads that never let go: every change of hands was asked for, once, after an interval.
BOOST_AUTO_TEST_CASE(the_holder_gives_way_when_it_is_asked_and_not_before) {
  constexpr std::int64_t interval = 2 * ms, duration = 60 * ms;
  InterpreterLock lock({.interval_ns = interval, .times = true});
  in_threads(lock, 2, [&](InterpreterThread& thread, unsigned) {
    HoldInterpreter hold(thread);
    for (const auto end = clock::now_ns() + duration; clock::now_ns() < end;)
      thread.tick();
  });
  const auto counts = lock.counts();
  BOOST_TEST(counts.gave_way > 0u);
  BOOST_TEST(counts.gave_way <= counts.requests);
  // A drop that was asked for waits for the next holder unless that one is quicker; the last holder
  // may be asked as it ends.
  BOOST_TEST(counts.forced <= counts.requests);
  BOOST_TEST(lock.switches() >= counts.gave_way);
  BOOST_TEST(lock.switches() <= counts.gave_way + 2);
  BOOST_TEST(counts.requests <= counts.expiries);
  // No more than one turn for each interval of both threads' time.
  BOOST_TEST(counts.requests * interval <= counts.waited_ns);
  BOOST_TEST(counts.waits + 1 >= lock.switches());
}

BOOST_DATA_TEST_CASE(a_switch_is_from_one_holder_to_another, data::make(true_locks), rule) {
  InterpreterLock lock({.rule = rule});
  InterpreterThread one(lock), other(lock);
  std::vector<std::uint64_t> counted;
  for (auto* thread : {&one, &one, &other, &other, &one}) {
    thread->take();
    thread->drop();
    counted.push_back(lock.switches());
  }
  const std::vector<std::uint64_t> expected = {0, 0, 1, 1, 2};
  BOOST_TEST(counted == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_thread_alone_is_never_asked_and_never_waits) {
  InterpreterLock lock({.interval_ns = 10 * us});
  InterpreterThread thread(lock);
  BOOST_TEST(thread.take());
  for (int i = 0; i < 100'000; ++i)
    BOOST_REQUIRE(thread.tick());
  for (int i = 0; i < 100; ++i)
    const AllowThreads released(thread);
  BOOST_TEST(thread.holds());
  thread.drop();
  BOOST_TEST(thread.counts().takes == 101u);
  BOOST_TEST(thread.counts().waits == 0u);
  BOOST_TEST(thread.counts().requests == 0u);
  BOOST_TEST(thread.counts().gave_way == 0u);
  BOOST_TEST(thread.counts().held_ns == 0);  // not kept unless asked for
  BOOST_TEST(lock.switches() == 0u);
}

BOOST_AUTO_TEST_CASE(the_old_rule_drops_every_hundred_ticks_asked_or_not) {
  InterpreterLock lock({.rule = LockRule::ticks});
  InterpreterThread thread(lock);
  thread.take();
  for (int i = 0; i < 1000; ++i)
    thread.tick();
  BOOST_TEST(thread.counts().gave_way == 10u);
  BOOST_TEST(thread.counts().takes == 11u);
  BOOST_TEST(thread.counts().forced == 0u);
  BOOST_TEST(lock.switches() == 0u);
}

// Many that hold the lock for a short while each: the last of them waits for several intervals, and
// in none of them did the lock stay where it was.
BOOST_AUTO_TEST_CASE(an_interval_in_which_the_lock_changed_hands_raises_no_request) {
  constexpr std::int64_t interval = 8 * ms;
  HolderTrace trace(256);
  InterpreterLock lock({.interval_ns = interval, .trace = &trace});
  in_threads(lock, 24, [&](InterpreterThread& thread, unsigned) {
    for (int turn = 0; turn < 3; ++turn) {
      {
        HoldInterpreter hold(thread);
        clock::sleep_for(1 * ms);
      }
      clock::sleep_for(200 * us);
    }
  });
  const auto turns = trace.turns();
  BOOST_TEST(turns.size() == 72u);
  BOOST_TEST(lock.counts().expiries > 0u);
  // Turns of one thread that follow one another are one for those who wait.
  std::int64_t longest = 0, begun = turns.front().taken_ns;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    if (i > 0 && turns[i].thread != turns[i - 1].thread)
      begun = turns[i].taken_ns;
    longest = std::max(longest, turns[i].dropped_ns - begun);
  }
  if (longest < interval)  // nothing kept a holder from dropping it
    BOOST_TEST(lock.counts().requests == 0u);
}

// The regression of CPython's gh-96387: a thread asks, and leaves before it gets the lock.
BOOST_AUTO_TEST_CASE(a_thread_that_leaves_takes_its_request_back) {
  InterpreterLock lock({.interval_ns = 1 * ms});
  InterpreterThread holder(lock);
  holder.take();
  std::atomic<InterpreterThread*> leaver{nullptr};
  std::atomic<bool> left{false}, taken{true};
  LockCounts counts;
  Thread thread({.name = "leaver", .cpus = {}, .sched = {}}, [&] {
    InterpreterThread state(lock);
    leaver = &state;
    taken = state.take();
    counts = state.counts();
    leaver = nullptr;
    left = true;
  });
  BOOST_REQUIRE(comes_true([&] { return leaver != nullptr; }));
  clock::sleep_for(20 * ms);  // it has asked by now, or asks later: both are to end well
  leaver.load()->request_exit();
  BOOST_REQUIRE(comes_true([&] { return left.load(); }));
  BOOST_TEST(!taken);
  BOOST_TEST(counts.takes == 0u);
  BOOST_TEST(counts.withdrawn <= 1u);
  BOOST_TEST(counts.withdrawn == (counts.requests > 0 ? 1u : 0u));
  // With the request left behind this would wait for a next holder for ever.
  holder.drop();
  BOOST_TEST(holder.counts().forced == 0u);
  BOOST_TEST(holder.take());
}

BOOST_AUTO_TEST_CASE(threads_that_leave_at_any_moment_leave_nobody_waiting) {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    InterpreterLock lock({.interval_ns = 100 * us});
    std::deque<InterpreterThread> states;
    for (int i = 0; i < 4; ++i)
      states.emplace_back(lock);
    std::vector<Thread> threads;
    std::atomic<unsigned> ended{0};
    for (auto& state : states)
      threads.emplace_back(ThreadOptions{.name = "leaver", .cpus = {}, .sched = {}}, [&] {
        while (state.take() && state.tick())
          state.drop();
        ++ended;
      });
    Random random(seed);
    for (auto& state : states) {
      clock::sleep_for(static_cast<std::int64_t>(random.below(600)) * us);
      state.request_exit();
    }
    BOOST_REQUIRE(comes_true([&] { return ended == states.size(); }));
    for (auto& state : states)
      BOOST_TEST(!state.holds());
  }
}

BOOST_AUTO_TEST_CASE(what_waits_without_the_lock_lets_the_others_run) {
  InterpreterLock lock({.interval_ns = 1'000 * ms});  // nobody is ever asked
  std::atomic<unsigned> inside{0}, most{0};
  in_threads(lock, 3, [&](InterpreterThread& thread, unsigned) {
    HoldInterpreter hold(thread);
    const AllowThreads released(thread);
    const unsigned now = ++inside;
    for (unsigned seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    comes_true([&] { return most == 3; });
  });
  BOOST_TEST(most == 3u);
  BOOST_TEST(lock.counts().requests == 0u);
}

BOOST_DATA_TEST_CASE(errno_survives_a_change_of_hands, data::make(true_locks), rule) {
  InterpreterLock lock({.rule = rule, .interval_ns = 100 * us});
  std::atomic<unsigned> kept{0};
  in_threads(lock, 2, [&](InterpreterThread& thread, unsigned) {
    HoldInterpreter hold(thread);
    for (int i = 0; i < 200; ++i) {
      {
        const AllowThreads released(thread);
        clock::sleep_for(10 * us);
        errno = ENOTSUP;
      }
      kept += errno == ENOTSUP;
    }
  });
  BOOST_TEST(kept == 2u * 200u);
}

BOOST_AUTO_TEST_CASE(a_forked_child_makes_the_lock_anew) {
  if (testing::thread_sanitizer)
    return;  // it sees the race, or has a thread of its own in what is forked
  InterpreterLock lock({.interval_ns = 1 * ms});
  std::atomic<bool> held{false}, end{false};
  Thread other({.name = "holder", .cpus = {}, .sched = {}}, [&] {
    InterpreterThread thread(lock);
    HoldInterpreter hold(thread);
    held = true;
    comes_true([&] { return end.load(); });
  });
  BOOST_REQUIRE(comes_true([&] { return held.load(); }));
  InterpreterThread survivor(lock);
  // Its holder does not exist in the child: without renewal this would wait for ever.
  Child child = Child::fork([&] {
    lock.renew_after_fork(survivor);
    if (!survivor.holds() || lock.switches() != 0)
      return 1;
    for (int i = 0; i < 1000; ++i)
      if (!survivor.tick())
        return 2;
    survivor.drop();
    return survivor.take() && survivor.counts().waits == 0 ? 0 : 3;
  });
  const auto cause = child.wait_for(10'000);
  BOOST_REQUIRE(cause);
  BOOST_TEST(cause->success(), cause->text());
  end = true;
  other.join();
  BOOST_TEST(survivor.take());  // ours was not touched
}

BOOST_AUTO_TEST_CASE(a_lock_refuses_what_is_no_interval_and_no_rule) {
  BOOST_CHECK_THROW(InterpreterLock({.interval_ns = 0}), std::invalid_argument);
  BOOST_CHECK_THROW(InterpreterLock({.check_every = 0}), std::invalid_argument);
  BOOST_CHECK_THROW(lock_rule_from("nogil"), std::invalid_argument);
  BOOST_TEST(lock_rule_from("ticks") == LockRule::ticks);
  InterpreterLock lock;
  BOOST_TEST(lock.interval_ns() == 5 * ms);
  lock.set_interval_ns(50 * us);
  BOOST_TEST(lock.interval_ns() == 50 * us);
}

// The shape of the convoy: after each wait outside the lock the thread needs the intervals of a
// holder that computes, so that there are expiries for each operation, not for each second.
BOOST_AUTO_TEST_CASE(who_comes_back_from_io_waits_an_interval_for_each_that_computes) {
  constexpr unsigned operations = 15;
  for (const unsigned computing : {0u, 1u, 2u}) {
    InterpreterLock lock({.interval_ns = 2 * ms, .times = true});
    std::atomic<bool> done{false};
    std::atomic<unsigned> running{0};
    LockCounts io;
    in_threads(lock, computing + 1, [&](InterpreterThread& thread, unsigned i) {
      if (i == 0)
        comes_true([&] { return running == computing; });
      HoldInterpreter hold(thread);
      if (i > 0) {
        for (++running; !done;)
          thread.tick();
        return;
      }
      const LockCounts before = thread.counts();
      for (unsigned operation = 0; operation < operations; ++operation) {
        const AllowThreads released(thread);
        // What it waits for lasts until another thread has the lock, if there is one.
        if (const auto switches = lock.switches(); computing > 0)
          comes_true([&] { return lock.switches() != switches; });
      }
      done = true;
      io = thread.counts();
      io.waits -= before.waits;
      io.expiries -= before.expiries;
    });
    if (computing == 0) {
      BOOST_TEST(io.waits == 0u);
      BOOST_TEST(io.expiries == 0u);
    } else {
      // A computing thread holds the lock, but for the moment in which one hands it to the other.
      BOOST_TEST(io.waits >= operations - 2);
      BOOST_TEST(lock.counts().gave_way >= operations - 2);
      // Of two, one may have asked for the other's lock already.
      if (computing == 1)
        BOOST_TEST(io.expiries >= io.waits);
      BOOST_TEST(lock.counts().requests >= lock.counts().gave_way);
    }
  }
}

BOOST_AUTO_TEST_CASE(nothing_is_left_behind) {
  const auto before = testing::belongings();
  race(LockRule::interval, 7);
  BOOST_TEST(testing::belongings() == before);
}
