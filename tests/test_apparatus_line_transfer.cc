#include "affinity/pin.hh"
#include "lab/apparatus/line_transfer.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "tests/left_behind.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

using namespace schedlab;
using namespace schedlab::apparatus;
using harness::Sample;
namespace ut = boost::unit_test;
namespace bdata = boost::unit_test::data;

namespace {

const affinity::CpuSet usable = affinity::thread_affinity();

// Not before main: the clock keeps what it chose in an object of its own.
bool have_counter() {
  static const bool found = clock::select(1'000'000).source != clock::Source::monotonic_raw;
  return found;
}

constexpr std::uint64_t round_trips = 20'000;
constexpr TransferKernel kernels[] = {TransferKernel::cas, TransferKernel::two_lines,
                                      TransferKernel::message};

TransferOptions options_for(TransferKernel kernel, TaskKind kind = TaskKind::threads) {
  const auto cpus = usable.cpus();
  TransferOptions options;
  options.kernel = kernel;
  options.tasks.kind = kind;
  options.first = cpus.front();
  options.second = cpus.back();
  options.usable = usable;
  options.one_way_metric = 2;
  options.asymmetry_metric = 4;
  options.switches_metric = 5;
  return options;
}

// Every kernel that can be had here, with each kind of task.
template <typename Test>
void with_each(Test test) {
  for (const auto kernel : kernels)
    for (const auto kind : {TaskKind::threads, TaskKind::processes}) {
      if (kernel == TransferKernel::message && !have_counter())
        continue;
      BOOST_TEST_CONTEXT(to_text(kernel) << " between " << to_text(kind))
      test(options_for(kernel, kind));
    }
}

void all_ok(harness::Subject& subject, std::size_t least) {
  const auto checks = subject.checks();
  BOOST_TEST(checks.size() >= least);
  for (const auto& check : checks)
    BOOST_TEST(check.ok, check.name);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(transfers, *ut::precondition(two_cpus))

BOOST_AUTO_TEST_CASE(the_lines_count_every_hand_over) {
  with_each([](const TransferOptions& options) {
    const auto subject = make_line_transfer(options);
    std::uint64_t asked = 0;
    // One place, some places, all places.
    for (const std::uint64_t operations : {1ul, 511ul, 513ul, 2000ul, round_trips}) {
      subject->sample(operations);
      asked += 2 * operations;
    }
    const auto checks = subject->checks();
    const double counted = *checks.at(0).seen.number();
    BOOST_TEST(checks[0].ok);
    BOOST_TEST(counted == *checks[0].expected.number());
    BOOST_TEST(counted >= static_cast<double>(asked));
    BOOST_TEST(counted <= static_cast<double>(asked + 5 * 64));  // and the settling
  });
}

BOOST_AUTO_TEST_CASE(a_sample_fills_in_its_metrics_and_its_proof) {
  with_each([](const TransferOptions& options) {
    const Sample sample = make_line_transfer(options)->sample(round_trips);
    BOOST_TEST(sample.operations == round_trips);
    BOOST_TEST(sample.elapsed_ns > 0);
    BOOST_TEST(sample.values[2] > 0);
    BOOST_TEST(std::isnan(sample.values[4]) == (options.kernel != TransferKernel::message));
    BOOST_TEST(sample.values[5] == static_cast<double>(sample.proof.counted_switches));
    for (const auto index : {0u, 1u, 3u, 6u, 7u})
      BOOST_TEST(std::isnan(sample.values[index]));
    BOOST_TEST(sample.proof.on_cpu);
    const std::vector<unsigned> both = {options.first, options.second};
    BOOST_TEST(sample.proof.cpus == both, boost::test_tools::per_element());
    BOOST_TEST(sample.proof.wall_ns >= sample.elapsed_ns);
    BOOST_TEST(!std::isnan(sample.proof.foreign_ns));
  });
}

BOOST_AUTO_TEST_CASE(a_payload_is_read_as_it_was_written) {
  with_each([](TransferOptions options) {
    if (options.kernel == TransferKernel::cas)
      return;
    for (const std::uint64_t lines : {1u, 7u, 300u}) {
      options.payload = lines;
      const auto subject = make_line_transfer(options);
      subject->sample(round_trips / lines);
      all_ok(*subject, 2);
      BOOST_TEST(subject->checks()[1].name == "payload lines read otherwise than written");
    }
  });
}

BOOST_AUTO_TEST_CASE(no_message_comes_before_it_was_sent) {
  if (!have_counter()) {
    BOOST_TEST_MESSAGE("no counter that all CPUs share");
    return;
  }
  const auto subject = make_line_transfer(options_for(TransferKernel::message));
  subject->sample(round_trips);
  all_ok(*subject, 2);
  BOOST_TEST(subject->checks()[1].name == "messages that came before they were sent");
}

BOOST_AUTO_TEST_CASE(the_lines_lie_where_they_were_bound_to) {
  const auto machine = affinity::Topology::machine();
  with_each([&](TransferOptions options) {
    const auto* cpu = machine.find(options.first);
    if (cpu->numa_os < 0)
      return;
    options.node = static_cast<unsigned>(cpu->numa_os);
    for (const bool bind : {false, true}) {
      options.bind = bind;
      try {
        const auto subject = make_line_transfer(options);
        subject->sample(100);
        all_ok(*subject, 2);
      } catch (const Unsupported& reason) {
        BOOST_TEST_MESSAGE(reason.what());
      }
    }
  });
}

// A node that the pages are not on: the check must see it.
BOOST_AUTO_TEST_CASE(lines_on_another_node_than_they_should_be_fail_their_check) {
  auto options = options_for(TransferKernel::cas);
  options.node = 4711;
  const auto subject = make_line_transfer(options);
  subject->sample(100);
  const auto checks = subject->checks();
  if (checks.size() < 2) {
    BOOST_TEST_MESSAGE("the kernel does not tell where pages are");
    return;
  }
  BOOST_TEST(!checks[1].ok);
}

BOOST_AUTO_TEST_CASE(a_pause_after_every_look_changes_no_count) {
  with_each([](TransferOptions options) {
    options.pause = true;
    const auto subject = make_line_transfer(options);
    subject->sample(round_trips);
    all_ok(*subject, 1);
  });
}

// The control of all counts above: a partner that falls silent ends the sample instead of hanging
// it, and the subject leaves nobody behind.
BOOST_AUTO_TEST_CASE(a_lost_hand_over_ends_the_sample_with_an_error) {
  const auto before = testing::belongings();
  with_each([](TransferOptions options) {
    options.patience_ns = 20'000'000;
    for (const std::uint64_t silent_after : {0u, 1u, 700u}) {
      options.silent_after = silent_after;
      const auto subject = make_line_transfer(options);
      BOOST_CHECK_EXCEPTION(subject->sample(round_trips), std::runtime_error,
                            says("did not get through"));
    }
  });
  BOOST_TEST(testing::belongings() == before);
}

BOOST_AUTO_TEST_CASE(a_subject_goes_on_after_a_sample_that_was_lost) {
  auto options = options_for(TransferKernel::two_lines);
  options.patience_ns = 300'000'000;
  options.silent_after = 100;
  const auto subject = make_line_transfer(options);
  BOOST_CHECK_THROW(subject->sample(101), std::runtime_error);
  BOOST_TEST(subject->sample(100).values[2] > 0);
  all_ok(*subject, 1);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(what_cannot_be_measured_is_refused) {
  auto options = options_for(TransferKernel::cas);
  options.payload = 1;
  options.second = options.first + 1;
  BOOST_CHECK_EXCEPTION(make_line_transfer(options), std::logic_error, says("no payload"));
  options = options_for(TransferKernel::two_lines);
  options.second = options.first;
  BOOST_CHECK_EXCEPTION(make_line_transfer(options), std::logic_error, says("one CPU"));
}

BOOST_AUTO_TEST_CASE(without_a_common_counter_messages_are_unsupported) {
  have_counter();
  const auto chosen = clock::current();
  clock::set({.source = clock::Source::monotonic_raw, .ns_per_tick = 1, .reason = "it jumps"});
  auto options = options_for(TransferKernel::message);
  options.second = options.first + 1;
  BOOST_CHECK_EXCEPTION(make_line_transfer(options), Unsupported, says("it jumps"));
  clock::set(chosen);
}

BOOST_DATA_TEST_CASE(a_kernel_has_one_name, bdata::make({0, 1, 2}), index) {
  BOOST_TEST((transfer_kernel(to_text(kernels[index])) == kernels[index]));
  BOOST_CHECK_THROW(transfer_kernel("two lines"), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(a_trimmed_mean_leaves_out_a_twentieth_on_either_side) {
  std::vector<std::int32_t> values(100);
  std::iota(values.begin(), values.end(), 1);  // 1 .. 100
  values[0] = -1'000'000;
  values[99] = 1'000'000'000;
  std::ranges::reverse(values);
  BOOST_TEST(trimmed_mean(values) == 50.5);
  std::vector<std::int32_t> few = {7, 1, 4};
  BOOST_TEST(trimmed_mean(few) == 4.0);
  std::vector<std::int32_t> one = {-3};
  BOOST_TEST(trimmed_mean(one) == -3.0);
}
