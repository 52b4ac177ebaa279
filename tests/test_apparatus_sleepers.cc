#include "affinity/pin.hh"
#include "iouring/probe.hh"
#include "lab/apparatus/sleep_overlap.hh"
#include "lab/apparatus/sleepers.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "tests/left_behind.hh"

#include <boost/test/unit_test.hpp>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

using namespace schedlab;
using namespace schedlab::apparatus;
using harness::Sample;
using iouring::DriverChoice;
using testing::belongings;

namespace {

const affinity::CpuSet usable = affinity::thread_affinity();

SleepersOptions options_for(std::uint64_t sleepers, std::int64_t period_ns) {
  SleepersOptions options;
  options.cpu = usable.first();
  options.usable = usable;
  options.sleepers = sleepers;
  options.period_ns = period_ns;
  return options;
}

struct Kind {
  std::string name;
  std::function<std::unique_ptr<harness::Subject>(const SleepersOptions&)> make;
};

std::vector<Kind> kinds() {
  std::vector<Kind> all = {
      {"epoll", [](const auto& o) { return make_loop_sleepers(DriverChoice::epoll, o); }},
      {"threads", make_thread_sleepers},
      {"timerfd", make_timerfd_sleepers}};
  if (iouring::quick_probe().usable)
    all.push_back(
        {"io_uring", [](const auto& o) { return make_loop_sleepers(DriverChoice::io_uring, o); }});
  else
    BOOST_TEST_MESSAGE("io_uring is skipped: " << iouring::quick_probe().cause);
  return all;
}

std::vector<DriverChoice> drivers() {
  if (iouring::quick_probe().usable)
    return {DriverChoice::epoll, DriverChoice::io_uring};
  return {DriverChoice::epoll};
}

bool all_hold(harness::Subject& subject) {
  bool ok = true;
  for (const auto& check : subject.checks())
    ok = ok && check.ok;
  return ok;
}

}  // namespace

BOOST_AUTO_TEST_CASE(sleepers_are_due_once_in_each_period_and_evenly_spread) {
  constexpr std::uint64_t sleepers = 100;
  constexpr std::int64_t period_ns = 10'000;
  Timetable table(options_for(sleepers, period_ns));
  table.plan(3, 1'000'000);
  std::vector<std::int64_t> due;
  for (std::uint64_t round = 0; round < 3; ++round)
    for (std::uint64_t sleeper = 0; sleeper < sleepers; ++sleeper)
      due.push_back(table.due_ns(sleeper, round));
  BOOST_TEST(table.due_ns(7, 1) - table.due_ns(7, 0) == period_ns);
  const bool sorted = std::ranges::is_sorted(due);
  BOOST_TEST(!sorted);  // set in another order than due
  std::ranges::sort(due);
  for (std::size_t i = 0; i < due.size(); ++i)
    BOOST_TEST(due[i] == 1'000'000 + 100 * static_cast<std::int64_t>(i + 1));
}

BOOST_AUTO_TEST_CASE(lateness_counts_from_when_a_sleeper_was_due) {
  const auto options = options_for(1000, 1'000'000);
  Timetable table(options);
  table.plan(3, 0);
  for (std::uint64_t round = 0; round < 3; ++round)
    for (std::uint64_t i = 0; i < 1000; ++i)
      table.note(i, round, table.due_ns(i, round) + static_cast<std::int64_t>(1000 * round + i));
  Sample sample;
  table.fill_in(sample);
  BOOST_TEST(sample.values[options.late] == 1499.5);
  BOOST_TEST(sample.values[options.worst] == 2999);
  BOOST_TEST(sample.values[options.p99] == 2969);
  BOOST_TEST(sample.values[options.p999] == 2996);
  BOOST_TEST(table.check().ok);
}

// The control of the case above.
BOOST_AUTO_TEST_CASE(a_sleeper_that_goes_on_early_is_told) {
  Timetable table(options_for(4, 1000));
  table.plan(1, 5000);
  for (std::uint64_t i = 0; i < 4; ++i)
    table.note(i, 0, table.due_ns(i, 0) + (i == 2 ? -1 : 1));
  Sample sample;
  table.fill_in(sample);
  BOOST_TEST(!table.check().ok);
  BOOST_TEST(*table.check().seen.number() == 1);
  BOOST_TEST(std::isnan(sample.values[1]));
}

