#include "lab/apparatus/image_verdicts.hh"

#include "lab/apparatus/quote.hh"
#include "lab/apparatus/verdicts.hh"

#include <fmt/format.h>

namespace schedlab::apparatus {

namespace {

using namespace harness;

constexpr std::string_view needs_run = "speedup_images with 6 processes or more";
constexpr std::string_view needs_quiet = "a quieter machine";

// A metric that was measured with an interval, else null.
const Metric* measured(const Findings& findings, std::string_view stage, std::string_view way,
                       std::string_view metric) {
  return bounded(findings.metric(image_series(stage, way), metric));
}

// Confirmed above a value, refuted below another; else it takes a quieter machine.
Judgement judge_between(const Interval& interval, double refuted_below, double confirmed_above,
                        std::string evidence) {
  Judgement judgement{Verdict::inconclusive, std::move(evidence), ""};
  if (interval.low > confirmed_above)
    judgement.verdict = Verdict::confirmed;
  else if (interval.high < refuted_below)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = needs_quiet;
  return judgement;
}

}  // namespace

std::string image_series(std::string_view stage, std::string_view way) {
  return fmt::format("{}/{}", stage, way);
}

Judgement judge_threads_fetch_pictures(const Findings& findings) {
  const Metric* threads = measured(findings, "fetch", "threads", "speedup");
  const Series* series = findings.series(image_series("fetch", "threads"));
  if (!threads || param_number(*series, "pictures") < 3)
    return undecided("speedup_images with 6 processes or more and pictures=3 or more");
  std::string evidence = fmt::format(
      "{:g} threads fetch {:g} pictures {} times as fast as one thread",
      param_number(*series, "workers"), param_number(*series, "pictures"), with_interval(*threads));
  for (const std::string_view way : {"processes", "async"})
    if (const std::string same = quote(findings, image_series("fetch", way), "speedup");
        !same.empty())
      evidence += fmt::format(", {} {} times", way, same);
  return judge_between(*threads->ci, 1.1, 1.5, std::move(evidence));
}

Judgement judge_processes_make_thumbnails(const Findings& findings) {
  const Metric* processes = measured(findings, "process", "processes", "speedup");
  const Series* series = findings.series(image_series("process", "processes"));
  const double workers = series ? param_number(*series, "workers") : 0;
  if (!processes || workers < 2)
    return undecided("speedup_images with 6 processes or more, on 2 CPUs or more");
  const std::string copied = quote(findings, series->name, "copied"),
                    memory = quote(findings, series->name, "memory"),
                    of_threads = quote(findings, image_series("process", "threads"), "memory");
  return judge_between(
      *processes->ci, 1.1, 1 + 0.4 * (workers - 1),
      fmt::format("{:g} processes make thumbnails {} times as fast as one thread; {} a picture are "
                  "copied; {} of memory, {} by threads",
                  workers, with_interval(*processes), copied, memory, of_threads));
}

Judgement judge_processes_for_multimedia(const Findings& findings) {
  const Series* series = findings.series(image_series("process", "processes"));
  const auto ratio = findings.ratio(image_series("process", "processes"),
                                    image_series("process", "threads"), "batch");
  if (!series || param_number(*series, "workers") < 2 || !ratio || !ratio->interval)
    return undecided("speedup_images with 6 processes or more, on 2 CPUs or more");
  // As fast as threads is no reason to choose them: they take memory and copies beside it.
  auto judgement = judge_between(
      {1 / ratio->interval->high, 1 / ratio->interval->low, ratio->interval->level, ""}, 1.05, 1.03,
      fmt::format("without an interpreter lock processes take {} of the time of threads for "
                  "thumbnails, and {} of memory against {}",
                  percent(*ratio), quote(findings, series->name, "memory"),
                  quote(findings, image_series("process", "threads"), "memory")));
  return judgement;
}

Judgement judge_idle_while_waiting(const Findings& findings) {
  const Metric* cores = measured(findings, "fetch", "sequential", "cores");
  if (!cores)
    return undecided(needs_run);
  const std::string evidence = fmt::format(
      "while one thread fetches pictures, its process uses {} CPUs", with_interval(*cores));
  // Idle is what it does not use.
  return judge_between({1 - cores->ci->high, 1 - cores->ci->low, cores->ci->level, ""}, 0.1, 0.5,
                       evidence);
}

Judgement judge_idle_without_concurrency(const Findings& findings) {
  const Metric* overlapped = measured(findings, "pipeline", "one CPU", "speedup");
  if (!overlapped)
    return undecided(needs_run);
  return judge_between(
      *overlapped->ci, 1.03, 1.1,
      fmt::format("fetching and processing at once on one CPU is {} times as fast as one after the "
                  "other, which uses {} CPUs",
                  with_interval(*overlapped),
                  quote(findings, image_series("pipeline", "sequential"), "cores")));
}

}  // namespace schedlab::apparatus
