#include "affinity/pin.hh"
#include "lab/apparatus/convoy.hh"
#include "lab/apparatus/counting.hh"
#include "lab/apparatus/interpreted.hh"
#include "lab/apparatus/started_loops.hh"
#include "lab/apparatus/timing_habits.hh"
#include "tests/left_behind.hh"
#include "tests/sanitized.hh"
#include "tests/waits.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>

using namespace schedlab;
using namespace schedlab::apparatus;
using namespace schedlab::harness;
using procs::LockRule;
using testing::comes_true;

namespace {

std::vector<unsigned> some_cpus(std::size_t most) {
  auto cpus = affinity::thread_affinity().cpus();
  cpus.resize(std::min(cpus.size(), most));
  return cpus;
}

void all_hold(Subject& subject) {
  for (const auto& check : subject.checks())
    BOOST_TEST(check.ok, check.name);
}

}  // namespace

BOOST_AUTO_TEST_CASE(interpreted_tasks_prove_their_results_and_their_turns) {
  for (const auto spread : {Spread::serial, Spread::threads, Spread::processes})
    for (const auto rule : {LockRule::interval, LockRule::ticks, LockRule::none}) {
      if (testing::thread_sanitizer && spread == Spread::processes)
        continue;
      InterpretedOptions options;
      options.spread = spread;
      options.rule = rule;
      options.interval_ns = 100'000;
      options.tasks = 3;
      options.loops = 20'000;
      options.cpus = affinity::thread_affinity().cpus();
      options.usable = affinity::thread_affinity();
      const auto subject = make_interpreted(options);
      const auto sample = subject->sample(2);
      BOOST_TEST(sample.operations == 2u);
      BOOST_TEST(sample.values[options.time] > 0);
      all_hold(*subject);
      BOOST_TEST(subject->checks().size() ==
                 (rule == LockRule::none || spread == Spread::processes ? 1u : 2u));
      if (spread == Spread::processes)
        BOOST_TEST(sample.values[options.waits] == 0);
      else if (rule != LockRule::none)
        // Each of three has the lock at least once.
        BOOST_TEST((spread == Spread::serial ? sample.values[options.switches] == 0
                                             : sample.values[options.switches] >= 2));
    }
}

BOOST_AUTO_TEST_CASE(more_tasks_than_cpus_wait_for_each_other_and_are_not_called_disturbed) {
  InterpretedOptions options;
  options.rule = LockRule::none;
  options.cpus = affinity::thread_affinity().cpus();
  options.tasks = static_cast<unsigned>(options.cpus.size()) + 4;
  options.loops = testing::sanitized ? 20'000 : 200'000;
  options.usable = affinity::thread_affinity();
  const auto subject = make_interpreted(options);
  const auto sample = subject->sample(2);
  BOOST_TEST(sample.proof.waited_ns == 0);
  BOOST_TEST(sample.proof.wall_ns == sample.elapsed_ns);  // of both runs
  all_hold(*subject);
}

BOOST_AUTO_TEST_CASE(hashing_gives_the_lock_up_once_a_block_or_not_at_all) {
  for (const bool release : {true, false}) {
    InterpretedOptions options;
    options.tasks = 2;
    options.loops = 50;
    options.block = 100'000;
    options.release = release;
    options.interval_ns = 1'000'000'000;  // nobody is asked
    options.cpus = affinity::thread_affinity().cpus();
    options.usable = affinity::thread_affinity();
    const auto subject = make_interpreted(options);
    const auto sample = subject->sample(1);
    all_hold(*subject);
    if (release)
      BOOST_TEST(sample.values[options.held] < 0.9);
    else
      BOOST_TEST(sample.values[options.switches] == 1);  // the first task's end
  }
}

