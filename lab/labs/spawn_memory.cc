// spawn_memory: what does an idle thread, process or coroutine hold?
//
// Method   More and more of them sleep; after each step the kernel is asked what all hold together
//          (smaps_rollup, status). A value is the slope of the line over their number: what was
//          there before is not in it.
// Reading  "pss" is a task's fair share: a page that n processes map counts one n-th. "own" is
//          what the task's end would give back. "rss" counts shared pages once for each process:
//          the sum over processes is more than the machine holds.
// Traps    What the kernel keeps for itself is in none of them: a stack (16 KiB on x86-64), a
//          task_struct (some 10 KiB), descriptors. A forked process holds little as long as nobody
//          writes. A thread's reserved stack is address space, not memory.

#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/idle_tasks.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/task_memory.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <array>
#include <cmath>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::quote;
using apparatus::times;

enum : std::size_t { pss, own, rss, tables, threads, reserved, frame };

constexpr MetricInfo metrics[] = {
    {.name = "pss",
     .unit = "B",
     .kind = Kind::size,
     .help = "a task's fair share of memory",
     .interval = true},
    {.name = "own", .unit = "B", .kind = Kind::size, .help = "pages that nobody else maps"},
    {.name = "rss",
     .unit = "B",
     .kind = Kind::size,
     .help = "resident pages, counted in each process that maps them"},
    {.name = "tables", .unit = "B", .kind = Kind::size, .help = "page tables", .interval = true},
    {.name = "threads",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "threads that the kernel counts, a task"},
    {.name = "reserved", .unit = "B", .kind = Kind::size, .help = "address space", .show = false},
    {.name = "frame",
     .unit = "B",
     .kind = Kind::size,
     .help = "bytes asked of the frame pool",
     .show = false},
};

constexpr std::string_view kind_words[] = {"coroutines", "threads", "fork", "forkserver", "exec"};
constexpr std::string_view all_kinds = "coroutines,threads,fork,forkserver,exec";

