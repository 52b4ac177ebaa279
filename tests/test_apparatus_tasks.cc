// The subjects of tasks: what they count is right, whatever they clock.

#include "affinity/topology.hh"
#include "lab/apparatus/lateness.hh"
#include "lab/apparatus/memory_rollup.hh"
#include "lab/apparatus/task_cost.hh"
#include "lab/apparatus/task_memory.hh"
#include "lab/apparatus/task_rules.hh"
#include "lab/apparatus/work_length.hh"
#include "lab/base/child.hh"
#include "lab/base/file.hh"
#include "lab/base/mapping.hh"
#include "tests/iouring_drivers.hh"
#include "tests/sanitized.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <stdexcept>

using namespace schedlab;
using namespace schedlab::apparatus;
using namespace schedlab::testing;

namespace bdata = boost::unit_test::data;

namespace {

const affinity::CpuSet& usable() {
  static const auto cpus = affinity::Topology::machine().usable();
  return cpus;
}

void all_hold(harness::Subject& subject) {
  for (const auto& check : subject.checks())
    BOOST_TEST(check.ok, check.name);
}

std::unique_ptr<harness::Subject> cost(std::string_view what, iouring::DriverChoice driver,
                                       std::uint64_t tasks = 20) {
  return make_task_cost(
      what, {.cpu = usable().first(), .usable = usable(), .driver = driver, .tasks = tasks});
}

}  // namespace

BOOST_DATA_TEST_CASE(every_task_of_a_batch_does_what_it_should,
                     bdata::make(task_costs()) * on_all_drivers, what, driver) {
  const auto subject = cost(what, driver);
  for (const std::uint64_t batches : {1u, 3u}) {
    const auto sample = subject->sample(batches);
    BOOST_TEST(sample.operations == batches);
    BOOST_TEST(sample.values[0] > 0);
  }
  all_hold(*subject);
}

BOOST_AUTO_TEST_CASE(what_makes_tasks_takes_frames_and_what_resumes_them_takes_none) {
  const auto frame = [](std::string_view what) {
    return cost(what, iouring::DriverChoice::epoll)->sample(2).values[1];
  };
  const double await = frame("await");
  BOOST_TEST(await > 0);
  BOOST_TEST(frame("start") > await);    // a started task is more than its coroutine
  BOOST_TEST(frame("gather") >= await);  // that of gather itself is shared by all, or left out
  BOOST_TEST(frame("gather") < 2 * await + 100);
  BOOST_TEST(std::isnan(frame("resume")));
}

BOOST_AUTO_TEST_CASE(a_cost_that_does_not_exist_is_an_error) {
  BOOST_CHECK_THROW(cost("sleep", iouring::DriverChoice::epoll), std::logic_error);
}

BOOST_AUTO_TEST_CASE(a_slope_is_that_of_the_line_of_least_squares) {
  const std::array line = {Point{0, 5}, Point{10, 25}, Point{20, 45}};
  BOOST_TEST(slope(line) == 2.0);
  const std::array scattered = {Point{0, 0}, Point{1, 3}, Point{2, 0}, Point{3, 3}};
  BOOST_TEST(slope(scattered) == 0.6, boost::test_tools::tolerance(1e-12));
}

BOOST_AUTO_TEST_CASE(memory_that_was_touched_is_resident_and_that_was_mapped_is_reserved) {
  const Footprint before = footprint();
  constexpr std::size_t size = std::size_t{32} << 20;
  std::vector<char> touched(size, 'x');
  const Footprint after = footprint();
  BOOST_TEST(touched[size / 2] == 'x');
  BOOST_TEST(after.resident - before.resident > 0.9 * size);
  BOOST_TEST(after.reserved - before.reserved > 0.9 * size);
}

BOOST_AUTO_TEST_CASE(memory_counts_whole_where_nobody_shares_it_and_by_its_part_where_others_do) {
  constexpr std::size_t size = std::size_t{32} << 20;
  const auto shared = Mapping::shared_memory(size);
  std::ranges::fill(shared.bytes(), std::byte{1});
  const auto alone = memory_rollup(::getpid());
  BOOST_TEST_REQUIRE(alone.has_value());
  BOOST_TEST(alone->own > 0.9 * size);
  BOOST_TEST(alone->proportional >= alone->own);
  BOOST_TEST(alone->resident >= alone->proportional);
  const Pipe told = make_pipe();
  Child other = Child::fork([&] {
    std::ranges::fill(shared.bytes(), std::byte{2});
    write_all(told.write.get(), "!", "pipe");
    return ::pause();
  });
  char word = 0;
  BOOST_TEST_REQUIRE(::read(told.read.get(), &word, 1) == 1);
  const auto together = memory_rollup(::getpid());
  BOOST_TEST(together->resident > 0.9 * size);
  BOOST_TEST(alone->proportional - together->proportional > 0.45 * size);
  BOOST_TEST(alone->own - together->own > 0.9 * size);
  const pid_t pid = other.pid();
  BOOST_TEST(memory_rollup(pid).has_value());
  other.signal(SIGKILL);
  other.wait();
  BOOST_TEST(!memory_rollup(pid));
  BOOST_TEST(!memory_rollup(-1));
}

