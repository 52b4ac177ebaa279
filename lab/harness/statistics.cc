#include "lab/harness/statistics.hh"

#include "lab/base/random.hh"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <functional>

namespace schedlab::harness {
namespace {

bool all_finite(std::span<const double> values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

std::vector<double> sorted(std::span<const double> values) {
  assert(all_finite(values));
  std::vector<double> copy(values.begin(), values.end());
  std::sort(copy.begin(), copy.end());
  return copy;
}

double quantile_of_sorted(std::span<const double> values, double q) {
  assert(!values.empty() && q >= 0 && q <= 1);
  const double place = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const double fraction = place - static_cast<double>(below);
  if (fraction == 0)
    return values[below];
  return values[below] + fraction * (values[below + 1] - values[below]);
}

// P(X <= k) of n flips of a fair coin, for k = 0, 1, ... In logarithms, since 2^-n underflows.
class CoinTail {
public:
  explicit CoinTail(std::size_t n)
      : n_(n), log_p_(-static_cast<double>(n) * std::log(2.0)), sum_(std::exp(log_p_)) {}

  [[nodiscard]] double sum() const { return sum_; }
  double next() {
    log_p_ += std::log(static_cast<double>(n_ - k_) / static_cast<double>(k_ + 1));
    ++k_;
    sum_ += std::exp(log_p_);
    return sum_;
  }

private:
  std::size_t n_;
  std::size_t k_ = 0;
  double log_p_;
  double sum_;
};

std::optional<Interval> interval_of_sorted(std::span<const double> values, double level,
                                           const char* method) {
  const std::size_t n = values.size();
  const double miss_one_side = (1 - level) / 2;
  // The interval from the rank-th smallest to the rank-th largest misses the median if fewer than
  // rank values, of n coin flips, fall on one side of it.
  CoinTail tail(n);
  if (n == 0 || tail.sum() > miss_one_side)
    return {};
  std::size_t rank = 1;
  double missed = tail.sum();
  while (2 * (rank + 1) <= n && tail.next() <= miss_one_side) {
    missed = tail.sum();
    ++rank;
  }
  return Interval{values[rank - 1], values[n - rank], 1 - 2 * missed, method};
}

// The median of n values drawn again from `values`.
double resampled_median(std::span<const double> values, std::vector<double>& scratch,
                        Random& random) {
  scratch.resize(values.size());
  for (double& drawn : scratch)
    drawn = values[random.below(values.size())];
  std::sort(scratch.begin(), scratch.end());
  return quantile_of_sorted(scratch, 0.5);
}

// At most `limit` values in their order: each the median of as many neighbours.
std::vector<double> thinned(std::span<const double> values, std::size_t limit) {
  const std::size_t n = values.size();
  if (n <= limit)
    return {values.begin(), values.end()};
  std::vector<double> medians;
  medians.reserve(limit);
  for (std::size_t i = 0; i < limit; ++i) {
    const std::size_t first = i * n / limit;
    medians.push_back(median(values.subspan(first, (i + 1) * n / limit - first)));
  }
  return medians;
}

// Two-sided p of Mann and Kendall's trend test, by the normal approximation with ties.
double trend_p(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  double score = 0;
  for (std::size_t i = 0; i < values.size(); ++i)
    for (std::size_t j = i + 1; j < values.size(); ++j)
      score += static_cast<double>((values[j] > values[i]) - (values[j] < values[i]));
  double variance = n * (n - 1) * (2 * n + 5);
  const auto order = sorted(values);
  for (auto group = order.begin(); group != order.end();) {
    const auto next = std::upper_bound(group, order.end(), *group);
    const auto ties = static_cast<double>(next - group);
    variance -= ties * (ties - 1) * (2 * ties + 5);
    group = next;
  }
  if (variance <= 0)
    return 1;
  const double z = std::max(std::abs(score) - 1, 0.0) / std::sqrt(variance / 18);
  return std::erfc(z / std::sqrt(2.0));
}

// Theil and Sen: the median slope of all pairs, for a step of one index.
double median_slope(std::span<const double> values) {
  std::vector<double> slopes;
  slopes.reserve(values.size() * (values.size() - 1) / 2);
  for (std::size_t i = 0; i < values.size(); ++i)
    for (std::size_t j = i + 1; j < values.size(); ++j)
      slopes.push_back((values[j] - values[i]) / static_cast<double>(j - i));
  return median(slopes);
}

double inner_half(std::span<const double> values) {
  return quantile_of_sorted(values, 0.75) - quantile_of_sorted(values, 0.25);
}

}  // namespace

double quantile(std::span<const double> values, double q) {
  return quantile_of_sorted(sorted(values), q);
}

double median(std::span<const double> values) {
  return quantile(values, 0.5);
}

double minimum(std::span<const double> values) {
  assert(!values.empty() && all_finite(values));
  return *std::min_element(values.begin(), values.end());
}

double median_deviation(std::span<const double> values) {
  const double middle = median(values);
  std::vector<double> deviations(values.begin(), values.end());
  for (double& value : deviations)
    value = std::abs(value - middle);
  return median(deviations);
}

std::optional<Interval> median_interval(std::span<const double> values, double level) {
  return interval_of_sorted(sorted(values), level, "order statistics");
}

double sign_test(std::span<const double> differences) {
  std::size_t positive = 0;
  std::size_t negative = 0;
  for (const double difference : differences) {
    positive += difference > 0;
    negative += difference < 0;
  }
  CoinTail tail(positive + negative);
  for (std::size_t k = 0; k < std::min(positive, negative); ++k)
    tail.next();
  return std::min(1.0, 2 * tail.sum());
}

Estimate paired_difference(std::span<const double> a, std::span<const double> b, double level) {
  assert(a.size() == b.size() && !a.empty());
  std::vector<double> differences(a.size());
  std::transform(a.begin(), a.end(), b.begin(), differences.begin(), std::minus<>());
  differences = sorted(differences);
  return {quantile_of_sorted(differences, 0.5),
          interval_of_sorted(differences, level, "sign test")};
}

Estimate paired_ratio(std::span<const double> a, std::span<const double> b, double level) {
  assert(a.size() == b.size() && !a.empty());
  std::vector<double> logs(a.size());
  std::transform(a.begin(), a.end(), b.begin(), logs.begin(), [](double x, double y) {
    assert(x > 0 && y > 0);
    return std::log(x / y);
  });
  logs = sorted(logs);
  auto interval = interval_of_sorted(logs, level, "sign test");
  if (interval) {
    interval->low = std::exp(interval->low);
    interval->high = std::exp(interval->high);
  }
  return {std::exp(quantile_of_sorted(logs, 0.5)), interval};
}

Estimate unpaired_ratio(std::span<const double> a, std::span<const double> b, std::uint64_t seed,
                        double level) {
  constexpr std::size_t processes_needed = 6;
  constexpr std::size_t draws = 4000;
  assert(!a.empty() && !b.empty() && minimum(a) > 0 && minimum(b) > 0);
  Estimate result{median(a) / median(b), {}};
  if (std::min(a.size(), b.size()) < processes_needed)
    return result;
  Random random(seed);
  std::vector<double> scratch;
  std::vector<double> ratios(draws);
  for (double& ratio : ratios) {
    const double numerator = resampled_median(a, scratch, random);
    ratio = numerator / resampled_median(b, scratch, random);
  }
  ratios = sorted(ratios);
  result.interval = Interval{quantile_of_sorted(ratios, (1 - level) / 2),
                             quantile_of_sorted(ratios, (1 + level) / 2), level, "bootstrap"};
  return result;
}

bool below_resolution(const Interval& difference) {
  return difference.low <= 0 && difference.high >= 0;
}

std::uint64_t samples_needed(double q) {
  assert(q > 0 && q < 1);
  return static_cast<std::uint64_t>(std::ceil(std::log(0.05) / std::log(q)));
}

Summary summarise(std::span<const double> medians, std::uint64_t samples,
                  const std::function<double(double)>& quantile_at) {
  const struct {
    const char* name;
    double q;
    std::optional<double> Summary::*field;
  } percentiles[] = {{"p50", 0.5, &Summary::p50},
                     {"p90", 0.9, &Summary::p90},
                     {"p99", 0.99, &Summary::p99},
                     {"p999", 0.999, &Summary::p999}};
  Summary summary;
  summary.runs = medians.size();
  summary.samples = samples;
  if (!medians.empty())
    summary.median = median(medians);
  summary.ci = median_interval(medians);
  if (!summary.ci)
    summary.omitted["ci"] = "needs 6 processes";
  for (const auto& [name, q, field] : percentiles) {
    const std::uint64_t needed = samples_needed(q);
    if (samples >= needed)
      summary.*field = quantile_at(q);
    else
      summary.omitted[name] = "needs " + std::to_string(needed) + " samples";
  }
  return summary;
}

Summary summarise(std::span<const std::vector<double>> runs) {
  std::vector<double> all;
  std::vector<double> medians;
  for (const auto& run : runs) {
    all.insert(all.end(), run.begin(), run.end());
    if (!run.empty())
      medians.push_back(median(run));
  }
  all = sorted(all);
  Summary summary =
      summarise(medians, all.size(), [&](double q) { return quantile_of_sorted(all, q); });
  if (!all.empty()) {
    summary.min = all.front();
    summary.mad = median_deviation(all);
  }
  return summary;
}

std::optional<Drift> find_drift(std::span<const double> values) {
  constexpr std::size_t samples_needed_for_trend = 6;
  constexpr std::size_t points = 200;  // all pairs of them are looked at
  if (values.size() < samples_needed_for_trend)
    return {};
  const auto series = thinned(values, points);
  const double middle = std::abs(median(series));
  if (middle == 0)
    return {};
  const double span = static_cast<double>(series.size() - 1);
  const Drift drift{median_slope(series) * span / middle, trend_p(series)};
  if (drift.p >= 0.01 || std::abs(drift.change) <= 0.02)
    return {};
  return drift;
}

std::optional<Modes> find_modes(std::span<const double> values) {
  constexpr std::size_t samples_needed_for_modes = 30;
  const std::size_t n = values.size();
  if (n < samples_needed_for_modes)
    return {};
  auto logs = sorted(values);
  assert(logs.front() > 0);
  for (double& value : logs)
    value = std::log(value);
  const std::size_t step = 1 + n / 50;     // 2 % of the samples may lie inside the gap
  const std::size_t group = (n + 9) / 10;  // 10 % must lie on either side of it
  std::size_t best = group - 1;
  for (std::size_t i = best; i + step + group <= n; ++i)
    if (logs[i + step] - logs[i] > logs[best + step] - logs[best])
      best = i;
  const std::span<const double> all = logs;
  const auto low = all.first(best + 1);
  const auto high = all.subspan(best + step);
  const double gap = high.front() - low.back();
  // Few samples of one mode leave wide gaps by chance, most of all in a long tail.
  const double factor = 1 + 15 / static_cast<double>(n);
  if (gap < std::log(1.05) || gap <= factor * (inner_half(low) + inner_half(high)))
    return {};
  return Modes{std::exp(quantile_of_sorted(low, 0.5)), std::exp(quantile_of_sorted(high, 0.5)),
               static_cast<double>(high.size()) / static_cast<double>(n)};
}

bool first_is_slow(std::span<const double> values) {
  constexpr std::size_t samples_needed_for_outlier = 6;
  if (values.size() < samples_needed_for_outlier)
    return false;
  const double middle = median(values);
  const double excess = values.front() - middle;
  return excess > 14.826 * median_deviation(values) && excess > 0.02 * std::abs(middle);
}

}  // namespace schedlab::harness
