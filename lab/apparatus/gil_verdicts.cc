#include "lab/apparatus/gil_verdicts.hh"

#include "lab/apparatus/interpreted.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Findings;
using harness::Judgement;
using harness::Metric;
using harness::Series;
using harness::Verdict;

constexpr std::string_view more_cpus = "gil_threads on 2 CPUs or more, with 6 processes or more";
constexpr std::string_view more_processes = "gil_threads with 6 processes or more";
constexpr std::string_view quieter = "a quieter machine";

// What counts as no gain, and as one. Two hyper-threads of one core give 1.2 to 1.3.
constexpr double no_gain = 1.1, gain = 1.15;

// A metric of one way to run `tasks`, with its interval, or null.
const Metric* find(const Findings& findings, unsigned tasks, std::string_view way,
                   std::string_view name) {
  return bounded(findings.metric(tasks_name(tasks, way), name));
}

// Over all series: how many have a check, and what it counted in them.
struct Counted {
  unsigned series = 0;
  double seen = 0;
  bool holds = true;
};
Counted count_check(const Findings& findings, std::string_view name) {
  Counted counted;
  for (const auto& series : findings.result().series)
    for (const auto& check : series.checks)
      if (check.name == name) {
        ++counted.series;
        counted.seen += check.seen.number() ? *check.seen.number() : 0;
        counted.holds = counted.holds && check.ok;
      }
  return counted;
}

unsigned cpus_of(const Findings& findings, const std::string& name) {
  const Series* series = findings.series(name);
  return series ? static_cast<unsigned>(series->placement.cpus.size()) : 0;
}

// The block whose hashing without the lock used the most cores.
const Series* best_released(const Findings& findings) {
  const Series* best = nullptr;
  for (const auto& series : findings.result().series) {
    const Metric* cores = bounded(find_metric(series, "cores"));
    if (!series.name.starts_with("hash/") || !series.name.ends_with("/released") || !cores)
      continue;
    if (!best || *cores->median > *find_metric(*best, "cores")->median)
      best = &series;
  }
  return best;
}

template <typename Quotient>
void add_quotients(harness::LabResult& result, const harness::MetricInfo& of,
                   const harness::MetricInfo& info, ReferenceOf* reference_of, Quotient quotient) {
  const Findings findings(result);
  for (auto& series : result.series) {
    const Metric* own = find_metric(series, of.name);
    const Metric* reference = findings.metric(reference_of(series), of.name);
    if (!own || !reference)
      continue;
    std::vector<std::vector<double>> runs;
    for (const auto& run : own->per_run) {
      const auto other = median_in(*reference, run.process);
      auto& quotients = runs.emplace_back();
      if (run.median && other && *run.median > 0 && *other > 0)
        quotients.push_back(quotient(*run.median, *other));
    }
    // Behind what it is made of.
    series.metrics.insert(series.metrics.begin() + 1, make_metric(info, runs));
  }
}

}  // namespace

std::string tasks_name(unsigned tasks, std::string_view way) {
  return fmt::format("{}/{}", tasks, way);
}

std::string hash_name(std::uint64_t block, std::string_view way) {
  return fmt::format("hash/{}/{}", block, way);
}

unsigned most_tasks(const Findings& findings) {
  double most = 0;
  for (const auto& series : findings.result().series)
    most = std::max(most, param_number(series, "tasks"));
  return static_cast<unsigned>(most);
}

void add_speedups(harness::LabResult& result, const harness::MetricInfo& of,
                  const harness::MetricInfo& speedup, ReferenceOf* reference_of) {
  add_quotients(result, of, speedup, reference_of,
                [](double own, double reference) { return reference / own; });
}

void add_multiples(harness::LabResult& result, const harness::MetricInfo& of,
                   const harness::MetricInfo& multiple, ReferenceOf* reference_of) {
  add_quotients(result, of, multiple, reference_of,
                [](double own, double reference) { return own / reference; });
}

std::optional<Crossover> break_even(const Findings& findings) {
  std::vector<Rung> rungs;
  for (const auto& series : findings.result().series) {
    const auto block = static_cast<std::uint64_t>(param_number(series, "block"));
    if (block > 0 && series.name == hash_name(block, "released"))
      rungs.push_back({static_cast<double>(block), series.name, hash_name(block, "serial")});
  }
  std::ranges::sort(rungs, {}, &Rung::at);
  return find_crossover(findings, rungs, "time", harness::Better::lower);
}

std::string text_of_bytes(const Crossover& crossover) {
  if (crossover.everywhere())
    return fmt::format("for all blocks from {} on", harness::quantity(crossover.first, "B"));
  if (crossover.nowhere())
    return fmt::format("for no block up to {}", harness::quantity(crossover.last, "B"));
  std::string text = "from blocks of " + harness::quantity(crossover.from.value, "B");
  if (crossover.from.interval) {
    const auto bound = [&](double value) {
      return value > crossover.last ? "beyond " + harness::quantity(crossover.last, "B")
                                    : harness::quantity(value, "B");
    };
    text += fmt::format(" [{}, {}]", bound(crossover.from.interval->low),
                        bound(crossover.from.interval->high));
  }
  return text + " on";
}

