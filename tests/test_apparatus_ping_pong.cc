#include "affinity/pin.hh"
#include "lab/apparatus/ping_pong.hh"
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
constexpr std::uint64_t round_trips = 5000;

PingPongOptions options_for(TaskKind kind, std::optional<unsigned> first,
                            std::optional<unsigned> second) {
  PingPongOptions options;
  options.tasks.kind = kind;
  options.first = first;
  options.second = second;
  options.usable = usable;
  options.round_trip_metric = 2;
  options.one_way_metric = 3;
  return options;
}

// Every mechanism that can be had here, with each kind of task that it takes.
template <typename Test>
void with_each(Test test) {
  for (const auto mechanism : handover_mechanisms())
    for (const auto kind : {TaskKind::threads, TaskKind::processes}) {
      if (kind == TaskKind::processes && threads_only(mechanism))
        continue;
      BOOST_TEST_CONTEXT(mechanism << " between " << to_text(kind)) {
        try {
          test(mechanism, kind);
        } catch (const Unsupported& reason) {
          BOOST_TEST_MESSAGE(mechanism << " is skipped: " << reason.what());
        }
      }
    }
}

// Another program on the CPU adds switches of its own: the calmest of some samples is looked at.
Sample calmest(harness::Subject& subject) {
  Sample best = subject.sample(round_trips);
  for (int i = 0; i < 4; ++i) {
    Sample next = subject.sample(round_trips);
    if (next.proof.counted_switches < best.proof.counted_switches)
      best = next;
  }
  return best;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_round_trip_on_one_cpu_is_two_switches) {
  const unsigned cpu = usable.first();
  with_each([&](std::string_view mechanism, TaskKind kind) {
    if (mechanism == "yield")
      return;
    const auto subject = make_ping_pong(mechanism, options_for(kind, cpu, cpu));
    const Sample sample = calmest(*subject);
    const auto expected = static_cast<double>(sample.proof.expected_switches);
    BOOST_TEST(expected >= 2.0 * round_trips);
    BOOST_TEST(expected <= 2.02 * round_trips);
    const double ratio = static_cast<double>(sample.proof.counted_switches) / expected;
    BOOST_TEST(ratio > 0.99);
    BOOST_TEST(ratio < 1.01);
    BOOST_TEST(sample.proof.on_cpu);
  });
}

// The control of the case above: the same calls without a partner.
BOOST_AUTO_TEST_CASE(a_task_that_hands_over_to_itself_returns_without_a_switch) {
  const unsigned cpu = usable.first();
  with_each([&](std::string_view mechanism, TaskKind kind) {
    const auto subject = make_self_handover(mechanism, options_for(kind, cpu, cpu), 5);
    const Sample sample = calmest(*subject);
    BOOST_TEST(sample.operations == round_trips);
    BOOST_TEST(sample.values[5] > 0);
    BOOST_TEST(std::isnan(sample.values[0]));
    // A lone yield counts as a voluntary switch on some kernels.
    if (mechanism != "yield")
      BOOST_TEST(sample.proof.counted_switches < 0.01 * round_trips);
  });
}

BOOST_AUTO_TEST_CASE(a_sample_fills_in_its_metrics_and_its_proof) {
  const unsigned cpu = usable.first();
  with_each([&](std::string_view mechanism, TaskKind kind) {
    const auto subject = make_ping_pong(mechanism, options_for(kind, cpu, cpu));
    const Sample sample = subject->sample(round_trips);
    BOOST_TEST(sample.operations == round_trips);
    BOOST_TEST(sample.elapsed_ns > 0);
    BOOST_TEST(sample.proof.wall_ns >= sample.elapsed_ns);
    BOOST_TEST(sample.values[3] > 0);
    if (mechanism == "yield") {
      BOOST_TEST(std::isnan(sample.values[2]));
    } else {
      BOOST_TEST(sample.values[2] == 2 * sample.values[3]);
      BOOST_TEST(sample.values[2] * round_trips == sample.elapsed_ns,
                 boost::test_tools::tolerance(1e-9));
    }
    for (const auto index : {0u, 1u, 4u, 5u, 6u, 7u})
      BOOST_TEST(std::isnan(sample.values[index]));
  });
}

BOOST_AUTO_TEST_CASE(tasks_on_two_cpus_stay_on_them) {
  if (usable.count() < 2) {
    BOOST_TEST_MESSAGE("one usable CPU");
    return;
  }
  const auto cpus = usable.cpus();
  with_each([&](std::string_view mechanism, TaskKind kind) {
    if (one_cpu_only(mechanism))
      return;
    const auto subject = make_ping_pong(mechanism, options_for(kind, cpus[1], cpus[0]));
    const Sample sample = subject->sample(500);
    BOOST_TEST(sample.proof.on_cpu);
    const std::vector<unsigned> seen = {cpus[0], cpus[1]};
    BOOST_TEST(sample.proof.cpus == seen, boost::test_tools::per_element());
  });
}

BOOST_AUTO_TEST_CASE(unpinned_tasks_have_all_cpus_and_no_place_to_leave) {
  with_each([&](std::string_view mechanism, TaskKind kind) {
    if (one_cpu_only(mechanism))
      return;
    const auto subject = make_ping_pong(mechanism, options_for(kind, std::nullopt, std::nullopt));
    BOOST_TEST(subject->sample(500).proof.on_cpu);
    BOOST_TEST((affinity::thread_affinity() == usable));
  });
}

BOOST_AUTO_TEST_CASE(dirty_vector_registers_do_not_disturb_the_hand_over) {
  const unsigned cpu = usable.first();
  with_each([&](std::string_view mechanism, TaskKind kind) {
    auto options = options_for(kind, cpu, cpu);
    options.dirty_vector = true;
    const auto subject = make_ping_pong(mechanism, options);
    BOOST_TEST(subject->sample(500).elapsed_ns > 0);
  });
}

BOOST_AUTO_TEST_CASE(many_ping_pongs_live_together_and_leave_nothing_behind) {
  const unsigned cpu = usable.first();
  const auto before = belongings();
  {
    std::vector<std::unique_ptr<harness::Subject>> all;
    with_each([&](std::string_view mechanism, TaskKind kind) {
      all.push_back(make_ping_pong(mechanism, options_for(kind, cpu, cpu)));
    });
    for (int round = 0; round < 2; ++round)
      for (const auto& subject : all)
        BOOST_TEST(subject->sample(100).elapsed_ns > 0);
    while (!all.empty())
      all.pop_back();
  }
  BOOST_TEST(belongings() == before);
}

BOOST_AUTO_TEST_CASE(a_mechanism_that_does_not_exist_is_refused) {
  const auto options = options_for(TaskKind::threads, std::nullopt, std::nullopt);
  BOOST_CHECK_THROW(make_ping_pong("pigeon", options), std::logic_error);
  BOOST_CHECK_THROW(make_self_handover("pigeon", options, 0), std::logic_error);
}
