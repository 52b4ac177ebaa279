#include "lab/apparatus/scaling_curves.hh"

#include "lab/apparatus/quote.hh"
#include "lab/base/text.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/scaling.hh"
#include "lab/harness/validity.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace schedlab::apparatus {

namespace {

using namespace harness;

using Runs = std::vector<std::vector<double>>;

// Of two CPUs that are one core, chains have about twice one's pace, and wide work about once.
constexpr double one_core_width = 0.8;
// A pace that is not kept is worth a word from here on.
constexpr double kept_pace = 0.97;

Curve curve_of(const Series& series) {
  return {param_text(series, "growth"), param_text(series, "work"), param_text(series, "tasks"),
          param_text(series, "place")};
}

double workers_of(const Series& series) {
  return param_number(series, "workers");
}

bool is_measured(const Series& series) {
  return find_metric(series, "rate");
}

const Series* find_series(const LabResult& result, std::string_view name) {
  const auto found = std::ranges::find(result.series, name, &Series::name);
  return found == result.series.end() || !is_measured(*found) ? nullptr : &*found;
}

std::size_t processes_of(const Series& series) {
  std::size_t count = 0;
  for (const PerRun& run : find_metric(series, "rate")->per_run)
    count = std::max<std::size_t>(count, run.process + 1);
  return count;
}

std::optional<double> rate_in(const Series& series, std::size_t process) {
  return median_in(*find_metric(series, "rate"), static_cast<std::uint32_t>(process));
}

// The points of a curve whose workers have a core each, and its processes.
struct Points {
  std::vector<const Series*> series;  // ascending by workers
  std::size_t processes = 0;

  // Rates by workers in one process; empty if one was not measured there.
  [[nodiscard]] std::vector<ScalingPoint> in(std::size_t process) const {
    std::vector<ScalingPoint> points;
    for (const Series* one : series)
      if (const auto rate = rate_in(*one, process))
        points.push_back({workers_of(*one), *rate});
    return points.size() == series.size() ? points : std::vector<ScalingPoint>{};
  }
};

Points points_of(const LabResult& result, const Curve& curve) {
  Points points;
  for (const Series& series : result.series)
    if (is_measured(series) && curve_of(series) == curve && !find_param(series, siblings_param)) {
      points.series.push_back(&series);
      points.processes = std::max(points.processes, processes_of(series));
    }
  std::ranges::sort(points.series, {}, [](const Series* one) { return workers_of(*one); });
  return points;
}

std::vector<ScalingPoint> speedups(std::vector<ScalingPoint> rates) {
  for (std::size_t i = rates.size(); i-- > 0;)
    rates[i].value /= rates[0].value;
  return rates;
}

// Nothing where no process has a value.
void put(Series& series, const ScalingMetrics& metrics, std::size_t which, const Runs& runs) {
  if (std::ranges::any_of(runs, [](const auto& run) { return !run.empty(); }))
    series.metrics.push_back(make_metric(metrics.infos[which], runs));
}

void add_speedup(Series& series, const Series& one, const ScalingMetrics& metrics) {
  const double workers = workers_of(series);
  const bool is_crowded = param_text(series, "place") == crowded;
  Runs gained(processes_of(series)), kept(gained.size()), serial(gained.size());
  for (std::size_t process = 0; process < gained.size(); ++process) {
    const auto rate = rate_in(series, process), alone = rate_in(one, process);
    if (!rate || !alone)
      continue;
    const double speedup = *rate / *alone;
    gained[process] = {speedup};
    if (is_crowded)
      continue;
    kept[process] = {speedup / workers};
    if (workers > 1 && param_text(series, "growth") == "strong")
      serial[process] = {karp_flatt(speedup, workers)};
  }
  put(series, metrics, metrics.speedup, gained);
  put(series, metrics, metrics.efficiency, kept);
  put(series, metrics, metrics.serial, serial);
}

// What a model finds in each process.
struct Found {
  Runs serial, contention, crosstalk, misfit;
  std::vector<UslFit> laws;
  explicit Found(std::size_t processes)
      : serial(processes), contention(processes), crosstalk(processes), misfit(processes) {}