BOOST_AUTO_TEST_CASE(a_sample_begins_when_all_are_asleep_and_says_so_where_it_cannot) {
  Lead patient(100);
  int tries = 0;
  patient.play([&](std::int64_t lead_ns) {
    ++tries;
    return lead_ns < 500 ? lead_ns + 10 : lead_ns - 1;
  });
  BOOST_TEST(tries == 4);  // 100, 220, 460, 940
  BOOST_TEST(patient.check().ok);
  Lead hopeless(100);
  hopeless.play([](std::int64_t lead_ns) { return 2 * lead_ns; });
  BOOST_TEST(!hopeless.check().ok);
}

BOOST_AUTO_TEST_CASE(every_kind_of_sleeper_sleeps_and_none_too_short) {
  for (const auto& kind : kinds())
    BOOST_TEST_CONTEXT(kind.name) {
      const auto options = options_for(50, 2'000'000);
      const auto subject = kind.make(options);
      for (int i = 0; i < 2; ++i) {
        const Sample sample = subject->sample(3);
        BOOST_TEST(sample.operations == 3u);
        BOOST_TEST(sample.elapsed_ns > 2 * 2'000'000.0);
        BOOST_TEST(sample.proof.on_cpu);
        BOOST_TEST(sample.values[options.late] >= 0);
        BOOST_TEST(sample.values[options.worst] >= sample.values[options.late]);
        BOOST_TEST(std::isnan(sample.values[options.p99]));
        BOOST_TEST(sample.values[options.cpu_time] > 0);
        BOOST_TEST(sample.values[options.calls] > 0);
        BOOST_TEST((kind.name == "timerfd") == std::isnan(sample.values[options.memory]));
      }
      BOOST_TEST(all_hold(*subject));
    }
}

BOOST_AUTO_TEST_CASE(a_thread_takes_pages_where_a_task_takes_bytes) {
  const auto options = options_for(20, 2'000'000);
  const auto memory = [&](harness::Subject& subject) {
    return subject.sample(1).values[options.memory];
  };
  BOOST_TEST(memory(*make_thread_sleepers(options)) >= 4096);
  for (const auto driver : drivers()) {
    const double bytes = memory(*make_loop_sleepers(driver, options));
    BOOST_TEST(bytes > 64);
    BOOST_TEST(bytes < 4096);
  }
}

BOOST_AUTO_TEST_CASE(a_hundred_thousand_tasks_sleep_in_one_loop) {
  for (const auto driver : drivers()) {
    const auto options = options_for(100'000, 20'000'000);
    const auto subject = make_loop_sleepers(driver, options);
    const Sample sample = subject->sample(1);
    BOOST_TEST(sample.values[options.p999] >= sample.values[options.p99]);
    BOOST_TEST(sample.values[options.calls] < 1);
    BOOST_TEST(subject->checks().at(0).ok);
  }
}

BOOST_AUTO_TEST_CASE(more_timerfds_than_open_files_are_told_with_the_limit) {
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit few = before;
  few.rlim_cur = 200;
  ::setrlimit(RLIMIT_NOFILE, &few);
  BOOST_TEST(too_many_timerfds(100) == "");
  BOOST_TEST(too_many_timerfds(500) == "a timerfd for each takes 500 open files, and 200 are "
                                       "allowed; raise ulimit -n");
  ::setrlimit(RLIMIT_NOFILE, &before);
}

BOOST_AUTO_TEST_CASE(every_program_of_waits_runs_and_proves_itself) {
  for (const auto program : overlap_programs())
    for (const auto driver : drivers())
      BOOST_TEST_CONTEXT(program) {
        OverlapOptions options;
        options.cpu = usable.first();
        options.usable = usable;
        options.driver = driver;
        options.step_ns = 200'000;
        const auto subject = make_overlap(program, options);
        const Sample sample = subject->sample(2);
        BOOST_TEST(sample.operations == 2u);
        BOOST_TEST(sample.values[options.total] > 0);
        BOOST_TEST(sample.proof.on_cpu);
        // Threads and processes may be held up so long that they take no turns.
        BOOST_TEST((all_hold(*subject) || !runs_a_loop(program)));
      }
  BOOST_CHECK_THROW(make_overlap("siesta", {}), std::logic_error);
}

BOOST_AUTO_TEST_CASE(sleepers_leave_nothing_behind) {
  for (const auto& kind : kinds())
    kind.make(options_for(5, 1'000'000))->sample(1);  // what is made once for all stays
  const auto before = belongings();
  for (const auto& kind : kinds())
    kind.make(options_for(20, 1'000'000))->sample(1);
  BOOST_TEST(belongings() == before);
}
