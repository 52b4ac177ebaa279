#include "lab/harness/merge.hh"

#include "lab/harness/validity.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace schedlab::harness {

namespace {

// A median of samples does not move with a tenth of them disturbed; above that it may.
constexpr double noisy_share = 0.10;
constexpr double note_share = 0.01;

using Runs = std::vector<std::vector<double>>;

// The values of one metric of one series, process by process.
Runs values_of(std::span<const Reply> replies, std::size_t series, std::size_t metric,
               bool clean_only) {
  Runs runs;
  for (const auto& reply : replies) {
    auto& run = runs.emplace_back();
    for (const auto& sample : reply.series[series].samples)
      if (!std::isnan(sample.values[metric]) && (!clean_only || faults(sample.proof) == 0))
        run.push_back(sample.values[metric]);
  }
  return runs;
}

std::size_t samples_in(const Runs& runs) {
  std::size_t count = 0;
  for (const auto& run : runs)
    count += run.size();
  return count;
}

// A difference that cannot be told from nothing, or is negative: what was subtracted was no floor.
bool not_above_zero(const std::optional<double>& value, const std::optional<Interval>& interval) {
  return interval ? interval->low <= 0 : value && *value <= 0;
}

class Merger {
public:
  Merger(const Plan& plan, std::span<const Reply> replies) : plan_(plan), replies_(replies) {}

  Series series(std::size_t index) const {
    const SeriesPlan& planned = plan_.series()[index];
    Series series;
    series.name = planned.name;
    for (const auto& [name, value] : planned.params)
      series.params.emplace_back(name, Value(value));
    series.driver = planned.driver;
    series.placement = placement(planned);
    if (planned.floor)
      series.params.emplace_back("role", Value("floor"));
    if (const std::string why = not_run(index); !why.empty()) {
      series.status = Status::skipped;
      series.reason = why;
      return series;
    }
    series.reason = failed_partly(index);
    add_metrics(index, series);
    add_proof(index, series);
    add_checks(index, series);
    series.status = worst(series.warnings);
    return series;
  }

private:
  Placement placement(const SeriesPlan& planned) const {
    Placement where{.relation = planned.relation, .cpus = planned.cpus, .logical = {}};
    for (const unsigned os : planned.cpus)
      if (const auto* cpu = plan_.topology().find(os))
        where.logical.push_back(cpu->logical);
    return where;
  }

  std::string not_run(std::size_t index) const {
    const SeriesPlan& planned = plan_.series()[index];
    if (!planned.skip.empty())
      return planned.skip;
    std::string failure = "no replicate process ended well";
    for (const auto& reply : replies_) {
      const auto& raw = reply.series[index];
      if (!raw.samples.empty())
        return "";
      failure = raw.failure.empty() ? "no time was left for it" : raw.failure;
    }
    return failure;
  }

  // Of a series that ran: what kept it from running in all processes, or to the end.
  std::string failed_partly(std::size_t index) const {
    std::size_t failed = 0;
    std::string failure;
    for (const auto& reply : replies_)
      if (!reply.series[index].failure.empty()) {
        ++failed;
        failure = reply.series[index].failure;
      }
    return failed == 0
               ? ""
               : fmt::format("{} of {} processes failed: {}", failed, replies_.size(), failure);
  }

  void add_metrics(std::size_t index, Series& series) const {
    const auto& planned = plan_.series()[index];
    for (std::size_t m = 0; m < plan_.lab().metrics.size(); ++m) {
      const auto derived = std::ranges::find(planned.derive, m, &Derivation::metric);
      const bool has_rule = derived != planned.derive.end();
      const Runs runs = has_rule && !derived->value.empty() ? derived_runs(derived->value)
                                                            : values_of(replies_, index, m, false);
      if (samples_in(runs) == 0)
        continue;
      Metric metric = metric_of(index, plan_.lab().metrics[m], runs);
      if (has_rule && !derived->value.empty() && not_above_zero(metric.median, metric.ci)) {
        metric.median.reset();
        metric.omitted["median"] = "below resolution";
      }
      if (!has_rule || derived->value.empty())
        add_clean(index, m, runs, metric);
      if (has_rule && !derived->floors.empty())
        add_net(*derived, runs, metric);
      series.metrics.push_back(std::move(metric));
    }
  }

