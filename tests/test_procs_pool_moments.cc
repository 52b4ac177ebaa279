// What a process pool does at moments that only luck brings: here they are made.

#include "affinity/pin.hh"
#include "tests/pool_cases.hh"
#include "tests/sanitized.hh"
#include "tests/waits.hh"

#include <boost/test/unit_test.hpp>

#include <sys/resource.h>

#include <csignal>
#include <future>
#include <latch>
#include <thread>

using namespace schedlab;
using namespace schedlab::procs;
using namespace std::chrono_literals;
using testing::add;
using testing::await_start;
using testing::comes_true;
using testing::Journal;
using testing::journalled;
using testing::state_of;
using testing::stay;

namespace {

// Does the work in a thread. False if that hangs: then `rescue` must help it.
template <typename Work, typename Rescue>
bool ends(Work work, Rescue rescue) {
  auto end = std::async(std::launch::async, work);
  const bool in_time = end.wait_for(10s) == std::future_status::ready;
  if (!in_time)
    rescue();
  end.get();
  return in_time;
}

// A process or a thread, or until it has ended: whatever it does at once it has done.
void wait_until_asleep(pid_t pid, const std::atomic<bool>& over = false) {
  for (int asleep = 0; asleep < 20 && !over;) {
    std::this_thread::sleep_for(1ms);
    asleep = state_of(pid) == 'S' || state_of(pid) == '?' ? asleep + 1 : 0;
  }
}

// A thread that waits for a task.
class Waiter {
public:
  template <typename T>
  explicit Waiter(ProcessFuture<T>& future)
      : thread_([&] {
          tid_.set_value(::gettid());
          future.wait();
        }) {}
  pid_t tid() { return tid_.get_future().get(); }
  void join() { thread_.join(); }

private:
  std::promise<pid_t> tid_;
  std::thread thread_;
};

// While it lives no file can be opened, and so no worker started. The sanitizer looks at what is
// behind a pointer by way of a pipe, and without one takes every object for a broken one.
class FewFiles {
public:
  FewFiles() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit few{STDERR_FILENO + 1, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &few);
  }
  FewFiles(const FewFiles&) = delete;
  FewFiles& operator=(const FewFiles&) = delete;
  ~FewFiles() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
  rlimit before_{};
};

ProcessPoolOptions one_worker(unsigned depth) {
  auto options = testing::options(StartMethod::forkserver, 1);
  options.waiting = Waiting::block;
  options.depth = depth;
  return options;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_task_runs_though_nobody_asks_for_the_results_before_it) {
  ProcessPool pool(one_worker(1));
  const Journal journal(pool, 1);
  pool.submit<add>(0, 0).get();
  wait_until_asleep(pool.pids().front());  // its beginning was told the supervisor
  auto first = pool.submit<journalled>(journal.bytes(), 0u);
  await_start(journal, 0);
  wait_until_asleep(pool.pids().front());  // its result fills the lane
  auto second = pool.submit<add>(1, 1);
  BOOST_TEST(ends([&] { second.wait(); }, [&] { static_cast<void>(first.ready()); }));
}

// The worker has passed over what was cancelled, and sleeps; the supervisor is busy. So whoever
// waits for a place in the queue sends the worker its next task.
BOOST_AUTO_TEST_CASE(a_worker_is_woken_by_who_waits_for_a_place_in_a_full_queue) {
  std::latch free(1);
  auto options = one_worker(1);
  options.queue = 1;
  options.on_event = [&](const PoolEvent&) { free.wait(); };
  ProcessPool pool(options);
  const pid_t worker = pool.pids().front();
  pool.submit<add>(0, 0).get();
  wait_until_asleep(worker);
  BOOST_TEST_REQUIRE(::kill(worker, SIGSTOP) == 0);
  BOOST_TEST_REQUIRE(comes_true([&] { return state_of(worker) == 'T'; }));
  BOOST_TEST(pool.submit<add>(1, 0).cancel());
  auto second = pool.submit<add>(2, 0);
  ::kill(worker, SIGCONT);
  wait_until_asleep(worker);
  std::promise<pid_t> submits;
  std::thread helper([&, submitter = submits.get_future()]() mutable {
    wait_until_asleep(submitter.get());
    free.count_down();
  });
  int third = 0;
  BOOST_TEST(ends(
      [&] {
        submits.set_value(::gettid());
        third = pool.submit<add>(3, 0).get();
      },
      [&] { pool.kill_worker(0); }));
  helper.join();
  BOOST_TEST(second.get() == 2);
  BOOST_TEST(third == 3);
}

