#include "lab/base/context.hh"

#include "iouring/run_in_executor.hh"
#include "iouring/sleep.hh"
#include "iouring/to_thread.hh"
#include "lab/base/child.hh"
#include "procs/thread_pool.hh"
#include "tests/iouring_case.hh"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace schedlab;
using namespace schedlab::procs;
using namespace schedlab::testing;

namespace {

ContextVar<int> number;
ContextVar<std::string> name;

// 0 where it is not set.
int seen() {
  const int* const value = number.get();
  return value ? *value : 0;
}

// A task that keeps its pool's only worker busy until it is told.
class Busy {
public:
  explicit Busy(ThreadPool& pool) : task_(pool.submit([this] { open_.wait(); })) {}
  ~Busy() {
    open_.count_down();
    task_.get();
  }

private:
  std::latch open_{1};
  Future<void> task_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_value_holds_for_its_scope_and_hides_what_was_set_before) {
  BOOST_TEST(!number.get());
  {
    const auto outer = number.set(1);
    const auto other = name.set("a");
    {
      const auto inner = number.set(2);
      BOOST_TEST(seen() == 2);
      BOOST_TEST(*name.get() == "a");
    }
    BOOST_TEST(seen() == 1);
    std::thread([] { BOOST_TEST(!number.get()); }).join();  // a plain thread begins without
  }
  BOOST_TEST(!number.get());
  BOOST_TEST(!name.get());
}

BOOST_AUTO_TEST_CASE(a_scope_ends_with_an_exception_too) {
  const auto outer = number.set(1);
  try {
    const auto inner = number.set(2);
    throw 3;
  } catch (int) {
    BOOST_TEST(seen() == 1);
  }
}

BOOST_AUTO_TEST_CASE(a_value_that_cannot_be_made_leaves_the_context_as_it_was) {
  struct Refuses {
    Refuses() = default;
    Refuses(Refuses&&) { throw 1; }
  };
  static ContextVar<Refuses> variable;
  const auto outer = number.set(1);
  BOOST_CHECK_THROW(static_cast<void>(variable.set({})), int);
  BOOST_TEST(!variable.get());
  BOOST_TEST(seen() == 1);
}

BOOST_AUTO_TEST_CASE(a_context_keeps_what_was_set_after_its_scope_and_lets_go_with_its_last_copy) {
  static ContextVar<std::shared_ptr<int>> variable;
  std::weak_ptr<int> watch;
  Context kept;
  {
    const auto value = std::make_shared<int>(7);
    watch = value;
    const auto scope = variable.set(value);
    const auto more = number.set(1);
    kept = Context::current();
  }
  BOOST_TEST(!variable.get());
  {
    const Context copy = kept;
    const WithinContext inside(copy);
    BOOST_TEST(**variable.get() == 7);
    BOOST_TEST(seen() == 1);
  }
  BOOST_TEST(!watch.expired());
  kept = Context();
  BOOST_TEST(watch.expired());
}

BOOST_AUTO_TEST_CASE(a_task_sees_what_was_set_when_it_was_submitted_not_when_it_runs) {
  ThreadPool pool({.workers = 1});
  std::vector<Future<int>> futures;
  {
    const Busy busy(pool);
    futures.push_back(pool.submit(seen));
    {
      const auto first = number.set(1);
      futures.push_back(pool.submit(seen));
      const auto second = number.set(2);
      futures.push_back(pool.submit(seen));
    }
    futures.push_back(pool.submit(seen));
  }
  std::vector<int> saw;
  for (auto& future : futures)
    saw.push_back(future.get());
  BOOST_TEST(saw == (std::vector{0, 1, 2, 0}));
}

BOOST_AUTO_TEST_CASE(what_a_task_sets_or_throws_stays_with_it) {
  ThreadPool pool({.workers = 1});
  const auto scope = number.set(1);
  auto thrower = pool.submit([]() -> int {
    const auto mine = number.set(5);
    throw std::runtime_error("lost");
  });
  auto next = pool.submit(seen);
  BOOST_CHECK_THROW(thrower.get(), std::runtime_error);
  BOOST_TEST(next.get() == 1);
  BOOST_TEST(seen() == 1);
}

BOOST_AUTO_TEST_CASE(tasks_of_tasks_and_all_at_once_and_map_carry_it_too) {
  ThreadPool pool({.workers = 2});
  const auto scope = number.set(3);
  const int below = pool.submit([&pool] {
                          const auto deeper = number.set(seen() + 1);
                          return 10 * pool.submit(seen).get() + seen();
                        })
                        .get();
  BOOST_TEST(below == 44);
  for (auto& future : pool.submit_all(std::vector(4, &seen)))
    BOOST_TEST(future.get() == 3);
  const std::vector<int> items = {1, 2};
  const std::vector<int> expected = {4, 5};
  BOOST_TEST(pool.map(items, [](int item) { return item + seen(); }) == expected);
}

BOOST_AUTO_TEST_CASE(whoever_helps_with_a_task_does_it_in_the_tasks_own_context) {
  ThreadPool pool({.workers = 1});
  // The only worker waits for its own task, and so does it itself.
  auto outer = pool.submit([&pool] {
    auto inner = pool.submit(seen);
    const auto mine = number.set(9);
    const int inside = inner.get();
    return 100 * inside + seen();
  });
  BOOST_TEST(outer.get() == 9);
}

BOOST_AUTO_TEST_CASE(a_task_that_is_cancelled_lets_go_of_its_context) {
  static ContextVar<std::shared_ptr<int>> variable;
  const auto value = std::make_shared<int>(1);
  ThreadPool pool({.workers = 1});
  {
    const Busy busy(pool);
    const auto scope = variable.set(value);
    auto future = pool.submit([] {});
    BOOST_TEST(value.use_count() == 2);  // bound once, however many carry it
    BOOST_TEST(future.cancel());
  }
  pool.shutdown();
  BOOST_TEST(value.use_count() == 1);
}

BOOST_AUTO_TEST_CASE(a_task_without_a_context_is_no_larger) {
  // A lambda that captures nothing, in one cache line with its future.
  const auto work = [] { return 1; };
  using Task = procs::detail::PoolTask<int, decltype(work)>;
  BOOST_TEST(sizeof(Task) <= cache_line);
}

BOOST_DATA_TEST_CASE(blocking_threads_of_a_loop_and_its_executors_carry_it, on_all_drivers,
                     driver) {
  ThreadPool pool({.workers = 1});
  const auto around = number.set(1);
  run_on(driver, [&pool]() -> iouring::Task<> {
    BOOST_TEST(seen() == 1);
    const auto in_thread = [] {
      const auto scope = number.set(2);
      return iouring::to_thread(seen);  // as it is called
    };
    const int there = co_await in_thread();
    BOOST_TEST(there == 2);
    const int in_pool = co_await iouring::run_in(pool, seen);
    BOOST_TEST(in_pool == 1);
    const int plain = co_await iouring::to_thread(seen);
    BOOST_TEST(plain == 1);
  });
}

// The control of the case above: what a scope must not do.
BOOST_AUTO_TEST_CASE(a_scope_across_a_wait_of_a_coroutine_is_found) {
  Child child = Child::fork([] {
    ::close(STDERR_FILENO);
    ::signal(SIGABRT, SIG_DFL);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    iouring::Loop loop;
    loop.run([]() -> iouring::Task<> {
      const auto scope = number.set(1);
      co_await iouring::yield();
    }());
    return 0;
  });
#if defined(NDEBUG)
  BOOST_TEST(child.wait().success());
#else
  BOOST_TEST(child.wait().text() == "killed by SIGABRT");
#endif
}
