#include "iouring/loop.hh"
#include "lab/base/clock.hh"

#include "iouring/call_later.hh"
#include "iouring/gather.hh"
#include "iouring/perform.hh"
#include "iouring/sleep.hh"
#include "iouring/start.hh"
#include "iouring/timeout.hh"
#include "lab/base/child.hh"
#include "tests/iouring_drivers.hh"
#include "tests/sanitized.hh"

#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;
using namespace std::chrono_literals;

namespace {

Task<> note(std::vector<int>& order, int number, int times) {
  for (int i = 0; i < times; ++i) {
    order.push_back(number);
    co_await yield();
  }
}

Task<> note_late(std::vector<int>& order, int number, std::chrono::nanoseconds after) {
  co_await sleep_for(after);
  order.push_back(number);
}

Task<> receive_for_ever(int fd, std::string& end) {
  std::array<char, 8> area;
  try {
    for (;;)
      co_await perform({.op = Op::recv, .fd = fd, .length = 8, .address = area.data()}, "recv");
  } catch (const Cancelled&) {
    end += 'c';
  }
}

Task<> ends_in(std::chrono::nanoseconds time) {
  co_await sleep_for(time);
}

Task<> throws() {
  co_await yield();
  throw std::runtime_error("out of run");
}

Task<> keeps_busy() {
  co_await yield();
  for (const auto end = clock::now_ns() + 30'000'000; clock::now_ns() < end;) {
  }
}

// Waits until it is told to go on.
class Gate {
public:
  bool await_ready() const noexcept { return open_; }
  template <typename Promise>
  void await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
    loop_ = coroutine.promise().state->loop;
    waiter_ = coroutine;
  }
  void await_resume() const noexcept {}
  void open() {
    open_ = true;
    if (waiter_)
      loop_->ready(std::exchange(waiter_, {}));
  }

private:
  bool open_ = false;
  Loop* loop_ = nullptr;
  std::coroutine_handle<> waiter_;
};

Task<> pass(Gate& gate) {
  co_await gate;
}

}  // namespace