// It waits behind a task that has no end when the successors of another worker fail to start.
BOOST_AUTO_TEST_CASE(who_waits_for_a_task_in_line_learns_that_the_pool_has_broken) {
  if (testing::address_sanitizer)
    return;
  auto options = testing::options(StartMethod::forkserver, 2);
  options.waiting = Waiting::block;
  options.most_restarts = 2;
  ProcessPool pool(options);
  const Journal journal(pool, 2);
  auto endless = pool.submit<stay>(journal.bytes(), 0u);
  auto doomed = pool.submit<stay>(journal.bytes(), 1u);
  await_start(journal, 0);
  await_start(journal, 1);
  auto behind = pool.submit<add>(1, 1);
  Waiter waiter(behind);
  wait_until_asleep(waiter.tid());
  {
    const FewFiles no_successor;
    pool.kill_worker(1);
    BOOST_TEST(ends([&] { waiter.join(); }, [&] { pool.kill_worker(0); }));
  }
  BOOST_CHECK_THROW(behind.get(), PoolBroken);
  BOOST_CHECK_THROW(doomed.get(), WorkerDied);
  pool.kill_worker(0);
  BOOST_CHECK_THROW(endless.get(), WorkerDied);
}

// Of the only worker, so that no other one calls the supervisor.
BOOST_AUTO_TEST_CASE(a_successor_that_fails_to_start_is_followed_by_another_one) {
  if (testing::address_sanitizer)
    return;
  std::optional<FewFiles> no_successor;
  std::atomic<unsigned> refused{0};
  auto options = testing::options(StartMethod::forkserver, 1);
  options.on_event = [&](const PoolEvent& event) {
    if (event.kind == PoolEvent::Kind::ended && event.pid == -1) {
      no_successor.reset();
      ++refused;
    }
  };
  ProcessPool pool(options);
  const Journal journal(pool, 1);
  auto doomed = pool.submit<stay>(journal.bytes(), 0u);
  await_start(journal, 0);
  auto behind = pool.submit<add>(1, 1);
  no_successor.emplace();
  pool.kill_worker(0);
  BOOST_TEST(ends([&] { behind.wait(); }, [&] { pool.resize(1); }));
  BOOST_TEST(refused == 1u);
  BOOST_TEST(behind.get() == 2);
  BOOST_CHECK_THROW(doomed.get(), WorkerDied);
}

// The worker has said that the task is done, and not yet to whom; meanwhile its slot is given to
// another task.
BOOST_AUTO_TEST_CASE(who_waits_for_the_next_task_of_a_slot_sleeps) {
  ProcessPool pool(one_worker(1));
  const Journal journal(pool, 1);
  const pid_t worker = pool.pids().front();
  pool.worker_fault(0).stop(Step::done);
  auto first = pool.submit<add>(1, 1);
  BOOST_TEST_REQUIRE(comes_true([&] { return state_of(worker) == 'T'; }));
  first.on_ready([]() noexcept {});  // takes the result
  BOOST_TEST(first.ready());
  auto next = pool.submit<stay>(journal.bytes(), 0u);
  ::kill(worker, SIGCONT);
  await_start(journal, 0);
  Waiter waiter(next);
  std::atomic<bool> over{false};
  BOOST_TEST(ends([&] { wait_until_asleep(waiter.tid(), over); }, [&] { over = true; }));
  pool.kill_worker(0);
  waiter.join();
  BOOST_CHECK_THROW(next.get(), WorkerDied);
}

