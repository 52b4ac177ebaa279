#pragma once
// What measured series say of scaling: speedups, and the coefficients of the models, found in each
// process from that process's medians, so that they have intervals. Series are named
// GROWTH/WORK/TASKS/PLACE/WORKERS, have params of these names, and a metric "rate". All pure.

#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// The place of series that have more workers than CPUs: no points of a curve.
inline constexpr std::string_view crowded = "crowded";
// A param of series two of whose workers share a core.
inline constexpr std::string_view siblings_param = "siblings";

struct Curve {
  std::string growth;  // strong, weak
  std::string work;    // as Job's words
  std::string tasks;
  std::string place;
  friend bool operator==(const Curve&, const Curve&) = default;

  // "strong/chain/threads/per-core".
  [[nodiscard]] std::string name() const;
  [[nodiscard]] std::string series(double workers) const;
};

// In the order of their first series, without the crowded ones.
std::vector<Curve> curves_of(const harness::LabResult& result);

// Which of a lab's metrics gets what.
struct ScalingMetrics {
  std::span<const harness::MetricInfo> infos;
  std::size_t speedup = 0;
  std::size_t efficiency = 0;  // speedup by workers
  std::size_t serial = 0;      // Karp-Flatt of a point of strong growth; the share that a fit finds
  std::size_t contention = 0;
  std::size_t crosstalk = 0;
  std::size_t misfit = 0;
};

// Adds to each series its speedup over one worker of its curve, or of `main` where it is crowded.
void add_speedups(harness::LabResult& result, const ScalingMetrics& metrics);

// What keeps coefficients from meaning what they say.
struct ScalingConditions {
  std::size_t workers = 0;  // most, of those that were fitted; 0: not looked at
  // What one worker of many keeps of the pace that it has alone, by chains of additions: less than
  // 1 where a lone core runs faster (turbo), or time was stolen.
  std::optional<harness::Estimate> pace;
  // The same by work that fills a core, as a share of that: about 1 where each worker has a core,
  // about a half where two of them share one.
  std::optional<harness::Estimate> width;

  [[nodiscard]] bool one_core() const noexcept;
  // "a lone worker is 4.1 % faster than one of 2; each has a core of its own".
  [[nodiscard]] std::string text() const;
};
ScalingConditions conditions_of(const harness::LabResult& result);

// For each curve the fit of Amdahl or of Gustafson, and of the Universal Scalability Law; skipped,
// with the reason, where the points do not bear it.
std::vector<harness::Series> fit_series(const harness::LabResult& result,
                                        const ScalingMetrics& metrics);
// Its name: "fit/amdahl/strong/serial/threads/per-core".
std::string fit_name(std::string_view model, const Curve& curve);

// C67: confirmed if processes make work that nobody waits for much faster, the more CPUs the more.
harness::Judgement judge_processes_scale(const harness::Findings& findings);

}  // namespace schedlab::apparatus
