#include "lab/apparatus/lock_verdicts.hh"

#include "lab/apparatus/quote.hh"
#include "lab/apparatus/verdicts.hh"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Findings;
using harness::Judgement;
using harness::Metric;
using harness::Series;
using harness::Verdict;

double seen_number(const Check* check) {
  return check && check->seen.number() ? *check->seen.number() : 0;
}

// The most that any process saw. Of checks that hold, a result keeps the first process's alone, so
// the others are asked by a metric of the same.
std::optional<double> most_seen(const Findings& findings, const std::string& series,
                                std::string_view check, std::string_view metric) {
  const Check* const kept = find_check(findings.series(series), check);
  if (!kept)
    return std::nullopt;
  double most = seen_number(kept);
  if (const Metric* const found = findings.metric(series, metric))
    for (const auto& run : found->per_run)
      most = std::max(most, run.median.value_or(0));
  return most;
}

std::string against(const Findings& findings, std::string_view ours, std::string_view theirs,
                    std::string_view metric) {
  const auto ratio = findings.ratio(ours, theirs, metric);
  return ratio ? times(*ratio) : "";
}

// C34, C35: confirmed if everybody heard every telling (and every item came through).
Judgement judge_told(const Findings& findings, std::string_view use, std::string_view way,
                     std::string_view other) {
  const auto told = series_of(findings, use, "");
  if (told.empty())
    return undecided(fmt::format("lock_primitives with use={}", use));
  Judgement judgement;
  for (const Series* series : series_of(findings, use, way)) {
    const auto waiters = fmt::format("{:.0f}", harness::param_number(*series, "threads") - 1);
    const Metric* found = harness::find_metric(*series, "switches");
    const auto beside = fmt::format("{}/{}/{}", use, other, waiters);
    judgement.evidence += fmt::format(
        "{}{} waiters: the last goes on {} after the telling, {:.2f} switches each",
        judgement.evidence.empty() ? "" : "; ", waiters, quote(findings, series->name, "latency"),
        found && found->median ? *found->median : 0.0);
    const Metric* theirs = findings.metric(beside, "switches");
    if (theirs && theirs->median)
      judgement.evidence += fmt::format(" ({} {}, {:.2f})", other,
                                        quote(findings, beside, "latency"), *theirs->median);
  }
  judgement.verdict =
      std::ranges::all_of(told, checks_hold) ? Verdict::confirmed : Verdict::refuted;
  return judgement;
}

}  // namespace

std::vector<const Series*> series_of(const Findings& findings, std::string_view use,
                                     std::string_view way) {
  std::vector<const Series*> found;
  for (const auto& series : findings.result().series)
    if (!series.metrics.empty() && harness::param_text(series, "use") == use &&
        (way.empty() || harness::param_text(series, "way") == way))
      found.push_back(&series);
  return found;
}

// C33: confirmed if no semaphore of three ever let in more, and three were seen inside.
Judgement judge_semaphore(const Findings& findings) {
  constexpr std::string_view most_inside = "the most inside at a time";
  double most = 0;
  std::string seen;
  for (const auto way : {"procs", "std", "sem_t"}) {
    const auto name = fmt::format("limit/{}", way);
    const auto inside = most_seen(findings, name, most_inside, "inside");
    if (!inside)
      continue;
    most = std::max(most, *inside);
    seen += fmt::format("{}{}: at most {:.0f} inside in {:.0f} entries a process",
                        seen.empty() ? "" : ", ", way, *inside,
                        seen_number(find_check(findings.series(name), "entries")));
  }
  if (seen.empty())
    return undecided("lock_primitives with use=limit");
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = seen, .needs = ""};
  if (const auto open = most_seen(findings, "limit/none", most_inside, "inside"))
    judgement.evidence += fmt::format("; {:.0f} without", *open);
  if (most > 3)
    judgement.verdict = Verdict::refuted;
  else if (!std::ranges::all_of(series_of(findings, "limit", ""), checks_hold))
    judgement.needs = "lock_primitives with use=limit, whose checks hold";
  else if (most == 3)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = "more entries: three were never inside together";
  return judgement;
}

Judgement judge_event(const Findings& findings) {
  return judge_told(findings, "event", "event", "eventfd");
}

