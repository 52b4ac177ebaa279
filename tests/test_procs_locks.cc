#include "affinity/pin.hh"
#include "lab/apparatus/lock_kinds.hh"
#include "procs/event.hh"
#include "procs/rw_lock.hh"
#include "procs/semaphore.hh"
#include "tests/lock_case.hh"

#include <boost/mpl/list.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <mutex>
#include <pthread.h>
#include <sched.h>

using namespace schedlab;
using namespace schedlab::procs;
using namespace schedlab::testing;
using namespace std::chrono_literals;

namespace {

using AllLocks =
    boost::mpl::list<apparatus::PlainMutex, apparatus::SpinningMutex, apparatus::SharedMutex,
                     apparatus::OurFairMutex, apparatus::OurTicketLock, apparatus::OurMcsLock,
                     apparatus::OurRobustMutex, apparatus::OurPiMutex>;

struct StrictMutex : FairMutex {
  StrictMutex() : FairMutex(Sharing::threads, 0ns) {}
};
template <typename T>
struct Made : T {
  Made() : T(apparatus::LockOptions{}) {}
};
using LocksInOrder = boost::mpl::list<StrictMutex, TicketLock, Made<apparatus::OurMcsLock>>;
using FreedLocks = boost::mpl::list<Mutex, FairMutex>;
using TimedLocks = boost::mpl::list<Mutex, FairMutex, PiMutex, RwLock>;

template <typename Lock>
struct GripOf {
  using Type = apparatus::Grip<Lock>;
};
template <>
struct GripOf<Made<apparatus::OurMcsLock>> {
  using Type = McsPlace;
};

// So many turns at a lock, or as many as a second allows: where other programs have the CPUs too, a
// turn at a lock that spins can take milliseconds.
class Turns {
public:
  explicit Turns(std::uint64_t most) : most_(most) {}
  [[nodiscard]] bool allow(std::uint64_t turn) const {
    return turn < most_ && (turn % 16 != 0 || !cut());
  }
  // Whether the time is over. If not, all turns were made.
  [[nodiscard]] bool cut() const { return clock::now_ns() >= end_ns_; }

private:
  std::uint64_t most_;
  std::int64_t end_ns_ = clock::now_ns() + 1'000'000'000;
};

// Until a thread has had so much of a CPU. One that spins for a lock never sleeps.
bool has_run(std::jthread& thread, std::int64_t ns) {
  clockid_t its_time{};
  return ::pthread_getcpuclockid(thread.native_handle(), &its_time) == 0 && comes_true([&] {
           timespec had{};
           ::clock_gettime(its_time, &had);
           return had.tv_sec > 0 || had.tv_nsec >= ns;
         });
}

}  // namespace

