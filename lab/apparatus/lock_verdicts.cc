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

constexpr std::string_view heard = "tellings heard";
constexpr std::string_view torn = "torn readings";
constexpr std::string_view cut_wrongly = "texts cut wrongly";

bool all_sound(const std::vector<const Series*>& all) {
  return std::ranges::all_of(all, is_sound);
}

std::string needs_sound(std::string_view use) {
  return fmt::format("lock_primitives with use={}, all of whose checks hold", use);
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
  for (const Series* series : told)
    if (fails(series, heard))
      return refuted(fmt::format("{}: {} {}", series->name,
                                 seen_of_expected(*find_check(series, heard)), heard));
  if (!all_sound(told))
    return undecided(needs_sound(use));
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
  judgement.verdict = Verdict::confirmed;
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
  else if (!all_sound(series_of(findings, "limit", "")))
    judgement.needs = needs_sound("limit");
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
  for (const Series* series : buffers)
    if (fails(series, "sum of the items that came out"))
      return refuted(
          fmt::format("{}: not every item came out, or not as it was put in", series->name));
  if (judgement.verdict != Verdict::confirmed || buffers.empty())
    return judgement;
  if (!all_sound(buffers))
    return undecided(needs_sound("buffer"));
  judgement.evidence +=
      fmt::format("; a bounded buffer passes {} of items", quote(findings, "buffer/procs", "rate"));
  if (const Metric* empty = findings.metric("buffer/procs", "spurious"); empty && empty->median)
    judgement.evidence += fmt::format(" with {:.3f} vain wake-ups each", *empty->median);
  return judgement;
}

// C36: confirmed if without a lock some readings were torn, and with one none.
Judgement judge_torn(const Findings& findings) {
  const auto without = most_seen(findings, "words/none", torn, "wrong");
  const auto words = series_of(findings, "words", "");
  if (!without || words.size() < 2)
    return undecided("lock_primitives with use=words");
  for (const Series* series : words)
    if (fails(series, torn))
      return refuted(fmt::format("two words read together: {:.0f} {} under the guard of {}",
                                 seen_number(find_check(series, torn)), torn, series->name));
  if (!all_sound(words))
    return undecided(needs_sound("words"));
  Judgement judgement;
  judgement.evidence = fmt::format(
      "two words read together: {} of a million torn without a lock, none with {} guards",
      quote(findings, "words/none", "wrong"), words.size() - 1);
  if (*without > 0)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = "two CPUs or more samples: nothing was torn without a lock either";
  return judgement;
}

// C42: the lock is process-safe if it excludes and its owner's death is survived; a semaphore's
// unit is not got back. Confirmed only if both are, so it is refuted for the semaphore.
Judgement judge_process_safe(const Findings& findings) {
  // Of a million. That a lock is lost, or is not, may be what makes its series invalid.
  const auto lost = [&](std::string_view way) -> std::optional<double> {
    const Series* series = findings.series(fmt::format("owner/{}", way));
    if (!series || fails(series, "owners killed") || fails(series, "words left torn"))
      return std::nullopt;
    const Metric* wrong = harness::recorded_metric(*series, "wrong");
    return wrong ? wrong->median : std::nullopt;
  };
  const auto robust = lost("robust"), semaphore = lost("semaphore");
  if (!robust || !semaphore)
    return undecided("lock_primitives with use=owner");
  const std::string mended = quote(findings, "owner/robust", "latency");
  Judgement judgement;
  judgement.evidence = fmt::format(
      "owners killed by SIGKILL: of a million robust mutexes {:.0f} were lost{}, of plain mutexes "
      "{:.0f}, of semaphore units {:.0f}",
      *robust, mended.empty() ? "" : " (had and mended after " + mended + ")",
      lost("mutex").value_or(0), *semaphore);
  judgement.verdict = *robust == 0 && *semaphore == 0 ? Verdict::confirmed : Verdict::refuted;
  return judgement;
}

// C46: confirmed if the function came out wrong without a lock and right with one around it.
Judgement judge_library(const Findings& findings) {
  const auto without = most_seen(findings, "tokens/none", cut_wrongly, "wrong");
  const Series* coarse = findings.series("tokens/coarse");
  if (!without || !find_check(coarse, cut_wrongly))
    return undecided("lock_primitives with use=tokens");
  if (fails(coarse, cut_wrongly))
    return refuted(fmt::format("{:.0f} {} with one lock around the function",
                               seen_number(find_check(coarse, cut_wrongly)), cut_wrongly));
  if (!is_sound(coarse) || !is_sound(findings.series("tokens/none")))
    return undecided(needs_sound("tokens"));
  Judgement judgement;
  judgement.evidence = fmt::format(
      "texts cut wrongly by a function with a static place: {} of a million without a lock, none "
      "with one lock around it; that costs {} times a place and lock for each object",
      quote(findings, "tokens/none", "wrong"),
      against(findings, "tokens/coarse", "tokens/per-object", "cost"));
  if (*without > 0)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = "two CPUs or more samples: nothing came out wrong without a lock either";
  return judgement;
}

// C2: confirmed if the table under the interpreter's lock missed no count. That an unguarded one is
// wrong is C36; a hash table must not even be tried without.
Judgement judge_dictionary(const Findings& findings) {
  const Series* series = findings.series("dictionary/gil");
  const Check* counted = find_check(series, "words counted");
  if (!counted)
    return undecided("lock_primitives with use=dictionary");
  if (!counted->ok)
    return refuted(fmt::format("a hash table under the interpreter lock held {} counts",
                               seen_of_expected(*counted)));
  if (!is_sound(series))
    return undecided(needs_sound("dictionary"));
  Judgement judgement;
  judgement.evidence = fmt::format(
      "a hash table under the interpreter lock missed nothing of {:.0f} counts in a process: {} a "
      "count, {} under one lock, {} with 64 locks",
      seen_number(counted), quote(findings, "dictionary/gil", "cost"),
      quote(findings, "dictionary/one-lock", "cost"),
      quote(findings, "dictionary/sharded", "cost"));
  judgement.verdict = Verdict::confirmed;
  return judgement;
}

}  // namespace schedlab::apparatus
