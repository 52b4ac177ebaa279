#include "procs/process_pool.hh"
#include "procs/remote_error.hh"
#include "tests/left_behind.hh"
#include "tests/pool_cases.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <sys/resource.h>

#include <csignal>

using namespace schedlab;
using namespace schedlab::procs;
using namespace std::chrono_literals;
using testing::add;
using testing::await_start;
using testing::holds;
using testing::Journal;
using testing::journalled;
using testing::methods;
using testing::options;
using testing::stay;
namespace data = boost::unit_test::data;

namespace {

const std::vector<Step> worker_steps = {Step::woken,   Step::claimed,  Step::running,
                                        Step::decoded, Step::called,   Step::encoded,
                                        Step::done,    Step::announced};

// What became of some tasks.
struct Outcome {
  unsigned values = 0;
  unsigned wrong = 0;
  unsigned died = 0;
};

Outcome collect(std::vector<ProcessFuture<std::size_t>>& futures, std::size_t first) {
  Outcome outcome;
  for (std::size_t i = 0; i < futures.size(); ++i)
    try {
      const std::size_t value = futures[i].get();
      ++(value == first + i ? outcome.values : outcome.wrong);
    } catch (const WorkerDied& error) {
      ++outcome.died;
      outcome.wrong += error.end.text == "killed by SIGKILL" ? 0 : 1;
    }
  return outcome;
}

constexpr std::size_t in_round = 8;

// Sends tasks round by round, with somebody dying at the step in each.
struct KillMatrix {
  ProcessPool& pool;
  Journal& journal;
  Step step;
  unsigned attempts;
  Outcome all = {};
  std::size_t sent = 0;

  [[nodiscard]] unsigned landed() const {
    return pool.worker_fault(0).landed(step) + pool.worker_fault(1).landed(step);
  }
  void tasks() {
    std::vector<ProcessFuture<std::size_t>> futures;
    for (std::size_t i = 0; i < in_round; ++i)
      futures.push_back(
          pool.submit_with<journalled>({.attempts = attempts}, journal.bytes(), sent + i));
    const Outcome now = collect(futures, sent);
    all.values += now.values;
    all.wrong += now.wrong;
    all.died += now.died;
    sent += in_round;
  }
  void rounds(unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      pool.worker_fault(i % 2).arm(step, 1 + i % 3);
      const unsigned before = landed();
      while (landed() == before && sent + in_round <= journal.size())
        tasks();
    }
    tasks();  // the step `announced` is reached after the result
  }
};

}  // namespace

BOOST_DATA_TEST_CASE(a_kill_at_any_step_costs_its_task_at_most,
                     data::make(methods()) * data::make(worker_steps), method, step) {
  ProcessPool pool(options(method));
  Journal journal(pool, 2000);
  constexpr unsigned kills = 10;
  KillMatrix matrix{.pool = pool, .journal = journal, .step = step, .attempts = 1};
  matrix.rounds(kills);
  const unsigned landed = matrix.landed();
  BOOST_TEST_MESSAGE(to_text(method) << ", " << to_text(step) << ": " << landed << " kills landed");
  BOOST_TEST(landed >= kills);
  BOOST_TEST(matrix.all.wrong == 0u);
  BOOST_TEST(matrix.all.values + matrix.all.died == matrix.sent);
  BOOST_TEST(matrix.all.died == (begun(step) ? landed : 0u));
  // Who died before the call has not written, everybody else once.
  const bool before_call = step == Step::running || step == Step::decoded;
  unsigned starts = 0;
  for (std::size_t i = 0; i < matrix.sent; ++i) {
    BOOST_TEST_REQUIRE(journal.starts(i) <= 1u);
    starts += journal.starts(i);
  }
  BOOST_TEST(starts == matrix.sent - (before_call ? landed : 0u));
  BOOST_TEST(pool.counts().died >= landed);
}

