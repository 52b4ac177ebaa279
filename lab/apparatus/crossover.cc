#include "lab/apparatus/crossover.hh"

#include <fmt/format.h>

#include <cmath>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Findings;
using harness::Metric;

// One rung in one process: above 0 where the challenger loses.
struct Step {
  double at;
  double log_ratio;
};

constexpr double beyond = 2;  // how far outside the rungs "everywhere" and "nowhere" are put

// From where on all steps are won.
double place(const std::vector<Step>& steps) {
  std::size_t won = steps.size();
  while (won > 0 && steps[won - 1].log_ratio < 0)
    --won;
  if (won == 0)
    return steps.front().at / beyond;
  if (won == steps.size())
    return steps.back().at * beyond;
  const Step& lost = steps[won - 1];
  const Step& first = steps[won];
  const double share = lost.log_ratio / (lost.log_ratio - first.log_ratio);
  return lost.at * std::pow(first.at / lost.at, share);
}

std::vector<Step> steps_in(const Findings& findings, std::span<const Rung> rungs,
                           std::string_view name, harness::Better better, std::uint32_t process) {
  std::vector<Step> steps;
  for (const Rung& rung : rungs) {
    const Metric* const challenger = findings.metric(rung.challenger, name);
    const Metric* const reference = findings.metric(rung.reference, name);
    if (!challenger || !reference)
      continue;
    const auto a = harness::median_in(*challenger, process);
    const auto b = harness::median_in(*reference, process);
    if (!a || !b || *a <= 0 || *b <= 0)
      continue;
    const double log_ratio = std::log(*a / *b);
    steps.push_back({rung.at, better == harness::Better::higher ? -log_ratio : log_ratio});
  }
  return steps;
}

}  // namespace

std::optional<Crossover> find_crossover(const Findings& findings, std::span<const Rung> rungs,
                                        std::string_view metric, harness::Better better) {
  std::uint32_t processes = 0;
  for (const Rung& rung : rungs)
    if (const Metric* const measured = findings.metric(rung.challenger, metric))
      for (const auto& run : measured->per_run)
        processes = std::max(processes, run.process + 1);
  Crossover found;
  std::vector<double> places;
  for (std::uint32_t process = 0; process < processes; ++process) {
    const auto steps = steps_in(findings, rungs, metric, better, process);
    if (steps.empty())
      continue;
    places.push_back(place(steps));
    found.first = steps.front().at;
    found.last = steps.back().at;
  }
  if (places.empty())
    return {};
  found.from = {harness::median(places), harness::median_interval(places)};
  return found;
}

namespace {

// Three digits, and zeros in place of an exponent.
std::string plainly(double value) {
  if (value < 1000)
    return fmt::format("{:.3g}", value);
  const double step = std::pow(10, std::floor(std::log10(value)) - 2);
  return fmt::format("{:.0f}", std::round(value / step) * step);
}

}  // namespace

std::string text_of(const Crossover& crossover, std::string_view parameter) {
  const auto& [from, first, last] = crossover;
  const std::string range = first == last ? fmt::format("{} {}", parameter, first)
                                          : fmt::format("{} from {} to {}", parameter, first, last);
  const bool sure = !from.interval || (from.interval->high < first || from.interval->low > last);
  if (crossover.everywhere() && sure)
    return first == last ? "at " + range : "at every " + range;
  if (crossover.nowhere() && sure)
    return first == last ? "not at " + range : "at no " + range;
  if (from.interval && from.interval->low < first && from.interval->high > last)
    return fmt::format("from an unknown {} on (anywhere from {} to {})", parameter, first, last);
  const auto value = [&](double at) {
    return at < first  ? fmt::format("below {}", first)
           : at > last ? fmt::format("beyond {}", last)
                       : plainly(at);
  };
  std::string text = fmt::format("from {} {}", parameter, value(from.value));
  if (from.interval)
    text += fmt::format(" [{}, {}]", value(from.interval->low), value(from.interval->high));
  return text + " on";
}

}  // namespace schedlab::apparatus
