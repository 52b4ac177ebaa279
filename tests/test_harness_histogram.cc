#include "lab/harness/histogram.hh"

#include "lab/base/random.hh"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>

using namespace schedlab;
using namespace schedlab::harness;

namespace {

// Values over all magnitudes: each power of two is equally likely.
std::vector<std::uint64_t> spread(std::size_t n, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::uint64_t> values(n);
  for (auto& value : values)
    value = random() >> random.below(64);
  return values;
}

Histogram of(const std::vector<std::uint64_t>& values) {
  Histogram histogram;
  for (const auto value : values)
    histogram.record(value);
  return histogram;
}

constexpr auto largest = std::numeric_limits<std::uint64_t>::max();

}  // namespace

BOOST_AUTO_TEST_CASE(a_value_comes_back_within_one_part_in_128) {
  double worst = 0;
  auto values = spread(20'000, 1);
  values.insert(values.end(), {0, 1, 63, 64, 127, 128, 129, largest, largest - 1, 1ull << 63});
  for (const auto value : values) {
    Histogram histogram;
    // With a smaller and a larger value beside it, min and max do not correct the bucket.
    histogram.record(0);
    histogram.record(value);
    histogram.record(largest);
    const double seen = histogram.percentile(0.5);
    const auto exact = static_cast<double>(value);
    if (value < 128)
      BOOST_TEST(seen == exact);
    else
      worst = std::max(worst, std::abs(seen - exact) / exact);
  }
  BOOST_TEST(worst <= 1.0 / 128);
  BOOST_TEST(worst > 1.0 / 256);  // the bound is not idle
}

BOOST_AUTO_TEST_CASE(percentiles_match_the_sorted_values_within_a_bucket) {
  auto values = spread(5000, 2);
  const Histogram histogram = of(values);
  std::sort(values.begin(), values.end());
  for (const double q : {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto exact =
        static_cast<double>(values[static_cast<std::size_t>(std::ceil(q * 5000)) - 1]);
    BOOST_TEST(std::abs(histogram.percentile(q) - exact) <= exact / 128);
    BOOST_TEST(histogram.percentile(q) == histogram.bins().percentile(q));
  }
  BOOST_TEST(histogram.percentile(0) == histogram.percentile(0.0001));
}

BOOST_AUTO_TEST_CASE(percentiles_of_few_values_are_those_values) {
  const Histogram histogram = of({10, 20, 30, 40});
  BOOST_TEST(histogram.percentile(0.25) == 10);
  BOOST_TEST(histogram.percentile(0.26) == 20);
  BOOST_TEST(histogram.percentile(0.5) == 20);
  BOOST_TEST(histogram.percentile(0.75) == 30);
  BOOST_TEST(histogram.percentile(0.99) == 40);
}

BOOST_AUTO_TEST_CASE(a_percentile_stays_within_the_exact_extremes) {
  Histogram histogram;
  histogram.record(1'000'003, 5);
  BOOST_TEST(histogram.percentile(0.5) == 1'000'003);
  BOOST_TEST(histogram.min() == 1'000'003u);
  BOOST_TEST(histogram.max() == 1'000'003u);
}

BOOST_AUTO_TEST_CASE(an_empty_histogram_answers_zero) {
  const Histogram histogram;
  BOOST_TEST(histogram.count() == 0u);
  BOOST_TEST(histogram.min() == 0u);
  BOOST_TEST(histogram.max() == 0u);
  BOOST_TEST(histogram.percentile(0.5) == 0);
  BOOST_TEST(histogram.bins().values.empty());
}

BOOST_AUTO_TEST_CASE(merging_equals_recording_everything_in_one) {
  auto first = spread(3000, 3);
  const auto second = spread(500, 4);
  Histogram merged = of(first);
  merged.merge(of(second));
  first.insert(first.end(), second.begin(), second.end());
  const Histogram whole = of(first);
  BOOST_TEST(merged.count() == 3500u);
  BOOST_TEST((merged.bins() == whole.bins()));
  merged.merge(Histogram());
  BOOST_TEST((merged.bins() == whole.bins()));
}

BOOST_AUTO_TEST_CASE(merged_bins_equal_the_bins_of_the_merged_histogram) {
  const Histogram a = of(spread(3000, 5));
  const Histogram b = of(spread(3000, 6));
  Histogram merged = a;
  merged.merge(b);
  Bins bins = a.bins(0.25);
  bins.merge(b.bins(0.25));
  BOOST_TEST((bins == merged.bins(0.25)));
  Bins none;
  none.merge(bins);
  BOOST_TEST((none == bins));
  none.merge(Bins());
  BOOST_TEST((none == bins));
}

BOOST_AUTO_TEST_CASE(a_histogram_survives_its_way_through_bins) {
  const Histogram histogram = of(spread(5000, 7));
  const Histogram again(histogram.bins());
  BOOST_TEST((again.bins() == histogram.bins()));
  BOOST_TEST(again.min() == histogram.min());
}

BOOST_AUTO_TEST_CASE(bins_ascend_and_their_counts_add_up) {
  const Bins bins = of(spread(5000, 8)).bins();
  BOOST_TEST(bins.count() == 5000u);
  for (std::size_t i = 1; i < bins.values.size(); ++i)
    BOOST_TEST(bins.values[i - 1].first < bins.values[i].first);
}

BOOST_AUTO_TEST_CASE(clearing_leaves_nothing_behind) {
  Histogram histogram = of(spread(50, 9));
  histogram.clear();
  BOOST_TEST((histogram.bins() == Histogram().bins()));
  histogram.record(5);
  BOOST_TEST(histogram.max() == 5u);
  BOOST_TEST(histogram.min() == 5u);
}

BOOST_AUTO_TEST_CASE(a_summary_of_histograms_is_that_of_the_values) {
  std::vector<Bins> bins;
  std::vector<std::vector<double>> values;
  Random random(10);
  for (int run = 0; run < 6; ++run) {
    Histogram histogram;
    auto& samples = values.emplace_back();
    for (int i = 0; i < 101; ++i) {
      samples.push_back(static_cast<double>(random.below(128)));
      histogram.record(static_cast<std::uint64_t>(samples.back()));
    }
    bins.push_back(histogram.bins());
  }
  bins.emplace_back();
  const Summary from_bins = summarise(bins);
  const Summary from_values = summarise(values);
  BOOST_TEST(from_bins.runs == 6u);
  BOOST_TEST(from_bins.samples == 606u);
  BOOST_TEST(*from_bins.median == *from_values.median);
  BOOST_TEST((from_bins.ci == from_values.ci));
  BOOST_TEST(*from_bins.min == *from_values.min);
  BOOST_TEST(std::abs(*from_bins.mad - *from_values.mad) <= 0.5);
  BOOST_TEST(std::abs(*from_bins.p99 - *from_values.p99) <= 1);
  BOOST_TEST(!from_bins.p999);
  BOOST_TEST(from_bins.omitted.at("p999") == "needs 2995 samples");
}
