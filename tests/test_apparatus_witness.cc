#include "affinity/pin.hh"
#include "lab/apparatus/witness.hh"
#include "lab/base/clock.hh"
#include "lab/base/file.hh"
#include "procs/thread.hh"

#include <boost/test/unit_test.hpp>

#include <array>
#include <atomic>
#include <cmath>

using namespace schedlab;
using namespace schedlab::apparatus;

namespace {

void sleep_ms(int ms) {
  clock::sleep_for(ms * 1'000'000);
}

void burn_cpu_ms(int ms) {
  const auto until = clock::thread_cpu_ns() + std::int64_t{ms} * 1'000'000;
  while (clock::thread_cpu_ns() < until) {
  }
}

template <typename Work>
TaskRecord witnessed(Work work) {
  Witness witness;
  witness.begin();
  work();
  return witness.end();
}

const auto cpus = affinity::thread_affinity().cpus();

}  // namespace

BOOST_AUTO_TEST_CASE(a_task_that_sleeps_switches_once_each_time) {
  const TaskRecord record = witnessed([] {
    for (int i = 0; i < 20; ++i)
      sleep_ms(1);
  });
  BOOST_TEST(record.voluntary == 20u);
  BOOST_TEST(record.cpu_ns < 20'000'000);
}

BOOST_AUTO_TEST_CASE(a_task_that_computes_switches_only_when_it_is_made_to) {
  const TaskRecord record = witnessed([] { burn_cpu_ms(30); });
  BOOST_TEST(record.voluntary == 0u);
  BOOST_TEST(record.cpu_ns >= 30'000'000);
  BOOST_TEST(record.switches() == record.involuntary);
}

BOOST_AUTO_TEST_CASE(a_task_that_shares_its_cpu_is_seen_to_be_preempted_and_to_wait) {
  if (!read_text("/proc/thread-self/schedstat")) {
    BOOST_TEST_MESSAGE("this kernel hides /proc/thread-self/schedstat");
    return;
  }
  const affinity::Pin pin(cpus[0]);
  std::atomic<bool> stop{false};
  procs::Thread hog({.name = "hog", .cpus = affinity::CpuSet{cpus[0]}, .sched = {}}, [&] {
    while (!stop.load(std::memory_order_relaxed)) {
    }
  });
  const TaskRecord record = witnessed([] { burn_cpu_ms(60); });
  stop = true;
  hog.join();
  BOOST_TEST(record.involuntary > 0u);
  BOOST_TEST(record.waited_ns > 1'000'000);
}

BOOST_AUTO_TEST_CASE(the_cpu_is_read_before_and_after) {
  for (const unsigned cpu : cpus) {
    const affinity::Pin pin(cpu);
    const TaskRecord stayed = witnessed([] {});
    BOOST_TEST(stayed.cpu_before == cpu);
    BOOST_TEST(stayed.cpu_after == cpu);
    if (cpu == cpus[0])
      continue;
    const TaskRecord moved = witnessed([] { affinity::bind_thread(0, {cpus[0]}); });
    BOOST_TEST(moved.cpu_before == cpu);
    BOOST_TEST(moved.cpu_after == cpus[0]);
  }
}

BOOST_AUTO_TEST_CASE(each_window_counts_from_its_own_beginning) {
  Witness witness;
  for (const int sleeps : {3, 0, 5}) {
    witness.begin();
    for (int i = 0; i < sleeps; ++i)
      sleep_ms(1);
    BOOST_TEST(witness.end().voluntary == static_cast<unsigned>(sleeps));
  }
}

