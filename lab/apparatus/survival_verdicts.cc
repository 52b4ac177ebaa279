#include "lab/apparatus/survival_verdicts.hh"

#include "lab/apparatus/pool_kills.hh"
#include "lab/apparatus/pool_loop.hh"
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

Judgement judge_survival(const Findings& findings) {
  Judgement judgement;
  double kills = 0;
  double bad = 0;
  double least = 1e9;
  bool sound = true;
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
    if (fails(&series, harmless_check) || fails(&series, nobody_left_check))
      bad = std::max(bad, 1.0);
    sound = sound && (!recorded_metric(series, "kills") || is_sound(&series));
  }
  judgement.evidence = fmt::format(
      "{:.0f} kills, at least {:.0f} at each of {} steps; tasks lost, begun twice, hurt or blamed "
      "wrongly, or processes left: {:.0f}",
      kills, least, procs::step_count, bad);
  if (bad > 0) {
    judgement.verdict = Verdict::refuted;
  } else if (!sound) {
    judgement.needs = "pool_survival, all of whose checks hold";
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
  if (fails(crash, pieces_check))
    return refuted(fmt::format("of the crashes of a pool's worker the loop was told of {}",
                               seen_of_expected(*find_check(crash, pieces_check))));
  if (!here || !there || !is_sound(crash) || !ratio || !ratio->interval)
    return judgement;
  judgement.evidence = fmt::format(
      "a sleeper of the loop woke {} late beside 5 ms of work in the loop's thread, {} beside the "
      "same in a pool; the loop went on after its crashes",
      with_interval(*here), with_interval(*there));
  if (ratio->interval->low > 0.5) {
    judgement.verdict = Verdict::refuted;
    judgement.needs.clear();
  } else if (ratio->interval->high < 0.5) {
    judgement.verdict = Verdict::confirmed;
    judgement.needs.clear();
  }
  return judgement;
}

}  // namespace schedlab::apparatus
