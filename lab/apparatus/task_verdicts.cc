#include "lab/apparatus/task_verdicts.hh"

#include "lab/apparatus/lateness.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/task_rules.hh"
#include "lab/apparatus/verdicts.hh"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace schedlab::apparatus {

using namespace harness;

namespace {

// Is it clearly above, clearly below, or neither?
Verdict above(const std::optional<Estimate>& ratio, double bound) {
  if (!ratio || !ratio->interval)
    return Verdict::inconclusive;
  if (ratio->interval->low > bound)
    return Verdict::confirmed;
  return ratio->interval->high < bound ? Verdict::refuted : Verdict::inconclusive;
}

constexpr std::string_view more_processes = "io_tasks with 6 processes or more";

// What it would take is of no interest once it is decided.
Judgement settled(Judgement judgement) {
  if (judgement.verdict != Verdict::inconclusive)
    judgement.needs.clear();
  return judgement;
}

}  // namespace

std::string length_name(std::int64_t length_ns, std::string_view how) {
  return fmt::format("length/{}/{}", length_ns, how);
}

Judgement judge_single_thread(const Findings& findings) {
  Judgement judgement = undecided(more_processes);
  const Series* series = findings.series("rules/waits");
  if (fails(series, waiting_thread_check))
    return refuted(fmt::format("{:.0f} threads in /proc/self/task while 100 tasks waited",
                               seen_number(find_check(series, waiting_thread_check))));
  const Metric* ratio = findings.metric("rules/waits", "switches");
  if (!ratio || !ratio->ci || !is_sound(series))
    return judgement;
  judgement.evidence = fmt::format("one thread in /proc/self/task while 100 tasks waited; it slept "
                                   "{:.3g} [{:.3g} {:.3g}] times for each wait of its loop",
                                   *ratio->median, ratio->ci->low, ratio->ci->high);
  if (ratio->ci->low > 1.2)
    judgement.verdict = Verdict::refuted;
  else if (ratio->ci->high <= 1.2)
    judgement.verdict = Verdict::confirmed;
  return settled(std::move(judgement));
}

Judgement judge_in_order(const Findings& findings) {
  Judgement judgement = undecided(more_processes);
  const Series* series = findings.series("rules/order");
  if (fails(series, in_order_check))
    return refuted(
        fmt::format("two tasks without a wait ran in the order of the list in {} gathers",
                    seen_of_expected(*find_check(series, in_order_check))));
  const Metric* sum = findings.metric("rules/order", "speedup");
  if (!sum || !sum->ci || !is_sound(series))
    return judgement;
  judgement.evidence =
      fmt::format("two tasks without a wait always ran one after the other, in the order of the "
                  "list; their times together are {:.4g} [{:.4g} {:.4g}] of the time of the gather",
                  *sum->median, sum->ci->low, sum->ci->high);
  if (sum->ci->low > 1.05)
    judgement.verdict = Verdict::refuted;
  else if (sum->ci->high <= 1.05)
    judgement.verdict = Verdict::confirmed;
  return settled(std::move(judgement));
}

Judgement judge_workers_and_tasks(const Findings& findings) {
  const auto ratio = findings.ratio("waiting/threads", "waiting/tasks", "resident");
  Judgement judgement{.verdict = above(ratio, 10), .evidence = {}, .needs = {}};
  if (!ratio) {
    judgement.needs = more_processes;
    return judgement;
  }
  judgement.evidence = fmt::format(
      "a waiting task holds {}, a waiting thread {} and {} of address space: {} times the memory",
      quote(findings, "waiting/tasks", "resident"), quote(findings, "waiting/threads", "resident"),
      quote(findings, "waiting/threads", "reserved"), times(*ratio));
  if (judgement.verdict == Verdict::inconclusive)
    judgement.needs = more_processes;
  return settled(std::move(judgement));
}

