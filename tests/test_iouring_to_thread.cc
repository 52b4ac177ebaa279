#include "iouring/to_thread.hh"

#include "iouring/gather.hh"
#include "iouring/timeout.hh"
#include "tests/iouring_case.hh"

#include <atomic>
#include <memory>
#include <signal.h>
#include <thread>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;
using namespace std::chrono_literals;

namespace {

// Work that a test lets go on when it likes.
struct Gate {
  void pass() {
    begun.store(true);
    open.wait(false);
  }
  void let_pass() {
    open.store(true);
    open.notify_all();
  }
  std::atomic<bool> begun{false};
  std::atomic<bool> open{false};
};

Task<> until(const std::atomic<bool>& flag) {
  while (!flag)
    co_await sleep_for(100us);
}

Task<> pass_in_thread(Gate& gate) {
  co_await to_thread([&gate] { gate.pass(); });
}

}  // namespace

BOOST_DATA_TEST_CASE(a_function_runs_in_another_thread_and_gives_its_value, on_all_drivers,
                     driver) {
  run_on(driver, []() -> Task<> {
    const auto here = std::this_thread::get_id();
    const auto there = co_await to_thread([] { return std::this_thread::get_id(); });
    BOOST_TEST((here != there));
    BOOST_TEST((std::this_thread::get_id() == here));
    const auto moved = co_await to_thread([] { return std::make_unique<int>(7); });
    BOOST_TEST(*moved == 7);
    bool ran = false;
    co_await to_thread([&ran] { ran = true; });
    BOOST_TEST(ran);
  });
}

BOOST_DATA_TEST_CASE(what_the_function_throws_comes_out_of_the_wait, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    std::string text;
    try {
      co_await to_thread([]() -> int { throw std::runtime_error("from afar"); });
    } catch (const std::runtime_error& error) {
      text = error.what();
    }
    BOOST_TEST(text == "from afar");
  });
}

BOOST_DATA_TEST_CASE(the_loop_goes_on_while_the_function_blocks, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    Gate gate;
    auto blocked = create_task(pass_in_thread(gate));
    co_await until(gate.begun);
    co_await turns(10);
    BOOST_TEST(!blocked.done());
    gate.let_pass();
    co_await blocked;
  });
}

BOOST_DATA_TEST_CASE(no_more_threads_than_allowed_and_all_work_is_done, on_all_drivers, driver) {
  LoopOptions options = on(driver);
  options.driver.blocking_threads = 3;
  Loop loop(options);
  const auto many = []() -> Task<> {
    std::atomic<int> inside{0};
    std::atomic<int> most{0};
    std::atomic<int> all{0};
    const auto one = [](std::atomic<int>& in, std::atomic<int>& peak,
                        std::atomic<int>& total) -> Task<> {
      co_await to_thread([&] {
        const int now = ++in;
        int before = peak;
        while (before < now && !peak.compare_exchange_weak(before, now)) {
        }
        std::this_thread::yield();
        --in;
        ++total;
      });
    };
    std::vector<Task<>> tasks;
    for (int i = 0; i < 1000; ++i)
      tasks.push_back(one(inside, most, all));
    co_await gather(std::move(tasks));
    BOOST_TEST(all == 1000);
    BOOST_TEST(most <= 3);
    BOOST_TEST(Loop::current()->blocking_threads().size() <= 3U);
  };
  loop.run(many());
}

BOOST_DATA_TEST_CASE(cancelling_waits_for_the_function_and_its_value_counts, on_all_drivers,
                     driver) {
  Log log;
  run_on(driver, [&log]() -> Task<> {
    Gate gate;
    const auto work = [&]() -> Task<> {
      const int got = co_await to_thread([&gate] {
        gate.pass();
        return 7;
      });
      log.push_back(std::to_string(got));
      log.push_back(co_await thrown_by(yield()));
    };
    auto running = create_task(work());
    co_await until(gate.begun);
    running.cancel();
    co_await turns(3);
    BOOST_TEST(!running.done());
    gate.let_pass();
    co_await running;
  });
  const Log expected = {"7", "cancelled"};
  BOOST_TEST(log == expected, boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_function_that_takes_a_token_is_told_to_stop, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    const auto obey = []() -> Task<> {
      co_await to_thread([](std::stop_token stop) {
        while (!stop.stop_requested())
          std::this_thread::yield();
        throw Cancelled();
      });
    };
    BOOST_TEST(co_await thrown_by(timeout(2ms, obey())) == "timed out");
    auto running = create_task(obey());
    co_await turns(3);
    running.cancel();
    BOOST_TEST(co_await thrown_by(std::move(running)) == "cancelled");
  });
}

BOOST_DATA_TEST_CASE(work_that_has_not_begun_never_will, on_all_drivers, driver) {
  LoopOptions options = on(driver);
  options.driver.blocking_threads = 1;
  Loop loop(options);
  bool ran = false;
  const auto main = [&ran]() -> Task<> {
    Gate gate;
    auto first = create_task(pass_in_thread(gate));
    co_await until(gate.begun);
    const auto second_work = [](bool& flag) -> Task<> {
      co_await to_thread([&flag] { flag = true; });
    };
    auto second = create_task(second_work(ran));
    co_await turns(3);
    second.cancel();
    BOOST_TEST(co_await thrown_by(std::move(second)) == "cancelled");  // though first blocks
    gate.let_pass();
    co_await first;
    co_await to_thread([] {});
  };
  loop.run(main());
  BOOST_TEST(!ran);
}

BOOST_DATA_TEST_CASE(a_task_that_was_cancelled_before_starts_no_work, on_all_drivers, driver) {
  bool ran = false;
  run_on(driver, [&ran]() -> Task<> {
    const auto work = [](bool& flag) -> Task<> { co_await to_thread([&flag] { flag = true; }); };
    auto running = create_task(work(ran));
    running.cancel();
    BOOST_TEST(co_await thrown_by(std::move(running)) == "cancelled");
    co_await to_thread([] {});
  });
  BOOST_TEST(!ran);
}

BOOST_DATA_TEST_CASE(blocking_threads_take_no_signals, on_all_drivers, driver) {
  run_on(driver, []() -> Task<> {
    const bool blocked = co_await to_thread([] {
      sigset_t mask;
      ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
      return ::sigismember(&mask, SIGTERM) == 1 && ::sigismember(&mask, SIGCHLD) == 1;
    });
    BOOST_TEST(blocked);
  });
}