BOOST_DATA_TEST_CASE(ready_tasks_run_in_turns_in_the_order_of_their_start, on_all_drivers, choice) {
  Loop loop(on(choice));
  std::vector<int> order;
  std::vector<Task<>> tasks;
  for (const int number : {1, 2, 3})
    tasks.push_back(note(order, number, 3));
  loop.run(gather(std::move(tasks)));
  BOOST_TEST(order == (std::vector{1, 2, 3, 1, 2, 3, 1, 2, 3}), boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(sleepers_wake_in_the_order_of_their_times, on_all_drivers, choice) {
  Loop loop(on(choice));
  std::vector<int> order;
  std::vector<Task<>> tasks;
  for (const int number : {30, 10, 20, 0, -1})
    tasks.push_back(note_late(order, number, number * 1ms));
  loop.run(gather(std::move(tasks)));
  BOOST_TEST(order == (std::vector{-1, 0, 10, 20, 30}), boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_sleep_ends_before_a_longer_limit_of_a_request, on_all_drivers, choice) {
  // Both begin in the same turn: the wait's own timeout counts from then, not from what else is
  // handed over with it.
  Loop loop(on(choice));
  const Pair pair;
  std::vector<int> order;
  const auto limited = [](int fd, std::vector<int>& ends) -> Task<> {
    std::array<char, 8> area;
    const int result = co_await perform(
        {.op = Op::recv, .fd = fd, .length = 8, .address = area.data(), .timeout_ns = 150'000'000});
    ends.push_back(result);
  };
  std::vector<Task<>> tasks;
  tasks.push_back(note_late(order, 1, 100ms));
  tasks.push_back(limited(pair.near.get(), order));
  loop.run(gather(std::move(tasks)));
  BOOST_TEST(order == (std::vector{1, -ETIME}), boost::test_tools::per_element());
}

BOOST_DATA_TEST_CASE(a_hundred_thousand_sleep_at_once, on_all_drivers, choice) {
  constexpr std::size_t count = 100'000;
  Loop loop(on(choice));
  std::vector<Task<>> tasks;
  for (std::size_t i = 0; i < count; ++i)
    tasks.push_back(ends_in(std::chrono::microseconds(i % 1000)));
  loop.run(gather(std::move(tasks)));
  BOOST_TEST(loop.counts().timers == count);
  BOOST_TEST(loop.timers().empty());
}

BOOST_DATA_TEST_CASE(what_other_threads_post_runs_once_and_in_each_thread_s_order, on_all_drivers,
                     choice) {
  constexpr int threads = 4;
  constexpr int posts = sanitized ? 5'000 : 100'000;
  Loop loop(on(choice));
  std::array<int, threads> next{};
  int wrong = 0, left = threads * posts;
  Gate gate;
  {
    std::vector<std::jthread> posters;
    for (int t = 0; t < threads; ++t)
      posters.emplace_back([&, t] {
        for (int i = 0; i < posts; ++i)
          loop.post([&, t, i]() noexcept {
            wrong += next[static_cast<std::size_t>(t)]++ != i;
            if (--left == 0)
              gate.open();
          });
      });
    loop.run(pass(gate));
  }
  BOOST_TEST(wrong == 0);
  BOOST_TEST(left == 0);
  BOOST_TEST(loop.counts().posts == static_cast<std::uint64_t>(threads * posts));
}

BOOST_DATA_TEST_CASE(one_post_after_another_wakes_a_sleeping_loop_each_time, on_all_drivers,
                     choice) {
  // Each is posted only after the one before has run: a lost wake-up would stop it for ever.
  constexpr int rounds = sanitized ? 2'000 : 20'000;
  Loop loop(on(choice));
  Gate gate;
  std::atomic<int> seen = 0;
  std::jthread poster([&] {
    for (int i = 0; i < rounds; ++i) {
      loop.post([&]() noexcept { ++seen; });
      while (seen.load() <= i)
        std::this_thread::yield();
    }
    loop.post([&]() noexcept { gate.open(); });
  });
  loop.run(pass(gate));
  BOOST_TEST(seen == rounds);
}

BOOST_DATA_TEST_CASE(loops_of_two_threads_wake_each_other, on_all_drivers, choice) {
  constexpr int rounds = sanitized ? 2'000 : 20'000;
  struct Player {
    Loop* mine = nullptr;
    Player* other = nullptr;
    Gate over;
    int hits = 0;
    void hit() noexcept {
      if (++hits == rounds)
        over.open();
      if (other->hits < rounds)
        strike();
    }
    void strike() noexcept {
      other->mine->post([to = other]() noexcept { to->hit(); });
    }
  };
  Player one, two;
  one.other = &two;
  two.other = &one;
  Loop first(on(choice));
  one.mine = &first;
  std::atomic<bool> ready = false, over = false;
  std::jthread thread([&] {
    Loop second(on(choice));
    two.mine = &second;
    ready = true;
    ready.notify_one();
    second.run(pass(two.over));
    over.wait(false);  // the last post to this loop has returned
  });
  ready.wait(false);
  one.strike();
  first.run(pass(one.over));
  over = true;
  over.notify_one();
  thread.join();
  BOOST_TEST(one.hits == rounds);
  BOOST_TEST(two.hits == rounds);
}

BOOST_DATA_TEST_CASE(run_cancels_what_is_left_and_waits_for_it, on_all_drivers, choice) {
  Loop loop(on(choice));
  const Pair pair;
  std::string ends;
  const auto leaves = [](int fd, std::string& seen) -> Task<int> {
    create_task(receive_for_ever(fd, seen)).detach();
    create_task(ends_in(1h)).detach();
    co_await yield();
    co_await yield();
    co_return 5;
  };
  BOOST_TEST(loop.run(leaves(pair.near.get(), ends)) == 5);
  BOOST_TEST(ends == "c");
  BOOST_TEST(loop.driver().in_flight() == 0);
  BOOST_TEST(loop.timers().empty());
}

BOOST_DATA_TEST_CASE(what_the_task_throws_comes_out_of_run_and_the_loop_goes_on, on_all_drivers,
                     choice) {
  Loop loop(on(choice));
  BOOST_CHECK_THROW(loop.run(throws()), std::runtime_error);
  BOOST_TEST(!Loop::current());
  std::vector<int> order;
  loop.run(note(order, 1, 2));
  BOOST_TEST(order.size() == 2u);
}

BOOST_DATA_TEST_CASE(a_task_cannot_run_a_loop, on_all_drivers, choice) {
  const auto nested = [](DriverChoice driver) -> Task<> {
    Loop inner(on(driver));
    inner.run(ends_in(0ns));
    co_return;
  };
  Child child = Child::fork([&] {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    ::signal(SIGABRT, SIG_DFL);
    ::close(2);
    Loop loop(on(choice));
    loop.run(nested(choice));
    return 0;
  });
  const ExitCause cause = child.wait();
  BOOST_CHECK(cause.kind == ExitCause::Kind::signalled);
  BOOST_TEST(cause.value == SIGABRT);
}

BOOST_DATA_TEST_CASE(a_task_that_keeps_its_loop_busy_is_named_by_where_it_was_started,
                     on_all_drivers, choice) {
  std::vector<Stall> stalls;
  LoopOptions options = on(choice);
  options.stall_ns = 20'000'000;
  options.on_stall = [&](const Stall& stall) { stalls.push_back(stall); };
  Loop loop(options);
  unsigned line = 0;
  const auto starts = [](unsigned& at) -> Task<> {
    at = std::source_location::current().line() + 1;
    auto running = create_task(keeps_busy());
    co_await running;
  };
  loop.run(starts(line));
  // Another task may have been kept from its CPU for so long.
  bool named = false;
  for (const Stall& stall : stalls)
    named |= stall.where.line() == line && stall.took_ns > options.stall_ns;
  BOOST_TEST(named);
  stalls.clear();
  line = std::source_location::current().line() + 1;
  loop.run(keeps_busy());
  BOOST_TEST_REQUIRE(!stalls.empty());
  BOOST_TEST(stalls.back().where.line() == line);
}

BOOST_DATA_TEST_CASE(of_tasks_started_at_one_place_the_code_tells_which_was_slow, on_all_drivers,
                     choice) {
  const auto code_of = [](const Task<>& task) {
    return *static_cast<const void* const*>(task.handle().address());
  };
  std::vector<Stall> stalls;
  LoopOptions options = on(choice);
  options.stall_ns = 20'000'000;
  options.on_stall = [&](const Stall& stall) { stalls.push_back(stall); };
  Loop loop(options);
  std::vector<Task<>> tasks;
  tasks.push_back(ends_in(1ms));
  tasks.push_back(keeps_busy());
  const void* const quick = code_of(tasks[0]);
  const void* const slow_one = code_of(tasks[1]);
  loop.run(gather(std::move(tasks)));
  const auto named = [&](const void* code) {
    return std::ranges::find(stalls, code, &Stall::code) != stalls.end();
  };
  BOOST_TEST(quick != slow_one);
  BOOST_TEST(named(slow_one));
  BOOST_TEST(stalls.size() < 4u);  // of some fifty resumes; a few may have lost their CPU
}

BOOST_DATA_TEST_CASE(times_before_all_others_are_due_at_once, on_all_drivers, choice) {
  using Time = std::chrono::steady_clock::time_point;
  Loop loop(on(choice));
  loop.run(ends_in(std::chrono::nanoseconds::min()));
  bool called = false;
  const auto calls = [](bool& done) -> Task<> {
    const auto call = call_at(Time::min(), [&done]() noexcept { done = true; });
    while (!done)
      co_await sleep_for(1ms);
  };
  loop.run(calls(called));
  BOOST_CHECK_THROW(loop.run(timeout_at(Time::min(), ends_in(1h))), TimeoutError);
  loop.run(timeout_at(Time::max(), ends_in(1ms)));
  loop.run(timeout(std::chrono::nanoseconds::max(), ends_in(1ms)));
}

BOOST_DATA_TEST_CASE(a_child_forked_by_a_task_runs_a_loop_of_its_own, on_all_drivers, choice) {
  const auto forks = [](DriverChoice driver) -> Task<bool> {
    co_await yield();
    Child child = Child::fork([driver] {
      std::vector<int> order;
      Loop own(on(driver));
      std::vector<Task<>> tasks;
      tasks.push_back(note_late(order, 2, 2ms));
      tasks.push_back(note_late(order, 1, 1ms));
      own.run(gather(std::move(tasks)));
      return order == std::vector{1, 2} ? 0 : 1;
    });
    const bool right = child.wait().success();
    co_await sleep_for(1ms);
    co_return right;
  };
  Loop loop(on(choice));
  BOOST_TEST(loop.run(forks(choice)));
}

BOOST_DATA_TEST_CASE(success_beats_cancel_and_cancelled_comes_at_the_next_wait, on_all_drivers,
                     choice) {
  Loop loop(on(choice));
  const Pair pair;
  std::string seen;
  const auto reads = [](int fd, std::string& log) -> Task<> {
    std::array<char, 8> area;
    const int got =
        co_await perform({.op = Op::recv, .fd = fd, .length = 8, .address = area.data()}, "recv");
    log += std::to_string(got);
    try {
      co_await sleep_for(1h);
    } catch (const Cancelled&) {
      log += 'c';
    }
  };
  const auto both = [&reads](int near, int far, std::string& log) -> Task<> {
    auto running = create_task(reads(near, log));
    co_await yield();
    co_await yield();
    static_cast<void>(!::write(far, "abc", 3));
    Loop::current()->driver().wait(-1);  // the data are there, and the task not yet resumed
    running.cancel();
    co_await running;
  };
  loop.run(both(pair.near.get(), pair.far.get(), seen));
  BOOST_TEST(seen == "3c");
}
