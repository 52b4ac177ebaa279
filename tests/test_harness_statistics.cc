#include "lab/harness/statistics.hh"

#include "lab/base/random.hh"
#include "tests/sanitized.hh"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <functional>
#include <numbers>

using namespace schedlab;
using namespace schedlab::harness;
namespace tt = boost::test_tools;

namespace {

using Draw = std::function<double(Random&)>;

double uniform(Random& random) {
  return static_cast<double>(random() >> 11) * 0x1p-53;
}

double normal(Random& random) {
  const double radius = std::sqrt(-2 * std::log(1 - uniform(random)));
  return radius * std::cos(2 * std::numbers::pi * uniform(random));
}

double exponential(Random& random) {
  return -std::log(1 - uniform(random));
}

double long_tail(Random& random) {
  return std::pow(1 - uniform(random), -1 / 1.5);
}

std::vector<double> draw(std::size_t n, Random& random, const Draw& one) {
  std::vector<double> values(n);
  for (double& value : values)
    value = one(random);
  return values;
}

// In how many of `trials` fresh samples of n values does something hold?
double fraction(std::size_t trials, std::size_t n, std::uint64_t seed, const Draw& one,
                const std::function<bool(const std::vector<double>&)>& holds) {
  Random random(seed);
  std::size_t held = 0;
  for (std::size_t trial = 0; trial < trials; ++trial)
    held += holds(draw(n, random, one));
  return static_cast<double>(held) / static_cast<double>(trials);
}

bool covers(const std::optional<Interval>& interval, double truth) {
  return interval && interval->low <= truth && truth <= interval->high;
}

std::vector<double> counting(std::size_t n) {
  std::vector<double> values(n);
  for (std::size_t i = 0; i < n; ++i)
    values[i] = static_cast<double>(i + 1);
  return values;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_median_of_an_even_number_lies_between_the_middle_two) {
  BOOST_TEST(median(std::vector<double>{3, 1, 2}) == 2);
  BOOST_TEST(median(std::vector<double>{4, 1, 3, 2}) == 2.5);
  BOOST_TEST(median(std::vector<double>{7}) == 7);
}

BOOST_AUTO_TEST_CASE(quantiles_interpolate) {
  const std::vector<double> values = {40, 10, 30, 20, 50};
  BOOST_TEST(quantile(values, 0) == 10);
  BOOST_TEST(quantile(values, 1) == 50);
  BOOST_TEST(quantile(values, 0.25) == 20);
  BOOST_TEST(quantile(values, 0.9) == 46, tt::tolerance(1e-12));
  BOOST_TEST(minimum(values) == 10);
}

BOOST_AUTO_TEST_CASE(the_median_deviation_is_that_of_a_sample_done_by_hand) {
  // Median 6; deviations 5 4 4 2 0 2 3 8 94, of which the median is 4.
  BOOST_TEST(median_deviation(std::vector<double>{1, 2, 2, 4, 6, 8, 9, 14, 100}) == 4);
}

BOOST_AUTO_TEST_CASE(the_interval_of_a_median_takes_the_ranks_of_the_binomial_table) {
  const struct {
    std::size_t n;
    double low;
    double high;
  } table[] = {{6, 1, 6},   {9, 2, 8},    {10, 2, 9},   {11, 2, 10},   {15, 4, 12},
               {20, 6, 15}, {30, 10, 21}, {51, 19, 33}, {100, 40, 61}, {5000, 2431, 2570}};
  for (const auto& [n, low, high] : table) {
    const auto interval = median_interval(counting(n)).value();
    BOOST_TEST(interval.low == low);
    BOOST_TEST(interval.high == high);
    BOOST_TEST(interval.level >= 0.95);
    BOOST_TEST(interval.method == "order statistics");
  }
}

BOOST_AUTO_TEST_CASE(the_level_of_an_interval_is_the_one_reached) {
  BOOST_TEST(median_interval(counting(6))->level == 1 - 2.0 / 64, tt::tolerance(1e-12));
  BOOST_TEST(median_interval(counting(10))->level == 1 - 2 * 11.0 / 1024, tt::tolerance(1e-12));
  BOOST_TEST(median_interval(counting(6), 0.5)->level == 1 - 2 * 7.0 / 64, tt::tolerance(1e-12));
}

BOOST_AUTO_TEST_CASE(fewer_than_six_values_have_no_interval_of_95_percent) {
  for (std::size_t n = 0; n < 6; ++n)
    BOOST_TEST(!median_interval(counting(n)));
  BOOST_TEST(median_interval(counting(5), 0.9)->level == 1 - 2.0 / 32);
}

BOOST_AUTO_TEST_CASE(the_interval_of_a_median_covers_it_as_often_as_it_says) {
  struct Case {
    Draw one;
    double truth;
  };
  for (const Case& drawn : {Case{normal, 0}, Case{exponential, std::log(2.0)}})
    for (const std::size_t n : {6u, 11u, 20u, 101u}) {
      const double level = median_interval(counting(n))->level;
      const double covered = fraction(4000, n, n, drawn.one, [&](const auto& values) {
        return covers(median_interval(values), drawn.truth);
      });
      BOOST_TEST(std::abs(covered - level) < 0.014);  // four standard errors
    }
}

BOOST_AUTO_TEST_CASE(the_sign_test_gives_the_exact_probability) {
  BOOST_TEST(sign_test(std::vector<double>{1, 1, 1, 1, 1, 1}) == 2.0 / 64, tt::tolerance(1e-12));
  BOOST_TEST(sign_test(std::vector<double>{1, -1, 1, 1, 1, 1, 1, 1, 1, 1}) == 2 * 11.0 / 1024,
             tt::tolerance(1e-12));
  BOOST_TEST(sign_test(std::vector<double>{-3, -2, -1, 0, 0}) == 0.25, tt::tolerance(1e-12));
  BOOST_TEST(sign_test(std::vector<double>{1, -1}) == 1);
  BOOST_TEST(sign_test(std::vector<double>{0, 0}) == 1);
  BOOST_TEST(sign_test(std::vector<double>{}) == 1);
}

BOOST_AUTO_TEST_CASE(the_sign_test_rejects_equals_no_more_often_than_it_says) {
  const auto rejects = [](const auto& values) { return sign_test(values) <= 0.05; };
  const double equal = fraction(4000, 20, 1, normal, rejects);
  // With 20 signs the largest reachable p below 0.05 is 0.0414.
  BOOST_TEST(std::abs(equal - 0.0414) < 0.013);
  const Draw shifted = [](Random& random) { return normal(random) + 1; };
  BOOST_TEST(fraction(1000, 20, 2, shifted, rejects) > 0.9);
}

BOOST_AUTO_TEST_CASE(a_paired_difference_takes_out_what_the_pairs_share) {
  const std::vector<double> b = {100, 900, 300, 700, 500, 200, 800};
  std::vector<double> a = b;
  for (std::size_t i = 0; i < a.size(); ++i)
    a[i] += static_cast<double>(i + 1);
  const auto difference = paired_difference(a, b);
  BOOST_TEST(difference.value == 4);
  BOOST_TEST(difference.interval->low == 1);
  BOOST_TEST(difference.interval->high == 7);
  BOOST_TEST(difference.interval->method == "sign test");
}

BOOST_AUTO_TEST_CASE(a_paired_ratio_and_its_reverse_are_reciprocal) {
  const std::vector<double> a = {20, 44, 18, 60, 25, 33, 41, 57};
  const std::vector<double> b = {10, 20, 10, 20, 10, 20, 20, 20};
  const auto ratio = paired_ratio(a, b);
  const auto reverse = paired_ratio(b, a);
  BOOST_TEST(ratio.value == std::sqrt(2.05 * 2.2), tt::tolerance(1e-12));
  BOOST_TEST(ratio.interval->low == 1.65, tt::tolerance(1e-12));
  BOOST_TEST(ratio.interval->high == 3, tt::tolerance(1e-12));
  BOOST_TEST(ratio.value * reverse.value == 1, tt::tolerance(1e-12));
  BOOST_TEST(ratio.interval->low * reverse.interval->high == 1, tt::tolerance(1e-12));
}

BOOST_AUTO_TEST_CASE(few_pairs_give_a_value_without_an_interval) {
  const auto ratio = paired_ratio(counting(5), counting(5));
  BOOST_TEST(ratio.value == 1);
  BOOST_TEST(!ratio.interval);
}

BOOST_AUTO_TEST_CASE(an_unpaired_ratio_covers_the_truth_about_as_often_as_it_says) {
  for (const std::size_t n : {6u, 11u, 20u}) {
    Random random(n);
    std::size_t covered = 0;
    constexpr std::size_t trials = testing::sanitized ? 40 : 400;
    for (std::size_t trial = 0; trial < trials; ++trial) {
      const Draw one = [](Random& r) { return std::exp(0.1 * normal(r)); };
      auto a = draw(n, random, one);
      for (double& value : a)
        value *= 1.5;
      covered += covers(unpaired_ratio(a, draw(n, random, one), trial).interval, 1.5);
    }
    const double share = static_cast<double>(covered) / trials;
    BOOST_TEST_CONTEXT(n << " processes, covered " << share) {
      BOOST_TEST(share > (testing::sanitized ? 0.85 : 0.92));
      BOOST_TEST(share < (testing::sanitized ? 1.01 : 0.99));
    }
  }
}

BOOST_AUTO_TEST_CASE(an_unpaired_ratio_repeats_with_its_seed_and_is_withheld_from_few) {
  Random random(5);
  const auto a = draw(40, random, exponential);
  const auto b = draw(41, random, exponential);
  BOOST_TEST((unpaired_ratio(a, b, 1) == unpaired_ratio(a, b, 1)));
  BOOST_TEST((unpaired_ratio(a, b, 1) != unpaired_ratio(a, b, 2)));
  BOOST_TEST(unpaired_ratio(a, b, 1).value == median(a) / median(b));
  BOOST_TEST(!unpaired_ratio(a, std::span(b).first(5), 1).interval);
}

BOOST_AUTO_TEST_CASE(a_difference_whose_interval_holds_zero_is_below_resolution) {
  BOOST_TEST(below_resolution({-1, 1, 0.95, ""}));
  BOOST_TEST(below_resolution({0, 1, 0.95, ""}));
  BOOST_TEST(!below_resolution({0.1, 1, 0.95, ""}));
  BOOST_TEST(!below_resolution({-2, -1, 0.95, ""}));
}

BOOST_AUTO_TEST_CASE(a_percentile_needs_enough_samples_for_the_largest_to_bound_it) {
  BOOST_TEST(samples_needed(0.5) == 5u);
  BOOST_TEST(samples_needed(0.9) == 29u);
  BOOST_TEST(samples_needed(0.99) == 299u);
  BOOST_TEST(samples_needed(0.999) == 2995u);
}

BOOST_AUTO_TEST_CASE(a_summary_omits_what_its_samples_do_not_support_and_says_so) {
  std::vector<std::vector<double>> runs(5, std::vector<double>(60, 1.0));
  Summary summary = summarise(runs);
  BOOST_TEST(summary.p99.has_value());  // 300 samples
  BOOST_TEST(!summary.p999);
  BOOST_TEST(summary.omitted.at("p999") == "needs 2995 samples");
  BOOST_TEST(summary.omitted.at("ci") == "needs 6 processes");
  runs[0].resize(58);
  summary = summarise(runs);
  BOOST_TEST(!summary.p99);
  BOOST_TEST(summary.omitted.at("p99") == "needs 299 samples");
}

BOOST_AUTO_TEST_CASE(a_summary_takes_its_interval_over_processes_and_the_rest_over_samples) {
  std::vector<std::vector<double>> runs;
  for (int run = 1; run <= 6; ++run)
    runs.push_back({10.0 * run, 10.0 * run + 1, 10.0 * run + 5});
  runs.emplace_back();
  const Summary summary = summarise(runs);
  BOOST_TEST(summary.runs == 6u);
  BOOST_TEST(summary.samples == 18u);
  BOOST_TEST(*summary.median == 36);
  BOOST_TEST(summary.ci->low == 11);
  BOOST_TEST(summary.ci->high == 61);
  BOOST_TEST(*summary.min == 10);
  BOOST_TEST(*summary.p50 == 37.5);  // between 35 and 40
}

BOOST_AUTO_TEST_CASE(a_summary_of_nothing_has_no_numbers) {
  const Summary summary = summarise(std::span<const std::vector<double>>());
  BOOST_TEST(!summary.median);
  BOOST_TEST(!summary.min);
  BOOST_TEST(summary.runs == 0u);
}

BOOST_AUTO_TEST_CASE(a_rising_series_drifts_by_as_much_as_it_rises) {
  Random random(3);
  for (const std::size_t n : {20u, 500u}) {
    std::vector<double> values;
    for (std::size_t i = 0; i < n; ++i)
      values.push_back(100 + 10 * static_cast<double>(i) / static_cast<double>(n - 1) +
                       normal(random));
    const auto rising = find_drift(values);
    BOOST_REQUIRE(rising);
    BOOST_TEST(rising->change == 0.095, tt::tolerance(0.15));
    BOOST_TEST(rising->p < 0.01);
    std::reverse(values.begin(), values.end());
    BOOST_TEST(find_drift(values)->change == -rising->change, tt::tolerance(0.01));
  }
}

BOOST_AUTO_TEST_CASE(a_drift_of_one_percent_is_not_reported_however_sure) {
  std::vector<double> values;
  for (int i = 0; i < 100; ++i)
    values.push_back(1000 + 0.1 * i);
  BOOST_TEST(!find_drift(values));
  for (int i = 0; i < 100; ++i)
    values[static_cast<std::size_t>(i)] = 1000 + 0.3 * i;
  BOOST_TEST(find_drift(values).has_value());
}

BOOST_AUTO_TEST_CASE(steady_samples_seldom_drift) {
  const Draw noisy = [](Random& random) { return std::exp(0.3 * normal(random)); };
  const auto drifts = [](const auto& values) { return find_drift(values).has_value(); };
  for (const std::size_t n : {6u, 10u, 30u, 300u})
    BOOST_TEST(fraction(testing::sanitized ? 100 : 1000, n, n, noisy, drifts) < 0.02);
}

BOOST_AUTO_TEST_CASE(ties_and_constants_do_not_drift) {
  BOOST_TEST(!find_drift(std::vector<double>(50, 7.0)));
  BOOST_TEST(!find_drift(std::vector<double>(50, 0.0)));
  BOOST_TEST(!find_drift(counting(5)));
  BOOST_TEST(find_drift(counting(6)).has_value());
}

BOOST_AUTO_TEST_CASE(one_mode_is_seldom_taken_for_two) {
  const auto two = [](const auto& values) { return find_modes(values).has_value(); };
  const Draw one_mode[] = {[](Random& r) { return std::exp(0.05 * normal(r)); },
                           [](Random& r) { return std::exp(0.5 * normal(r)); },
                           [](Random& r) { return 1 + 0.5 * exponential(r); },
                           [](Random& r) { return 1 + uniform(r); }};
  for (const auto& one : one_mode)
    for (const std::size_t n : {30u, 60u, 300u})
      BOOST_TEST(fraction(2000, n, n, one, two) < 0.01);
  const Draw heavy = [](Random& r) { return 0.8 + 0.2 * long_tail(r); };
  for (const std::size_t n : {30u, 60u, 300u})
    BOOST_TEST(fraction(2000, n, n, heavy, two) < 0.04);
}

BOOST_AUTO_TEST_CASE(two_modes_are_nearly_always_found) {
  const auto two = [](const auto& values) { return find_modes(values).has_value(); };
  const Draw same_or_cross_core = [](Random& r) {
    return (uniform(r) < 0.39 ? 2 : 1) * std::exp(0.05 * normal(r));
  };
  const Draw rare_half_as_slow_again = [](Random& r) {
    return (uniform(r) < 0.25 ? 1.5 : 1) * std::exp(0.05 * normal(r));
  };
  for (const std::size_t n : {30u, 100u, 1000u}) {
    BOOST_TEST(fraction(500, n, n, same_or_cross_core, two) > 0.99);
    BOOST_TEST(fraction(500, n, n, rare_half_as_slow_again, two) > 0.75);
  }
}

BOOST_AUTO_TEST_CASE(two_modes_are_described_by_their_medians_and_the_upper_share) {
  Random random(4);
  std::vector<double> values;
  for (int i = 0; i < 100; ++i)
    values.push_back((i % 5 == 0 ? 300 : 100) + normal(random));
  const auto modes = find_modes(values);
  BOOST_REQUIRE(modes);
  BOOST_TEST(modes->low == 100, tt::tolerance(0.01));
  BOOST_TEST(modes->high == 300, tt::tolerance(0.01));
  BOOST_TEST(modes->high_share == 0.2, tt::tolerance(0.11));  // up to 2 % lie in the gap
}

BOOST_AUTO_TEST_CASE(a_few_outliers_are_no_mode) {
  std::vector<double> values;
  for (int i = 0; i < 100; ++i)
    values.push_back(i < 8 ? 500 + i : 100 + 0.01 * i);
  BOOST_TEST(!find_modes(values));
  BOOST_TEST(!find_modes(std::vector<double>(100, 5.0)));
}

BOOST_AUTO_TEST_CASE(only_a_slow_first_sample_is_reported) {
  std::vector<double> values = {200, 101, 99, 100, 102, 98, 100};
  BOOST_TEST(first_is_slow(values));
  std::swap(values[0], values[3]);
  BOOST_TEST(!first_is_slow(values));
  values = {50, 101, 99, 100, 102, 98, 100};
  BOOST_TEST(!first_is_slow(values));
  BOOST_TEST(first_is_slow(std::vector<double>{200, 100, 100, 100, 100, 100}));
  BOOST_TEST(!first_is_slow(std::vector<double>{101, 100, 100, 100, 100, 100}));
  BOOST_TEST(!first_is_slow(std::vector<double>{200, 100, 100}));
}
