#include "affinity/pin.hh"
#include "procs/waiting.hh"

#include <boost/test/unit_test.hpp>

#include <stdexcept>

namespace {

using namespace schedlab;
using procs::Patience;
using procs::Waiting;

BOOST_AUTO_TEST_CASE(on_one_cpu_nobody_spins) {
  const affinity::Pin pin(affinity::current_cpu());
  BOOST_TEST(!procs::spinning_helps());
  for (const auto waiting : {Waiting::spin, Waiting::block, Waiting::adaptive})
    BOOST_TEST(Patience::of(waiting).spins == 0U);
}

BOOST_AUTO_TEST_CASE(with_more_cpus_each_way_has_its_patience) {
  if (!procs::spinning_helps())
    return;
  BOOST_TEST(Patience::of(Waiting::spin).spins == Patience::forever);
  BOOST_TEST(Patience::of(Waiting::block).spins == 0U);
  BOOST_TEST(Patience::of(Waiting::adaptive).spins > 0U);
  BOOST_TEST(Patience::of(Waiting::adaptive).spins < Patience::forever);
}

BOOST_AUTO_TEST_CASE(a_way_to_wait_has_a_word_and_no_other_word_is_one) {
  for (const auto waiting : {Waiting::spin, Waiting::block, Waiting::adaptive})
    BOOST_TEST((procs::waiting_from(to_text(waiting)) == waiting));
  BOOST_CHECK_THROW(procs::waiting_from("doze"), std::invalid_argument);
}

}  // namespace