Judgement judge_ranks(const Findings& findings) {
  const auto threads = findings.ratio("thread", "start", "each");
  const auto processes = findings.ratio("process", "thread", "each");
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  if (threads && processes)
    judgement.evidence =
        fmt::format("made and ended: a task {}, a thread {} times that, a process "
                    "{} times a thread; switches: switch_coroutine, switch_cost",
                    quote(findings, "start", "each"), times(*threads), times(*processes));
  const Verdict first = above(threads, 1), second = above(processes, 1);
  if (first == Verdict::confirmed && second == Verdict::confirmed)
    judgement.verdict = Verdict::confirmed;
  else if (first == Verdict::refuted || second == Verdict::refuted)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = more_processes;
  return settled(std::move(judgement));
}

Judgement judge_no_shared_memory(const Findings& findings) {
  Judgement judgement = undecided(more_processes);
  const Metric* around = findings.metric("rules/update-yields", "lost");
  const Metric* without = findings.metric("rules/update", "lost");
  if (!around || !without || !around->ci || !without->ci)
    return judgement;
  judgement.evidence =
      fmt::format("two tasks of one thread lost {:.3g} % of their updates of a counter with a wait "
                  "between reading and writing it, {:.3g} % without",
                  100 * *around->median, 100 * *without->median);
  const bool alone = is_sound(findings.series("rules/update-yields"));
  if (alone && around->ci->low > 0)
    judgement.verdict = Verdict::refuted;
  else if (around->ci->high <= 0)
    judgement.verdict = Verdict::confirmed;
  return settled(std::move(judgement));
}

Judgement judge_lightweight(const Findings& findings) {
  Judgement judgement = undecided(more_processes);
  std::vector<std::int64_t> lengths;
  for (const auto& series : findings.result().series)
    if (series.name.starts_with("length/") && series.name.ends_with("/tasks"))
      lengths.push_back(std::stoll(series.name.substr(7)));
  if (lengths.size() < 2)
    return judgement;
  const auto [shortest, longest] = std::ranges::minmax(lengths);
  const auto ratio = [&](std::int64_t length) {
    return findings.ratio(length_name(length, "threads"), length_name(length, "tasks"), "each");
  };
  const auto at_short = ratio(shortest), at_long = ratio(longest);
  if (!at_short || !at_long)
    return judgement;
  judgement.evidence = fmt::format(
      "a piece of {} takes {} times as long by a thread as by a task, one of {} {} times",
      quantity(static_cast<double>(shortest), "ns"), times(*at_short),
      quantity(static_cast<double>(longest), "ns"), times(*at_long));
  const Verdict lighter = above(at_short, 2), heavier = above(at_long, 1.1);
  if (lighter == Verdict::confirmed && heavier == Verdict::refuted)
    judgement.verdict = Verdict::confirmed;
  else if (lighter == Verdict::refuted || heavier == Verdict::confirmed)
    judgement.verdict = Verdict::refuted;
  return settled(std::move(judgement));
}

Judgement judge_to_thread(const Findings& findings) {
  Judgement judgement = undecided(more_processes);
  const Series* series = findings.series("late/to-thread");
  if (fails(series, elsewhere_check))
    return refuted(fmt::format("{} {}", seen_of_expected(*find_check(series, elsewhere_check)),
                               elsewhere_check));
  const auto longer = findings.difference("late/to-thread", "late/alone", "late");
  if (!longer || !longer->interval || !is_sound(series))
    return judgement;
  judgement.evidence = fmt::format(
      "beside a call that blocks for 5 ms a sleeper woke {} late, alone {}, with the call in the "
      "loop's own thread {}; the call ran in another thread; there and back takes {}",
      quote(findings, "late/to-thread", "late"), quote(findings, "late/alone", "late"),
      quote(findings, "late/blocked", "late"), quote(findings, "to-thread/same-pu", "each"));
  if (longer->interval->low > blocking_call_ns / 10)
    judgement.verdict = Verdict::refuted;
  else if (longer->interval->high < blocking_call_ns / 10)
    judgement.verdict = Verdict::confirmed;
  return settled(std::move(judgement));
}

}  // namespace schedlab::apparatus