BOOST_DATA_TEST_CASE(a_task_that_may_begin_again_survives_a_kill_at_any_step,
                     data::make(worker_steps), step) {
  ProcessPool pool(options(StartMethod::forkserver));
  Journal journal(pool, 2000);
  KillMatrix matrix{.pool = pool, .journal = journal, .step = step, .attempts = 20};
  matrix.rounds(10);
  BOOST_TEST(matrix.landed() >= 10u);
  BOOST_TEST(matrix.all.values == matrix.sent);
  unsigned starts = 0;
  for (std::size_t i = 0; i < matrix.sent; ++i) {
    BOOST_TEST_REQUIRE(journal.starts(i) >= 1u);
    starts += journal.starts(i);
  }
  const bool twice = step == Step::called || step == Step::encoded;
  BOOST_TEST(starts == matrix.sent + (twice ? matrix.landed() : 0u));
}

namespace {

enum class Way : std::uint8_t { none, fail, exit, exit_at_once, crash };

struct ThrownAsNothing {};

void go(Way way) {
  switch (way) {
  case Way::fail:
    throw std::runtime_error("the value fails");
  case Way::exit:
    std::exit(3);
  case Way::exit_at_once:
    ::_exit(0);
  case Way::crash: {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::signal(SIGSEGV, SIG_DFL);  // a sanitizer has its own handler
    ::raise(SIGSEGV);
    return;
  }
  case Way::none:
    return;
  }
}

// Goes its way where it is told to.
struct Trap {
  Way in_encode = Way::none;
  Way in_decode = Way::none;
  bool unknown = false;  // throws what is no std::exception

  void encode(Encoder& encoder) const {
    meet(in_encode);
    procs::encode(encoder, in_decode);
    procs::encode(encoder, unknown);
  }
  static Trap decode(Decoder& decoder) {
    Trap trap;
    trap.in_decode = procs::decode<Way>(decoder);
    trap.unknown = procs::decode<bool>(decoder);
    trap.meet(trap.in_decode);
    return trap;
  }
  void meet(Way way) const {
    if (unknown && way != Way::none)
      throw ThrownAsNothing();
    go(way);
  }
};

void take(const Trap&) {}
Trap give(Way in_encode, Way in_decode, bool unknown) {
  return {in_encode, in_decode, unknown};
}

// The text of what a future throws if it is an E, else what came instead.
template <typename E, typename T>
std::string text_of(ProcessFuture<T> future) {
  try {
    future.get();
    return "a value";
  } catch (const E& error) {
    try {
      std::rethrow_if_nested(error);
    } catch (const std::exception& nested) {
      return nested.what();
    } catch (...) {
    }
    return error.what();
  } catch (const std::exception& error) {
    return std::string("another: ") + error.what();
  } catch (...) {
    return "something else";
  }
}

}  // namespace