Judgement judge_one_at_a_time(const Findings& findings) {
  const auto counted = count_check(findings, overlaps_check);
  const Metric* held = find(findings, most_tasks(findings), "interval", "held");
  const Metric* without = find(findings, most_tasks(findings), "none", "held");
  if (counted.series == 0 || !held)
    return undecided(more_processes);
  Judgement judgement;
  judgement.evidence =
      fmt::format("{:.0f} turns of {} series overlapped; {} threads held the lock for {} of the "
                  "time, all together",
                  counted.seen, counted.series, most_tasks(findings), with_interval(*held));
  if (without)
    judgement.evidence += fmt::format(" (without a lock {})", with_interval(*without));
  // The clock that ends one turn and begins the next is read by two CPUs.
  constexpr double all = 1.01;
  judgement.verdict = counted.holds && held->ci->low <= all ? Verdict::confirmed : Verdict::refuted;
  return judgement;
}

Judgement judge_parallelism_lost(const Findings& findings) {
  const unsigned tasks = most_tasks(findings);
  const Metric* with = find(findings, tasks, "interval", "cores");
  const Metric* without = find(findings, tasks, "none", "cores");
  if (!with || !without || cpus_of(findings, tasks_name(tasks, "none")) < 2)
    return undecided(more_cpus);
  Judgement judgement;
  judgement.evidence = fmt::format(
      "{} threads use {} cores with the lock and {} without, on {} CPUs", tasks,
      with_interval(*with), with_interval(*without), cpus_of(findings, tasks_name(tasks, "none")));
  if (with->ci->high < no_gain && without->ci->low > gain)
    judgement.verdict = Verdict::confirmed;
  else if (with->ci->low > gain)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = without->ci->high < gain ? "CPUs of different cores" : quieter;
  return judgement;
}

