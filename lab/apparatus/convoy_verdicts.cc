#include "lab/apparatus/convoy_verdicts.hh"

#include "lab/apparatus/quote.hh"
#include "lab/apparatus/verdicts.hh"

#include <algorithm>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Estimate;
using harness::Findings;
using harness::Judgement;
using harness::Metric;
using harness::Series;
using harness::Verdict;
using procs::LockRule;

constexpr std::string_view more_processes = "gil_convoy with 6 processes or more";
constexpr std::string_view quieter = "a quieter machine";
constexpr std::int64_t usual_interval_us = 5000;

// By the model an operation waits so long: the call that sends is over before another thread has
// taken the lock. 0 for series it says nothing of.
double modelled_ns(const Series& series) {
  const bool echo = series.name.starts_with("echo/");
  if ((!echo && !series.name.starts_with("timer/")) || param_text(series, "rule") != "interval")
    return 0;
  return 1000 * param_number(series, "interval_us") * param_number(series, "computing");
}

// Those of threads on one CPU, the fewest first.
std::vector<const Series*> on_one_cpu(const Findings& findings) {
  std::vector<const Series*> all;
  for (const auto& series : findings.result().series) {
    const Metric* running = find_metric(series, "running");
    if (series.name.starts_with("one-cpu/") && running && running->median)
      all.push_back(&series);
  }
  std::ranges::sort(all, {}, [](const Series* series) { return param_number(*series, "io"); });
  return all;
}

double most_on_one_cpu(const Findings& findings) {
  const auto all = on_one_cpu(findings);
  return all.empty() ? 0 : param_number(*all.back(), "io");
}

// The fewest threads on one CPU that keep it busy for 90 % of what the busiest did.
const Series* knee(const Findings& findings) {
  double most = 0;
  const auto all = on_one_cpu(findings);
  for (const Series* series : all)
    most = std::max(most, *find_metric(*series, "running")->median);
  const auto found = std::ranges::find_if(all, [&](const Series* series) {
    return *find_metric(*series, "running")->median >= 0.9 * most;
  });
  return found == all.end() ? nullptr : *found;
}

}  // namespace

std::string convoy_name(std::string_view operation, unsigned computing, LockRule rule,
                        std::int64_t interval_us) {
  if (computing == 0)
    return fmt::format("{}/0", operation);
  return rule == LockRule::interval
             ? fmt::format("{}/{}/interval/{}us", operation, computing, interval_us)
             : fmt::format("{}/{}/{}", operation, computing, to_text(rule));
}

std::string crowd_of_io(LockRule rule, unsigned computing) {
  return fmt::format("mixed/{}/{}", to_text(rule), computing);
}

std::string one_cpu_name(unsigned threads) {
  return fmt::format("one-cpu/{}", threads);
}

const Series* without_computing(const Findings& findings, std::string_view operation) {
  return findings.series(convoy_name(operation, 0, LockRule::interval, 0));
}

std::optional<std::string> wait_by_model(const Findings& findings) {
  std::vector<double> shares;
  for (const auto& series : findings.result().series) {
    const Metric* wait = find_metric(series, "wait");
    const double model_ns = modelled_ns(series);
    if (model_ns > 0 && wait && wait->median)
      shares.push_back(*wait->median / model_ns);
  }
  if (shares.empty())
    return std::nullopt;
  const auto [least, most] = std::ranges::minmax(shares);
  return fmt::format("{:.2g} to {:.2g}", least, most);
}

Judgement judge_release_for_io(const Findings& findings) {
  const auto ratio = findings.ratio("sleepers/released", "sleepers/held", "rate");
  const Metric* wait = bounded(
      findings.metric(convoy_name("timer", 1, LockRule::interval, usual_interval_us), "wait"));
  if (!ratio || !ratio->interval)
    return undecided(more_processes);
  Judgement judgement;
  judgement.evidence = fmt::format("two threads that sleep without the lock get {} times as much "
                                   "sleep done as two that keep it",
                                   times(*ratio));
  if (wait)
    judgement.evidence += fmt::format("; to get it back beside a thread that computes takes {}",
                                      with_interval(*wait));
  if (ratio->interval->low > 1.5)
    judgement.verdict = Verdict::confirmed;
  else if (ratio->interval->high < 1.2)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

Judgement judge_one_core(const Findings& findings) {
  const Series* found = knee(findings);
  const Metric* one = bounded(findings.metric(one_cpu_name(1), "running"));
  const Metric* best = found ? bounded(find_metric(*found, "running")) : nullptr;
  if (!one || !best || found->name == one_cpu_name(1))
    return undecided(more_processes);
  Judgement judgement;
  judgement.evidence = fmt::format(
      "one thread that sleeps nine tenths keeps a CPU busy for {} of the time, {} threads for {}; "
      "1 + wait / compute is 10",
      with_interval(*one), param_text(*found, "io"), with_interval(*best));
  if (best->ci->low > 0.8)
    judgement.verdict = Verdict::confirmed;
  else if (most_on_one_cpu(findings) < 10)  // fewer cannot keep it busy
    judgement.needs = "gil_convoy with 10 threads or more";
  else if (best->ci->high < 0.6)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

// Among threads that mostly wait the lock must not cost; beside one that computes it does, which is
// told.
Judgement judge_io_under_the_lock(const Findings& findings) {
  const auto among =
      findings.ratio(crowd_of_io(LockRule::interval, 0), crowd_of_io(LockRule::none, 0), "rate");
  const auto beside =
      findings.ratio(crowd_of_io(LockRule::interval, 1), crowd_of_io(LockRule::none, 1), "rate");
  if (!among || !among->interval || !beside)
    return undecided(more_processes);
  Judgement judgement;
  judgement.evidence = fmt::format("four threads that wait nine tenths of their time do {} of what "
                                   "they do without a lock; beside one that computes, {}",
                                   percent(*among), percent(*beside));
  if (const Metric* p99 = findings.metric(crowd_of_io(LockRule::interval, 1), "p99");
      p99 && p99->median)
    judgement.evidence += fmt::format(", with a p99 of {}", with_interval(*p99));
  if (among->interval->low > 0.8)
    judgement.verdict = Verdict::confirmed;
  else if (among->interval->high < 0.6)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

Judgement judge_convoy(const Findings& findings) {
  const auto alone = findings.ratio("alone/interval", "alone/none", "turn");
  const std::string beside = convoy_name("echo", 1, LockRule::interval, usual_interval_us);
  const Metric* wait = bounded(findings.metric(beside, "wait"));
  if (!alone || !alone->interval || !wait)
    return undecided(more_processes);
  const Series& series = *findings.series(beside);
  const double share = *wait->median / modelled_ns(series);
  Judgement judgement;
  judgement.evidence = fmt::format(
      "a loop alone takes {} of its time without a lock; an echo beside one computing thread waits "
      "{}, {:.2g} times an interval",
      percent(*alone), with_interval(*wait), share);
  if (alone->interval->high < 1.1 && wait->ci->low > 0.5 * modelled_ns(series))
    judgement.verdict = Verdict::confirmed;
  else if (alone->interval->low > 1.1 || wait->ci->high < 0.1 * modelled_ns(series))
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

}  // namespace schedlab::apparatus