  // Where the samples of a series were seen to run in one process.
  [[nodiscard]] std::vector<unsigned> cpus_seen(std::size_t index, std::size_t process) const {
    std::set<unsigned> seen;
    for (const auto& sample : replies_[process].series[index].samples)
      seen.insert(sample.proof.cpus.begin(), sample.proof.cpus.end());
    return {seen.begin(), seen.end()};
  }

  [[nodiscard]] Metric metric_of(std::size_t index, const MetricInfo& info,
                                 const Runs& runs) const {
    Metric metric = make_metric(info, runs);
    for (auto& run : metric.per_run)
      run.cpus = cpus_seen(index, run.process);
    return metric;
  }

  void add_clean(std::size_t index, std::size_t m, const Runs& all, Metric& metric) const {
    const Runs clean = values_of(replies_, index, m, true);
    if (samples_in(clean) == 0)
      metric.omitted["clean"] = "no sample was undisturbed";
    else if (samples_in(clean) == samples_in(all))
      metric.clean = static_cast<const Summary&>(metric);
    else
      metric.clean = summarise(clean);
  }

  // The value of a term in one process, or NaN: a median of samples, or what is derived from such.
  double term(const Term& wanted, std::size_t process) const {
    const auto& all = plan_.series();
    const auto at = std::ranges::find(all, wanted.series, &SeriesPlan::name);
    if (at == all.end())
      return not_measured;
    const auto rule = std::ranges::find(at->derive, wanted.metric, &Derivation::metric);
    if (rule != at->derive.end() && !rule->value.empty())
      return wanted.factor * sum(rule->value, process);
    const auto index = static_cast<std::size_t>(at - all.begin());
    const auto runs = values_of(replies_.subspan(process, 1), index, wanted.metric, false);
    return runs[0].empty() ? not_measured : wanted.factor * median(runs[0]);
  }

  double sum(const std::vector<Term>& terms, std::size_t process) const {
    double total = 0;
    for (const auto& wanted : terms)
      total += term(wanted, process);
    return total;
  }

  Runs derived_runs(const std::vector<Term>& terms) const {
    Runs runs(replies_.size());
    for (std::size_t process = 0; process < replies_.size(); ++process) {
      const double value = sum(terms, process);
      if (!std::isnan(value))
        runs[process].push_back(value);
    }
    return runs;
  }

  void add_net(const Derivation& rule, const Runs& runs, Metric& metric) const {
    std::vector<double> differences;
    std::vector<std::vector<double>> floors(rule.floors.size());
    for (std::size_t process = 0; process < runs.size(); ++process) {
      if (runs[process].empty())
        continue;
      double left = median(runs[process]);
      for (std::size_t f = 0; f < rule.floors.size(); ++f) {
        const double floor = term(rule.floors[f].term, process);
        left -= floor;
        if (!std::isnan(floor))
          floors[f].push_back(floor);
      }
      if (!std::isnan(left))
        differences.push_back(left);
    }
    if (differences.empty())
      return;
    for (std::size_t f = 0; f < rule.floors.size(); ++f)
      metric.floors.push_back({rule.floors[f].name, median(floors[f])});
    Net net{.median = median(differences), .ci = median_interval(differences)};
    net.below_resolution = not_above_zero(net.median, net.ci);
    metric.net = net;
  }

  void add_proof(std::size_t index, Series& series) const;
  void add_checks(std::size_t index, Series& series) const;

