#include "lab/base/child.hh"
#include "procs/barrier.hh"
#include "procs/condition.hh"
#include "procs/event.hh"
#include "procs/rw_lock.hh"
#include "procs/sealed_memory.hh"
#include "procs/semaphore.hh"
#include "tests/deny_syscall.hh"
#include "tests/lock_case.hh"

#include <boost/test/unit_test.hpp>

#include <array>
#include <deque>
#include <mutex>
#include <sched.h>
#include <shared_mutex>
#include <sys/syscall.h>

using namespace schedlab;
using namespace schedlab::procs;
using namespace schedlab::testing;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_CASE(a_semaphore_lets_in_as_many_as_it_has_units) {
  Semaphore semaphore(3);
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  in_threads(6, [&](unsigned) {
    for (std::uint64_t i = 0; i < scaled(5000); ++i) {
      semaphore.acquire();
      const int now = inside.fetch_add(1) + 1;
      int seen = most.load();
      while (seen < now && !most.compare_exchange_weak(seen, now)) {
      }
      if (i % 8 == 0)
        ::sched_yield();
      inside.fetch_sub(1);
      semaphore.release();
    }
  });
  BOOST_TEST(most.load() == 3);
  BOOST_TEST(semaphore.available() == 3U);
}

BOOST_AUTO_TEST_CASE(a_semaphore_gives_up_in_time_and_loses_no_unit) {
  Semaphore semaphore(0);
  BOOST_TEST(!semaphore.try_acquire());
  BOOST_TEST(!semaphore.try_acquire_for(1ms));
  BOOST_TEST(!semaphore.try_acquire_until(std::chrono::system_clock::now() + 1ms));
  Number got{0};
  const std::uint64_t units = scaled(20'000);
  in_threads(4, [&](unsigned i) {
    if (i == 0) {
      for (std::uint64_t unit = 0; unit < units; ++unit)
        semaphore.release();
      return;
    }
    while (got.load() < units)
      if (semaphore.try_acquire_for(std::chrono::microseconds(50 * i)))
        got.fetch_add(1);
  });
  BOOST_TEST(got.load() == units);
  BOOST_TEST(semaphore.available() == 0U);
}

BOOST_AUTO_TEST_CASE(an_event_lets_all_through_and_holds_again_after_a_reset) {
  Event event;
  BOOST_TEST(!event.is_set());
  BOOST_TEST(!event.wait_for(1ms));
  std::atomic<int> through{0};
  std::vector<std::jthread> waiters;
  for (int i = 0; i < 8; ++i) {
    pid_t tid = 0;
    waiters.push_back(started(tid, [&] {
      event.wait();
      ++through;
    }));
    BOOST_TEST_REQUIRE(asleep(tid));
  }
  BOOST_TEST(through.load() == 0);
  event.set();
  event.reset();  // at once: who waited is through all the same
  waiters.clear();
  BOOST_TEST(through.load() == 8);
  BOOST_TEST(!event.wait_until(std::chrono::steady_clock::now() + 1ms));
  event.set();
  event.set();
  BOOST_TEST(event.is_set());
  event.wait();
}

namespace {

// Tells and waits in turn, in both ways to tell all; who is not told sleeps for ever.
template <typename Tell>
void everybody_hears(unsigned listeners, std::uint64_t turns, Tell tell) {
  Mutex mutex;
  Condition told(mutex);
  Condition heard(mutex);
  std::uint64_t turn = 0;
  unsigned waiting = listeners;
  std::vector<std::jthread> threads;
  for (unsigned i = 0; i < listeners; ++i)
    threads.emplace_back([&] {
      for (std::uint64_t next = 1; next <= turns; ++next) {
        std::unique_lock held(mutex);
        told.wait(held, [&] { return turn >= next; });
        if (--waiting == 0)
          heard.notify_one();
      }
    });
  for (std::uint64_t next = 1; next <= turns; ++next) {
    std::unique_lock held(mutex);
    turn = next;
    waiting = listeners;
    tell(told, held);
    heard.wait(held, [&] { return waiting == 0; });
  }
  threads.clear();
  BOOST_TEST(turn == turns);
}

}  // namespace

BOOST_AUTO_TEST_CASE(of_a_hundred_thousand_tellings_none_is_lost) {
  everybody_hears(4, scaled(12'500), [](Condition& told, auto& held) { told.notify_all(held); });
  everybody_hears(4, scaled(12'500), [](Condition& told, auto& held) {
    held.unlock();
    told.notify_all();
    held.lock();
  });
  everybody_hears(1, scaled(25'000), [](Condition& told, auto& held) {
    held.unlock();
    told.notify_one();
    held.lock();
  });
}

BOOST_AUTO_TEST_CASE(who_waits_at_a_condition_hears_one_telling_each) {
  Mutex mutex;
  Condition condition(mutex);
  int tokens = 0;
  std::atomic<int> served{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 5; ++i) {
    pid_t tid = 0;
    threads.push_back(started(tid, [&] {
      std::unique_lock held(mutex);
      condition.wait(held, [&] { return tokens > 0; });
      --tokens;
      ++served;
    }));
    BOOST_TEST_REQUIRE(asleep(tid));
  }
  for (int i = 1; i <= 5; ++i) {
    {
      const std::lock_guard guard(mutex);
      ++tokens;
    }
    condition.notify_one();
    threads[static_cast<std::size_t>(i) - 1].join();  // who slept longest goes first
    BOOST_TEST(served.load() == i);
  }
  const std::uint64_t before = futex_calls();
  condition.notify_one();
  condition.notify_all();
  BOOST_TEST(futex_calls() == before);
}

BOOST_AUTO_TEST_CASE(a_wait_at_a_condition_gives_up_in_time_and_has_the_mutex) {
  Mutex mutex;
  Condition condition(mutex);
  std::unique_lock held(mutex);
  BOOST_TEST(!condition.wait_for(held, 1ms, [] { return false; }));
  BOOST_TEST(
      !condition.wait_until(held, std::chrono::system_clock::now() + 1ms, [] { return false; }));
  BOOST_TEST(condition.wait_for(held, 1h, [] { return true; }));
  BOOST_TEST(!mutex.try_lock());
}

// A bounded buffer between two and two with timed waits: what goes in comes out.
BOOST_AUTO_TEST_CASE(timed_waits_at_conditions_lose_nothing) {
  Mutex mutex;
  Condition filled(mutex);
  Condition drained(mutex);
  std::deque<std::uint64_t> items;
  std::uint64_t sum = 0;
  std::uint64_t taken = 0;
  const std::uint64_t each = scaled(10'000);
  in_threads(4, [&](unsigned i) {
    for (std::uint64_t item = 1; item <= each; ++item) {
      std::unique_lock held(mutex);
      if (i < 2) {
        while (!drained.wait_for(held, 100us, [&] { return items.size() < 4; })) {
        }
        items.push_back(item);
        filled.notify_one();
      } else {
        while (!filled.wait_for(held, 100us, [&] { return !items.empty(); })) {
        }
        sum += items.front();
        ++taken;
        items.pop_front();
        drained.notify_one();
      }
    }
  });
  BOOST_TEST(taken == 2 * each);
  BOOST_TEST(sum == each * (each + 1));
}

BOOST_AUTO_TEST_CASE(at_a_barrier_nobody_is_a_round_ahead) {
  constexpr unsigned parties = 5;
  for (const std::uint32_t spins : {0U, 50U}) {
    Barrier barrier(parties, Sharing::threads, {spins});
    std::vector<Number> rounds(parties);
    std::atomic<std::uint64_t> last{0};
    std::atomic<bool> apart{false};
    const std::uint64_t all = scaled(3000);
    in_threads(parties, [&](unsigned i) {
      for (std::uint64_t round = 1; round <= all; ++round) {
        rounds[i].store(round, std::memory_order_relaxed);
        last += barrier.arrive_and_wait() ? 1 : 0;
        for (const auto& other : rounds) {
          const auto seen = other.load(std::memory_order_relaxed);
          if (seen < round || seen > round + 1)
            apart = true;
        }
      }
    });
    BOOST_TEST(!apart.load());
    BOOST_TEST(last.load() == all);
  }
  Barrier alone(1);
  BOOST_TEST(alone.arrive_and_wait());
}

BOOST_AUTO_TEST_CASE(an_rw_lock_lets_in_many_readers_or_one_writer) {
  RwLock lock;
  Number first{0};
  Number second{0};
  std::atomic<int> reading{0};
  std::atomic<int> most{0};
  std::atomic<bool> torn{false};
  const std::uint64_t each = scaled(10'000);
  in_threads(6, [&](unsigned i) {
    for (std::uint64_t turn = 0; turn < each; ++turn) {
      if (i < 2) {
        const std::lock_guard guard(lock);
        add_plainly(first);
        if (turn % 64 == 0)
          ::sched_yield();
        add_plainly(second);
        continue;
      }
      const std::shared_lock guard(lock);
      const int now = reading.fetch_add(1) + 1;
      if (now > most.load())
        most.store(now);
      if (turn % 64 == 0)
        ::sched_yield();
      if (first.load(std::memory_order_relaxed) != second.load(std::memory_order_relaxed))
        torn = true;
      reading.fetch_sub(1);
    }
  });
  BOOST_TEST(first.load() == 2 * each);
  BOOST_TEST(!torn.load());
  BOOST_TEST(most.load() > 1);
}

// Short and many: marks come while an unlock looks for whom to wake.
BOOST_AUTO_TEST_CASE(an_rw_lock_forgets_nobody) {
  RwLock lock;
  std::array<Number, 64> table{};
  std::atomic<bool> torn{false};
  in_threads(4, [&](unsigned i) {
    for (std::uint64_t turn = 0; turn < scaled(200'000); ++turn) {
      if ((turn + i) % 20 == 0) {
        const std::lock_guard guard(lock);
        for (auto& word : table)
          add_plainly(word);
        continue;
      }
      const std::shared_lock guard(lock);
      for (const auto& word : table)
        if (word.load(std::memory_order_relaxed) != table[0].load(std::memory_order_relaxed))
          torn = true;
    }
  });
  BOOST_TEST(!torn.load());
  BOOST_TEST(table[0].load() == scaled(200'000) / 5);
}

BOOST_AUTO_TEST_CASE(a_waiting_writer_keeps_later_readers_out_until_it_gives_up) {
  RwLock lock;
  lock.lock_shared();
  BOOST_TEST(lock.try_lock_shared());
  lock.unlock_shared();
  std::atomic<bool> read{false};
  std::atomic<bool> written{false};
  pid_t tid = 0;
  std::jthread writer = started(tid, [&] { written = lock.try_lock_for(200ms); });
  BOOST_TEST_REQUIRE(asleep(tid));
  std::jthread reader = started(tid, [&] {
    const std::shared_lock guard(lock);
    read = true;
  });
  BOOST_TEST_REQUIRE(asleep(tid));
  BOOST_TEST(!read.load());
  BOOST_TEST(!lock.try_lock_shared());
  writer.join();
  reader.join();  // let in by the writer that gave up
  BOOST_TEST(!written.load());
  BOOST_TEST(read.load());
  lock.unlock_shared();
  lock.lock();
  BOOST_TEST(!lock.try_lock_shared_for(1ms));
  BOOST_TEST(!lock.try_lock_shared_until(std::chrono::steady_clock::now() + 1ms));
  lock.unlock();
}

// --- deaths between a change and the wake-up that belongs to it

namespace {

struct Meeting {
  Event event{Sharing::processes};
  Mutex mutex{Sharing::processes};
  Condition condition{mutex};
  Barrier barrier{2, Sharing::processes};
  RwLock lock{Sharing::processes};
  bool told = false;
};

struct Deaths {
  SealedMemory memory = SealedMemory::make(sizeof(Meeting), "deaths");
  Meeting& meeting = *new (memory.data()) Meeting;

  // A process that has just changed the word, and dies as it is to wake the sleepers.
  template <typename Change>
  void die_waking(Change change) {
    Child child = Child::fork([&] {
      if (!die_at_syscall(SYS_futex))
        return 1;
      change(meeting);
      return 2;
    });
    BOOST_TEST(child.wait().text() == "killed by SIGSYS");
  }
  // A process that waits so, and sleeps now.
  template <typename Wait>
  Child sleeper(Wait wait) {
    Child child = Child::fork([this, wait] { return wait(meeting) ? 0 : 1; });
    BOOST_TEST(asleep(child));
    return child;
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(deaths, Deaths)

BOOST_AUTO_TEST_CASE(an_event_whose_setter_dies_is_set_for_all_who_wait_with_a_limit) {
  Child limited = sleeper([](Meeting& at) {
    while (!at.event.wait_for(20ms)) {
    }
    return true;
  });
  Child patient = sleeper([](Meeting& at) {
    at.event.wait();
    return true;
  });
  die_waking([](Meeting& at) { at.event.set(); });
  BOOST_TEST(ends_well(limited));
  meeting.event.set();
  BOOST_TEST(!patient.wait_for(50).has_value());  // as it says: nobody wakes it
}

BOOST_AUTO_TEST_CASE(a_condition_whose_teller_dies_holds_nobody_who_waits_with_a_limit) {
  Child limited = sleeper([](Meeting& at) {
    std::unique_lock held(at.mutex);
    while (!at.condition.wait_for(held, 20ms, [&] { return at.told; })) {
    }
    return true;
  });
  die_waking([](Meeting& at) {
    at.mutex.lock();
    at.told = true;
    at.mutex.unlock();
    at.condition.notify_all();
  });
  BOOST_TEST(ends_well(limited));
}

BOOST_AUTO_TEST_CASE(a_barrier_that_one_never_comes_to_is_waited_at_until_the_limit) {
  BOOST_TEST(!meeting.barrier.arrive_and_wait_for(5ms).has_value());
  // Who gave up has come.
  BOOST_TEST((meeting.barrier.arrive_and_wait_for(1h) == true));
}

BOOST_AUTO_TEST_CASE(a_barrier_whose_last_comer_dies_lets_all_go_on_at_their_limit) {
  Child limited = sleeper([](Meeting& at) { return at.barrier.arrive_and_wait_for(1s) == false; });
  die_waking([](Meeting& at) { at.barrier.arrive_and_wait(); });
  BOOST_TEST(ends_well(limited));
}

BOOST_AUTO_TEST_CASE(a_lock_of_readers_whose_writer_dies_leaving_is_had_by_who_asks_again) {
  Child limited;
  {
    const std::unique_lock writing(meeting.lock);
    limited = sleeper([](Meeting& at) {
      while (!at.lock.try_lock_shared_for(20ms)) {
      }
      return true;
    });
    die_waking([](Meeting& at) { at.lock.unlock(); });  // for the writer
    BOOST_TEST(ends_well(limited));
    meeting.lock.unlock_shared();  // for the reader
    BOOST_TEST_REQUIRE(meeting.lock.try_lock_for(1h));
  }
  Child reader = sleeper([](Meeting& at) {
    at.lock.lock_shared();
    ::pause();
    return true;
  });
  reader = Child();
  BOOST_TEST(!meeting.lock.try_lock_for(5ms));
  BOOST_TEST(meeting.lock.try_lock_shared_for(5ms));
}

BOOST_AUTO_TEST_SUITE_END()