// As where a quota takes the CPU from a worker that has just counted its task as begun.
BOOST_AUTO_TEST_CASE(a_time_limit_may_strike_before_the_first_line_of_the_task) {
  ProcessPool pool(one_worker(1));
  const Journal journal(pool, 1);
  pool.worker_fault(0).stop(Step::running);
  auto late = pool.submit_with<stay>({.timeout = 2ms}, journal.bytes(), 0u);
  BOOST_TEST_REQUIRE(comes_true([&] { return late.ready(); }));
  BOOST_CHECK_THROW(late.get(), TaskTimeout);
  BOOST_TEST(journal.starts(0) == 0u);
}

namespace {

// Begins, and ends when it is told.
void stay_until_told(const Bytes& journal, std::size_t task, std::size_t word) {
  Journal::note(journal, task);
  while (reinterpret_cast<const std::atomic<unsigned>*>(journal.data())[word].load() == 0)
    std::this_thread::sleep_for(1ms);
}

}  // namespace

// It has looked where the task lies, and is not yet counted among those that sleep there, when the
// worker of that lane dies and the task goes to another one.
BOOST_AUTO_TEST_CASE(who_waits_for_a_task_that_goes_to_another_lane_does_not_sleep_at_the_old_one) {
  if (testing::address_sanitizer)
    return;
  auto options = testing::options(StartMethod::forkserver, 2);
  options.waiting = Waiting::block;
  ProcessPool pool(options);
  const Journal journal(pool, 3);
  constexpr std::size_t told = 2;
  auto doomed = pool.submit<stay>(journal.bytes(), 0u);
  auto busy = pool.submit<stay_until_told>(journal.bytes(), 1u, told);
  await_start(journal, 0);
  await_start(journal, 1);
  auto behind = pool.submit<add>(1, 1);
  pool.waiter_hold().shut();
  std::optional<FewFiles> no_successor(std::in_place);
  bool held = false, moved = false;  // Boost.Test is for one thread at a time
  std::thread mover([&] {
    held = comes_true([&] { return pool.waiter_hold().holds(); });
    pool.kill_worker(0);
    moved = comes_true([&] { return pool.counts().requeued == 1; });
    pool.waiter_hold().open();
    Journal::note(journal.bytes(), told);
  });
  BOOST_TEST(ends([&] { behind.wait(); },
                  [&] {
                    no_successor.reset();
                    BOOST_TEST(comes_true([&] { return pool.pids().size() == 2; }));
                    for (int i = 0; i < 10; ++i)
                      pool.submit<add>(0, i).get();
                  }));
  mover.join();
  BOOST_TEST(held);
  BOOST_TEST(moved);
  BOOST_TEST(behind.get() == 2);
  BOOST_CHECK_THROW(doomed.get(), WorkerDied);
  BOOST_CHECK_NO_THROW(busy.get());
}

// On one CPU the end of the task comes between any two instructions of who asks for its state, and
// the supervisor has taken the result before the next.
BOOST_AUTO_TEST_CASE(a_task_that_has_begun_is_not_pending_again) {
  const affinity::CpuSet before = affinity::thread_affinity();
  affinity::bind_thread(0, affinity::CpuSet{before.first()});
  unsigned begun = 0, went_back = 0;
  {
    ProcessPool pool(one_worker(1));
    for (int i = 0; i < 300; ++i) {
      auto future = pool.submit<testing::sleep_ms>(1);
      future.on_ready([]() noexcept {});
      bool has_begun = false;
      for (auto state = future.state(); state != FutureState::done; state = future.state()) {
        went_back += has_begun && state == FutureState::pending;
        has_begun = has_begun || state == FutureState::running;
      }
      begun += has_begun;
    }
  }
  affinity::bind_thread(0, before);
  BOOST_TEST(begun > 0u);
  BOOST_TEST(went_back == 0u);
}