BOOST_DATA_TEST_CASE(a_waiting_task_holds_its_frame_and_little_more, on_all_drivers, driver) {
  const auto subject = make_waiting_tasks(
      {.cpu = usable().first(), .usable = usable(), .driver = driver, .most = 8000});
  for (int i = 0; i < 2; ++i) {  // a second time too, though the first gave its memory back
    const auto sample = subject->sample(1);
    BOOST_TEST(sample.values[0] > 64);
    BOOST_TEST(sample.values[0] < 1024);
    if (sanitized)  // which keeps memory of its own
      continue;
    BOOST_TEST(sample.values[1] > 0.8 * sample.values[0]);
    BOOST_TEST(sample.values[1] < 8 * sample.values[0]);
  }
  all_hold(*subject);
}

BOOST_AUTO_TEST_CASE(a_waiting_thread_reserves_a_stack) {
  const auto subject =
      make_waiting_threads({.cpu = usable().first(), .usable = usable(), .most = 16});
  const auto sample = subject->sample(1);
  BOOST_TEST(std::isnan(sample.values[0]));
  BOOST_TEST(sample.values[1] > 0);
  BOOST_TEST(sample.values[2] > sample.values[1]);
  all_hold(*subject);
}

BOOST_AUTO_TEST_CASE(the_same_length_is_the_same_work_and_ten_times_the_length_ten_times_as_much) {
  BOOST_TEST(steps_for(1000) == steps_for(1000));
  const auto ratio = static_cast<double>(steps_for(1e6)) / static_cast<double>(steps_for(1e5));
  BOOST_TEST(ratio == 10.0, boost::test_tools::tolerance(0.01));
  BOOST_TEST(steps_for(0) == 1u);
}

BOOST_AUTO_TEST_CASE(work_is_done_by_calls_tasks_and_threads) {
  for (const RunAs how : {RunAs::calls, RunAs::tasks, RunAs::threads}) {
    const auto subject = make_work(how, {.cpu = usable().first(),
                                         .usable = usable(),
                                         .driver = iouring::DriverChoice::epoll,
                                         .length_ns = 100'000});
    const auto sample = subject->sample(2);
    BOOST_TEST(sample.operations == 2u);
    BOOST_TEST(sample.values[0] > 0);
    all_hold(*subject);
  }
}

BOOST_DATA_TEST_CASE(an_update_around_a_wait_loses_half_and_one_without_loses_none, on_all_drivers,
                     driver) {
  const TaskRuleOptions options{.cpu = usable().first(), .usable = usable(), .driver = driver};
  BOOST_TEST(make_updates(true, options)->sample(1000).values[1] == 0.5);
  BOOST_TEST(make_updates(false, options)->sample(1000).values[1] == 0.0);
}

BOOST_DATA_TEST_CASE(tasks_that_never_wait_run_in_the_order_of_the_list, on_all_drivers, driver) {
  const auto subject =
      make_gather_in_order({.cpu = usable().first(), .usable = usable(), .driver = driver});
  const auto sample = subject->sample(20);
  BOOST_TEST(sample.values[1] <= 1.001);  // parts of the whole
  BOOST_TEST(sample.values[1] > 0);
  all_hold(*subject);
}

BOOST_DATA_TEST_CASE(a_hundred_tasks_wait_in_one_thread, on_all_drivers, driver) {
  const auto subject =
      make_waits_in_one_thread({.cpu = usable().first(), .usable = usable(), .driver = driver});
  const auto sample = subject->sample(5);
  BOOST_TEST(sample.values[1] > 0);
  if (!thread_sanitizer)  // which has a thread of its own
    all_hold(*subject);
}

BOOST_DATA_TEST_CASE(a_sleeper_wakes_in_every_episode_whatever_is_beside_it,
                     bdata::make({0, 1, 2, 3, 4}) * on_all_drivers, beside, driver) {
  const SleeperOptions options{
      .cpu = usable().first(), .usable = usable(), .driver = driver, .length_ns = 1'000'000};
  const auto what = static_cast<Beside>(beside);
  const auto subject = make_sleeping_task(what, options);
  const auto sample = subject->sample(3);
  BOOST_TEST(sample.operations == 3u);
  BOOST_TEST(sample.values[0] > 0);
  // It cannot wake before what keeps its loop has ended.
  if (what == Beside::hog || what == Beside::blocking_call)
    BOOST_TEST(sample.values[0] >= 0.8e6);
  all_hold(*subject);
}

BOOST_AUTO_TEST_CASE(a_thread_sleeps_beside_a_hog_or_nothing_and_beside_nothing_else) {
  const SleeperOptions options{.cpu = usable().first(), .usable = usable(), .length_ns = 1'000'000};
  for (const Beside beside : {Beside::nothing, Beside::hog})
    BOOST_TEST(make_sleeping_thread(beside, options)->sample(2).values[0] > 0);
  BOOST_CHECK_THROW(make_sleeping_thread(Beside::call_in_thread, options), std::logic_error);
}