  const Plan& plan_;
  std::span<const Reply> replies_;
};

// What the subjects said of themselves: of each check one, the first that failed if any did.
void Merger::add_checks(std::size_t index, Series& series) const {
  const std::size_t begin = series.checks.size();
  for (const auto& reply : replies_)
    for (const auto& check : reply.series[index].checks) {
      const auto known = std::find_if(series.checks.begin() + static_cast<std::ptrdiff_t>(begin),
                                      series.checks.end(),
                                      [&](const Check& other) { return other.name == check.name; });
      if (known == series.checks.end())
        series.checks.push_back(check);
      else if (known->ok && !check.ok)
        *known = check;
    }
  for (std::size_t i = begin; i < series.checks.size(); ++i) {
    const Check& check = series.checks[i];
    if (!check.ok)
      series.warnings.push_back(make_warning(
          Code::check, {{"expected", check.expected}, {"seen", check.seen}}, {}, check.name));
  }
}

// What the proofs of a series say together.
struct Tally {
  std::size_t samples = 0;
  std::size_t migrated = 0;
  std::size_t preempted = 0;
  std::size_t busy = 0;
  std::size_t stolen = 0;
  std::uint64_t expected = 0;
  std::uint64_t counted = 0;
  double enough = 0;  // of the expected switches, sample by sample
  double wall_ns = 0;
  double foreign_ns = 0;
  double waited_ns = 0;
  std::uint64_t steal_ticks = 0;

  void add(const Proof& proof) {
    const unsigned found = faults(proof);
    ++samples;
    migrated += (found & fault_migrated) != 0;
    preempted += (found & fault_preempted) != 0;
    busy += (found & fault_busy) != 0;
    stolen += (found & fault_steal) != 0;
    expected += proof.expected_switches;
    counted += proof.expected_switches ? proof.counted_switches : 0;
    enough += proof.expected_switches ? enough_events(proof.expected_switches) : 0;
    wall_ns += proof.wall_ns;
    foreign_ns += std::isnan(proof.foreign_ns) ? 0 : std::max(proof.foreign_ns, 0.0);
    waited_ns += proof.waited_ns;
    steal_ticks += proof.steal_ticks;
  }

