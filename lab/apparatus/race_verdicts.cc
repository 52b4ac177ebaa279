#include "lab/apparatus/race_verdicts.hh"

#include "lab/apparatus/shares.hh"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

namespace schedlab::apparatus {

using namespace harness;

std::vector<const Series*> series_with(const Findings& findings, std::string_view head,
                                       std::string_view metric) {
  std::vector<const Series*> found;
  for (const auto& series : findings.result().series)
    if (series.name.starts_with(head) &&
        happened(findings, series.name, metric) != Happened::not_measured)
      found.push_back(&series);
  return found;
}

namespace {

// Of a metric over the series with these heads: is it ever above 0, and was it ever 0 throughout
// where tasks ran on CPUs of their own?
struct Tally {
  const Series* worst = nullptr;  // with the largest median, of those that surely lose
  double most = 0;
  bool all_never = true;
  bool apart = false;
};
Tally tally(const Findings& findings, std::initializer_list<std::string_view> heads,
            std::string_view metric, std::string_view kind) {
  Tally tally;
  for (const auto head : heads)
    for (const auto* series : series_with(findings, head, metric)) {
      if (!kind.empty() && param_text(*series, "tasks") != kind)
        continue;
      const Happened how = happened(findings, series->name, metric);
      const double median = *find_metric(*series, metric)->median;
      if (how == Happened::sometimes && (!tally.worst || median > tally.most)) {
        tally.worst = series;
        tally.most = median;
      }
      tally.all_never = tally.all_never && how == Happened::never;
      tally.apart = tally.apart || is_apart(*series);
    }
  return tally;
}

constexpr std::string_view two_cpus =
    "race_updates with 6 processes or more, on two CPUs (part=plain)";

// A test that runs the faulty code once and passes in 19 of 20 cases hides it.
constexpr double hidden = 0.05;
constexpr double plain_to_see = 0.5;

}  // namespace

Judgement judge_races_occur(const Findings& findings) {
  const Tally seen = tally(findings, {"plain/", "crowd/"}, "lost", "");
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  if (seen.worst) {
    judgement.verdict = Verdict::confirmed;
    judgement.evidence = fmt::format("{} lost {} of the updates of a shared counter",
                                     seen.worst->name, share(findings, seen.worst->name, "lost"));
  } else if (seen.apart && seen.all_never) {
    judgement.verdict = Verdict::refuted;
    judgement.evidence = "tasks on different CPUs lost no update of a shared counter";
  } else {
    judgement.needs = two_cpus;
  }
  return judgement;
}

Judgement judge_processes_are_safe(const Findings& findings) {
  const Tally memory = tally(findings, {"plain/", "file/"}, "lost", "processes");
  const Tally records = tally(findings, {"torn/memory", "torn/file"}, "torn", "");
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  if (memory.worst)
    judgement.evidence = fmt::format("{} lost {} of the updates", memory.worst->name,
                                     share(findings, memory.worst->name, "lost"));
  if (records.worst)
    judgement.evidence += fmt::format("{}{}: {} of the kills left half a record",
                                      judgement.evidence.empty() ? "" : "; ", records.worst->name,
                                      share(findings, records.worst->name, "torn"));
  if (memory.worst || records.worst) {
    judgement.verdict = Verdict::refuted;
  } else if (memory.apart && memory.all_never && records.all_never &&
             !series_with(findings, "torn/", "torn").empty()) {
    judgement.verdict = Verdict::confirmed;
    judgement.evidence = "processes lost no update, and no kill left half a record";
  } else {
    judgement.needs = "race_updates with 6 processes or more, on two CPUs (part=plain,mends,torn)";
  }
  return judgement;
}

Judgement judge_races_hide(const Findings& findings) {
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  const Series* least = nullptr;
  bool all_seen = true, any = false;
  const bool any_apart = measured_apart(findings, "run/", "shows");
  for (const auto* series : series_with(findings, "run/", "shows")) {
    const Metric& metric = *find_metric(*series, "shows");
    if (!metric.ci || (any_apart && !is_apart(*series)))
      continue;
    any = true;
    all_seen = all_seen && metric.ci->low > plain_to_see;
    if (metric.ci->high < hidden &&
        (!least || param_number(*series, "updates") > param_number(*least, "updates")))
      least = series;
  }
  if (least) {
    judgement.verdict = Verdict::confirmed;
    judgement.evidence = fmt::format(
        "of runs in which each of two threads made {} updates ({}) {} showed the race; a detector "
        "needs one run: tests/peers/race_detector.py; deadlocks: race_deadlock",
        param_text(*least, "updates"), least->placement.relation,
        share(findings, least->name, "shows"));
  } else if (any && all_seen) {
    judgement.verdict = Verdict::refuted;
    judgement.evidence = "more than half of the runs of every length showed the race";
  } else {
    judgement.needs = "race_updates with 6 processes or more (part=runs)";
  }
  return judgement;
}

}  // namespace schedlab::apparatus
