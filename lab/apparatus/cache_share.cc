#include "lab/apparatus/cache_share.hh"

#include "lab/harness/validity.hh"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

namespace schedlab::apparatus {

namespace {

// The data or unified cache of a level above a CPU, or of the highest level for 0; null if none.
const affinity::Cache* cache_of(const affinity::Topology& topology, unsigned cpu, int level) {
  const affinity::Cache* found = nullptr;
  for (const auto& cache : topology.caches())
    if (cache.type != 'i' && (level == 0 || cache.level == level) && cache.cpus.contains(cpu) &&
        (!found || cache.level > found->level))
      found = &cache;
  return found;
}

}  // namespace

std::uint64_t last_level_sum(const affinity::Topology& topology, std::span<const unsigned> cpus) {
  std::set<const affinity::Cache*> caches;
  for (const unsigned cpu : cpus)
    if (const auto* cache = cache_of(topology, cpu, 0))
      caches.insert(cache);
  std::uint64_t sum = 0;
  for (const auto* cache : caches)
    sum += cache->size;
  return sum;
}

std::uint64_t cache_share(const affinity::Topology& topology, std::span<const unsigned> cpus,
                          int level) {
  std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
  for (const unsigned cpu : cpus) {
    const auto* cache = cache_of(topology, cpu, level);
    if (!cache)
      return 0;
    const auto sharers =
        std::ranges::count_if(cpus, [&](unsigned other) { return cache->cpus.contains(other); });
    least = std::min(least, cache->size / static_cast<std::uint64_t>(sharers));
  }
  return cpus.empty() ? 0 : least;
}

harness::Warning below_rule(std::string_view lab, std::string_view what, std::string_view size,
                            double to_caches, std::uint64_t rule) {
  auto warning = harness::make_warning(
      harness::Code::cut, {{"size", size}, {"size_to_caches", to_caches}, {"rule", rule}}, {},
      fmt::format("{} of {} is {:.2f} x the last-level caches that the topology shows, and {} x is "
                  "asked for",
                  what, size, to_caches, rule));
  warning.fix = fmt::format("Use --full or raise {}.limit, if there is memory for it.", lab);
  return warning;
}

}  // namespace schedlab::apparatus
