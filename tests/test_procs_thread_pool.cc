#include "lab/base/clock.hh"
#include "procs/thread_pool.hh"

#include "affinity/pin.hh"
#include "iouring/gather.hh"
#include "iouring/run_in_executor.hh"
#include "lab/base/child.hh"
#include "tests/deny_syscall.hh"
#include "tests/fake_root.hh"
#include "tests/iouring_case.hh"
#include "tests/left_behind.hh"
#include "tests/sanitized.hh"
#include "tests/thrown.hh"

#include <sys/syscall.h>

#include <latch>
#include <numeric>
#include <thread>

using namespace schedlab;
using namespace schedlab::procs;
using namespace schedlab::testing;
using namespace std::chrono_literals;

static_assert(Executor<ThreadPool>);

namespace schedlab::procs {
static std::ostream& operator<<(std::ostream& out, Waiting waiting) {
  return out << to_text(waiting);
}
}  // namespace schedlab::procs

namespace {

const auto ways = boost::unit_test::data::make({Waiting::block, Waiting::adaptive});

// A task of its pool's only worker that holds it until it is let go.
class Blockade {
public:
  explicit Blockade(ThreadPool& pool) {
    future_ = pool.submit([this] {
      begun_.count_down();
      open_.wait();
    });
    begun_.wait();
  }
  ~Blockade() { lift(); }
  void lift() {
    if (future_.valid()) {
      open_.count_down();
      future_.get();
      future_ = {};
    }
  }

private:
  std::latch begun_{1};
  std::latch open_{1};
  Future<void> future_;
};

}  // namespace

BOOST_DATA_TEST_CASE(work_of_any_kind_gives_its_value_or_what_it_threw, ways, waiting) {
  ThreadPool pool({.workers = 2, .waiting = waiting});
  BOOST_TEST(pool.workers() == 2u);
  BOOST_TEST(pool.submit([] { return 7; }).get() == 7);
  auto owned = std::make_unique<int>(8);
  BOOST_TEST(
      *pool.submit([owned = std::move(owned)]() mutable { return std::move(owned); }).get() == 8);
  bool ran = false;
  pool.submit([&ran] { ran = true; }).get();
  BOOST_TEST(ran);
  auto failing = pool.submit([]() -> int { throw std::runtime_error("from the work"); });
  BOOST_TEST((failing.exception() != nullptr));
  BOOST_TEST(thrown([&] { failing.get(); }) == "from the work");
}

BOOST_AUTO_TEST_CASE(what_the_work_holds_is_free_before_its_end_is_seen) {
  ThreadPool pool({.workers = 1});
  auto held = std::make_shared<int>(1);
  auto future = pool.submit([held] { return *held; });
  future.wait();
  BOOST_TEST(held.use_count() == 1);
}