BOOST_AUTO_TEST_CASE_TEMPLATE(a_lock_lets_one_in_at_a_time, Lock, AllLocks) {
  Lock lock(apparatus::LockOptions{.patience = {.spins = 20}});
  Number plain{0};
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  Number done{0};
  const std::uint64_t each = scaled(50'000);
  const Turns turns(each);
  in_threads(4, [&](unsigned) {
    apparatus::Grip<Lock> grip(lock);
    for (std::uint64_t i = 0; turns.allow(i); ++i) {
      const std::lock_guard guard(grip);
      const int now = inside.fetch_add(1, std::memory_order_relaxed) + 1;
      if (now > most.load(std::memory_order_relaxed))
        most.store(now, std::memory_order_relaxed);
      add_plainly(plain);
      if (i % 8192 == 0)
        ::sched_yield();
      inside.fetch_sub(1, std::memory_order_relaxed);
      done.fetch_add(1, std::memory_order_relaxed);
    }
  });
  BOOST_TEST((done.load() == 4 * each || turns.cut()));
  BOOST_TEST(plain.load() == done.load());
  BOOST_TEST(most.load() == 1);
}

// The control of the case above: what it counts is lost where nothing locks.
BOOST_AUTO_TEST_CASE(without_a_lock_additions_are_lost) {
  Number plain{0};
  std::uint64_t done = 0;
  for (int tries = 0; tries < 100 && plain.load() == done; ++tries) {
    in_threads(4, [&](unsigned) {
      for (int i = 0; i < 2000; ++i) {
        const auto seen = plain.load(std::memory_order_relaxed);
        if (i % 64 == 0)
          ::sched_yield();
        plain.store(seen + 1, std::memory_order_relaxed);
      }
    });
    done += 8000;
  }
  BOOST_TEST(plain.load() < done);
}

// Those who wait are let in as they came. Each is asleep, or (where it spins) has run for longer
// than it takes to come.
BOOST_AUTO_TEST_CASE_TEMPLATE(a_fair_lock_keeps_the_order_of_arrival, Lock, LocksInOrder) {
  Lock lock;
  std::vector<unsigned> order;
  typename GripOf<Lock>::Type own(lock);
  own.lock();
  std::vector<std::jthread> threads;
  constexpr unsigned count = 40;  // more than the 31 bits that tickets share
  for (unsigned i = 0; i < count; ++i) {
    pid_t tid = 0;
    threads.push_back(started(tid, [&, i] {
      typename GripOf<Lock>::Type grip(lock);
      grip.lock();
      order.push_back(i);
      grip.unlock();
    }));
    if constexpr (std::is_same_v<Lock, StrictMutex>)
      BOOST_TEST_REQUIRE(asleep(tid));
    else
      BOOST_TEST_REQUIRE(has_run(threads.back(), 500'000));
  }
  own.unlock();
  threads.clear();
  BOOST_TEST(order.size() == count);
  BOOST_TEST(std::ranges::is_sorted(order));
}

// A holder who comes back at once wins against sleepers for ever, but for the ticket. The waiter's
// patience is half a millisecond; that the host takes its CPU away for as long as it is given is
// rare.
BOOST_AUTO_TEST_CASE(a_fair_mutex_hands_over_to_who_has_waited_long) {
  FairMutex lock;
  std::atomic<bool> in{false};
  lock.lock();
  pid_t tid = 0;
  std::jthread waiter = started(tid, [&] {
    const std::lock_guard guard(lock);
    in.store(true);
  });
  BOOST_TEST_REQUIRE(asleep(tid));
  std::this_thread::sleep_for(200ms);
  BOOST_TEST_REQUIRE(asleep(tid));  // now with a ticket
  lock.unlock();
  lock.lock();  // queues behind it
  BOOST_TEST(in.load());
  lock.unlock();
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_timed_attempt_gives_up_and_leaves_the_lock_usable, Lock,
                              TimedLocks) {
  Lock lock;
  lock.lock();
  std::jthread([&] {
    BOOST_TEST(!lock.try_lock());
    BOOST_TEST(!lock.try_lock_for(2ms));
    BOOST_TEST(!lock.try_lock_for(-1h));
    BOOST_TEST(!lock.try_lock_until(std::chrono::steady_clock::now() + 2ms));
    BOOST_TEST(!lock.try_lock_until(std::chrono::system_clock::now() + 2ms));
  }).join();
  std::atomic<bool> got{false};
  pid_t tid = 0;
  std::jthread waiter = started(tid, [&] {
    got = lock.try_lock_for(std::chrono::hours::max());
    lock.unlock();
  });
  BOOST_TEST_REQUIRE(asleep(tid));
  lock.unlock();
  waiter.join();
  BOOST_TEST(got.load());
  BOOST_TEST(lock.try_lock());
  lock.unlock();
}

// Nobody is forgotten where some of the sleepers give up.
BOOST_AUTO_TEST_CASE_TEMPLATE(sleepers_that_give_up_swallow_no_wake_up, Lock, TimedLocks) {
  Lock lock;
  Number plain{0};
  Number got{0};
  Number sure{0};
  const std::uint64_t each = scaled(3000);
  const Turns turns(each);
  in_threads(6, [&](unsigned i) {
    for (std::uint64_t turn = 0; turns.allow(turn); ++turn) {
      if (i % 2 == 0) {
        lock.lock();
        sure.fetch_add(1, std::memory_order_relaxed);
      } else if (!lock.try_lock_for(std::chrono::microseconds(turn % 60))) {
        continue;
      }
      add_plainly(plain);
      if (turn % 16 == 0)
        ::sched_yield();
      lock.unlock();
      got.fetch_add(1, std::memory_order_relaxed);
    }
  });
  BOOST_TEST(plain.load() == got.load());
  BOOST_TEST(got.load() >= sure.load());
  BOOST_TEST((sure.load() == 3 * each || turns.cut()));
}

BOOST_AUTO_TEST_CASE(on_one_cpu_no_lock_spins_and_all_go_on) {
  const affinity::Pin pin(affinity::current_cpu());
  BOOST_TEST(Patience::of(Waiting::spin).spins == 0U);
  TicketLock ticket;
  McsLock mcs;
  Mutex mutex(Sharing::threads, Patience::of(Waiting::adaptive));
  Number plain{0};
  Number done{0};
  const Turns turns(300);
  in_threads(3, [&](unsigned) {
    McsPlace place(mcs);
    for (std::uint64_t i = 0; turns.allow(i); ++i) {
      const std::scoped_lock guard(ticket, place, mutex);
      add_plainly(plain);
      done.fetch_add(1, std::memory_order_relaxed);
      ::sched_yield();
    }
  });
  BOOST_TEST((done.load() == 900U || turns.cut()));
  BOOST_TEST(plain.load() == done.load());
}

// The pattern of a reference count: who gets the lock last frees it, while the unlock that let it
// in is still on its way. A lock that looks at itself after its release is found by the sanitizer.
BOOST_AUTO_TEST_CASE_TEMPLATE(who_has_the_lock_may_destroy_it, Lock, FreedLocks) {
  for (std::uint64_t turn = 0; turn < scaled(5000); ++turn) {
    struct Counted {
      Lock lock;
      int users = 2;
    };
    auto* shared = new Counted;
    const auto leave = [shared] {
      shared->lock.lock();
      const bool last = --shared->users == 0;
      shared->lock.unlock();
      if (last)
        delete shared;
    };
    std::jthread other(leave);
    leave();
  }
}

BOOST_AUTO_TEST_CASE(the_futex_calls_of_a_lock_are_counted) {
  Mutex lock;
  const std::uint64_t before = futex_calls();
  for (int i = 0; i < 1000; ++i) {
    const std::lock_guard guard(lock);
  }
  BOOST_TEST(futex_calls() == before);
  lock.lock();
  std::uint64_t calls = 0;
  std::jthread([&] {
    lock.try_lock_for(50ms);
    calls = futex_calls();
  }).join();
  BOOST_TEST(calls == 1U);
  lock.unlock();  // wakes: somebody may have slept
  BOOST_TEST(futex_calls() == before + 1);
}

BOOST_AUTO_TEST_CASE(a_pi_mutex_refuses_to_be_locked_twice) {
  PiMutex lock;
  lock.lock();
  BOOST_CHECK_EXCEPTION(lock.lock(), std::system_error, [](const std::system_error& error) {
    return error.code() == std::errc::resource_deadlock_would_occur;
  });
  lock.unlock();
  BOOST_TEST(lock.try_lock());
  lock.unlock();
}

namespace {
std::atomic<int> signals{0};
}

// A signal in the middle of a wait neither lets through nor loses the turn.
BOOST_AUTO_TEST_CASE(a_signal_ends_no_wait) {
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) { ++signals; };  // without SA_RESTART: the calls end with EINTR
  ::sigaction(SIGUSR1, &action, &before);
  Mutex mutex;
  FairMutex fair;
  PiMutex pi;
  RwLock rw;
  Semaphore semaphore(0);
  Event event;
  mutex.lock();
  fair.lock();
  pi.lock();
  rw.lock();
  std::atomic<int> through{0};
  const auto locks = [&](auto& lock) {
    return [&] {
      lock.lock();
      ++through;
      lock.unlock();
    };
  };
  std::vector<pid_t> tids(6);
  std::vector<std::jthread> threads;
  threads.push_back(started(tids[0], locks(mutex)));
  threads.push_back(started(tids[1], locks(fair)));
  threads.push_back(started(tids[2], locks(pi)));
  threads.push_back(started(tids[3], locks(rw)));
  threads.push_back(started(tids[4], [&] {
    semaphore.acquire();
    ++through;
  }));
  threads.push_back(started(tids[5], [&] {
    event.wait();
    ++through;
  }));
  for (int round = 0; round < 20; ++round)
    for (std::size_t i = 0; i < threads.size(); ++i) {
      BOOST_TEST_REQUIRE(asleep(tids[i]));
      ::pthread_kill(threads[i].native_handle(), SIGUSR1);
    }
  for (const auto tid : tids)
    BOOST_TEST(asleep(tid));
  BOOST_TEST(through.load() == 0);
  mutex.unlock();
  fair.unlock();
  pi.unlock();
  rw.unlock();
  semaphore.release();
  event.set();
  threads.clear();
  BOOST_TEST(through.load() == 6);
  BOOST_TEST(signals.load() > 20);
  ::sigaction(SIGUSR1, &before, nullptr);
}
