#include "affinity/pin.hh"
#include "lab/base/clock.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <sys/time.h>

#include <csignal>

using namespace schedlab;
namespace bdata = boost::unit_test::data;

namespace {

const clock::Calibration& calibrated() {
  static const clock::Calibration calibration = clock::select();
  return calibration;
}

// In force for a scope: the CPU's counter, where it can be had, or the kernel's clock.
struct InForce {
  explicit InForce(const clock::Calibration& calibration) { clock::set(calibration); }
  explicit InForce(bool counter)
      : InForce(counter ? calibrated() : clock::Calibration{.reason = "for the test"}) {}
  ~InForce() { clock::set(calibrated()); }
};

// A span of our clock inside one of CLOCK_MONOTONIC_RAW and around another, in nanoseconds.
struct Bracketed {
  double inner;
  double span;
  double outer;

  // 0.1 % is left to the calibration.
  bool fits() const { return span > inner * 0.999 && span < outer * 1.001; }
};

Bracketed bracketed(std::uint64_t least_ns) {
  const auto outer_begin = clock::detail::raw_ns();
  const auto begin = clock::begin();
  const auto inner_begin = clock::detail::raw_ns();
  auto inner_end = inner_begin;
  while (inner_end < inner_begin + least_ns)
    inner_end = clock::detail::raw_ns();
  const auto end = clock::end();
  const auto outer_end = clock::detail::raw_ns();
  return {static_cast<double>(inner_end - inner_begin), clock::ns(begin, end),
          static_cast<double>(outer_end - outer_begin)};
}

constexpr std::uint64_t span_ns = 20'000'000;

}  // namespace

BOOST_AUTO_TEST_CASE(the_source_is_chosen_with_a_reason_and_put_in_force) {
  const auto& chosen = calibrated();
  clock::set(chosen);
  BOOST_TEST(!chosen.reason.empty());
  BOOST_TEST(chosen.ns_per_tick > 0);
  if (chosen.source == clock::Source::monotonic_raw)
    BOOST_TEST(chosen.ns_per_tick == 1.0);
  BOOST_TEST((clock::current().source == chosen.source));
  BOOST_TEST(clock::current().ns_per_tick == chosen.ns_per_tick);
  BOOST_TEST(clock::current().reason == chosen.reason);
}

BOOST_AUTO_TEST_CASE(ticks_become_nanoseconds_by_the_calibration_in_force_also_backward) {
  const InForce quarter(clock::Calibration{clock::Source::tsc, 0.25, "for the test"});
  BOOST_TEST(clock::ns(1000, 1400) == 100.0);
  BOOST_TEST(clock::ns(1400, 1000) == -100.0);
  BOOST_TEST(clock::ns(~std::uint64_t{0}, 3) == 1.0);
}

BOOST_DATA_TEST_CASE(the_clock_never_goes_backward_on_one_cpu, bdata::make({true, false}),
                     counter) {
  const InForce source(counter);
  const affinity::Pin pin(affinity::current_cpu());
  std::uint64_t before = clock::begin();
  int backward = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto now = i % 2 == 0 ? clock::end() : clock::begin();
    backward += now < before;
    before = now;
  }
  BOOST_TEST(backward == 0);
}

BOOST_DATA_TEST_CASE(a_span_lies_between_the_kernels_spans_inside_and_around_it,
                     bdata::make({true, false}), counter) {
  const InForce source(counter);
  for (int i = 0; i < 10; ++i) {
    const Bracketed seen = bracketed(span_ns);
    BOOST_TEST(seen.fits(), seen.inner << " " << seen.span << " " << seen.outer);
  }
}

// The control: of a clock that runs 1 % fast or slow, the bracket must tell.
BOOST_DATA_TEST_CASE(a_clock_that_is_one_per_cent_wrong_does_not_fit, bdata::make({0.99, 1.01}),
                     error) {
  clock::Calibration wrong = calibrated();
  if (wrong.source == clock::Source::monotonic_raw)
    return;  // its ticks are nanoseconds by definition
  wrong.ns_per_tick *= error;
  const InForce source(wrong);
  int fit = 0;
  for (int i = 0; i < 10; ++i)
    fit += bracketed(span_ns).fits();
  BOOST_TEST(fit < 10);  // a bracket that was preempted half-way is wide enough for anything
}

BOOST_AUTO_TEST_CASE(two_calibrations_agree_to_a_thousandth) {
  const double first = calibrated().ns_per_tick;
  const double second = clock::select(20'000'000).ns_per_tick;
  clock::set(calibrated());
  BOOST_TEST(second == first, boost::test_tools::tolerance(1e-3));
}

BOOST_DATA_TEST_CASE(the_end_of_a_span_names_its_cpu_or_says_that_it_cannot,
                     bdata::make({true, false}), counter) {
  const InForce source(counter);
  const bool names = clock::current().source == clock::Source::tsc;
  for (const unsigned cpu : affinity::thread_affinity().cpus()) {
    const affinity::Pin pin(cpu);
    unsigned seen = 0;
    clock::end(seen);
    BOOST_TEST(seen == (names ? cpu : clock::unknown_cpu));
  }
}

BOOST_AUTO_TEST_CASE(nanoseconds_become_what_the_kernel_takes_and_come_back) {
  static_assert(clock::to_timespec(2'000'000'003).tv_sec == 2);
  static_assert(clock::to_timespec(2'000'000'003).tv_nsec == 3);
  for (const std::int64_t ns : {0LL, 1LL, 999'999'999LL, 1'000'000'000LL, 86'400'000'000'001LL}) {
    BOOST_TEST(clock::to_timespec(ns).tv_nsec < 1'000'000'000);
    BOOST_TEST(clock::to_ns(clock::to_timespec(ns)) == ns);
  }
  static_assert(clock::to_ns(timeval{2, 3}) == 2'000'003'000);
}

namespace {

volatile std::sig_atomic_t alarms = 0;

// A signal every millisecond, for a scope.
class Alarms {
public:
  Alarms() {
    alarms = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { alarms = alarms + 1; };
    ::sigaction(SIGALRM, &action, nullptr);
    every(1000);
  }
  Alarms(const Alarms&) = delete;
  Alarms& operator=(const Alarms&) = delete;
  ~Alarms() {
    every(0);
    ::signal(SIGALRM, SIG_DFL);
  }

private:
  static void every(long us) {
    const itimerval timer{{0, us}, {0, us}};
    ::setitimer(ITIMER_REAL, &timer, nullptr);
  }
};

}  // namespace

BOOST_AUTO_TEST_CASE(no_signal_cuts_a_sleep_short) {
  constexpr std::int64_t length_ns = 30'000'000;
  const Alarms coming;
  const std::int64_t begin = clock::now_ns();
  clock::sleep_for(length_ns);
  BOOST_TEST(clock::now_ns() - begin >= length_ns);
  BOOST_TEST(alarms > 0);
  const std::int64_t due = clock::now_ns() + length_ns;
  clock::sleep_until(due);
  BOOST_TEST(clock::now_ns() >= due);
}

BOOST_AUTO_TEST_CASE(the_time_of_a_thread_stands_while_it_sleeps) {
  const std::int64_t wall = clock::now_ns();
  const std::int64_t before = clock::thread_cpu_ns();
  clock::sleep_for(100'000'000);
  BOOST_TEST(clock::now_ns() - wall >= 100'000'000);
  BOOST_TEST(clock::thread_cpu_ns() - before < 50'000'000);
}
