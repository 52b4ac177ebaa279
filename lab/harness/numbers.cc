#include "lab/harness/numbers.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

namespace schedlab::harness {

namespace {

struct Scale {
  double factor;
  std::string_view unit;
};

constexpr std::array<Scale, 4> times = {{{1, "ns"}, {1e3, "us"}, {1e6, "ms"}, {1e9, "s"}}};
constexpr std::array<Scale, 4> sizes = {
    {{1, "B"}, {1024, "KiB"}, {1024.0 * 1024, "MiB"}, {1024.0 * 1024 * 1024, "GiB"}}};
constexpr std::array<Scale, 4> flows = {{{1, "B/s"}, {1e3, "kB/s"}, {1e6, "MB/s"}, {1e9, "GB/s"}}};
constexpr std::array<Scale, 4> rates = {{{1, "/s"}, {1e3, "k/s"}, {1e6, "M/s"}, {1e9, "G/s"}}};

Scale scale_for(double value, std::string_view unit) {
  std::span<const Scale> scales;
  if (unit == "ns")
    scales = times;
  else if (unit == "B")
    scales = sizes;
  else if (unit == "B/s")
    scales = flows;
  else if (unit == "1/s")
    scales = rates;
  else
    return {1, unit};
  Scale chosen = scales[0];
  for (const auto& scale : scales) {
    const double step = scale.factor / chosen.factor;
    if (std::abs(value) >= scale.factor * (1 - 0.5 / step))  // 999.6 is shown as 1.00 of the next
      chosen = scale;
  }
  return chosen;
}

// How many decimals show three significant digits of a value.
int decimals_of(double value) {
  const double size = std::abs(value);
  if (size == 0)
    return 2;
  int decimals = 0;
  for (double limit = 99.95; size < limit && decimals < 6; limit /= 10)
    ++decimals;
  return decimals;
}

std::string three_digits(double value) {
  return value == 0 ? "0" : fmt::format("{:.{}f}", value, decimals_of(value));
}

}  // namespace

std::string quantity(double value, std::string_view unit) {
  const Scale scale = scale_for(value, unit);
  const std::string number = three_digits(value / scale.factor);
  return scale.unit.empty() ? number : fmt::format("{} {}", number, scale.unit);
}

std::string Notation::number(double value) const {
  return fmt::format("{:.{}f}", value / factor, decimals);
}

Notation notation_for(double least, double typical, std::string_view unit) {
  const Scale scale = scale_for(typical, unit);
  const int of_least = least == 0 ? 0 : decimals_of(least / scale.factor) - 1;
  return {scale.factor, scale.unit, std::max(decimals_of(typical / scale.factor), of_least)};
}

std::string bounds(double value, const std::optional<Interval>& interval, std::string_view unit) {
  if (!interval)
    return "";
  const Scale scale = scale_for(value, unit);
  const int decimals = decimals_of(value / scale.factor);  // lined up with their value
  return fmt::format("[{:.{}f} {:.{}f}]", interval->low / scale.factor, decimals,
                     interval->high / scale.factor, decimals);
}

namespace {

std::string join_bounds(std::string text, const std::string& bounds) {
  return bounds.empty() ? text : text + " " + bounds;
}

}  // namespace

std::string with_interval(const Metric& metric) {
  if (!metric.median)
    return "not measured";
  return join_bounds(quantity(*metric.median, metric.unit),
                     bounds(*metric.median, metric.ci, metric.unit));
}

std::string with_interval(const Net& net, std::string_view unit) {
  if (!net.median)
    return "not measured";
  if (net.below_resolution)
    return "below resolution";
  return join_bounds(quantity(*net.median, unit), bounds(*net.median, net.ci, unit));
}

std::string percent(const Estimate& ratio) {
  const std::string text = fmt::format("{:.0f} %", 100 * ratio.value);
  if (!ratio.interval)
    return text;
  return fmt::format("{} [{:.0f} {:.0f}]", text, 100 * ratio.interval->low,
                     100 * ratio.interval->high);
}

}  // namespace schedlab::harness
