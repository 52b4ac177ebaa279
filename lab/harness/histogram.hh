#pragma once
// A log-linear histogram of counts of nanoseconds (or clock ticks): 64 buckets for each power of
// two. Values below 128 are kept exactly; above, a bucket stands for its midpoint, so a percentile
// is off by at most 1/128. Histograms merge; percentiles never do.
//
// Thread rule: one thread records into a histogram; merge when it is done.

#include "lab/harness/statistics.hh"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace schedlab::harness {

// A histogram at rest, as the result file holds it: only buckets that hold something, as
// {midpoint, count}, ascending, in the metric's unit; min and max are exact.
struct Bins {
  double min = 0;
  double max = 0;
  std::vector<std::pair<double, std::uint64_t>> values;
  bool operator==(const Bins&) const = default;

  [[nodiscard]] std::uint64_t count() const noexcept;
  // The bucket in which the fraction q of all samples ends (nearest rank), held within min and
  // max. Not for an empty histogram.
  [[nodiscard]] double percentile(double q) const noexcept;
  // Adds the other's samples; both have the same unit.
  void merge(const Bins& other);
};

class Histogram {
public:
  // Allocates all buckets, 30 KiB; nothing else allocates but bins().
  Histogram();
  // From bins in whole units (as given by bins(1.0)); exact in that case, else rounded.
  explicit Histogram(const Bins& bins);

  void record(std::uint64_t value) noexcept { record(value, 1); }
  void record(std::uint64_t value, std::uint64_t times) noexcept {
    counts_[bucket(value)] += times;
    count_ += times;
    if (value < min_)
      min_ = value;
    if (value > max_)
      max_ = value;
  }
  void merge(const Histogram& other) noexcept;
  void clear() noexcept;

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  // Exact. 0 while empty.
  [[nodiscard]] std::uint64_t min() const noexcept { return count_ == 0 ? 0 : min_; }
  [[nodiscard]] std::uint64_t max() const noexcept { return max_; }
  // As Bins::percentile. 0 while empty.
  [[nodiscard]] double percentile(double q) const noexcept;

  // Everything that was recorded, times `unit`: clock::current().ns_per_tick if ticks were.
  [[nodiscard]] Bins bins(double unit = 1.0) const;

private:
  static constexpr unsigned sub_bits = 6;
  static constexpr unsigned sub_count = 1u << sub_bits;
  static constexpr std::size_t bucket_count = (64 - sub_bits + 1) * sub_count;

  // Values below 64 are their own bucket; from there each power of two has 64.
  static constexpr std::size_t bucket(std::uint64_t value) noexcept {
    if (value < sub_count)
      return static_cast<std::size_t>(value);
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - 1 - sub_bits;
    return static_cast<std::size_t>(shift * sub_count + (value >> shift));
  }
  static double midpoint(std::size_t bucket) noexcept;

  std::vector<std::uint64_t> counts_;
  std::uint64_t count_ = 0;
  std::uint64_t min_ = ~std::uint64_t{0};
  std::uint64_t max_ = 0;
};

// As summarise() of samples, from a histogram for each process.
Summary summarise(std::span<const Bins> runs);

}  // namespace schedlab::harness
