#include "lab/harness/histogram.hh"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <iterator>
#include <limits>

namespace schedlab::harness {
namespace {

// How many samples are at or below the fraction q of `count`: at least one, at most all.
std::uint64_t rank_of(double q, std::uint64_t count) noexcept {
  const double rank = std::ceil(q * static_cast<double>(count));
  if (!(rank > 1))
    return 1;
  return rank >= static_cast<double>(count) ? count : static_cast<std::uint64_t>(rank);
}

std::uint64_t to_count(double value) noexcept {
  if (!(value > 0))
    return 0;
  constexpr double limit = 18446744073709549568.0;  // the largest double below 2^64
  return static_cast<std::uint64_t>(std::min(std::round(value), limit));
}

double median_deviation(const Bins& bins) {
  const double middle = bins.percentile(0.5);
  Bins deviations{0, std::max(bins.max - middle, middle - bins.min), bins.values};
  for (auto& bin : deviations.values)
    bin.first = std::abs(bin.first - middle);
  std::sort(deviations.values.begin(), deviations.values.end());
  return deviations.percentile(0.5);
}

}  // namespace

std::uint64_t Bins::count() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& bin : values)
    sum += bin.second;
  return sum;
}

double Bins::percentile(double q) const noexcept {
  assert(!values.empty());
  std::uint64_t left = rank_of(q, count());
  for (const auto& [value, times] : values) {
    if (times >= left)
      return std::clamp(value, min, max);
    left -= times;
  }
  return max;
}

void Bins::merge(const Bins& other) {
  if (other.values.empty())
    return;
  min = values.empty() ? other.min : std::min(min, other.min);
  max = values.empty() ? other.max : std::max(max, other.max);
  std::vector<std::pair<double, std::uint64_t>> all;
  all.reserve(values.size() + other.values.size());
  std::merge(values.begin(), values.end(), other.values.begin(), other.values.end(),
             std::back_inserter(all));
  values.clear();
  for (const auto& [value, times] : all) {
    if (!values.empty() && values.back().first == value)
      values.back().second += times;
    else
      values.emplace_back(value, times);
  }
}

Histogram::Histogram() : counts_(bucket_count) {}

Histogram::Histogram(const Bins& bins) : Histogram() {
  for (const auto& [value, times] : bins.values)
    record(to_count(value), times);
  if (count_ > 0) {
    min_ = to_count(bins.min);
    max_ = to_count(bins.max);
  }
}

void Histogram::merge(const Histogram& other) noexcept {
  for (std::size_t i = 0; i < bucket_count; ++i)
    counts_[i] += other.counts_[i];
  count_ += other.count_;
  min_ = std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
}

void Histogram::clear() noexcept {
  std::fill(counts_.begin(), counts_.end(), 0);
  count_ = 0;
  min_ = std::numeric_limits<std::uint64_t>::max();
  max_ = 0;
}

double Histogram::midpoint(std::size_t bucket) noexcept {
  if (bucket < 2 * sub_count)
    return static_cast<double>(bucket);
  const auto shift = static_cast<int>(bucket / sub_count) - 1;
  const std::size_t lowest = bucket - static_cast<std::size_t>(shift) * sub_count;
  return std::ldexp(static_cast<double>(lowest) + 0.5, shift);
}

double Histogram::percentile(double q) const noexcept {
  std::uint64_t left = rank_of(q, count_);
  for (std::size_t i = 0; i < bucket_count && count_ > 0; ++i) {
    if (counts_[i] >= left)
      return std::clamp(midpoint(i), static_cast<double>(min_), static_cast<double>(max_));
    left -= counts_[i];
  }
  return 0;
}

Bins Histogram::bins(double unit) const {
  Bins result{static_cast<double>(min()) * unit, static_cast<double>(max()) * unit, {}};
  for (std::size_t i = 0; i < bucket_count; ++i)
    if (counts_[i] > 0)
      result.values.emplace_back(midpoint(i) * unit, counts_[i]);
  return result;
}

Summary summarise(std::span<const Bins> runs) {
  Bins all;
  std::vector<double> medians;
  for (const auto& run : runs) {
    all.merge(run);
    if (!run.values.empty())
      medians.push_back(run.percentile(0.5));
  }
  Summary summary = summarise(medians, all.count(), [&](double q) { return all.percentile(q); });
  if (!all.values.empty()) {
    summary.min = all.min;
    summary.mad = median_deviation(all);
  }
  return summary;
}

}  // namespace schedlab::harness