BOOST_AUTO_TEST_CASE(one_worker_does_what_comes_from_outside_in_its_order) {
  ThreadPool pool({.workers = 1});
  std::vector<int> seen;
  std::vector<Future<void>> futures;
  for (int i = 0; i < 1000; ++i)
    futures.push_back(pool.submit([&seen, i] { seen.push_back(i); }));
  wait(std::span(futures));
  std::vector<int> expected(1000);
  std::iota(expected.begin(), expected.end(), 0);
  BOOST_TEST(seen == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_task_that_goes_past_the_line_overtakes_none) {
  ThreadPool pool({.workers = 1, .waiting = Waiting::adaptive});
  std::vector<int> order;
  Future<void> last;
  constexpr int tasks = 30'000;
  for (int i = 0; i < tasks; ++i) {
    last = pool.submit([&order, i] { order.push_back(i); });
    if (i % 3 == 0)
      last.get();  // the worker looks for work again when the next ones come
  }
  last.wait();
  std::vector<int> expected(tasks);
  std::iota(expected.begin(), expected.end(), 0);
  BOOST_TEST(order == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(results_are_freed_once_whether_the_future_or_the_work_goes_first, ways,
                     waiting) {
  std::atomic<int> alive{0};
  struct Counted {
    std::atomic<int>* count;
    explicit Counted(std::atomic<int>& all) : count(&all) { ++*count; }
    Counted(const Counted& other) : count(other.count) { ++*count; }
    ~Counted() { --*count; }
  };
  std::atomic<int> told{0};
  {
    ThreadPool pool({.workers = 2, .waiting = waiting});
    for (int i = 0; i < 2000; ++i) {
      auto future = pool.submit([&alive] { return Counted(alive); });
      if (i % 4 == 1)
        future.wait();
      else if (i % 4 == 2)
        future.on_ready([&told]() noexcept { ++told; });
      else if (i % 4 == 3)
        static_cast<void>(future.get());
    }
  }
  BOOST_TEST(alive.load() == 0);
  BOOST_TEST(told.load() == 500);
}

BOOST_DATA_TEST_CASE(each_task_of_many_threads_runs_exactly_once, ways, waiting) {
  constexpr std::uint32_t each = sanitized ? 5'000 : 25'000;
  std::vector<std::atomic<std::uint8_t>> runs(4 * each);
  {
    ThreadPool pool({.workers = 3, .waiting = waiting});
    std::vector<std::jthread> submitters;
    for (std::uint32_t s = 0; s < 4; ++s)
      submitters.emplace_back([&, s] {
        for (std::uint32_t i = 0; i < each; ++i)
          static_cast<void>(pool.submit([&runs, at = s * each + i] { ++runs[at]; }));
      });
    submitters.clear();
  }  // nobody kept a future: the pool's end waits for all
  const auto once = std::ranges::count_if(runs, [](const auto& count) { return count == 1; });
  BOOST_TEST(static_cast<std::size_t>(once) == runs.size());
  // The control: a task that runs twice is seen.
  ++runs[5];
  BOOST_TEST(std::ranges::count_if(runs, [](const auto& count) { return count == 1; }) == once - 1);
}

BOOST_AUTO_TEST_CASE(work_that_is_submitted_at_once_runs_as_if_one_by_one) {
  ThreadPool pool({.workers = 2});
  std::vector<std::function<int()>> works;
  for (int i = 0; i < 300; ++i)
    works.emplace_back([i] { return i; });
  auto futures = pool.submit_all(works);
  for (int i = 0; i < 300; ++i)
    BOOST_TEST_REQUIRE(futures[static_cast<std::size_t>(i)].get() == i);
  BOOST_TEST(pool.submit_all(std::vector<int (*)()>()).empty());
}

BOOST_AUTO_TEST_CASE(map_gives_results_in_the_order_of_the_items) {
  ThreadPool pool({.workers = 3});
  std::vector<int> items(100);
  std::iota(items.begin(), items.end(), 0);
  for (const std::size_t window : {0u, 1u, 7u, 1000u}) {
    const auto squares = pool.map(
        items, [](int value) { return value * value; }, window);
    BOOST_TEST_REQUIRE(squares.size() == 100u);
    for (std::size_t i = 0; i < 100; ++i)
      BOOST_TEST_REQUIRE(squares[i] == static_cast<int>(i * i));
  }
  // Also of items that are but passing by, and of none.
  const auto passing =
      items | std::views::transform([](int value) { return std::to_string(value); });
  BOOST_TEST(pool.map(
                     passing, [](const std::string& text) { return text.size(); }, 3)
                 .back() == 2u);
  BOOST_TEST(pool.map(std::vector<int>(), [](int value) { return value; }).empty());
}

BOOST_AUTO_TEST_CASE(a_map_within_a_window_has_no_more_under_way) {
  ThreadPool pool({.workers = 2});
  std::atomic<int> begun{0};
  int given = 0, most = 0;
  pool.map_each(
      std::views::iota(0, 200), [&](int value) { return ++begun, value; },
      [&](int) { most = std::max(most, begun - given++); }, 5);
  BOOST_TEST(given == 200);
  BOOST_TEST(most <= 5);
}

BOOST_AUTO_TEST_CASE(map_cancels_the_rest_when_one_throws) {
  ThreadPool pool({.workers = 1});
  std::atomic<int> ran{0};
  std::latch failed(1);
  const auto work = [&](int value) {
    ++ran;
    if (value == 3)
      throw std::runtime_error("third");
    if (value > 3)
      failed.wait();  // by then the caller has cancelled what is behind this one
    return value;
  };
  int last = -1;
  std::thread opener;
  BOOST_TEST(thrown([&] {
               pool.map_each(
                   std::vector<int>(5000, 0), [&](int) { return work(ran); },
                   [&](int value) {
                     last = value;
                     if (value == 2)
                       opener = std::thread([&] {
                         while (ran < 5)
                           std::this_thread::yield();
                         std::this_thread::sleep_for(20ms);
                         failed.count_down();
                       });
                   });
             }) == "third");
  opener.join();
  BOOST_TEST(last == 2);
  BOOST_TEST(ran < 5000);
}

BOOST_AUTO_TEST_CASE(what_is_in_line_can_be_cancelled_and_never_runs) {
  ThreadPool pool({.workers = 1});
  bool ran = false;
  Future<void> future;
  {
    Blockade busy(pool);
    future = pool.submit([&ran] { ran = true; });
    BOOST_TEST(future.cancel());
  }
  BOOST_CHECK_THROW(future.get(), FutureCancelled);
  pool.submit([] {}).get();
  BOOST_TEST(!ran);
}

BOOST_AUTO_TEST_CASE(a_task_may_wait_for_tasks_of_its_own_pool_of_one) {
  ThreadPool pool({.workers = 1});
  const std::function<int(int)> fibonacci = [&](int n) -> int {
    if (n < 2)
      return n;
    auto one = pool.submit([&, n] { return fibonacci(n - 1); });
    auto two = pool.submit([&, n] { return fibonacci(n - 2); });
    return one.get() + two.get();
  };
  BOOST_TEST(pool.submit([&] { return fibonacci(12); }).get() == 144);
  // By map, by wait and by the order of ends, too.
  BOOST_TEST(pool.submit([&] {
                   int sum = 0;
                   for (const int value :
                        pool.map(std::views::iota(0, 10), [](int i) { return i; }))
                     sum += value;
                   std::vector<Future<int>> futures;
                   for (int i = 0; i < 10; ++i)
                     futures.push_back(pool.submit([i] { return i; }));
                   AsCompleted ended{std::span(futures)};
                   while (const auto place = ended.next())
                     sum += futures[*place].get();
                   return sum;
                 })
                 .get() == 90);
}

BOOST_AUTO_TEST_CASE(tasks_that_wait_for_each_others_children_end_in_a_pool_of_several) {
  ThreadPool pool({.workers = 3});
  const std::function<std::uint64_t(int)> leaves = [&](int depth) -> std::uint64_t {
    if (depth == 0)
      return 1;
    auto left = pool.submit([&, depth] { return leaves(depth - 1); });
    auto right = pool.submit([&, depth] { return leaves(depth - 1); });
    return left.get() + right.get();
  };
  const int depth = sanitized ? 9 : 14;
  BOOST_TEST(leaves(depth) == std::uint64_t{1} << depth);
}

BOOST_AUTO_TEST_CASE(after_shutdown_nothing_comes_in_and_all_that_came_runs) {
  std::atomic<int> ran{0};
  ThreadPool pool({.name = "closing", .workers = 1});
  Future<int> inner;
  {
    Blockade busy(pool);
    for (int i = 0; i < 100; ++i)
      static_cast<void>(pool.submit([&ran] { ++ran; }));
    pool.shutdown({.wait = false});
    BOOST_TEST(thrown([&] { static_cast<void>(pool.submit([] {})); }) ==
               "no work after shutdown() of closing");
    BOOST_TEST(thrown([&] { static_cast<void>(pool.submit_all(std::vector<void (*)()>(3))); }) ==
               "no work after shutdown() of closing");
    BOOST_TEST(ran == 0);
  }
  pool.shutdown();
  BOOST_TEST(ran == 100);
  pool.shutdown();  // again is nothing
}

BOOST_AUTO_TEST_CASE(shutdown_can_cancel_what_nobody_has_begun) {
  std::atomic<int> ran{0}, told{0};
  ThreadPool pool({.workers = 1});
  std::vector<Future<void>> futures;
  {
    Blockade busy(pool);
    for (int i = 0; i < 100; ++i) {
      futures.push_back(pool.submit([&ran] { ++ran; }));
      futures.back().on_ready([&told]() noexcept { ++told; });
    }
    pool.shutdown({.wait = false, .cancel_pending = true});
    BOOST_TEST(told == 100);
  }
  pool.shutdown();
  BOOST_TEST(ran == 0);
  for (auto& future : futures)
    BOOST_TEST((future.state() == FutureState::cancelled));
}

BOOST_AUTO_TEST_CASE(a_task_cannot_submit_after_shutdown_nor_wait_for_the_end_of_its_pool) {
  ThreadPool pool({.workers = 1});
  std::latch closed(1);
  auto late = pool.submit([&] {
    closed.wait();
    const auto submits = thrown([&] { static_cast<void>(pool.submit([] {})); });
    try {
      pool.shutdown();
    } catch (const std::system_error& error) {
      return submits + "; " + std::to_string(error.code().value());
    }
    return submits;
  });
  pool.shutdown({.wait = false});
  closed.count_down();
  BOOST_TEST(late.get() == "no work after shutdown() of pool; " + std::to_string(EDEADLK));
}

BOOST_AUTO_TEST_CASE(submit_and_shutdown_race_and_every_future_ends) {
  int refused = 0, taken = 0;
  for (int i = 0; i < (sanitized ? 30 : 200); ++i) {
    ThreadPool pool({.workers = 2});
    std::vector<Future<int>> futures;
    std::jthread submitter([&] {
      try {
        for (int j = 0; j < 500; ++j)
          futures.push_back(pool.submit([j] { return j; }));
      } catch (const PoolShutDown&) {
        ++refused;
      }
    });
    for (int turn = 0; turn < i % 20; ++turn)
      std::this_thread::yield();
    pool.shutdown({.wait = true, .cancel_pending = i % 2 == 0});
    submitter.join();
    for (auto& future : futures) {
      BOOST_TEST_REQUIRE(future.ready());
      taken += future.state() == FutureState::done;
    }
  }
  BOOST_TEST_MESSAGE("pools that refused in the middle: " << refused << ", tasks done: " << taken);
}

BOOST_AUTO_TEST_CASE(workers_are_named_placed_and_prepared) {
  const unsigned cpu = affinity::thread_affinity().first();
  std::atomic<unsigned> prepared{0};
  ThreadPool pool(
      {.name = "crew", .workers = 2, .cpus = {cpu}, .initialiser = [&](unsigned worker) {
         prepared += worker + 1;
       }});
  BOOST_TEST(prepared == 3u);
  const auto place = pool.submit([] {
                           char name[16];
                           ::pthread_getname_np(::pthread_self(), name, sizeof name);
                           return std::pair(std::string(name), affinity::thread_affinity().list());
                         })
                         .get();
  BOOST_TEST(place.first.starts_with("crew/"));
  BOOST_TEST(place.second == std::to_string(cpu));
}

BOOST_AUTO_TEST_CASE(what_an_initialiser_throws_the_constructor_throws_and_no_thread_is_left) {
  const auto before = belongings();
  BOOST_TEST(thrown([] {
               const ThreadPool pool({.workers = 3, .initialiser = [](unsigned worker) {
                                        if (worker == 1)
                                          throw std::runtime_error("worker 1 is not ready");
                                      }});
             }) == "worker 1 is not ready");
  BOOST_TEST(belongings() == before);
}

BOOST_AUTO_TEST_CASE(a_thread_that_is_refused_is_an_error_that_says_why_and_leaves_nothing) {
  if (sanitized)
    return;  // a sanitizer's runtime must not be refused threads
  Child child = Child::fork([] {
    if (!deny_syscall(SYS_clone3, EAGAIN) || !deny_syscall(SYS_clone, EAGAIN))
      return 77;
    const auto text = thrown([] { const ThreadPool pool({.name = "many", .workers = 8}); });
    const bool says = text.starts_with("thread 1 of 8 of many was refused: Resource temporarily "
                                       "unavailable (RLIMIT_NPROC is ") &&
                      text.ends_with("; ask for fewer workers, or raise the limit (ulimit -u)");
    return says && entries("/proc/self/task") == 1 ? 0 : 1;
  });
  const auto cause = child.wait();
  if (cause.value == 77)
    return;
  BOOST_TEST(cause.text() == "exit status 0");
}

BOOST_AUTO_TEST_CASE(the_default_size_is_what_affinity_and_quota_leave) {
  const unsigned cpus = affinity::thread_affinity().count();
  BOOST_TEST(default_workers() >= 1u);
  BOOST_TEST(default_workers() <= cpus);
  FakeRoot root;
  root.put("/proc/self/cgroup", "0::/small");
  root.put("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw");
  root.put("/sys/fs/cgroup/cgroup.controllers", "cpu memory");
  root.put("/sys/fs/cgroup/small/cpu.max", "50000 100000");
  BOOST_TEST(default_workers(root.path()) == 1u);
}

BOOST_DATA_TEST_CASE(idle_workers_use_no_cpu, ways, waiting) {
  ThreadPool pool({.workers = 4, .waiting = waiting});
  pool.submit([] {}).get();
  std::this_thread::sleep_for(50ms);
  const auto before = clock::process_cpu_ns();
  std::this_thread::sleep_for(1s);
  BOOST_TEST(clock::process_cpu_ns() - before < 10'000'000);
}

BOOST_AUTO_TEST_CASE(idle_workers_that_spin_do_use_cpu) {
  if (affinity::thread_affinity().count() < 2)
    return;  // there they sleep
  ThreadPool pool({.workers = 1, .waiting = Waiting::spin});
  const auto before = clock::process_cpu_ns();
  std::this_thread::sleep_for(300ms);
  BOOST_TEST(clock::process_cpu_ns() - before > 10'000'000);
}

BOOST_AUTO_TEST_CASE(blocks_come_back_from_other_threads_without_the_heap) {
  if (address_sanitizer)
    return;  // every block is the heap's
  ThreadPool pool({.workers = 1});
  const auto flood = [&] {
    for (int i = 0; i < 1000; ++i)
      pool.submit([] {}).get();
  };
  flood();
  const auto before = block_counts();
  flood();
  const auto after = block_counts();
  BOOST_TEST(after.made - before.made == 1000u);
  BOOST_TEST(after.from_heap == before.from_heap);
}

BOOST_AUTO_TEST_CASE(nothing_is_left_of_pools) {
  const auto before = belongings();
  for (int i = 0; i < 20; ++i) {
    ThreadPool pool({.workers = 3});
    static_cast<void>(pool.submit([] { std::this_thread::sleep_for(1ms); }));
  }
  BOOST_TEST(belongings() == before);
}

BOOST_DATA_TEST_CASE(the_loop_runs_work_in_the_pool, on_all_drivers, driver) {
  run_on(driver, []() -> iouring::Task<> {
    ThreadPool pool({.workers = 2});
    const auto square = [](ThreadPool& in, int value) -> iouring::Task<int> {
      co_return co_await iouring::run_in(in, [value] { return value * value; });
    };
    std::vector<iouring::Task<int>> tasks;
    for (int i = 0; i < 500; ++i)
      tasks.push_back(square(pool, i));
    const auto squares = co_await iouring::gather(std::move(tasks));
    BOOST_TEST(squares[499] == 249'001);
    auto failing = iouring::run_in(pool, []() -> int { throw std::runtime_error("in the pool"); });
    std::string text;
    try {
      co_await failing;
    } catch (const std::runtime_error& error) {
      text = error.what();
    }
    BOOST_TEST(text == "in the pool");
  });
}