Judgement judge_released_hashing(const Findings& findings) {
  const Series* best = best_released(findings);
  if (!best || best->placement.cpus.size() < 2)
    return undecided(more_cpus);
  const Metric* released = find_metric(*best, "cores");
  const auto block = static_cast<std::uint64_t>(param_number(*best, "block"));
  const Metric* kept = findings.metric(hash_name(block, "held"), "cores");
  Judgement judgement;
  judgement.evidence =
      fmt::format("two threads that hash blocks of {} without the lock use {} cores",
                  harness::quantity(static_cast<double>(block), "B"), with_interval(*released));
  if (kept && kept->median)
    judgement.evidence += fmt::format(", with it {}", with_interval(*kept));
  if (const auto even = break_even(findings))
    judgement.evidence += fmt::format("; it pays {}", text_of_bytes(*even));
  if (released->ci->low > gain)
    judgement.verdict = Verdict::confirmed;
  else if (released->ci->high < no_gain)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

Judgement judge_processes_escape(const Findings& findings) {
  const unsigned tasks = most_tasks(findings);
  const Metric* processes = find(findings, tasks, "processes", "cores");
  const auto beside_free =
      findings.ratio(tasks_name(tasks, "processes"), tasks_name(tasks, "none"), "cores");
  if (!processes || cpus_of(findings, tasks_name(tasks, "processes")) < 2)
    return undecided(more_cpus);
  Judgement judgement;
  judgement.evidence = fmt::format("{} processes use {} cores", tasks, with_interval(*processes));
  if (beside_free)
    judgement.evidence +=
        fmt::format(", {} of what as many threads without a lock use", percent(*beside_free));
  if (processes->ci->low > gain)
    judgement.verdict = Verdict::confirmed;
  else if (processes->ci->high < no_gain)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

// The statement holds for the CPU only if threads gain by the lock's own rule; that they do without
// a lock is told.
Judgement judge_threads_for_computing(const Findings& findings) {
  Judgement judgement = judge_parallelism_lost(findings);
  if (judgement.verdict == Verdict::confirmed)
    judgement.verdict = Verdict::refuted;
  else if (judgement.verdict == Verdict::refuted)
    judgement.verdict = Verdict::confirmed;
  return judgement;
}

Judgement judge_own_locks(const Findings& findings) {
  const unsigned tasks = most_tasks(findings);
  const Metric* apart = find(findings, tasks, "processes", "waits");
  const Metric* together = find(findings, tasks, "interval", "waits");
  if (!apart || !together)
    return undecided(more_processes);
  Judgement judgement;
  judgement.evidence =
      fmt::format("{} processes found their lock held {} times, as many threads theirs {} times",
                  tasks, with_interval(*apart), with_interval(*together));
  if (together->ci->low > 0)
    judgement.verdict = apart->ci->high <= 0 ? Verdict::confirmed : Verdict::refuted;
  else
    judgement.needs = "a longer loop, in which threads meet";
  return judgement;
}

Judgement judge_two_counting_threads(const Findings& findings) {
  constexpr double slightly = 1.3;
  const auto ratio = findings.ratio(tasks_name(2, "interval"), tasks_name(2, "serial"), "time");
  if (!ratio || !ratio->interval)
    return undecided("gil_threads with tasks=2 and 6 processes or more");
  Judgement judgement;
  judgement.evidence =
      fmt::format("two threads under the lock take {} of the time of two runs, one "
                  "after the other",
                  percent(*ratio));
  const auto old = findings.ratio(tasks_name(2, "ticks"), tasks_name(2, "serial"), "time");
  if (old)
    judgement.evidence += fmt::format("; by the rule of before 3.2 {}", percent(*old));
  if (const auto free = findings.ratio(tasks_name(2, "none"), tasks_name(2, "serial"), "time"))
    judgement.evidence += fmt::format(", without a lock {}", percent(*free));
  if (ratio->interval->low > 0.95 && ratio->interval->high < slightly)
    judgement.verdict = Verdict::confirmed;
  else if (ratio->interval->high < 0.95 || ratio->interval->low > slightly)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

// The seconds are of another machine and another interpreter; ten times one, and a change of hands
// in each interval, are what the lock makes of them.
Judgement judge_ten_threads(const Findings& findings) {
  const Metric* cores = find(findings, 10, "interval", "cores");
  const Metric* time = find(findings, 10, "interval", "time");
  const Metric* turned = find(findings, 10, "interval", "turns");
  if (!cores || !time || !turned)
    return undecided("gil_threads with tasks=10 and 6 processes or more");
  Judgement judgement;
  judgement.evidence = fmt::format(
      "ten threads that count to {} take {}, with {} of the serial run's cores and {} changes of "
      "hands an interval; 506 would be those of 2.53 s",
      param_text(*findings.series(tasks_name(10, "interval")), "loop"), with_interval(*time),
      with_interval(*cores), with_interval(*turned));
  if (cores->ci->low > 0.8 && cores->ci->high < no_gain)
    judgement.verdict = Verdict::confirmed;
  else if (cores->ci->low > gain || cores->ci->high < 0.7)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

Judgement judge_less_than_a_third(const Findings& findings) {
  constexpr double third = 1.0 / 3;
  const auto ratio =
      findings.ratio(tasks_name(10, "processes"), tasks_name(10, "interval"), "time");
  if (!ratio || !ratio->interval)
    return undecided("gil_threads with tasks=10 and 6 processes or more");
  const unsigned cpus = cpus_of(findings, tasks_name(10, "processes"));
  Judgement judgement;
  judgement.evidence =
      fmt::format("ten processes take {} of the time of ten threads under the lock, "
                  "on {} CPUs and without their start; 0.78 s of 2.53 s are 31 %",
                  percent(*ratio), cpus);
  if (ratio->interval->high < third)
    judgement.verdict = Verdict::confirmed;
  else if (cpus < 4)
    judgement.needs = "4 CPUs or more";
  else if (ratio->interval->low > third)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = quieter;
  return judgement;
}

Judgement judge_results(const Findings& findings) {
  const auto counted = count_check(findings, results_check);
  if (counted.series == 0)
    return undecided("gil_threads");
  Judgement judgement;
  judgement.evidence = fmt::format("{:.0f} results of {} series were not what was counted to",
                                   counted.seen, counted.series);
  judgement.verdict = counted.holds ? Verdict::confirmed : Verdict::refuted;
  return judgement;
}

// Too much is said if threads gain at computing in either way: in C without the lock, or where
// there is none.
Judgement judge_limited_to_io(const Findings& findings) {
  const unsigned tasks = most_tasks(findings);
  const Metric* free = find(findings, tasks, "none", "cores");
  const Series* best = best_released(findings);
  const Metric* released = best ? find_metric(*best, "cores") : nullptr;
  if (!free || !released || best->placement.cpus.size() < 2)
    return undecided(more_cpus);
  Judgement judgement;
  judgement.evidence =
      fmt::format("threads that hash without the lock use {} cores, threads of an interpreter "
                  "without one {}",
                  with_interval(*released), with_interval(*free));
  if (released->ci->low > gain || free->ci->low > gain)
    judgement.verdict = Verdict::refuted;
  else if (released->ci->high < no_gain && free->ci->high < no_gain)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = quieter;
  return judgement;
}

// Two loops of bytecode in two threads: what an event loop runs is bytecode as well.
Judgement judge_loops_in_threads(const Findings& findings) {
  const Metric* with = find(findings, 2, "interval", "cores");
  const Metric* without = find(findings, 2, "none", "cores");
  if (!with || !without || cpus_of(findings, tasks_name(2, "none")) < 2)
    return undecided("gil_threads with tasks=2 on 2 CPUs or more, with 6 processes or more");
  Judgement judgement;
  judgement.evidence = fmt::format("two loops in two threads of one interpreter use {} cores with "
                                   "the lock and {} without",
                                   with_interval(*with), with_interval(*without));
  if (with->ci->high < no_gain && without->ci->low > gain)
    judgement.verdict = Verdict::refuted;
  else if (with->ci->low > gain)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = quieter;
  return judgement;
}

}  // namespace schedlab::apparatus
