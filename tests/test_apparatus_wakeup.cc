#include "affinity/pin.hh"
#include "iouring/probe.hh"
#include "lab/apparatus/wakeup.hh"
#include "lab/base/error.hh"
#include "tests/left_behind.hh"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <string>

using namespace schedlab;
using namespace schedlab::apparatus;
using harness::Sample;
using testing::belongings;

namespace {

const affinity::CpuSet usable = affinity::thread_affinity();
constexpr std::uint64_t wakeups = 400;

WakeupOptions options_on(std::optional<unsigned> waker, std::optional<unsigned> sleeper) {
  WakeupOptions options;
  options.waker = waker;
  options.sleeper = sleeper;
  options.usable = usable;
  return options;
}

// Every mechanism that can be had here.
template <typename Test>
void with_each(Test test) {
  for (const auto mechanism : wakeup_mechanisms())
    BOOST_TEST_CONTEXT(mechanism) {
      try {
        test(mechanism);
      } catch (const Unsupported& reason) {
        BOOST_TEST_MESSAGE(mechanism << " is skipped: " << reason.what());
      }
    }
}

// Another program on the CPU adds switches of its own: the calmest of some samples is looked at.
Sample calmest(harness::Subject& subject) {
  Sample best = subject.sample(wakeups);
  for (int i = 0; i < 4; ++i) {
    Sample next = subject.sample(wakeups);
    if (next.proof.counted_switches < best.proof.counted_switches)
      best = next;
  }
  return best;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_wake_up_and_its_answer_on_one_cpu_are_two_switches) {
  const unsigned cpu = usable.first();
  with_each([&](std::string_view mechanism) {
    const auto subject = make_wakeup(mechanism, options_on(cpu, cpu));
    const Sample sample = calmest(*subject);
    BOOST_TEST(sample.proof.on_cpu);
    BOOST_TEST(sample.proof.expected_switches >= 2 * wakeups);
    const double ratio = static_cast<double>(sample.proof.counted_switches) /
                         static_cast<double>(sample.proof.expected_switches);
    BOOST_TEST(ratio > 0.98);
    BOOST_TEST(ratio < 1.05);
  });
}

BOOST_AUTO_TEST_CASE(a_sample_says_each_of_its_times_and_how_many_calls_were_made) {
  const unsigned cpu = usable.first();
  with_each([&](std::string_view mechanism) {
    const auto options = options_on(cpu, cpu);
    const auto subject = make_wakeup(mechanism, options);
    const Sample sample = subject->sample(wakeups);
    BOOST_TEST(sample.operations == wakeups);
    BOOST_TEST(sample.elapsed_ns > 0);
    BOOST_TEST(sample.values[options.one_way] > 0);
    BOOST_TEST(sample.values[options.p99] > 0);
    BOOST_TEST(sample.values[options.round_trip] > 0);
    BOOST_TEST(sample.values[options.cpu] > 0);
    // On one CPU a post may find a loop that was preempted before it fell asleep, and needs no
    // call.
    BOOST_TEST(std::isnan(sample.values[options.calls]) == (mechanism == "post-epoll"));
    BOOST_TEST(!(sample.values[options.calls] < (mechanism == "post-io_uring" ? 1 : 2)));
    BOOST_TEST(!(sample.values[options.calls] > 4));
    for (const auto& check : subject->checks())
      BOOST_TEST(check.ok, check.name);
  });
}

BOOST_AUTO_TEST_CASE(a_percentile_needs_as_many_wake_ups_as_bound_it) {
  const unsigned cpu = usable.first();
  const auto options = options_on(cpu, cpu);
  const auto subject = make_wakeup("futex", options);
  BOOST_TEST(std::isnan(subject->sample(298).values[options.p99]));
  BOOST_TEST(!std::isnan(subject->sample(299).values[options.p99]));
}

BOOST_AUTO_TEST_CASE(a_wake_up_of_another_cpu_finds_the_sleeper_asleep) {
  if (usable.count() < 2) {
    BOOST_TEST_MESSAGE("one usable CPU");
    return;
  }
  const auto cpus = usable.cpus();
  with_each([&](std::string_view mechanism) {
    auto options = options_on(cpus[0], cpus[1]);
    options.gap_ns = 200'000;
    const auto subject = make_wakeup(mechanism, options);
    const Sample sample = subject->sample(50);
    BOOST_TEST(sample.proof.on_cpu);
    const std::vector<unsigned> both = {cpus[0], cpus[1]};
    BOOST_TEST(sample.proof.cpus == both, boost::test_tools::per_element());
    BOOST_TEST(sample.proof.counted_switches >= 2 * 50);
    BOOST_TEST(sample.elapsed_ns > 50.0 * 200'000);
    BOOST_TEST(subject->checks().at(0).ok);
    BOOST_TEST(subject->checks().size() == 2u);
  });
}

BOOST_AUTO_TEST_CASE(threads_that_nobody_pins_are_woken_as_well) {
  with_each([&](std::string_view mechanism) {
    const auto subject = make_wakeup(mechanism, options_on(std::nullopt, std::nullopt));
    BOOST_TEST(subject->sample(100).proof.on_cpu);
  });
}

BOOST_AUTO_TEST_CASE(all_mechanisms_live_together_and_leave_nothing_behind) {
  const unsigned cpu = usable.first();
  with_each([&](std::string_view mechanism) {  // what is made once for all stays
    make_wakeup(mechanism, options_on(cpu, cpu))->sample(10);
  });
  const auto before = belongings();
  {
    std::vector<std::unique_ptr<harness::Subject>> all;
    with_each([&](std::string_view mechanism) {
      all.push_back(make_wakeup(mechanism, options_on(cpu, cpu)));
    });
    for (int round = 0; round < 3; ++round)
      for (const auto& subject : all)
        BOOST_TEST(subject->sample(50).elapsed_ns > 0);
    while (!all.empty())
      all.pop_back();
  }
  BOOST_TEST(belongings() == before);
}

BOOST_AUTO_TEST_CASE(a_mechanism_names_the_driver_that_it_takes) {
  BOOST_TEST(driver_of("futex") == "");
  BOOST_TEST(driver_of("msg_ring") == "io_uring");
  BOOST_TEST(driver_of("post-io_uring") == "io_uring");
  BOOST_TEST(driver_of("post-epoll") == "epoll");
  BOOST_CHECK_THROW(make_wakeup("pigeon", options_on({}, {})), std::logic_error);
}
