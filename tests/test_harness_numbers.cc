#include "lab/harness/numbers.hh"

#include <boost/test/unit_test.hpp>

using namespace schedlab::harness;

namespace {

Interval interval(double low, double high) {
  return {low, high, 0.96875, "order statistics"};
}

Metric metric(double median, std::optional<Interval> ci, const std::string& unit = "ns") {
  Metric made;
  made.median = median;
  made.ci = std::move(ci);
  made.unit = unit;
  return made;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_time_is_shown_in_the_unit_that_keeps_it_below_a_thousand) {
  BOOST_TEST(quantity(1, "ns") == "1.00 ns");
  BOOST_TEST(quantity(71.53, "ns") == "71.5 ns");
  BOOST_TEST(quantity(999.4, "ns") == "999 ns");
  BOOST_TEST(quantity(999.6, "ns") == "1.00 us");
  BOOST_TEST(quantity(1000, "ns") == "1.00 us");
  BOOST_TEST(quantity(1424, "ns") == "1.42 us");
  BOOST_TEST(quantity(999'499, "ns") == "999 us");
  BOOST_TEST(quantity(999'501, "ns") == "1.00 ms");
  BOOST_TEST(quantity(2.5e9, "ns") == "2.50 s");
  BOOST_TEST(quantity(7.2e12, "ns") == "7200 s");
}

BOOST_AUTO_TEST_CASE(a_number_has_three_digits_also_where_rounding_adds_one) {
  BOOST_TEST(quantity(9.994, "ns") == "9.99 ns");
  BOOST_TEST(quantity(9.996, "ns") == "10.0 ns");
  BOOST_TEST(quantity(99.94, "ns") == "99.9 ns");
  BOOST_TEST(quantity(99.96, "ns") == "100 ns");
  BOOST_TEST(quantity(0.98, "") == "0.980");
  BOOST_TEST(quantity(0.9996, "") == "1.00");
  BOOST_TEST(quantity(0.0123, "") == "0.0123");
  BOOST_TEST(quantity(0.000456, "") == "0.000456");
  BOOST_TEST(quantity(0.00000456, "") == "0.000005");
}

BOOST_AUTO_TEST_CASE(zero_and_negative_numbers_are_shown_like_the_others) {
  BOOST_TEST(quantity(0, "ns") == "0 ns");
  BOOST_TEST(quantity(0, "") == "0");
  BOOST_TEST(quantity(-1424, "ns") == "-1.42 us");
  BOOST_TEST(quantity(-999.6, "ns") == "-1.00 us");
  BOOST_TEST(quantity(-0.5, "ns") == "-0.500 ns");
}

BOOST_AUTO_TEST_CASE(sizes_go_by_1024_and_rates_by_1000) {
  BOOST_TEST(quantity(64, "B") == "64.0 B");
  BOOST_TEST(quantity(1023, "B") == "1023 B");
  BOOST_TEST(quantity(1023.6, "B") == "1.00 KiB");
  BOOST_TEST(quantity(64 * 1024, "B") == "64.0 KiB");
  BOOST_TEST(quantity(3.5 * (1 << 20), "B") == "3.50 MiB");
  BOOST_TEST(quantity(16.0 * (1 << 30), "B") == "16.0 GiB");
  BOOST_TEST(quantity(3.21e9, "B/s") == "3.21 GB/s");
  BOOST_TEST(quantity(12.3e6, "1/s") == "12.3 M/s");
  BOOST_TEST(quantity(12, "1/s") == "12.0 /s");
  BOOST_TEST(quantity(12.5, "cycles") == "12.5 cycles");
}

BOOST_AUTO_TEST_CASE(bounds_stand_in_the_unit_and_with_the_digits_of_their_value) {
  BOOST_TEST(bounds(1424, interval(1400, 1453), "ns") == "[1.40 1.45]");
  BOOST_TEST(bounds(995, interval(980, 1010), "ns") == "[980 1010]");
  BOOST_TEST(bounds(1005, interval(980, 1010), "ns") == "[0.98 1.01]");
  BOOST_TEST(bounds(0, interval(-0.25, 0.3), "ns") == "[-0.25 0.30]");
  BOOST_TEST(bounds(0.012, interval(-0.004, 0.03), "") == "[-0.0040 0.0300]");
  BOOST_TEST(bounds(1424, std::nullopt, "ns") == "");
}

BOOST_AUTO_TEST_CASE(a_metric_is_shown_with_its_interval_or_without_one_or_not_at_all) {
  BOOST_TEST(with_interval(metric(1424, interval(1400, 1453))) == "1.42 us [1.40 1.45]");
  BOOST_TEST(with_interval(metric(1424, std::nullopt)) == "1.42 us");
  BOOST_TEST(with_interval(metric(0.98, interval(0.97, 1.02), "")) == "0.980 [0.970 1.020]");
  BOOST_TEST(with_interval(Metric{}) == "not measured");
}

BOOST_AUTO_TEST_CASE(what_is_left_over_a_floor_is_a_number_or_below_resolution) {
  BOOST_TEST(with_interval(Net{20.5, interval(18, 23), false}, "ns") == "20.5 ns [18.0 23.0]");
  BOOST_TEST(with_interval(Net{3.5, interval(-1, 8), true}, "ns") == "below resolution");
  BOOST_TEST(with_interval(Net{}, "ns") == "not measured");
}

BOOST_AUTO_TEST_CASE(a_ratio_is_shown_in_per_cent) {
  BOOST_TEST(percent({1.043, interval(1.006, 1.079)}) == "104 % [101 108]");
  BOOST_TEST(percent({0.5, std::nullopt}) == "50 %");
}

BOOST_AUTO_TEST_CASE(values_of_one_kind_are_written_alike) {
  const auto cells = notation_for(6350, 21'000, "ns");
  BOOST_TEST(cells.unit == "us");
  BOOST_TEST(cells.number(21'040) == "21.0");
  BOOST_TEST(cells.number(6350) == "6.3");
  BOOST_TEST(notation_for(8.2, 204, "ns").number(204.31) == "204.3");  // two digits of the least
  BOOST_TEST(notation_for(84, 204, "ns").number(204.31) == "204");
  BOOST_TEST(notation_for(0, 5, "").number(5) == "5.00");
}
