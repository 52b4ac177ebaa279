#include "lab/apparatus/rung.hh"

#include "affinity/topology.hh"
#include "iouring/frame_pool.hh"
#include "lab/apparatus/stack_switch.hh"
#include "lab/base/error.hh"
#include "tests/iouring_drivers.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <stdexcept>

using namespace schedlab;
using namespace schedlab::apparatus;
using namespace schedlab::testing;

namespace bdata = boost::unit_test::data;

namespace {

RungOptions options_for(iouring::DriverChoice driver = iouring::DriverChoice::epoll) {
  static const auto usable = affinity::Topology::machine().usable();
  return {.cpu = usable.first(), .usable = usable, .driver = driver};
}

void check_rung(std::string_view rung, iouring::DriverChoice driver) {
  const std::string refusal = rung_refusal(rung);
  if (!refusal.empty()) {
    BOOST_TEST_MESSAGE(rung << ": " << refusal);
    return;
  }
  const auto subject = make_rung(rung, options_for(driver));
  for (const std::uint64_t trips : {1u, 2u, 777u, 10'000u}) {
    const auto sample = subject->sample(trips);
    BOOST_TEST(sample.operations >= trips);
    BOOST_TEST(sample.operations < trips + 64);
    BOOST_TEST(sample.values[1] * 2 == sample.values[0]);
    BOOST_TEST(sample.elapsed_ns > 0);
  }
  const auto checks = subject->checks();
  BOOST_TEST(checks.size() >= 2u);
  for (const auto& check : checks)
    BOOST_TEST(check.ok, rung << ": " << check.name << ", expected " << *check.expected.number()
                              << ", seen " << *check.seen.number());
}

}  // namespace

BOOST_DATA_TEST_CASE(every_trip_reaches_the_other_side_once_and_makes_the_frames_it_should,
                     bdata::make(rungs()) * on_all_drivers, rung, driver) {
  check_rung(rung, driver);
}

BOOST_AUTO_TEST_CASE(a_child_has_a_frame_each_and_an_elided_one_has_none) {
  const auto frames_of = [](std::string_view rung) {
    const auto subject = make_rung(rung, options_for());
    const auto before = iouring::frame_counts().made;
    subject->sample(1000);
    return iouring::frame_counts().made - before;
  };
  BOOST_TEST(frames_of("child") == 1000u);
  BOOST_TEST(frames_of("resume") == 0u);
  if (rung_refusal("child-elided").empty())
    BOOST_TEST(frames_of("child-elided") == 0u);
}

// The control: what this build does keep is no elided rung.
BOOST_AUTO_TEST_CASE(the_elided_rung_is_refused_where_its_frames_are_made) {
  const auto subject = make_rung("child-elided", options_for());
  const auto before = iouring::frame_counts().made;
  subject->sample(10);
  const bool makes_frames = iouring::frame_counts().made > before;
  BOOST_TEST(rung_refusal("child-elided").empty() == !makes_frames);
  for (const auto& check : subject->checks())
    BOOST_TEST((check.ok || makes_frames), check.name);
}

BOOST_AUTO_TEST_CASE(a_rung_that_does_not_exist_is_an_error) {
  BOOST_CHECK_THROW(make_rung("ladder", options_for()), std::logic_error);
}

BOOST_DATA_TEST_CASE(a_second_stack_is_reached_as_often_as_it_should,
                     bdata::make({"swapcontext", "fcontext", "fiber"}), how) {
  if (const std::string why = stack_switch_refusal(how); !why.empty()) {
    BOOST_CHECK_THROW(make_stack_switch(how), Unsupported);
    BOOST_TEST(why.find("libboost-context-dev") != std::string::npos);
    return;
  }
  const auto first = make_stack_switch(how);
  const auto second = make_stack_switch(how);  // each has a stack of its own
  first->round_trips(0);
  BOOST_TEST(first->answered() == 0u);
  for (int i = 1; i <= 100; ++i) {
    first->round_trips(3);
    second->round_trips(1);
    BOOST_TEST(first->answered() == 3u * static_cast<unsigned>(i));
    BOOST_TEST(second->answered() == static_cast<unsigned>(i));
  }
}

BOOST_AUTO_TEST_CASE(a_switch_that_does_not_exist_is_an_error) {
  if (stack_switch_refusal("longjmp").empty())
    BOOST_CHECK_THROW(make_stack_switch("longjmp"), std::logic_error);
}
