// lock_cost: what does a lock cost, alone, contended and handed over, and who gets it?
//
// Method   One thread locks and unlocks; several lock, work, unlock and work; two hand three locks
//          round, so that each unlock lets the other in. All kinds of lock do the same. Under the
//          lock a plain counter is raised, and compared with what the threads counted.
// Reading  "overhead" is lockhammer's: CPU time a lock of all threads, less the work under it and
//          between; of a thread alone it is the time by the clock. "jain" is 1 where all had it
//          equally often, 1/n where one had it always.
// Traps    A mutex that whoever comes first may take is quick under contention because the same
//          thread takes it again and again: read rate beside jain and max_wait. Without a second
//          thread the C library's mutex makes no atomic step. Spinning needs a CPU for each thread.

#include "lab/apparatus/floors.hh"
#include "lab/apparatus/lock_contest.hh"
#include "lab/apparatus/lock_kinds.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Relation;
using apparatus::quote;
using apparatus::times;

enum : std::size_t { overhead, rate, handoff, jain, max_wait, sleeps, calls, lost, floor_time };

constexpr MetricInfo metrics[] = {
    {.name = "overhead",
     .unit = "ns",
     .help =
         "CPU time for a lock and unlock, all threads together, less the work; alone, wall time",
     .interval = true},
    {.name = "rate",
     .unit = "1/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "locks in a second of wall time, all threads together"},
    {.name = "handoff",
     .unit = "ns",
     .help = "from one unlock to the next, by the thread that waited for the first",
     .interval = true},
    {.name = "jain",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "Jain's index of how often each thread had the lock in a sample"},
    {.name = "max_wait", .unit = "ns", .help = "the longest wait for the lock in a sample"},
    {.name = "sleeps",
     .unit = "",
     .kind = Kind::ratio,
     .help = "voluntary context switches for a lock or hand-over"},
    {.name = "calls",
     .unit = "",
     .kind = Kind::ratio,
     .help = "futex calls for a lock or hand-over, where the lock counts them"},
    {.name = "lost",
     .unit = "",
     .kind = Kind::count,
     .help = "additions to the counter under the lock that went missing in a sample"},
    {.name = "floor", .unit = "ns", .help = "one call or pair of readings", .interval = true},
};

constexpr std::string_view kinds =
    "none,std,pthread-adaptive,pthread-pi,pthread-shared,pthread-spin,mutex,mutex-spin,"
    "mutex-shared,fair,ticket,mcs,robust,pi";

constexpr Param params[] = {
    {.name = "lock",
     .help = "which locks; none: the same work without",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = kinds,
     .quick = kinds,
     .full = kinds,
     .words = apparatus::lock_kinds},
    {.name = "threads",
     .help = "how many contend; more than there are CPUs share them",
     .list = true,
     .smoke = "2",
     .quick = "2",
     .full = "2,4,8,16,32",
     .min = 2,
     .max = 1024},
    {.name = "critical",
     .help = "ns of work under the lock",
     .list = true,
     .smoke = "0",
     .quick = "0,1000",
     .full = "0,100,1000,10000",
     .max = 1'000'000},
    {.name = "parallel",
     .help = "ns of work between two locks",
     .list = true,
     .smoke = "0",
     .quick = "0",
     .full = "0,1000",
     .max = 1'000'000},
};

apparatus::ContestOptions options_for(const Plan& plan, std::string kind,
                                      std::vector<unsigned> cpus) {
  apparatus::ContestOptions options;
  options.kind = std::move(kind);
  options.cpus = std::move(cpus);
  options.usable = plan.topology().usable();
  options.overhead = overhead;
  options.rate = rate;
  options.handoff = handoff;
  options.jain = jain;
  options.max_wait = max_wait;
  options.sleeps = sleeps;
  options.calls = calls;
  options.lost = lost;
  return options;
}

SeriesPlan series_for(const apparatus::ContestOptions& options, std::string name,
                      std::string_view group, std::string_view relation) {
  SeriesPlan series;
  series.name = std::move(name);
  series.group = group;
  series.params = {{"lock", options.kind}};
  series.relation = relation;
  series.cpus = options.cpus;
  series.skip = apparatus::contest_objection(options.kind, options.cpus);
  return series;
}

void add_lone(Plan& plan, const std::string& kind, unsigned cpu) {
  if (kind == "none")
    return;
  const auto options = options_for(plan, kind, {cpu});
  auto series = series_for(options, "alone/" + kind, "alone", "same-pu");
  series.params.emplace_back("threads", "1");
  series.make = [options] { return apparatus::make_lone_lock(options); };
  plan.add(std::move(series));
}

void add_handoff(Plan& plan, const std::string& kind, const affinity::Pair& pair) {
  if (kind == "none")
    return;
  const std::string relation(name(pair.relation));
  const auto options = options_for(plan, kind, {pair.first, pair.second});
  auto series =
      series_for(options, "handoff/" + relation + "/" + kind, "handoff/" + relation, relation);
  series.params.emplace_back("threads", "2");
  series.make = [options] { return apparatus::make_lock_handoff(options); };
  plan.add(std::move(series));
}

struct Work {
  std::int64_t threads;
  std::int64_t critical;
  std::int64_t parallel;
  bool clocked;

  [[nodiscard]] std::string text() const {
    return fmt::format("{}/{}ns/{}ns{}", threads, critical, parallel, clocked ? "/waits" : "");
  }
};

std::string contest_name(const Work& work, std::string_view kind) {
  return fmt::format("contended/{}/{}", work.text(), kind);
}

void add_contest(Plan& plan, const std::string& kind, const Work& work,
                 const std::vector<unsigned>& cpus) {
  auto options = options_for(plan, kind, cpus);
  options.critical_ns = static_cast<double>(work.critical);
  options.parallel_ns = static_cast<double>(work.parallel);
  options.clock_waits = work.clocked;
  auto series = series_for(options, contest_name(work, kind), work.text(), "");
  series.params.emplace_back("threads", std::to_string(work.threads));
  series.params.emplace_back("critical", std::to_string(work.critical));
  series.params.emplace_back("parallel", std::to_string(work.parallel));
  series.params.emplace_back("clocked", work.clocked ? "waits" : "");
  series.make = [options] { return apparatus::make_contest(options); };
  plan.add(std::move(series));
}

// CPUs for so many threads: each its own as long as there are any, then from the first again.
std::vector<unsigned> places(const Plan& plan, std::int64_t threads) {
  const auto usable = plan.topology().usable().count();
  const auto apart = std::min(static_cast<unsigned>(threads), usable);
  std::vector<unsigned> cpus;
  try {
    cpus = affinity::choose_workers(plan.topology(), plan.placement(), apart);
  } catch (const Unsupported&) {
    cpus = affinity::choose_ones(plan.topology(), plan.placement()).chosen;
  }
  if (cpus.empty())
    cpus = {plan.topology().usable().first()};
  const std::size_t own = cpus.size();
  while (cpus.size() < static_cast<std::size_t>(threads))
    cpus.push_back(cpus[cpus.size() % own]);
  return cpus;
}

void add_contests(Plan& plan, const std::vector<std::string>& locks) {
  for (const auto threads : plan.numbers("threads")) {
    const auto cpus = places(plan, threads);
    for (const auto critical : plan.numbers("critical"))
      for (const auto parallel : plan.numbers("parallel"))
        for (const bool clocked : {false, true})
          for (const auto& kind : locks)
            if (!clocked || (critical > 0 && kind != "none"))
              add_contest(plan, kind, {threads, critical, parallel, clocked}, cpus);
  }
}

void plan_series(Plan& plan) {
  const auto locks = plan.words("lock");
  const unsigned cpu = places(plan, 1).front();
  for (const auto& kind : locks)
    add_lone(plan, kind, cpu);
  add_contests(plan, locks);
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  for (const auto& pair : pairs.chosen)
    if (pair.relation != Relation::unpinned)
      for (const auto& kind : locks)
        add_handoff(plan, kind, pair);
  for (const auto& absent : pairs.absent) {
    SeriesPlan series;
    series.name = "handoff/" + absent.name;
    series.relation = absent.name;
    series.skip = absent.reason;
    plan.add(std::move(series));
  }
  for (auto& floor : apparatus::common_floors(cpu, plan.topology().usable(), floor_time))
    plan.add(std::move(floor));
}

// The first series whose name begins and ends so.
std::string series_named(const Findings& findings, std::string_view head, std::string_view tail) {
  for (const auto& series : findings.result().series)
    if (series.name.starts_with(head) && series.name.ends_with(tail) && !series.metrics.empty())
      return series.name;
  return "";
}

std::string against_std(const Findings& findings, std::string_view head, std::string_view metric) {
  const std::string ours = series_named(findings, head, "/mutex");
  const std::string theirs = series_named(findings, head, "/std");
  const std::string cost = quote(findings, ours, metric);
  if (cost.empty())
    return "";
  const auto ratio = findings.ratio(ours, theirs, metric);
  return ratio ? fmt::format("{} ({} times std::mutex)", cost, times(*ratio)) : cost;
}

// "cpu/lock 2.31 us - 1 us - 0 ns = 1.31 us".
std::string hammer_line(const Findings& findings, const Series& series) {
  const Metric* found = find_metric(series, "overhead");
  if (!found || !found->median)
    return "";
  const double critical = param_number(series, "critical");
  const double parallel = param_number(series, "parallel");
  return fmt::format("{}: {} of CPU a lock - {} - {} = {}, {} of locks", param_text(series, "lock"),
                     quantity(*found->median + critical + parallel, "ns"), quantity(critical, "ns"),
                     quantity(parallel, "ns"), with_interval(*found),
                     quote(findings, series.name, "rate"));
}

std::string answer(const Findings& findings) {
  std::string text;
  if (const auto alone = against_std(findings, "alone/", "overhead"); !alone.empty())
    text = fmt::format("A lock that nobody wants costs {}.", alone);
  for (const std::string_view relation : {"l3", "l2", "smt", "same-pu"}) {
    const auto over = against_std(findings, fmt::format("handoff/{}/", relation), "handoff");
    if (!over.empty())
      text += fmt::format(" Handed over ({}) it takes {}.", relation, over);
  }
  for (const auto& series : findings.result().series)
    if (series.name.starts_with("contended/2/") &&
        series.name.find("/waits/") == std::string::npos &&
        (series.name.ends_with("/mutex") || series.name.ends_with("/std"))) {
      const auto line = hammer_line(findings, series);
      text += line.empty() ? "" : fmt::format(" {}.", line);
    }
  return text.empty() ? "No lock was measured." : text;
}

// What all samples of all processes lost of the additions, in series with a lock or without.
struct Losses {
  double sum = 0;
  bool any = false;   // such series
  bool sound = true;  // all of them
};
Losses losses(const Findings& findings, bool guarded) {
  Losses found;
  for (const auto& series : findings.result().series) {
    if (!series.name.starts_with("contended/") || series.name.ends_with("/none") == guarded ||
        !recorded_metric(series, "lost"))
      continue;
    found.sum += apparatus::total_of(series, "lost");
    found.any = true;
    found.sound = found.sound && apparatus::is_sound(&series);
  }
  return found;
}

// C32: confirmed if no lock lost an addition, and without a lock some were lost.
Judgement judge_lock(const Findings& findings) {
  Judgement judgement;
  const Losses with = losses(findings, true), without = losses(findings, false);
  if (!with.any || !without.any)
    return apparatus::undecided("lock_cost with lock=none and another lock, contended");
  judgement.evidence =
      fmt::format("{:.0f} additions lost with locks, {:.0f} without", with.sum, without.sum);
  if (const auto cost = against_std(findings, "alone/", "overhead"); !cost.empty())
    judgement.evidence += fmt::format("; an uncontended lock costs {}", cost);
  if (with.sum > 0)
    judgement.verdict = Verdict::refuted;
  else if (!with.sound || !without.sound)
    judgement.needs = "lock_cost, contended, all of whose checks hold";
  else if (without.sum > 0)
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = "two CPUs: without a lock nothing was lost either";
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C32",
     .text = "A lock, held for a block, keeps threads from losing each other's updates",
     .source = "S1",
     .judge = judge_lock},
};

}  // namespace

extern constinit const Lab lock_cost = {
    .name = "lock_cost",
    .family = "procs",
    .question = "what does a lock cost, alone, contended and handed over, and who gets it?",
    .version = 1,
    .shape = Shape::pair,
    .params = params,
    .metrics = metrics,
    // Thirteen locks, each alone, contended three times and handed over on one and two CPUs.
    .budget = {.quick_s = 5, .full_s = 60},
    .plan = plan_series,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