// The sixteen of loky's TestExecutorDeadLock, of which four happen on the caller's side: there an
// exit is that of the program, and its counterpart is what is no std::exception.
BOOST_DATA_TEST_CASE(sixteen_ways_to_fail_fail_one_future_each, data::make(methods()), method) {
  ProcessPool pool(options(method));
  using std::runtime_error;
  // A sanitizer that finds leaks at the exit of a fork gives it a status of its own.
  const std::string_view exited = testing::address_sanitizer ? "exit status" : "exit status 3";
  // Encoding the argument, here.
  BOOST_TEST(holds(text_of<runtime_error>(pool.submit<take>(Trap{Way::fail})), "the value fails"));
  BOOST_TEST(text_of<runtime_error>(pool.submit<take>(Trap{Way::fail, Way::none, true})) ==
             "something else");
  // Decoding the argument, there.
  const auto in_argument = [&](Way way) { return pool.submit<take>(Trap{Way::none, way}); };
  BOOST_TEST(holds(text_of<runtime_error>(in_argument(Way::fail)),
                   "std::runtime_error: the value fails [while its arguments were decoded"));
  BOOST_TEST(holds(text_of<WorkerDied>(in_argument(Way::exit)), exited));
  BOOST_TEST(holds(text_of<WorkerDied>(in_argument(Way::exit_at_once)), "exit status 0"));
  BOOST_TEST(holds(text_of<WorkerDied>(in_argument(Way::crash)), "killed by SIGSEGV"));
  // Running.
  BOOST_TEST(holds(text_of<runtime_error>(pool.submit<go>(Way::fail)), "[while it ran, worker "));
  BOOST_TEST(holds(text_of<WorkerDied>(pool.submit<go>(Way::exit)), exited));
  BOOST_TEST(holds(text_of<WorkerDied>(pool.submit<go>(Way::exit_at_once)), "exit status 0"));
  BOOST_TEST(holds(text_of<WorkerDied>(pool.submit<go>(Way::crash)), "killed by SIGSEGV"));
  // Encoding the result, there.
  const auto in_result = [&](Way way) { return pool.submit<give>(way, Way::none, false); };
  BOOST_TEST(holds(text_of<runtime_error>(in_result(Way::fail)), "[while its result was encoded"));
  BOOST_TEST(holds(text_of<WorkerDied>(in_result(Way::exit)), exited));
  BOOST_TEST(holds(text_of<WorkerDied>(in_result(Way::exit_at_once)), "exit status 0"));
  BOOST_TEST(holds(text_of<WorkerDied>(in_result(Way::crash)), "killed by SIGSEGV"));
  // Decoding the result, here.
  BOOST_TEST(holds(text_of<runtime_error>(pool.submit<give>(Way::none, Way::fail, false)),
                   "the value fails"));
  BOOST_TEST(text_of<runtime_error>(pool.submit<give>(Way::none, Way::fail, true)) ==
             "something else");
  BOOST_TEST(pool.submit<add>(1, 2).get() == 3);
  BOOST_TEST(pool.counts().blamed == 9u);
}

