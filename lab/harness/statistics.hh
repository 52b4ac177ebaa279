#pragma once
// Statistics of samples whose distribution is not known: medians, order statistics and sign tests,
// whose intervals are exact for any continuous distribution, and detectors of samples that no
// single number describes. The unit of replication is the process: an interval is taken over one
// value for each process, never over the samples inside one.
//
// All functions take finite values only (asserted), leave them unchanged, and may be called from
// any thread.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace schedlab::harness {

// The values are not empty. A quantile interpolates between neighbours (Hyndman and Fan, type 7).
double quantile(std::span<const double> values, double q);
double median(std::span<const double> values);
double minimum(std::span<const double> values);
// The median absolute deviation from the median, not scaled to a standard deviation.
double median_deviation(std::span<const double> values);

struct Interval {
  double low = 0;
  double high = 0;
  double level = 0;    // probability that it covers, as reached: at least what was asked for
  std::string method;  // "order statistics", "sign test", "bootstrap"
  bool operator==(const Interval&) const = default;
};

// The narrowest pair of order statistics that covers the median with at least `level`, by the
// binomial distribution. Nothing if even the extremes do not: at 95 % with fewer than 6 values.
std::optional<Interval> median_interval(std::span<const double> values, double level = 0.95);

// A value and what is known about it.
struct Estimate {
  double value = 0;
  std::optional<Interval> interval;
  bool operator==(const Estimate&) const = default;
};

// Two-sided exact p that positive and negative values are equally likely; zeros are left out.
// 1 if nothing is left.
double sign_test(std::span<const double> differences);

// The median of a[i] - b[i], with the interval that inverts the sign test. a[i] and b[i] were
// measured in the same process; the sizes are equal and not 0.
Estimate paired_difference(std::span<const double> a, std::span<const double> b,
                           double level = 0.95);
// The same for a[i] / b[i], by way of log ratios. All values are > 0.
Estimate paired_ratio(std::span<const double> a, std::span<const double> b, double level = 0.95);

// median(a) / median(b) of processes that were not paired: two machines, two files. One value (a
// median) for each process, all > 0. Whole processes are drawn again, not the samples inside them:
// a process's median already carries their scatter (Davison and Hinkley 1997, section 3.8). The
// interval is withheld below 6 processes on either side. Same seed, same interval.
Estimate unpaired_ratio(std::span<const double> a, std::span<const double> b, std::uint64_t seed,
                        double level = 0.95);

// Is a difference too small to be told from nothing, its interval holding zero?
bool below_resolution(const Interval& difference);

// How many samples it takes to bound quantile `q` from above by the largest with 95 % confidence:
// 5 for the median, 29 for p90, 299 for p99, 2995 for p99.9.
std::uint64_t samples_needed(double q);

// What the result file says about a set of samples. What cannot be said is absent, and `omitted`
// tells why under the key's name: {"p999", "needs 2995 samples"}.
struct Summary {
  std::uint64_t runs = 0;  // processes
  std::uint64_t samples = 0;
  std::optional<double> median;  // of the processes' medians
  std::optional<Interval> ci;    // of that median, over the processes
  std::optional<double> min;     // the rest is over all samples
  std::optional<double> mad;
  std::optional<double> p50;
  std::optional<double> p90;
  std::optional<double> p99;
  std::optional<double> p999;
  std::map<std::string, std::string> omitted;
  bool operator==(const Summary&) const = default;
};

// From one median for each process, and the number and the quantiles of all samples; without min
// and mad.
Summary summarise(std::span<const double> medians, std::uint64_t samples,
                  const std::function<double(double)>& quantile_at);
// From the samples of each process; a process without samples does not count as a run.
Summary summarise(std::span<const std::vector<double>> runs);

// A trend over the order in which samples were taken.
struct Drift {
  double change = 0;  // from first to last sample, relative to the median: Theil-Sen slope
  double p = 0;       // Mann-Kendall, two-sided
};
// Reported if p < 0.01 and the change exceeds 2 %. More than 200 samples are first reduced to 200
// medians of neighbours, which also takes out short waves. Needs 6 values that are independent of
// each other but for the trend: samples of one process stick together, so take one value for each.
std::optional<Drift> find_drift(std::span<const double> values);

// Two groups with next to nothing between them.
struct Modes {
  double low = 0;  // the medians of the two groups
  double high = 0;
  double high_share = 0;  // fraction of samples in the upper group
};
// Works on logarithms, so values are > 0. Reported if a gap that holds at most 2 % of the samples
// separates groups of at least 10 % each, spans at least 5 %, and is wider than the inner halves
// of both groups together times 1 + 15/n. Samples with one mode pass that in less than 1 % of
// cases, with a heavy tail (Pareto 1.5) in less than 4 % (the tests count them); two modes closer
// than about three of their inner halves are missed. Needs 30 samples.
std::optional<Modes> find_modes(std::span<const double> values);

// Is the first sample slower than the median by more than 14.826 median deviations (10 standard
// deviations of a normal distribution) and by 2 %? Needs 6 samples.
bool first_is_slow(std::span<const double> values);

}  // namespace schedlab::harness
