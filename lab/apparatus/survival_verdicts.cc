#include "lab/apparatus/survival_verdicts.hh"

#include "lab/apparatus/quote.hh"
#include "lab/apparatus/verdicts.hh"

#include <algorithm>

namespace schedlab::apparatus {

using namespace harness;

namespace {

// With fewer a window of some nanoseconds may never have been met.
constexpr double kills_wanted = 20;

}  // namespace

std::string step_series(procs::Step step) {
  return fmt::format("{}/{}", procs::of_worker(step) ? "worker" : "parent", procs::to_text(step));
}

double total_of(const Series& series, std::string_view name) {
  const Metric* metric = find_metric(series, name);
  double total = 0;
  if (metric)
    for (const auto& run : metric->per_run)
      for (const double value : run.values)
        total += value;
  return total;
}

Judgement judge_survival(const Findings& findings) {
  Judgement judgement;
  double kills = 0;
  double bad = 0;
  double least = 1e9;
  for (std::size_t i = 0; i < procs::step_count; ++i) {
    const auto* series = findings.series(step_series(static_cast<procs::Step>(i)));
    const double landed = series ? total_of(*series, "kills") : 0;
    least = std::min(least, landed);
  }
  for (const auto& series : findings.result().series) {
    if (series.name.ends_with("/python"))
      continue;
    kills += total_of(series, "kills");
    for (const auto* name : {"lost", "doubled", "hurt", "unnamed", "left"})
      bad += total_of(series, name);
    if (find_metric(series, "kills") && !checks_hold(&series))
      bad = std::max(bad, 1.0);
  }
  judgement.evidence = fmt::format(
      "{:.0f} kills, at least {:.0f} at each of {} steps; tasks lost, begun twice, hurt or blamed "
      "wrongly, or processes left: {:.0f}",
      kills, least, procs::step_count, bad);
  if (bad > 0) {
    judgement.verdict = Verdict::refuted;
  } else if (least >= kills_wanted) {
    judgement.verdict = Verdict::confirmed;
  } else {
    judgement.needs = fmt::format("pool_survival with at least {:.0f} kills at each step: more "
                                  "processes, or --full",
                                  kills_wanted);
  }
  return judgement;
}

Judgement judge_offload(const Findings& findings) {
  Judgement judgement;
  judgement.needs = "pool_survival with 6 processes or more, and the part loop";
  const Metric* here = findings.metric("loop/here", "late");
  const Metric* there = findings.metric("loop/in-pool", "late");
  const Series* crash = findings.series("loop/crash");
  const auto ratio = findings.ratio("loop/in-pool", "loop/here", "late");
  if (!here || !there || !crash || !find_metric(*crash, "late") || !ratio || !ratio->interval)
    return judgement;
  const bool survived = checks_hold(crash);
  judgement.evidence = fmt::format(
      "a sleeper of the loop woke {} late beside 5 ms of work in the loop's thread, {} beside the "
      "same in a pool; the loop {} its crashes",
      with_interval(*here), with_interval(*there), survived ? "went on after" : "did not survive");
  if (!survived || ratio->interval->low > 0.5) {
    judgement.verdict = Verdict::refuted;
    judgement.needs.clear();
  } else if (ratio->interval->high < 0.5) {
    judgement.verdict = Verdict::confirmed;
    judgement.needs.clear();
  }
  return judgement;
}

}  // namespace schedlab::apparatus
