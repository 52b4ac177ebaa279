#include "lab/apparatus/cache_sizes.hh"

#include <algorithm>
#include <cmath>
#include <utility>

namespace schedlab::apparatus {

namespace {

constexpr std::uint64_t kib = 1024, mib = 1024 * kib, gib = 1024 * mib;
constexpr double smallest = 16.0 * kib;
constexpr int last_level = 5;

double end_of(const std::vector<CacheLevel>& caches, const SweepOptions& options) {
  const std::uint64_t wanted = caches.empty() ? without_caches : 4 * caches.back().size;
  return static_cast<double>(std::min(wanted, options.limit));
}

// Adds a size in whole KiB, unless there is one already that is less than `distance` times apart.
void add(Sizes& sizes, double size, double distance) {
  const double unit = size < 256.0 * kib ? 1.0 * kib : 4.0 * kib;
  const auto rounded = static_cast<std::uint64_t>(std::max(std::round(size / unit), 1.0) * unit);
  const auto close = [&](std::uint64_t other) {
    return std::abs(std::log(static_cast<double>(other) / static_cast<double>(rounded))) <
           std::log(distance);
  };
  if (std::ranges::none_of(sizes, close))
    sizes.push_back(rounded);
}

}  // namespace

std::vector<CacheLevel> caches_of(const affinity::Topology& topology, unsigned cpu) {
  std::vector<CacheLevel> caches;
  for (int level = 1; level <= last_level; ++level)
    if (const auto size = topology.cache_size(cpu, level);
        size > (caches.empty() ? 0 : caches.back().size))
      caches.push_back({"L" + std::to_string(level), size});
  return caches;
}

Sizes sweep_sizes(const std::vector<CacheLevel>& caches, const SweepOptions& options) {
  const double end = end_of(caches, options);
  Sizes sizes;
  add(sizes, end, 1.01);
  for (const auto& cache : caches)
    for (const int eighths : {4, 6, 7, 8, 9, 10, 12, 16}) {
      const double size = static_cast<double>(cache.size) * eighths / 8;
      const int step = size < dear ? 1 : options.coarse ? 8 : 2;
      if (size < end && eighths % step == 0)
        add(sizes, size, 1.01);
    }
  for (double size = smallest; size < end;) {
    add(sizes, size, size < dear ? 1.06 : 1.3);
    size *= size >= dear ? (options.coarse ? 4 : 2) : (options.coarse ? 2 : std::exp2(0.25));
  }
  std::ranges::sort(sizes);
  return sizes;
}

Sizes level_sizes(const std::vector<CacheLevel>& caches, const SweepOptions& options) {
  const double end = end_of(caches, options);
  Sizes sizes;
  double below = 0;
  for (const auto& cache : caches) {
    const auto size = static_cast<double>(cache.size);
    const double middle = below == 0 ? size / 2 : std::sqrt(below * size);
    below = size;
    if (middle < end)
      add(sizes, middle, 1.5);
  }
  add(sizes, end, 1.5);
  return sizes;
}

std::string size_word(std::uint64_t size) {
  for (const auto& [unit, letter] : {std::pair(gib, "G"), std::pair(mib, "M"), std::pair(kib, "K")})
    if (size >= unit && size % unit == 0)
      return std::to_string(size / unit) + letter;
  return std::to_string(size);
}

}  // namespace schedlab::apparatus
