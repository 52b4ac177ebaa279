#include "lab/harness/change_point.hh"

#include "lab/harness/statistics.hh"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

namespace schedlab::harness {

namespace {

// Of a normal distribution: the median deviation of differences of neighbours, as a standard
// deviation of the values.
constexpr double difference_scale = 1.4826 / 1.4142135623730951;

// How much values scatter around their level. Differences of neighbours see little of the levels:
// at a step there is one among many.
double scatter(std::span<const double> values) {
  std::vector<double> differences;
  for (std::size_t i = 1; i < values.size(); ++i)
    differences.push_back(values[i] - values[i - 1]);
  return differences.empty() ? 0 : difference_scale * median_deviation(differences);
}

// Squared deviations of values[begin, end) from their mean, by running sums.
class Deviations {
public:
  explicit Deviations(std::span<const double> values) : sums_{0}, squares_{0} {
    const double centre = median(values);  // keeps the sums small
    for (const double value : values) {
      sums_.push_back(sums_.back() + value - centre);
      squares_.push_back(squares_.back() + (value - centre) * (value - centre));
    }
  }

  [[nodiscard]] double operator()(std::size_t begin, std::size_t end) const {
    const double sum = sums_[end] - sums_[begin];
    return squares_[end] - squares_[begin] - sum * sum / static_cast<double>(end - begin);
  }

private:
  std::vector<double> sums_;
  std::vector<double> squares_;
};

struct Run {
  std::size_t begin;
  std::size_t end;
};

// The runs that are levels: the first, and those that are long enough.
std::vector<Run> levels_of(std::span<const double> x, const std::vector<std::size_t>& starts,
                           double span) {
  std::vector<Run> levels;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const Run run{starts[i], i + 1 < starts.size() ? starts[i + 1] : x.size()};
    if (i == 0 || x[run.end - 1] >= span * x[run.begin])
      levels.push_back(run);
  }
  return levels;
}

// Where y first reaches `height` on the way from index `from` to index `to`.
double crossing(std::span<const double> x, std::span<const double> y, std::size_t from,
                std::size_t to, double height) {
  std::size_t above = from + 1;
  while (above < to && y[above] < height)
    ++above;
  const double rise = y[above] - y[above - 1];
  const double share = rise > 0 ? std::clamp((height - y[above - 1]) / rise, 0.0, 1.0) : 1.0;
  return x[above - 1] * std::pow(x[above] / x[above - 1], share);
}

double apart(double a, double b) {
  return std::max(a / b, b / a);
}

std::optional<Rise> nearest(const std::vector<Rise>& rises, double at, double within) {
  const auto closer = [at](const Rise& a, const Rise& b) {
    return apart(a.at, at) < apart(b.at, at);
  };
  const auto found = std::ranges::min_element(rises, closer);
  return found == rises.end() || apart(found->at, at) > within ? std::nullopt
                                                               : std::optional(*found);
}

// The rises of what was measured of a curve, less an open one.
std::vector<Rise> settled_rises(std::span<const double> x, std::span<const double> y,
                                const RiseOptions& options) {
  std::vector<double> at, values;
  for (std::size_t i = 0; i < x.size(); ++i)
    if (!std::isnan(y[i])) {
      at.push_back(x[i]);
      values.push_back(y[i]);
    }
  auto rises = find_rises(at, values, options);
  std::erase_if(rises, [](const Rise& rise) { return rise.open; });
  return rises;
}

}  // namespace

std::vector<std::size_t> level_runs(std::span<const double> values, double least) {
  const std::size_t count = values.size();
  if (count == 0)
    return {};
  const Deviations deviations(values);
  const double sigma = scatter(values);
  const double price =
      std::max(0.5 * least * least, 4 * sigma * sigma * std::log(static_cast<double>(count) + 1));
  // best[end]: the price of the first `end` values; start[end]: where their last run begins.
  std::vector<double> best(count + 1, std::numeric_limits<double>::infinity());
  std::vector<std::size_t> start(count + 1, 0);
  best[0] = 0;
  for (std::size_t end = 1; end <= count; ++end)
    for (std::size_t begin = 0; begin < end; ++begin) {
      const double cost = best[begin] + deviations(begin, end) + price;
      if (cost < best[end]) {
        best[end] = cost;
        start[end] = begin;
      }
    }
  std::vector<std::size_t> starts;
  for (std::size_t end = count; end > 0; end = start[end])
    starts.push_back(start[end]);
  std::ranges::reverse(starts);
  return starts;
}

std::vector<Rise> find_rises(std::span<const double> x, std::span<const double> y,
                             const RiseOptions& options) {
  assert(x.size() == y.size());
  std::vector<Rise> rises;
  if (x.size() < 2)
    return rises;
  const auto starts = level_runs(y, options.least);
  auto levels = levels_of(x, starts, options.level_span);
  const bool open = levels.back().end != x.size();
  if (open)
    levels.push_back({starts.back(), x.size()});
  const auto height = [&](const Run& run) {
    return median(y.subspan(run.begin, run.end - run.begin));
  };
  for (std::size_t i = 1; i < levels.size(); ++i) {
    const Run& lower = levels[i - 1];
    const Run& upper = levels[i];
    Rise rise{.from = x[lower.end - 1],
              .to = x[upper.begin],
              .low = height(lower),
              .high = height(upper),
              .open = open && i + 1 == levels.size()};
    if (rise.high - rise.low < options.least)
      continue;
    rise.at = crossing(x, y, lower.end - 1, upper.begin, 0.5 * (rise.low + rise.high));
    rises.push_back(rise);
  }
  return rises;
}

std::vector<SharedRise> shared_rises(const CurveRuns& curve, const RiseOptions& options,
                                     double same) {
  std::vector<std::vector<Rise>> by_process;
  for (const auto& values : curve.processes)
    by_process.push_back(settled_rises(curve.x, values, options));
  std::vector<SharedRise> shared;
  for (const auto& rise : settled_rises(curve.x, curve.y, options)) {
    SharedRise found{rise, {}};
    for (const auto& rises : by_process)
      found.seen.push_back(nearest(rises, rise.at, same));
    shared.push_back(std::move(found));
  }
  return shared;
}

}  // namespace schedlab::harness
