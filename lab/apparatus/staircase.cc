#include "lab/apparatus/staircase.hh"

#include "lab/harness/findings.hh"
#include "lab/harness/sample.hh"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

namespace schedlab::apparatus {

namespace {

constexpr double least_rise = 1.2;  // of a latency from level to level
constexpr double same_edge = 1.5;   // edges of two processes are one if no further apart
constexpr double steep = 1.35;      // latencies of neighbouring sizes
constexpr double closest = 1.1;     // sizes nearer than that are not split

double log_of(std::optional<double> latency) {
  return latency && *latency > 0 ? std::log(*latency) : harness::not_measured;
}

}  // namespace

std::size_t processes_of(const Staircase& staircase) {
  std::size_t count = 0;
  for (const auto* metric : staircase.latencies)
    count = std::max(count, metric->per_run.size());
  return count;
}

std::vector<harness::SharedRise> edges_of(const Staircase& staircase) {
  harness::CurveRuns curve{staircase.sizes, {}, {}};
  for (const auto* metric : staircase.latencies)
    curve.y.push_back(log_of(metric->median));
  for (std::uint32_t process = 0; process < processes_of(staircase); ++process) {
    auto& values = curve.processes.emplace_back();
    for (const auto* metric : staircase.latencies)
      values.push_back(log_of(harness::median_in(*metric, process)));
  }
  return harness::shared_rises(curve, {.least = std::log(least_rise)}, same_edge);
}

Runs places_of(const harness::SharedRise& edge) {
  Runs runs(edge.seen.size());
  for (std::size_t process = 0; process < runs.size(); ++process)
    if (const auto& rise = edge.seen[process])
      runs[process].push_back(rise->at);
  return runs;
}

const harness::SharedRise* edge_near(const std::vector<harness::SharedRise>& edges, double size) {
  const auto apart = [size](const harness::SharedRise& edge) {
    return std::abs(std::log(edge.rise.at / size));
  };
  const auto nearest = std::ranges::min_element(edges, {}, apart);
  return nearest == edges.end() || apart(*nearest) > std::log(edge_of_cache) ? nullptr : &*nearest;
}

Range well_inside(double below, double size) {
  const double high = 0.5 * size;
  const double low = below == 0 ? high / 4 : 4 * below <= high ? 4 * below : 2 * below;
  const double middle = std::sqrt(low * high);
  return {std::max(low, middle / 2), std::min(high, middle * 2)};
}

Runs latencies_in(const Staircase& staircase, Range range) {
  Runs runs(processes_of(staircase));
  for (std::uint32_t process = 0; process < runs.size(); ++process) {
    std::vector<double> inside;
    for (std::size_t i = 0; i < staircase.sizes.size(); ++i)
      if (staircase.sizes[i] >= range.low && staircase.sizes[i] <= range.high)
        if (const auto value = harness::median_in(*staircase.latencies[i], process))
          inside.push_back(*value);
    if (!inside.empty())
      runs[process].push_back(harness::median(inside));
  }
  return runs;
}

std::vector<std::uint64_t> steep_middles(const std::vector<std::uint64_t>& sizes,
                                         const std::vector<double>& latencies) {
  std::vector<std::pair<double, std::uint64_t>> gaps;
  for (std::size_t i = 1; i < sizes.size(); ++i) {
    const auto low = static_cast<double>(sizes[i - 1]), high = static_cast<double>(sizes[i]);
    if (!(latencies[i - 1] > 0 && latencies[i] > steep * latencies[i - 1]) || high < closest * low)
      continue;
    const auto middle = static_cast<std::uint64_t>(std::sqrt(low * high)) / 1024 * 1024;
    if (middle > sizes[i - 1])
      gaps.emplace_back(latencies[i] / latencies[i - 1], middle);
  }
  std::ranges::sort(gaps, std::greater{});
  std::vector<std::uint64_t> middles;
  for (const auto& gap : gaps)
    middles.push_back(gap.second);
  return middles;
}

}  // namespace schedlab::apparatus
