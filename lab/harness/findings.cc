#include "lab/harness/findings.hh"

#include "lab/base/text.hh"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace schedlab::harness {

namespace {

// The medians of the processes in which both were measured, in step.
struct Paired {
  std::vector<double> a;
  std::vector<double> b;
};

// Empty if one of the metrics is missing.
Paired pair_up(const Metric* a, const Metric* b) {
  Paired paired;
  if (!a || !b)
    return paired;
  for (const auto& run : a->per_run) {
    const auto other = median_in(*b, run.process);
    if (!run.median || !other)
      continue;
    paired.a.push_back(*run.median);
    paired.b.push_back(*other);
  }
  return paired;
}

}  // namespace

const Metric* find_metric(const Series& series, std::string_view name) noexcept {
  return series.status == Status::invalid ? nullptr : recorded_metric(series, name);
}

const Metric* recorded_metric(const Series& series, std::string_view name) noexcept {
  const auto found = std::ranges::find(series.metrics, name, &Metric::name);
  return found == series.metrics.end() ? nullptr : &*found;
}

const Value* find_param(const Series& series, std::string_view name) noexcept {
  const auto found = std::ranges::find(series.params, name, &Fields::value_type::first);
  return found == series.params.end() ? nullptr : &found->second;
}

std::string param_text(const Series& series, std::string_view name) {
  const Value* value = find_param(series, name);
  if (!value)
    return "";
  return value->text() ? *value->text() : fmt::format("{:g}", *value->number());
}

double param_number(const Series& series, std::string_view name) {
  const Value* value = find_param(series, name);
  if (!value)
    return 0;
  return value->number() ? *value->number()
                         : static_cast<double>(to_number(*value->text()).value_or(0));
}

std::optional<double> median_in(const Metric& metric, std::uint32_t process) noexcept {
  const auto run = std::ranges::find(metric.per_run, process, &PerRun::process);
  return run == metric.per_run.end() ? std::nullopt : run->median;
}

const Series* Findings::series(std::string_view name) const noexcept {
  const auto found = std::ranges::find(result_.series, name, &Series::name);
  return found == result_.series.end() ? nullptr : &*found;
}

const Metric* Findings::metric(std::string_view series_name,
                               std::string_view metric_name) const noexcept {
  const Series* found = series(series_name);
  return found ? find_metric(*found, metric_name) : nullptr;
}

std::optional<Estimate> Findings::ratio(std::string_view series_a, std::string_view series_b,
                                        std::string_view metric_name) const {
  const Paired paired = pair_up(metric(series_a, metric_name), metric(series_b, metric_name));
  const auto positive = [](double value) { return value > 0; };
  if (paired.a.empty() || !std::ranges::all_of(paired.a, positive) ||
      !std::ranges::all_of(paired.b, positive))
    return std::nullopt;
  return paired_ratio(paired.a, paired.b);
}

std::optional<Estimate> Findings::difference(std::string_view series_a, std::string_view series_b,
                                             std::string_view metric_name) const {
  const Paired paired = pair_up(metric(series_a, metric_name), metric(series_b, metric_name));
  if (paired.a.empty())
    return std::nullopt;
  return paired_difference(paired.a, paired.b);
}

}  // namespace schedlab::harness