BOOST_AUTO_TEST_CASE(the_proof_adds_up_what_all_tasks_saw) {
  const std::array tasks = {
      TaskRecord{10, 1, 400'000, 30'000, 0, 0},
      TaskRecord{20, 2, 500'000, -1, 3, 3},  // its waiting is hidden
  };
  const std::array<std::optional<unsigned>, 2> places = {0, 3};
  const auto proof = prove(tasks, places, 1e6, true);
  BOOST_TEST(proof.on_cpu);
  BOOST_TEST(proof.counted_switches == 33u);
  BOOST_TEST(proof.expected_switches == 0u);
  BOOST_TEST(proof.wall_ns == 1e6);
  BOOST_TEST(proof.waited_ns == 30e3);
  BOOST_TEST(proof.foreign_ns == 100e3);
  const std::vector<unsigned> seen = {0, 3};
  BOOST_TEST(proof.cpus == seen, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(that_tasks_wait_for_each_other_where_they_share_cpus_proves_nothing) {
  const std::array tasks = {TaskRecord{1, 2, 300'000, 2'500'000, 0, 0},
                            TaskRecord{3, 4, 700'000, 1'500'000, 0, 0}};
  const std::array<std::optional<unsigned>, 2> places = {0, 0};
  BOOST_TEST(harness::faults(prove(tasks, places, 1e6, false)) == harness::fault_busy);
  const auto proof = prove(tasks, places, 1e6, false, true);
  BOOST_TEST(proof.waited_ns == 0);
  BOOST_TEST(proof.counted_switches == 10u);
  BOOST_TEST(harness::faults(proof) == 0u);
}

BOOST_AUTO_TEST_CASE(tasks_are_apart_if_each_is_pinned_where_no_other_is) {
  using Places = std::vector<std::optional<unsigned>>;
  BOOST_TEST(all_apart(Places{0, 1, 5}));
  BOOST_TEST(!all_apart(Places{0, 1, 0}));
  BOOST_TEST(!all_apart(Places{0, std::nullopt}));
}

BOOST_AUTO_TEST_CASE(a_sample_of_several_windows_keeps_what_any_of_them_saw) {
  const std::optional<unsigned> place = 3;
  harness::Proof all;
  add(prove({1, 0, 800'000, 5'000, 3, 4}, place, 1e6, true), all);  // moved in the first
  add(prove({2, 1, 900'000, 7'000, 3, 3}, place, 1e6, true), all);
  BOOST_TEST(!all.on_cpu);
  BOOST_TEST(all.counted_switches == 4u);
  BOOST_TEST(all.wall_ns == 2e6);
  BOOST_TEST(all.waited_ns == 12e3);
  BOOST_TEST(all.foreign_ns == 300e3);
  const std::vector<unsigned> seen = {3, 4};
  BOOST_TEST(all.cpus == seen, boost::test_tools::per_element());
  harness::Proof idle;
  add(prove({1, 0, 800'000, 5'000, 3, 3}, place, 1e6, false), idle);
  add(prove({1, 0, 800'000, 5'000, 3, 3}, place, 1e6, false), idle);
  BOOST_TEST(std::isnan(idle.foreign_ns));
}

BOOST_AUTO_TEST_CASE(one_task_is_proven_as_a_team_of_one) {
  const TaskRecord task{10, 1, 400'000, 30'000, 3, 3};
  const auto proof = prove(task, 3, 1e6, true);
  BOOST_TEST(proof.on_cpu);
  BOOST_TEST(proof.counted_switches == 11u);
  BOOST_TEST(proof.waited_ns == 30e3);
  BOOST_TEST(proof.foreign_ns == 600e3);
  BOOST_TEST(!prove(task, 2, 1e6, true).on_cpu);
  BOOST_TEST(prove(task, std::nullopt, 1e6, true).on_cpu);
}

BOOST_AUTO_TEST_CASE(what_others_used_is_not_known_of_a_cpu_that_may_idle) {
  const std::array tasks = {TaskRecord{}};
  const std::array<std::optional<unsigned>, 1> places = {0};
  BOOST_TEST(std::isnan(prove(tasks, places, 1e6, false).foreign_ns));
}

BOOST_AUTO_TEST_CASE(a_task_that_was_off_its_cpu_before_or_after_fails_the_proof) {
  const auto on_cpu = [](unsigned before, unsigned after, std::optional<unsigned> place) {
    const std::array tasks = {TaskRecord{}, TaskRecord{0, 0, 0, 0, before, after}};
    const std::array<std::optional<unsigned>, 2> places = {0, place};
    return prove(tasks, places, 1e6, true).on_cpu;
  };
  BOOST_TEST(on_cpu(1, 1, 1));
  BOOST_TEST(!on_cpu(0, 1, 1));
  BOOST_TEST(!on_cpu(1, 0, 1));
  BOOST_TEST(on_cpu(1, 0, std::nullopt));
}
