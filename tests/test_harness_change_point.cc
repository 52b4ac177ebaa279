#include "lab/harness/change_point.hh"

#include "lab/base/random.hh"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <functional>

using namespace schedlab;
using namespace schedlab::harness;

namespace {

// About normal, with the deviation given: twelve uniform values less six.
double noise(Random& random, double deviation) {
  double sum = -6;
  for (int i = 0; i < 12; ++i)
    sum += static_cast<double>(random() >> 11) * 0x1p-53;
  return sum * deviation;
}

struct Curve {
  std::vector<double> x;
  std::vector<double> y;
};

// f at four places to the octave from 2^0 to 2^octaves.
Curve curve_of(const std::function<double(double)>& f, double octaves, Random& random,
               double deviation = 0.02) {
  Curve curve;
  for (double power = 0; power <= octaves; power += 0.25) {
    curve.x.push_back(std::exp2(power));
    curve.y.push_back(f(curve.x.back()) + noise(random, deviation));
  }
  return curve;
}

std::vector<Rise> rises_of(const Curve& curve, double least = 0.2) {
  return find_rises(curve.x, curve.y, {.least = least});
}

double near(double value, double other) {
  return std::max(value / other, other / value);
}

}  // namespace

BOOST_AUTO_TEST_CASE(values_of_one_level_are_one_run) {
  int more = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    std::vector<double> values(40);
    for (auto& value : values)
      value = noise(random, 1.0);
    more += level_runs(values, 0).size() > 1;
  }
  BOOST_TEST(more < 15);  // one in twenty
}

BOOST_AUTO_TEST_CASE(a_step_is_found_where_it_is) {
  int exact = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    std::vector<double> values;
    for (int i = 0; i < 40; ++i)
      values.push_back((i < 25 ? 1.0 : 2.0) + noise(random, 0.1));
    exact += level_runs(values, 0.2) == std::vector<std::size_t>{0, 25};
  }
  BOOST_TEST(exact > 95);
}

BOOST_AUTO_TEST_CASE(a_step_smaller_than_the_least_is_none) {
  std::vector<double> values(40, 1.0);
  for (std::size_t i = 20; i < 40; ++i)
    values[i] = 1.1;
  BOOST_TEST(level_runs(values, 0.05).size() == 2u);
  BOOST_TEST(level_runs(values, 1.0).size() == 1u);
}

BOOST_AUTO_TEST_CASE(runs_of_nothing_and_of_one_value) {
  BOOST_TEST(level_runs({}, 0.1).empty());
  const std::vector<double> one = {3.0};
  BOOST_TEST((level_runs(one, 0.1) == std::vector<std::size_t>{0}));
  BOOST_TEST(find_rises({}, {}, {.least = 0.1}).empty());
  BOOST_TEST(find_rises(one, one, {.least = 0.1}).empty());
}

BOOST_AUTO_TEST_CASE(a_staircase_has_an_edge_at_each_step) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const auto rises = rises_of(
        curve_of([](double x) { return x < 50     ? 0.2
                                       : x < 2100 ? 1.5
                                                  : 5.0; }, 16, random));
    BOOST_TEST_REQUIRE(rises.size() == 2u);
    BOOST_TEST(near(rises[0].at, 50) < 1.19);  // a quarter of an octave, the grid
    BOOST_TEST(near(rises[1].at, 2100) < 1.19);
    BOOST_TEST(rises[0].low == 0.2, boost::test_tools::tolerance(0.2));
    BOOST_TEST(rises[0].high == rises[1].low);
    BOOST_TEST(rises[1].high == 5.0, boost::test_tools::tolerance(0.02));
    BOOST_TEST(rises[0].from < 50);
    BOOST_TEST(rises[0].to > 50);
    BOOST_TEST(!rises[1].open);
  }
}

BOOST_AUTO_TEST_CASE(a_curve_without_a_step_has_no_edge) {
  int found = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    found += !rises_of(curve_of([](double) { return 1.0; }, 16, random, 0.05)).empty();
  }
  BOOST_TEST(found == 0);
}

BOOST_AUTO_TEST_CASE(a_ramp_between_two_levels_is_one_edge_in_its_middle) {
  const auto ramp = [](double x) {
    return std::clamp(std::log2(x / 16) / 2, 0.0, 1.0) * 3;  // from 16 to 64
  };
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const auto rises = rises_of(curve_of(ramp, 12, random));
    BOOST_TEST_REQUIRE(rises.size() == 1u);
    BOOST_TEST(near(rises[0].at, 32) < 1.1);
    BOOST_TEST(rises[0].from <= 20);
    BOOST_TEST(rises[0].to >= 50);
  }
}

BOOST_AUTO_TEST_CASE(a_climb_that_comes_to_no_level_is_open) {
  Random random(1);
  const auto rises = rises_of(
      curve_of([](double x) { return x < 100 ? 1.0 : 1 + std::log2(x / 100); }, 12, random));
  BOOST_TEST_REQUIRE(rises.size() == 1u);
  BOOST_TEST(rises[0].open);
  BOOST_TEST(near(rises[0].from, 100) < 1.3);
}

// With a level of an octave between them they are two, without any they are one.
BOOST_AUTO_TEST_CASE(two_near_steps_are_two_edges_if_there_is_a_level_between) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    const auto two =
        rises_of(curve_of([](double x) { return x < 30   ? 0.0
                                                : x < 62 ? 1.0
                                                         : 2.0; }, 12, random));
    BOOST_TEST_REQUIRE(two.size() == 2u);
    BOOST_TEST(near(two[0].at, 30) < 1.19);
    BOOST_TEST(near(two[1].at, 62) < 1.19);
    const auto one =
        rises_of(curve_of([](double x) { return x < 30   ? 0.0
                                                : x < 37 ? 1.0
                                                         : 2.0; }, 12, random));
    BOOST_TEST_REQUIRE(one.size() == 1u);
    BOOST_TEST(near(one[0].at, 32) < 1.25);
  }
}

BOOST_AUTO_TEST_CASE(a_fall_and_an_outlier_are_no_edges) {
  Random random(3);
  BOOST_TEST(rises_of(curve_of([](double x) { return x < 50 ? 2.0 : 1.0; }, 12, random)).empty());
  auto outlier = curve_of([](double) { return 1.0; }, 12, random);
  outlier.y[20] = 4;
  BOOST_TEST(rises_of(outlier).empty());
}

BOOST_AUTO_TEST_CASE(an_edge_lies_where_half_of_the_climb_is_done) {
  const std::vector<double> x = {1, 2, 4, 8, 16, 32, 64, 128};
  const std::vector<double> y = {0, 0, 0, 0, 4, 4, 4, 4};
  const auto rises = find_rises(x, y, {.least = 1});
  BOOST_TEST_REQUIRE(rises.size() == 1u);
  BOOST_TEST(rises[0].at == std::sqrt(8.0 * 16.0), boost::test_tools::tolerance(1e-12));
  const std::vector<double> early = {0, 0, 0, 1, 4, 4, 4, 4};
  BOOST_TEST(find_rises(x, early, {.least = 0.5})[0].at == 8 * std::exp2(1.0 / 3),
             boost::test_tools::tolerance(1e-12));
}