namespace {

void kill_process(pid_t pid) {
  if (pid > 0)
    ::kill(pid, SIGKILL);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_task_that_kills_its_neighbour_costs_the_neighbours_task) {
  ProcessPool pool(options(StartMethod::forkserver));
  const Journal journal(pool, 20);
  for (std::size_t i = 0; i < 20; ++i) {
    auto sleeper = pool.submit<stay>(journal.bytes(), i);
    await_start(journal, i);
    pid_t victim = -1;
    auto ask = pool.submit<::getpid>();
    const pid_t free = ask.get();
    for (const pid_t pid : pool.pids())
      victim = pid != free ? pid : victim;
    auto killer = pool.submit<kill_process>(victim);
    BOOST_CHECK_THROW(sleeper.get(), WorkerDied);
    BOOST_CHECK_NO_THROW(killer.get());
  }
  BOOST_TEST(pool.counts().blamed == 20u);
}

BOOST_AUTO_TEST_CASE(a_callback_may_kill_workers_and_submit_more) {
  ProcessPool pool(options(StartMethod::forkserver));
  std::atomic<int> done{0};
  for (int i = 0; i < 20; ++i) {
    auto future = pool.submit<add>(i, i);
    future.on_ready([&]() noexcept {
      pool.kill_worker(0);
      auto next = pool.submit_with<add>({.attempts = 5}, 1, 1);
      next.on_ready([&]() noexcept { ++done; });
    });
  }
  while (done.load() < 20)
    std::this_thread::sleep_for(1ms);
  BOOST_TEST(done.load() == 20);
}

BOOST_AUTO_TEST_CASE(a_full_queue_of_tasks_that_die_goes_on) {
  auto small = options(StartMethod::forkserver);
  small.queue = 4;
  small.depth = 2;
  ProcessPool pool(small);
  std::vector<ProcessFuture<void>> futures;
  for (int i = 0; i < 60; ++i)
    futures.push_back(pool.submit<go>(i % 3 == 0 ? Way::exit_at_once : Way::none));
  unsigned died = 0;
  for (auto& future : futures)
    try {
      future.get();
    } catch (const WorkerDied&) {
      ++died;
    }
  BOOST_TEST(died == 20u);
}

BOOST_AUTO_TEST_CASE(workers_may_die_while_the_pool_is_resized_or_shut_down) {
  for (int round = 0; round < 5; ++round) {
    auto two_to_four = options(StartMethod::forkserver);
    two_to_four.most_workers = 4;
    ProcessPool pool(two_to_four);
    std::vector<ProcessFuture<int>> futures;
    for (int i = 0; i < 200; ++i) {
      futures.push_back(pool.submit_with<add>({.attempts = 50}, i, 1));
      if (i % 20 == 0)
        pool.resize(1 + static_cast<unsigned>(i / 20) % 4);
      if (i % 7 == 0)
        for (unsigned worker = 0; worker < 4; ++worker)
          pool.kill_worker(worker);
    }
    for (unsigned worker = 0; worker < 4; ++worker)
      pool.kill_worker(worker);
    pool.shutdown();
    for (int i = 0; i < 200; ++i)
      BOOST_TEST_REQUIRE(futures[static_cast<std::size_t>(i)].get() == i + 1);
  }
}

BOOST_AUTO_TEST_CASE(a_task_that_takes_too_long_is_killed_and_nobody_else) {
  ProcessPool pool(options(StartMethod::forkserver));
  auto late = pool.submit_with<testing::sleep_ms>({.timeout = 20ms}, 60'000);
  std::vector<ProcessFuture<int>> others;
  for (int i = 0; i < 100; ++i)
    others.push_back(pool.submit<add>(i, 1));
  try {
    late.get();
    BOOST_TEST(false);
  } catch (const TaskTimeout& error) {
    BOOST_TEST(holds(error.what(), "its time being up"));
    BOOST_TEST((error.end.how == Ended::timeout));
  }
  for (int i = 0; i < 100; ++i)
    BOOST_TEST(others[static_cast<std::size_t>(i)].get() == i + 1);
  BOOST_TEST(pool.counts().blamed == 1u);
}

// Times that are up at the moment the task ends: either it is done, or it alone is killed.
BOOST_AUTO_TEST_CASE(a_time_limit_hits_the_task_it_was_for) {
  ProcessPool pool(options(StartMethod::forkserver));
  unsigned in_time = 0;
  unsigned late = 0;
  for (int round = 0; round < 40; ++round) {
    auto tight = pool.submit_with<testing::sleep_ms>(
        {.timeout = std::chrono::microseconds(4'600 + 40 * round)}, 5);
    std::vector<ProcessFuture<int>> behind;
    for (int i = 0; i < 4; ++i)
      behind.push_back(pool.submit<add>(i, i));
    try {
      tight.get();
      ++in_time;
    } catch (const TaskTimeout&) {
      ++late;
    }
    for (int i = 0; i < 4; ++i)
      BOOST_TEST_REQUIRE(behind[static_cast<std::size_t>(i)].get() == 2 * i);
  }
  BOOST_TEST(in_time + late == 40u);
  BOOST_TEST(pool.counts().timeouts == late);
  BOOST_TEST_MESSAGE(late << " late, " << in_time << " in time");
}

BOOST_AUTO_TEST_CASE(workers_that_die_without_a_task_break_the_pool_with_the_reason) {
  auto few = options(StartMethod::forkserver);
  few.most_restarts = 5;
  std::atomic<unsigned> broken{0};
  few.on_event = [&](const PoolEvent& event) {
    broken += event.kind == PoolEvent::Kind::broken ? 1 : 0;
  };
  ProcessPool pool(few);
  std::string text;
  while (text.empty()) {
    pool.kill_worker(0);
    pool.kill_worker(1);
    try {
      static_cast<void>(pool.submit<add>(1, 1).wait_for(1ms));
    } catch (const PoolBroken& error) {
      text = error.what();
    }
  }
  while (broken.load() == 0)  // it is told once the futures know
    std::this_thread::sleep_for(1ms);
  BOOST_TEST(holds(text, "died with no task to blame, the last: killed by SIGKILL"));
  BOOST_TEST(broken.load() == 1u);
}

BOOST_AUTO_TEST_CASE(nothing_is_left_open_or_running) {
  const auto before = testing::belongings();
  {
    ProcessPool pool(options(StartMethod::forkserver));
    BOOST_CHECK_THROW(pool.submit<go>(Way::crash).get(), WorkerDied);
  }
  BOOST_TEST(testing::belongings() == before);
}