constexpr Param params[] = {
    {.name = "kind",
     .help = "of tasks; fork, forkserver and exec are ways to start processes",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_kinds,
     .quick = all_kinds,
     .full = all_kinds,
     .words = kind_words},
    {.name = "coroutines",
     .help = "that wait at the same time",
     .smoke = "2000",
     .quick = "20000",
     .full = "100000",
     .min = 1000,
     .max = 10'000'000},
    {.name = "threads",
     .help = "that wait at the same time",
     .smoke = "16",
     .quick = "64",
     .full = "256",
     .min = 2,
     .max = 10'000},
    {.name = "processes",
     .help = "that wait at the same time",
     .smoke = "4",
     .quick = "16",
     .full = "64",
     .min = 2,
     .max = 10'000},
};

struct Here {
  unsigned cpu = 0;
  affinity::CpuSet usable;
};

SeriesPlan blank(const Here& here, const std::string& kind, std::string what) {
  SeriesPlan series;
  series.name = kind;
  series.group = kind;
  series.params = {{"idle", std::move(what)}};
  series.relation = "same-pu";
  series.cpus = {here.cpu};
  return series;
}

void add_coroutines(Plan& plan, const Here& here) {
  const auto arm = apparatus::best_driver(plan);
  auto series = blank(here, "coroutines", plan.text("coroutines") + " coroutines");
  series.driver = arm.name;
  series.skip = arm.skip;
  // Nobody shares their pages: resident, fair share and own are the same.
  const apparatus::TaskMemoryOptions options{
      .cpu = here.cpu,
      .usable = here.usable,
      .driver = arm.choice,
      .most = static_cast<std::uint64_t>(plan.number("coroutines")),
      .frame_metric = frame,
      .resident_metric = pss,
      .reserved_metric = reserved};
  series.make = [options] { return apparatus::make_waiting_tasks(options); };
  plan.add(std::move(series));
}

void add_kind(Plan& plan, const Here& here, const std::string& kind) {
  const std::string number = plan.text(kind == "threads" ? "threads" : "processes");
  auto series = blank(here, kind,
                      kind == "threads" ? number + " threads"
                                        : fmt::format("{} processes, {}", number, kind));
  const apparatus::IdleOptions options{
      .cpu = here.cpu,
      .usable = here.usable,
      .most = static_cast<std::uint64_t>(plan.number(kind == "threads" ? "threads" : "processes")),
      .resident_metric = rss,
      .proportional_metric = pss,
      .own_metric = own,
      .page_tables_metric = tables,
      .threads_metric = threads};
  series.make = [kind, options] { return apparatus::make_idle_tasks(kind, options); };
  plan.add(std::move(series));
}

void plan_series(Plan& plan) {
  const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
  const Here here{.cpu =
                      ones.chosen.empty() ? plan.topology().usable().first() : ones.chosen.front(),
                  .usable = plan.topology().usable()};
  for (const auto& kind : plan.words("kind"))
    if (kind == "coroutines")
      add_coroutines(plan, here);
    else
      add_kind(plan, here, kind);
}

std::string answer(const Findings& findings) {
  struct Told {
    std::string_view kind;
    std::string_view words;
  };
  constexpr std::array told = {
      Told{"coroutines", "a coroutine"},          Told{"threads", "a thread"},
      Told{"fork", "a forked process"},           Told{"forkserver", "one of a forkserver"},
      Told{"exec", "one of this program afresh"},
  };
  std::string text;
  for (const Told& one : told) {
    const std::string share = quote(findings, one.kind, "pss");
    if (share.empty())
      continue;
    text += fmt::format("{}{} {}", text.empty() ? "Idle, by fair share: " : ", ", one.words, share);
    const std::string page_tables = quote(findings, one.kind, "tables");
    if (!page_tables.empty() && one.kind != "threads")
      text += fmt::format(" and {} of page tables", page_tables);
  }
  return text.empty() ? "Nothing was measured." : text + ".";
}

void decide(Judgement& judgement, const Estimate& ratio, double bound) {
  if (ratio.interval->low > bound)
    judgement.verdict = Verdict::confirmed;
  else if (ratio.interval->high < bound)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine or more processes";
}

// C20: confirmed if even a forked process, which shares all it can, holds more than a thread.
Judgement judge_processes_hold_more(const Findings& findings) {
  Judgement judgement;
  const auto ratio = findings.ratio("fork", "threads", "pss");
  if (!ratio || !ratio->interval) {
    judgement.needs = "spawn_memory with 6 processes or more, threads and fork";
    return judgement;
  }
  judgement.evidence =
      fmt::format("an idle forked process holds {} times the memory of an idle thread by fair "
                  "share ({} against "
                  "{}), and {} of page tables",
                  times(*ratio), quote(findings, "fork", "pss"), quote(findings, "threads", "pss"),
                  quote(findings, "fork", "tables"));
  if (const auto afresh = quote(findings, "exec", "pss"); !afresh.empty())
    judgement.evidence += fmt::format("; one executed afresh {}", afresh);
  decide(judgement, *ratio, 1);
  return judgement;
}

// C65, as far as memory goes: confirmed if an idle thread holds more than an idle coroutine.
Judgement judge_coroutines_hold_less(const Findings& findings) {
  Judgement judgement;
  const auto ratio = findings.ratio("threads", "coroutines", "pss");
  if (!ratio || !ratio->interval) {
    judgement.needs = "spawn_memory with 6 processes or more, coroutines and threads";
    return judgement;
  }
  judgement.evidence = fmt::format(
      "memory: an idle thread holds {} times an idle coroutine ({} against {}), beside "
      "what the kernel keeps for it",
      times(*ratio), quote(findings, "threads", "pss"), quote(findings, "coroutines", "pss"));
  decide(judgement, *ratio, 1);
  return judgement;
}

// C84: confirmed if each process has one thread from the start, each thread is one more, and none
// is left afterwards.
Judgement judge_at_least_one_thread(const Findings& findings) {
  Judgement judgement;
  const Metric* of_process = findings.metric("fork", "threads");
  const Metric* of_thread = findings.metric("threads", "threads");
  if (!of_process || !of_thread || !of_process->median || !of_thread->median ||
      !apparatus::holds(findings.series("fork"), apparatus::gone_check) ||
      !apparatus::holds(findings.series("threads"), apparatus::gone_check))
    return apparatus::undecided("spawn_memory with threads and fork, all of whose checks hold");
  judgement.evidence = fmt::format("the kernel counted {:.3g} threads for each idle process, and "
                                   "{:.3g} more in this process for each thread; afterwards as "
                                   "many as before",
                                   *of_process->median, *of_thread->median);
  // They are slopes of lines, and not whole.
  const auto is_one = [](double slope) { return std::abs(slope - 1) < 0.01; };
  const bool one_each = is_one(*of_process->median) && is_one(*of_thread->median);
  judgement.verdict = one_each ? Verdict::confirmed : Verdict::refuted;
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C20",
     .text = "Processes take more memory than threads",
     .source = "S0 S1 S2 S4",
     .judge = judge_processes_hold_more},
    {.id = "C65",
     .text = "Asynchronous tasks take less memory than threads",
     .source = "S2",
     .judge = judge_coroutines_hold_less},
    {.id = "C84",
     .text = "Each process has at least one thread; threads come and go",
     .source = "S4",
     .judge = judge_at_least_one_thread},
};

}  // namespace

extern constinit const Lab spawn_memory = {
    .name = "spawn_memory",
    .family = "procs",
    .question = "what does an idle thread, process or coroutine hold?",
    .version = 1,
    .shape = Shape::one,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 3, .full_s = 25},
    .plan = plan_series,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