  [[nodiscard]] double share(std::size_t part) const {
    return static_cast<double>(part) / static_cast<double>(std::max<std::size_t>(samples, 1));
  }
};

void warn_share(const Tally& tally, std::size_t part, Code code, Fields evidence,
                std::vector<Warning>& warnings) {
  const double share = tally.share(part);
  if (share <= note_share)
    return;
  evidence.emplace_back("disturbed_samples", Value(part));
  evidence.emplace_back("samples", Value(tally.samples));
  warnings.push_back(make_warning(code, std::move(evidence),
                                  share > noisy_share ? Severity::noisy : Severity::note,
                                  fmt::format("{} of {} samples", part, tally.samples)));
}

void warn_shape(const Series& series, std::vector<Warning>& warnings) {
  if (series.metrics.empty())
    return;
  std::vector<double> values;
  for (const auto& run : series.metrics.front().per_run)
    values.insert(values.end(), run.values.begin(), run.values.end());
  const bool positive = std::ranges::all_of(values, [](double value) { return value > 0; });
  if (const auto modes = positive ? find_modes(values) : std::nullopt)
    warnings.push_back(make_warning(
        Code::bimodal,
        {{"low", modes->low}, {"high", modes->high}, {"high_share", modes->high_share}}, {},
        fmt::format("{:.0f} % of the samples lie around {:.4g} instead of {:.4g}",
                    100 * modes->high_share, modes->high, modes->low)));
  std::vector<double> medians;
  for (const auto& run : series.metrics.front().per_run)
    if (run.median)
      medians.push_back(*run.median);
  if (const auto drift = find_drift(medians))
    warnings.push_back(make_warning(Code::drift, {{"change", drift->change}, {"p", drift->p}}, {},
                                    fmt::format("{:+.1f} % over the run", 100 * drift->change)));
}

void Merger::add_proof(std::size_t index, Series& series) const {
  Tally tally;
  double shortest_ns = INFINITY;
  for (const auto& reply : replies_)
    for (const auto& sample : reply.series[index].samples) {
      tally.add(sample.proof);
      shortest_ns = std::min(shortest_ns, sample.elapsed_ns);
    }
  auto& warnings = series.warnings;
  if (tally.expected > 0) {
    const bool enough = static_cast<double>(tally.counted) >= tally.enough;
    series.checks.push_back({"context switches counted against expected", Value(tally.expected),
                             Value(tally.counted), enough});
    if (!enough)
      warnings.push_back(
          make_warning(Code::count, {{"expected", tally.expected}, {"counted", tally.counted}}));
  }
  if (!series.placement.cpus.empty()) {
    series.checks.push_back({"samples that stayed on their CPUs", Value(tally.samples),
                             Value(tally.samples - tally.migrated), tally.migrated == 0});
    if (tally.migrated > 0)
      warnings.push_back(make_warning(Code::migrated,
                                      {{"samples", tally.samples}, {"migrated", tally.migrated}},
                                      Severity::invalid));
  }
  warn_share(tally, tally.preempted, Code::preempted,
             {{"counted", tally.counted}, {"expected", tally.expected}}, warnings);
  warn_share(tally, tally.busy, Code::busy,
             {{"foreign_share", tally.foreign_ns / std::max(tally.wall_ns, 1.0)},
              {"waited_share", tally.waited_ns / std::max(tally.wall_ns, 1.0)}},
             warnings);
  warn_share(tally, tally.stolen, Code::steal, {{"steal_ticks", tally.steal_ticks}}, warnings);
  double clock_ns = 0;
  for (const auto& reply : replies_)
    clock_ns = std::max(clock_ns, reply.clock_pair_ns);
  if (clock_ns > 0.01 * shortest_ns)
    warnings.push_back(make_warning(
        Code::resolution, {{"clock_pair_ns", clock_ns}, {"shortest_sample_ns", shortest_ns}}));
  warn_shape(series, warnings);
}

}  // namespace

Metric make_metric(const MetricInfo& info, std::span<const std::vector<double>> runs) {
  Metric metric;
  static_cast<Summary&>(metric) = summarise(runs);
  metric.name = info.name;
  metric.unit = info.unit;
  metric.better = info.better;
  metric.kind = info.kind;
  for (std::size_t process = 0; process < runs.size(); ++process) {
    PerRun run;
    run.process = static_cast<std::uint32_t>(process);
    run.samples = runs[process].size();
    run.values = runs[process];
    if (!run.values.empty())
      run.median = median(run.values);
    metric.per_run.push_back(std::move(run));
  }
  return metric;
}

std::vector<Series> merge(const Plan& plan, std::span<const Reply> replies) {
  const Merger merger(plan, replies);
  std::vector<Series> result;
  for (std::size_t i = 0; i < plan.series().size(); ++i)
    result.push_back(merger.series(i));
  return result;
}

std::vector<Warning> lab_warnings(const Plan& plan, std::span<const Reply> replies) {
  std::vector<Warning> warnings;
  unsigned cut = 0;
  for (const auto& reply : replies) {
    cut = std::max(cut, reply.rounds_cut);
  }
  if (cut > 0)
    warnings.push_back(make_warning(
        Code::cut, {{"rounds_planned", replies[0].rounds_planned}, {"rounds_cut", cut}}, {},
        fmt::format("up to {} of {} rounds of a process were left out", cut,
                    replies[0].rounds_planned)));
  if (plan.preset() != Preset::smoke && replies.size() < 6)
    warnings.push_back(make_warning(Code::few, {{"processes", replies.size()}}));
  return warnings;
}

}  // namespace schedlab::harness
