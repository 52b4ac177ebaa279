#include "lab/harness/steal.hh"

#include <boost/test/unit_test.hpp>

#include <array>

using namespace schedlab::harness;

namespace {

constexpr std::string_view four_cpus = "cpu  10 20 30 40 50 60 70 1000 0 0\n"
                                       "cpu0 1 2 3 4 5 6 7 800 0 0\n"
                                       "cpu1 1 2 3 4 5 6 7 150 0 0\n"
                                       "cpu10 1 2 3 4 5 6 7 49 0 0\n"
                                       "cpu127 1 2 3 4 5 6 7 1 0 0\n"
                                       "intr 123 9 9 9 9 9 9 9 9 9\n"
                                       "ctxt 456\n";

std::uint64_t of(std::string_view text, std::initializer_list<unsigned> cpus) {
  return steal_ticks(text, std::vector<unsigned>(cpus));
}

}  // namespace

BOOST_AUTO_TEST_CASE(steal_is_summed_over_the_cpus_asked_for) {
  BOOST_TEST(of(four_cpus, {0}) == 800u);
  BOOST_TEST(of(four_cpus, {1}) == 150u);
  BOOST_TEST(of(four_cpus, {127, 10}) == 50u);
  BOOST_TEST(of(four_cpus, {0, 1, 10, 127}) == 1000u);
}

BOOST_AUTO_TEST_CASE(without_cpus_the_whole_machine_is_meant) {
  BOOST_TEST(of(four_cpus, {}) == 1000u);
}

BOOST_AUTO_TEST_CASE(a_cpu_that_is_not_there_has_lost_nothing) {
  BOOST_TEST(of(four_cpus, {2, 3}) == 0u);
}

BOOST_AUTO_TEST_CASE(text_that_is_cut_short_or_garbage_counts_nothing) {
  BOOST_TEST(of("", {}) == 0u);
  BOOST_TEST(of("cpu", {}) == 0u);
  BOOST_TEST(of("cpu  1 2 3 4", {}) == 0u);  // Linux 2.4
  BOOST_TEST(of("cpu0 1 2 3 4 5 6 7 -5 0", {0}) == 0u);
  BOOST_TEST(of("cpu0 1 2 3 4 5 6 7 x 0", {0}) == 0u);
  BOOST_TEST(of("cpu99999999999999999999 1 2 3 4 5 6 7 8 0\n", {0}) == 0u);
  BOOST_TEST(of("\n\n\ncpu0 1 2 3 4 5 6 7 8", {0}) == 0u);
  BOOST_TEST(of("cpu0 1 2 3 4 5 6 7 8", {0}) == 8u);
}

BOOST_AUTO_TEST_CASE(the_reader_never_runs_backward_on_this_machine) {
  StealReader reader;
  const std::array<unsigned, 1> first = {0};
  std::uint64_t before = reader.ticks({});
  for (int i = 0; i < 100; ++i) {
    const auto one = reader.ticks(first);
    const auto all = reader.ticks({});
    BOOST_TEST(all >= before);
    BOOST_TEST(one <= all + 1);  // each is rounded on its own
    before = all;
  }
}