BOOST_AUTO_TEST_CASE(a_convoy_does_its_operations_and_counts_what_passed) {
  for (const auto operation : {IoOperation::timer, IoOperation::echo})
    for (const unsigned computing : {0u, 1u}) {
      ConvoyOptions options;
      options.operation = operation;
      options.interval_ns = 1'000'000;
      options.cpu_threads = computing;
      options.sleep_ns = 200'000;
      options.cpus = options.usable = affinity::thread_affinity();
      const auto subject = make_convoy(options);
      const auto sample = subject->sample(10);
      all_hold(*subject);
      BOOST_TEST(sample.values[options.latency] >= 200'000);
      // An operation that waits finds the lock with who computes, and an interval passes; who
      // computes needs a CPU for that, and may have to wait for one.
      if (computing == 0)
        BOOST_TEST(sample.values[options.expiries] == 0);
      double most = sample.values[options.expiries];
      const bool met = computing > 0 && comes_true([&] {
                         most = std::max(most, subject->sample(10).values[options.expiries]);
                         return most > 0.3;
                       });
      BOOST_TEST(met == (computing > 0));
      BOOST_TEST(std::isnan(sample.values[options.progress]) == (computing == 0));
      BOOST_TEST(std::isnan(sample.values[options.p99]));
    }
}

// What was computed before the I/O began is several times an operation.
BOOST_AUTO_TEST_CASE(a_lock_has_no_more_work_in_a_convoy_than_one_thread_can_do) {
  ConvoyOptions options;
  options.interval_ns = 20'000'000;
  options.cpu_threads = 2;
  options.sleep_ns = 200'000;
  options.cpus = options.usable = affinity::thread_affinity();
  const auto subject = make_convoy(options);
  int waited = 0;
  for (int tries = 0; waited < 3 && tries < 50; ++tries) {
    const auto sample = subject->sample(1);
    BOOST_TEST(sample.values[options.wait] <= 1.01 * sample.values[options.latency]);
    if (sample.values[options.expiries] < 1)
      continue;  // who computes had no CPU
    ++waited;
    BOOST_TEST(sample.values[options.running] < 1.3);
  }
  BOOST_TEST(waited == 3);
  all_hold(*subject);
}

BOOST_AUTO_TEST_CASE(a_convoy_that_takes_too_long_ends_its_sample_early_and_whole) {
  ConvoyOptions options;
  options.operation = IoOperation::echo;
  options.interval_ns = 150'000'000;
  options.cpu_threads = 1;
  options.sleep_ns = 200'000;
  options.cpus = options.usable = affinity::thread_affinity();
  const auto subject = make_convoy(options);
  std::uint64_t least = 10;
  const bool ended_early = comes_true([&] {
    const auto sample = subject->sample(10);
    BOOST_TEST(sample.operations >= 1);
    BOOST_TEST(sample.values[options.rate] * sample.elapsed_ns / 1e9 ==
                   static_cast<double>(sample.operations),
               boost::test_tools::tolerance(1e-9));
    least = std::min(least, sample.operations);
    return least < 10;
  });
  BOOST_TEST(ended_early);
  all_hold(*subject);
}

BOOST_AUTO_TEST_CASE(counted_references_all_come_back) {
  for (const auto counting : {Counting::plain, Counting::atomic, Counting::biased})
    for (const bool shared : {false, true}) {
      const auto cpus = some_cpus(2);
      if (testing::thread_sanitizer && counting == Counting::plain && shared)
        continue;
      CountingOptions options{counting, shared, cpus, affinity::thread_affinity(), 0};
      const auto subject = make_counting(options);
      BOOST_TEST(subject->sample(10'000).values[0] > 0);
      all_hold(*subject);
      BOOST_TEST((counting_from(to_text(counting)) == counting));
    }
  LosingOptions options{LockRule::interval, some_cpus(2), affinity::thread_affinity(), 0};
  const auto subject = make_losing(options);
  BOOST_TEST(subject->sample(50).values[0] == 0);
  all_hold(*subject);
}

BOOST_AUTO_TEST_CASE(each_way_to_start_loops_counts_right_and_leaves_nothing) {
  const auto before = testing::belongings();
  for (const auto start :
       {StartAs::calls, StartAs::threads, StartAs::fork, StartAs::exec, StartAs::forkserver}) {
    StartedLoopsOptions options;
    options.way = start;
    options.tasks = 3;
    options.loops = 1000;
    options.cpus = affinity::thread_affinity().cpus();
    options.usable = affinity::thread_affinity();
    const auto subject = make_started_loops(options);
    const auto sample = subject->sample(2);
    BOOST_TEST(sample.values[options.time] > 0);
    BOOST_TEST(std::isnan(sample.values[options.start]) == (start == StartAs::calls));
    all_hold(*subject);
    BOOST_TEST((start_as(to_text(start)) == start));
  }
  BOOST_TEST(testing::belongings() == before);
}

BOOST_AUTO_TEST_CASE(a_habit_of_timing_never_clocks_less_than_the_work) {
  for (const auto habit : {TimingHabit::none, TimingHabit::start_up, TimingHabit::process,
                           TimingHabit::print, TimingHabit::rounding}) {
    TimingHabitOptions options;
    options.habit = habit;
    options.loops = 10'000;
    options.cpu = affinity::thread_affinity().first();
    options.usable = affinity::thread_affinity();
    const auto sample = make_timing_habit(options)->sample(3);
    BOOST_TEST(sample.values[options.work] > 0);
    BOOST_TEST(sample.values[options.error] > 0);
    BOOST_TEST(sample.elapsed_ns >= 3 * sample.values[options.work]);
    BOOST_TEST((timing_habit(to_text(habit)) == habit));
  }
}