  void add(std::size_t process, const SerialFit& fit) {
    serial[process] = {fit.serial.value};
    if (fit.serial.error)  // a curve always goes through a single point
      misfit[process] = {fit.misfit};
  }
  void add(std::size_t process, const UslFit& fit) {
    contention[process] = {fit.contention.value};
    crosstalk[process] = {fit.crosstalk.value};
    misfit[process] = {fit.misfit};
    laws.push_back(fit);
  }
};

Found find_coefficients(const Points& points, std::string_view model) {
  Found found(points.processes);
  for (std::size_t process = 0; process < points.processes; ++process) {
    const auto rates = points.in(process);
    if (rates.empty())
      continue;
    if (model == "usl") {
      if (const auto fit = fit_usl(rates))
        found.add(process, *fit);
    } else if (const auto fit =
                   model == "amdahl" ? fit_amdahl(speedups(rates)) : fit_gustafson(speedups(rates)))
      found.add(process, *fit);
  }
  return found;
}

// The median over the processes in which there is one.
template <typename F>
void add_param(Series& series, std::string_view name, const std::vector<UslFit>& laws, F value_of) {
  std::vector<double> values;
  for (const UslFit& law : laws)
    if (const std::optional<double> value = value_of(law))
      values.push_back(*value);
  if (!values.empty() && 2 * values.size() > laws.size())
    series.params.emplace_back(name, Value(median(values)));
}

std::string objection(const Points& points, const ScalingConditions& conditions,
                      std::string_view model) {
  if (points.series.empty() || workers_of(*points.series.front()) != 1)
    return "one worker alone was not measured";
  if (points.series.size() < 2)
    return "needs 2 workers or more, each with a core and a CPU's worth of quota";
  if (conditions.one_core())
    return fmt::format("two of the CPUs are one core, whatever the topology says: work that fills "
                       "a core has {} of the pace there that chains have",
                       percent(*conditions.width));
  if (model == "usl" && points.series.size() < usl_points)
    return fmt::format("needs >= {} numbers of workers, each with a core; {} were measured",
                       usl_points, points.series.size());
  return "";
}

Series fit_of(const LabResult& result, const Curve& curve, std::string_view model,
              const ScalingConditions& conditions, const ScalingMetrics& metrics) {
  Series series;
  series.name = fit_name(model, curve);
  series.placement.relation = "fits";
  series.params = {{"model", Value(std::string(model))},
                   {"growth", Value(curve.growth)},
                   {"work", Value(curve.work)},
                   {"tasks", Value(curve.tasks)},
                   {"place", Value(curve.place)}};
  const Points points = points_of(result, curve);
  series.reason = objection(points, conditions, model);
  if (!series.reason.empty()) {
    series.status = Status::skipped;
    return series;
  }
  const Found found = find_coefficients(points, model);
  put(series, metrics, metrics.serial, found.serial);
  put(series, metrics, metrics.contention, found.contention);
  put(series, metrics, metrics.crosstalk, found.crosstalk);
  put(series, metrics, metrics.misfit, found.misfit);
  add_param(series, "peak", found.laws, [](const UslFit& law) { return law.peak(); });
  add_param(series, "limit", found.laws, [](const UslFit& law) { return law.limit(); });
  add_param(series, "optimum", found.laws, [](const UslFit& law) { return law.optimum(); });
  if (conditions.pace && conditions.pace->value < kept_pace)
    series.warnings.push_back(make_warning(
        Code::freq, {{"pace", conditions.pace->value}, {"workers", conditions.workers}},
        Severity::note, conditions.text()));
  series.status = worst(series.warnings);
  return series;
}

// The curve of a kind of work, by threads where they were measured.
const Curve* curve_by(const std::vector<Curve>& curves, std::string_view work) {
  const Curve* found = nullptr;
  for (const Curve& curve : curves)
    if (curve.growth == "strong" && curve.work == work && (!found || curve.tasks == "threads") &&
        (!found || found->tasks != "threads"))
      found = &curve;
  return found;
}

}  // namespace

std::string Curve::name() const {
  return fmt::format("{}/{}/{}/{}", growth, work, tasks, place);
}

std::string Curve::series(double workers) const {
  return fmt::format("{}/{:g}", name(), workers);
}

std::string fit_name(std::string_view model, const Curve& curve) {
  return fmt::format("fit/{}/{}", model, curve.name());
}

std::vector<Curve> curves_of(const LabResult& result) {
  std::vector<Curve> curves;
  for (const Series& series : result.series) {
    const Curve curve = curve_of(series);
    const bool is_point = find_param(series, "workers") && curve.place != crowded;
    if (is_point && std::ranges::find(curves, curve) == curves.end())
      curves.push_back(curve);
  }
  return curves;
}

