#include "lab/apparatus/shares.hh"

#include "lab/harness/merge.hh"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace schedlab::apparatus {

using namespace harness;

namespace {

// Two digits of what is small, none behind the point of what is not.
std::string in_percent(double value) {
  const double percent = 100 * value;
  return percent != 0 && percent < 10 ? fmt::format("{:.2g}", percent)
                                      : fmt::format("{:.0f}", percent);
}

}  // namespace

void pool_shares(const Plan& plan, std::span<const std::size_t> indexes, LabResult& result) {
  for (const std::size_t index : indexes) {
    const MetricInfo& info = plan.lab().metrics[index];
    for (auto& series : result.series)
      for (auto& metric : series.metrics) {
        if (metric.name != info.name)
          continue;
        std::vector<std::vector<double>> means(plan.processes());
        for (const auto& run : metric.per_run)
          if (!run.values.empty() && run.process < means.size())
            means[run.process] = {std::accumulate(run.values.begin(), run.values.end(), 0.0) /
                                  static_cast<double>(run.values.size())};
        Metric pooled = make_metric(info, means);
        pooled.samples = metric.samples;
        metric = std::move(pooled);
      }
  }
}

std::string share(const Findings& findings, std::string_view series, std::string_view metric) {
  const Metric* found = findings.metric(series, metric);
  if (!found || !found->median)
    return "";
  std::string text = in_percent(*found->median) + " %";
  if (found->ci)
    text += fmt::format(" [{} {}]", in_percent(found->ci->low), in_percent(found->ci->high));
  return text;
}

Happened happened(const Findings& findings, std::string_view series, std::string_view metric) {
  const Metric* found = findings.metric(series, metric);
  if (!found || !found->median)
    return Happened::not_measured;
  if (!found->ci)
    return Happened::unclear;
  if (found->ci->low > 0)
    return Happened::sometimes;
  return found->ci->high > 0 ? Happened::unclear : Happened::never;
}

bool is_apart(const Series& series) {
  return series.placement.relation != "same-pu" && series.placement.relation != "unpinned";
}

bool measured_apart(const Findings& findings, std::string_view head, std::string_view metric) {
  return std::ranges::any_of(findings.result().series, [&](const Series& series) {
    return series.name.starts_with(head) && is_apart(series) &&
           happened(findings, series.name, metric) != Happened::not_measured;
  });
}

}  // namespace schedlab::apparatus