Judgement judge_condition(const Findings& findings) {
  Judgement judgement = judge_told(findings, "condition", "requeue", "wake-all");
  const auto buffers = series_of(findings, "buffer", "");
  if (judgement.verdict == Verdict::inconclusive || buffers.empty())
    return judgement;
  judgement.evidence +=
      fmt::format("; a bounded buffer passes {} of items", quote(findings, "buffer/procs", "rate"));
  if (const Metric* empty = findings.metric("buffer/procs", "spurious"); empty && empty->median)
    judgement.evidence += fmt::format(" with {:.3f} vain wake-ups each", *empty->median);
  if (!std::ranges::all_of(buffers, checks_hold))
    judgement.verdict = Verdict::refuted;
  return judgement;
}

// C36: confirmed if without a lock some readings were torn, and with one none.
Judgement judge_torn(const Findings& findings) {
  const auto without = most_seen(findings, "words/none", "torn readings", "wrong");
  double with = 0;
  std::size_t guards = 0;
  for (const Series* series : series_of(findings, "words", "")) {
    if (harness::param_text(*series, "way") == "none")
      continue;
    with += seen_number(find_check(series, "torn readings"));
    ++guards;
  }
  if (!without || guards == 0)
    return undecided("lock_primitives with use=words");
  Judgement judgement;
  judgement.evidence = fmt::format(
      "two words read together: {} of a million torn without a lock, {:.0f} in all with {} guards",
      quote(findings, "words/none", "wrong"), with, guards);
  if (with > 0)
    judgement.verdict = Verdict::refuted;
  else if (*without > 0)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = "two CPUs or more samples: nothing was torn without a lock either";
  return judgement;
}

// C42: the lock is process-safe if it excludes and its owner's death is survived; a semaphore's
// unit is not got back. Confirmed only if both are, so it is refuted for the semaphore.
Judgement judge_process_safe(const Findings& findings) {
  const Metric* robust = findings.metric("owner/robust", "wrong");
  const Metric* semaphore = findings.metric("owner/semaphore", "wrong");
  if (!robust || !semaphore || !robust->median || !semaphore->median)
    return undecided("lock_primitives with use=owner");
  Judgement judgement;
  judgement.evidence = fmt::format(
      "owners killed by SIGKILL: of a million robust mutexes {:.0f} were lost (had and mended "
      "after "
      "{}), of plain mutexes {:.0f}, of semaphore units {:.0f}",
      *robust->median, quote(findings, "owner/robust", "latency"),
      [&] {
        const Metric* plain = findings.metric("owner/mutex", "wrong");
        return plain && plain->median ? *plain->median : 0.0;
      }(),
      *semaphore->median);
  judgement.verdict =
      *robust->median == 0 && *semaphore->median == 0 ? Verdict::confirmed : Verdict::refuted;
  return judgement;
}

// C46: confirmed if the function came out wrong without a lock and right with one around it.
Judgement judge_library(const Findings& findings) {
  const auto without = most_seen(findings, "tokens/none", "texts cut wrongly", "wrong");
  const Check* coarse = find_check(findings.series("tokens/coarse"), "texts cut wrongly");
  if (!without || !coarse)
    return undecided("lock_primitives with use=tokens");
  Judgement judgement;
  judgement.evidence = fmt::format(
      "texts cut wrongly by a function with a static place: {} of a million without a lock, {:.0f} "
      "in all with one lock around it; that costs {} times a place and lock for each object",
      quote(findings, "tokens/none", "wrong"), seen_number(coarse),
      against(findings, "tokens/coarse", "tokens/per-object", "cost"));
  if (seen_number(coarse) > 0)
    judgement.verdict = Verdict::refuted;
  else if (*without > 0)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = "two CPUs or more samples: nothing came out wrong without a lock either";
  return judgement;
}

// C2: confirmed if the table under the interpreter's lock missed no count. That an unguarded one is
// wrong is C36; a hash table must not even be tried without.
Judgement judge_dictionary(const Findings& findings) {
  const Check* counted = find_check(findings.series("dictionary/gil"), "words counted");
  if (!counted)
    return undecided("lock_primitives with use=dictionary");
  Judgement judgement;
  judgement.evidence = fmt::format(
      "a hash table under the interpreter lock missed nothing of {:.0f} counts in a process: {} a "
      "count, {} under one lock, {} with 64 locks",
      seen_number(counted), quote(findings, "dictionary/gil", "cost"),
      quote(findings, "dictionary/one-lock", "cost"),
      quote(findings, "dictionary/sharded", "cost"));
  judgement.verdict = counted->ok ? Verdict::confirmed : Verdict::refuted;
  return judgement;
}

}  // namespace schedlab::apparatus
