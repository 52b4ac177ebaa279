#include "lab/apparatus/pool_verdicts.hh"

#include "lab/apparatus/crossover.hh"
#include "lab/apparatus/quote.hh"
#include "lab/base/text.hh"

#include <algorithm>
#include <utility>
#include <vector>

namespace schedlab::apparatus {

using namespace harness;

namespace {

constexpr std::string_view more_processes = "pool_dispatch with 6 processes or more";
constexpr double tolerable = 1.1;     // of a default against the best
constexpr double cheap_enough = 1.3;  // of submit and get against a hand-over by hand

// "length/1000/pool" -> 1000, if the name is of that form; else nothing.
std::optional<std::int64_t> number_within(std::string_view name, std::string_view head,
                                          std::string_view tail) {
  if (!name.starts_with(head) || !name.ends_with(tail) || name.size() <= head.size() + tail.size())
    return {};
  return to_number(name.substr(head.size(), name.size() - head.size() - tail.size()));
}

std::optional<Crossover> crossover_of(const Findings& findings, std::string_view pool) {
  std::vector<Rung> rungs;
  for (const auto& series : findings.result().series)
    if (const auto length = number_within(series.name, "length/", fmt::format("/{}", pool)))
      rungs.push_back({static_cast<double>(*length), series.name, piece_name(*length, "calls")});
  std::ranges::sort(rungs, {}, &Rung::at);
  return find_crossover(findings, rungs, "at_90", Better::lower);
}

std::string length_text(double length_ns) {
  return quantity(length_ns, "ns");
}

// Is Python's size for a kind of work as good as the best? With what was seen.
std::pair<Verdict, std::string> judge_size(const Findings& findings, std::string_view kind) {
  const auto best = best_size(findings, kind);
  const Series* const any = best ? findings.series(size_name(kind, *best)) : nullptr;
  if (!any)
    return {Verdict::inconclusive, ""};
  const auto rule = static_cast<std::int64_t>(param_number(*any, "rule"));
  const auto ratio = findings.ratio(size_name(kind, rule), size_name(kind, *best), "each");
  if (!ratio)
    return {Verdict::inconclusive, ""};
  const std::string seen =
      rule == *best ? fmt::format("pieces that {}: {} workers are best", kind, rule)
                    : fmt::format("pieces that {}: {} workers take {} times what the best, {}, do",
                                  kind, rule, times(*ratio), *best);
  if (rule == *best)
    return {Verdict::confirmed, seen};
  if (!ratio->interval)
    return {Verdict::inconclusive, seen};
  if (ratio->interval->low > tolerable)
    return {Verdict::refuted, seen};
  return {ratio->interval->high <= tolerable ? Verdict::confirmed : Verdict::inconclusive, seen};
}

// Is it longer before processes do what they could than before threads do? With what was seen.
std::pair<Verdict, std::string> judge_break_even(const Findings& findings) {
  const auto threads = crossover_of(findings, "pool");
  const auto processes = crossover_of(findings, "processes");
  if (!threads || !processes)
    return {Verdict::inconclusive, ""};
  const std::string seen =
      fmt::format("90 % of what their CPUs could are done by processes {}, by threads {}",
                  break_even_text(findings, "processes"), break_even_text(findings, "pool"));
  const auto& few = threads->from.interval;
  const auto& many = processes->from.interval;
  // Where neither gets there, or both always do, the lengths that were measured do not tell.
  const bool both_out = (threads->nowhere() && processes->nowhere()) ||
                        (threads->everywhere() && processes->everywhere());
  if (!few || !many || both_out)
    return {Verdict::inconclusive, seen};
  if (many->low > few->high)
    return {Verdict::confirmed, seen};
  return {many->high < few->low ? Verdict::refuted : Verdict::inconclusive, seen};
}

std::pair<Verdict, std::string> judge_start(const Findings& findings) {
  const auto ratio = findings.ratio("start/processes", "start/threads", "each");
  if (!ratio)
    return {Verdict::inconclusive, ""};
  const std::string seen =
      fmt::format("a pool of processes is there, has done one task and is gone after {}, {} times "
                  "one of threads",
                  quote(findings, "start/processes", "each"), times(*ratio));
  if (!ratio->interval)
    return {Verdict::inconclusive, seen};
  if (ratio->interval->low > 1)
    return {Verdict::confirmed, seen};
  return {ratio->interval->high < 1 ? Verdict::refuted : Verdict::inconclusive, seen};
}

// For the evidence: a task there and back, at each relation.
std::string trips_text(const Findings& findings) {
  constexpr std::string_view tail = "/block/processes";
  std::string text;
  for (const auto& series : findings.result().series) {
    if (!series.name.ends_with(tail))
      continue;
    const auto head = series.name.substr(0, series.name.size() - tail.size());
    if (const auto ratio = findings.ratio(series.name, head + "/block/pool", "each"))
      text += fmt::format("; {}: one task there and back takes {} times that of threads",
                          series.placement.relation, times(*ratio));
  }
  return text;
}

}  // namespace

std::string piece_name(std::int64_t length_ns, std::string_view how) {
  return fmt::format("length/{}/{}", length_ns, how);
}

std::string size_name(std::string_view kind, std::int64_t workers) {
  return fmt::format("size/{}/{}", kind, workers);
}

std::int64_t python_workers(std::int64_t cpus) noexcept {
  return std::min<std::int64_t>(32, cpus + 4);
}

std::optional<Estimate> break_even(const Findings& findings, std::string_view pool) {
  const auto found = crossover_of(findings, pool);
  return found ? std::optional(found->from) : std::nullopt;
}

std::string break_even_text(const Findings& findings, std::string_view pool) {
  const auto found = crossover_of(findings, pool);
  if (!found)
    return "";
  const auto bound = [&](double at) {
    if (at < found->first)
      return "below " + length_text(found->first);
    return at > found->last ? "none up to " + length_text(found->last) : length_text(at);
  };
  // What was not reached by the longest pieces may never be.
  std::string text = found->nowhere() ? "with no pieces up to " + length_text(found->last)
                                      : "from pieces of " + bound(found->from.value) + " on";
  if (found->from.interval && found->from.interval->low != found->from.interval->high)
    text += fmt::format(" [{}, {}]", bound(found->from.interval->low),
                        bound(found->from.interval->high));
  return text;
}

std::optional<std::int64_t> best_size(const Findings& findings, std::string_view kind) {
  std::optional<std::int64_t> best;
  double least = 0;
  for (const auto& series : findings.result().series) {
    const auto workers = number_within(series.name, fmt::format("size/{}/", kind), "");
    const Metric* const each = find_metric(series, "each");
    if (!workers || !each || !each->median || (best && *each->median >= least))
      continue;
    best = workers;
    least = *each->median;
  }
  return best;
}

Judgement judge_default_size(const Findings& findings) {
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  const auto [computing, first] = judge_size(findings, "compute");
  const auto [waiting, second] = judge_size(findings, "wait");
  judgement.evidence = first + (first.empty() || second.empty() ? "" : "; ") + second;
  if (computing == Verdict::refuted || waiting == Verdict::refuted)
    judgement.verdict = Verdict::refuted;
  else if (computing == Verdict::confirmed && waiting == Verdict::confirmed)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = more_processes;
  return judgement;
}

Judgement judge_abstraction(const Findings& findings) {
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  Verdict all = Verdict::confirmed;
  for (const auto& series : findings.result().series) {
    if (!series.name.ends_with("/block/pool"))
      continue;
    const auto head = series.name.substr(0, series.name.size() - std::string_view("pool").size());
    const auto ratio = findings.ratio(series.name, head + "by-hand", "each");
    if (!ratio)
      continue;
    judgement.evidence +=
        fmt::format("{}{}: submit and get {}, by hand {}, {} times that",
                    judgement.evidence.empty() ? "" : "; ", series.placement.relation,
                    quote(findings, series.name, "each"), quote(findings, head + "by-hand", "each"),
                    times(*ratio));
    if (!ratio->interval)
      all = all == Verdict::refuted ? all : Verdict::inconclusive;
    else if (ratio->interval->low > cheap_enough)
      all = Verdict::refuted;
    else if (ratio->interval->high > cheap_enough && all != Verdict::refuted)
      all = Verdict::inconclusive;
  }
  if (!judgement.evidence.empty())
    judgement.verdict = all;
  if (judgement.verdict == Verdict::inconclusive)
    judgement.needs = more_processes;
  return judgement;
}

Judgement judge_process_overhead(const Findings& findings) {
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  const auto [start, first] = judge_start(findings);
  const auto [lengths, second] = judge_break_even(findings);
  judgement.evidence = first + (first.empty() || second.empty() ? "" : "; ") + second;
  if (!judgement.evidence.empty())
    judgement.evidence += trips_text(findings);
  if (start == Verdict::refuted || lengths == Verdict::refuted)
    judgement.verdict = Verdict::refuted;
  else if (start == Verdict::confirmed && lengths == Verdict::confirmed)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs =
        fmt::format("{}, on idle CPUs, with lengths that both sides reach", more_processes);
  return judgement;
}

}  // namespace schedlab::apparatus
