// The main of every test program, also of those that start themselves. Boost reports "all skipped"
// as success; this says 77 instead, so that Meson says SKIP.
#define BOOST_TEST_NO_MAIN
#define BOOST_TEST_ALTERNATIVE_INIT_API
#include "procs/enter.hh"

#include <boost/test/results_collector.hpp>
#include <boost/test/unit_test.hpp>

namespace ut = boost::unit_test;

int main(int argc, char** argv) {
  schedlab::procs::enter(argc, argv);
  const int status = ut::unit_test_main([] { return true; }, argc, argv);
  const auto& all = ut::results_collector.results(ut::framework::master_test_suite().p_id);
  const bool nothing_ran = all.p_test_cases_passed == 0 && all.p_test_cases_skipped > 0;
  return status == 0 && nothing_ran ? 77 : status;
}