void add_speedups(LabResult& result, const ScalingMetrics& metrics) {
  const auto curves = curves_of(result);
  for (Series& series : result.series) {
    if (!find_param(series, "workers") || !is_measured(series))
      continue;
    Curve curve = curve_of(series);
    if (curve.place == crowded) {
      const auto like = std::ranges::find_if(curves, [&](const Curve& one) {
        return one.growth == curve.growth && one.work == curve.work && one.tasks == curve.tasks;
      });
      if (like == curves.end())
        continue;
      curve = *like;
    }
    if (const Series* one = find_series(result, curve.series(1)))
      add_speedup(series, *one, metrics);
  }
}

bool ScalingConditions::one_core() const noexcept {
  return width && (width->interval ? width->interval->high : width->value) < one_core_width;
}

std::string ScalingConditions::text() const {
  std::vector<std::string> parts;
  if (pace)
    parts.push_back(fmt::format("one of {} workers keeps {} of the pace of one alone", workers,
                                percent(*pace)));
  if (width)
    parts.push_back(one_core()
                        ? "two of the CPUs are one core"
                        : fmt::format("work that fills a core keeps {} of that", percent(*width)));
  return join(parts, "; ");
}

ScalingConditions conditions_of(const LabResult& result) {
  ScalingConditions conditions;
  const auto curves = curves_of(result);
  const Curve* chain = curve_by(curves, "chain");
  if (!chain)
    return conditions;
  const Points points = points_of(result, *chain);
  if (points.series.size() < 2 || workers_of(*points.series.front()) != 1)
    return conditions;
  const double most = workers_of(*points.series.back());
  conditions.workers = static_cast<std::size_t>(most);
  const Findings findings(result);
  const auto kept = [&](const Curve& curve) {
    std::vector<double> shares;
    const Series *all = find_series(result, curve.series(most)),
                 *one = find_series(result, curve.series(1));
    for (std::size_t process = 0; all && one && process < points.processes; ++process)
      if (const auto rate = rate_in(*all, process), alone = rate_in(*one, process); rate && alone)
        shares.push_back(*rate / *alone / most);
    return shares;
  };
  const auto pace = kept(*chain);
  if (pace.empty())
    return conditions;
  conditions.pace = Estimate{median(pace), median_interval(pace)};
  const Curve* wide = curve_by(curves, "wide");
  const auto width = wide ? kept(*wide) : std::vector<double>{};
  if (width.size() == pace.size())
    conditions.width = paired_ratio(width, pace);
  return conditions;
}

std::vector<Series> fit_series(const LabResult& result, const ScalingMetrics& metrics) {
  const ScalingConditions conditions = conditions_of(result);
  std::vector<Series> fits, laws;
  for (const Curve& curve : curves_of(result)) {
    if (curve.growth == "weak") {
      fits.push_back(fit_of(result, curve, "gustafson", conditions, metrics));
      continue;
    }
    fits.push_back(fit_of(result, curve, "amdahl", conditions, metrics));
    laws.push_back(fit_of(result, curve, "usl", conditions, metrics));
  }
  std::ranges::move(laws, std::back_inserter(fits));
  return fits;
}

Judgement judge_processes_scale(const Findings& findings) {
  Judgement judgement;
  judgement.needs = "speedup_scaling with 6 processes or more on 2 CPUs or more";
  const LabResult& result = findings.result();
  for (const Curve& curve : curves_of(result)) {
    if (curve.growth != "strong" || curve.work != "chain" || curve.tasks != "processes")
      continue;
    const Points points = points_of(result, curve);
    if (points.series.size() < 2)
      continue;
    const Series& most = *points.series.back();
    const Metric* speedup = find_metric(most, "speedup");
    if (!speedup || !speedup->ci)
      continue;
    const double workers = workers_of(most);
    Curve threads = curve;
    threads.tasks = "threads";
    const std::string same = quote(findings, threads.series(workers), "speedup");
    const std::string share = quote(findings, fit_name("amdahl", curve), "serial");
    judgement.evidence = fmt::format(
        "{:g} processes do the same work {} times as fast as one{}{}", workers,
        with_interval(*speedup), share.empty() ? "" : ", Amdahl's serial share " + share,
        same.empty() ? "" : "; threads, without an interpreter lock, " + same + " times");
    judgement.needs.clear();
    if (speedup->ci->low > 1 + 0.5 * (workers - 1))
      judgement.verdict = Verdict::confirmed;
    else if (speedup->ci->high < 1.1)
      judgement.verdict = Verdict::refuted;
    else
      judgement.needs = "a quieter machine, or CPUs that are cores of their own";
    break;
  }
  return judgement;
}

}  // namespace schedlab::apparatus
