// isolation: when a task goes wrong, who dies, who lives, and what is left?
//
// Method   A process with state starts a task, as a thread or as a process. The task writes over
//          that state and then does harm: a wild write, abort, exit, SIGKILL, more memory than its
//          cgroup has. Whoever is left looks at its state and its descriptors. Besides: what a task
//          is given of its starter's memory and descriptors, what of it stays shared, and how many
//          page faults a copy costs.
// Reading  "alive" is the share of starters that outlived the task, "changed" how much of their
//          state they then found changed, "passed" and "shared" what the task began with and what
//          both went on sharing.
// Traps    Processes are isolated as far as they share nothing: a shared mapping is written over by
//          a process as by a thread. A crash here writes no core file, but the kernel may log it.

#include "lab/apparatus/harm.hh"
#include "lab/apparatus/inheritance.hh"
#include "lab/apparatus/memory_cage.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/shares.hh"
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
using apparatus::Harm;
using apparatus::Start;
using apparatus::TaskKind;
using apparatus::Thing;

enum : std::size_t { alive, changed, left, took, passed, shared, faults, overtook };

constexpr MetricInfo metrics[] = {
    {.name = "alive",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "starters that outlived the task",
     .interval = true},
    {.name = "changed",
     .unit = "",
     .kind = Kind::ratio,
     .help = "of the state of those that did, found changed",
     .interval = true},
    {.name = "left",
     .unit = "",
     .kind = Kind::count,
     .help = "descriptors that they have more than before",
     .show = false},
    {.name = "took",
     .unit = "ns",
     .help = "until the parent of what died knew; a page; a run",
     .interval = true},
    {.name = "passed",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "of what the starter has, given to the task",
     .interval = true},
    {.name = "shared",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "of what the task changed, changed for the starter",
     .interval = true},
    {.name = "faults",
     .unit = "",
     .kind = Kind::ratio,
     .help = "minor faults for each page that a forked child touched",
     .show = false},
    {.name = "overtook",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "runs in which the thread that was started second printed first",
     .show = false},
};
constexpr std::size_t share_metrics[] = {overtook};

constexpr std::string_view part_words[] = {"harm", "inherit", "copies", "order"};
constexpr std::string_view all_parts = "harm,inherit,copies,order";

constexpr Param params[] = {
    {.name = "part",
     .help = "which questions are asked",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_parts,
     .quick = all_parts,
     .full = all_parts,
     .words = part_words},
};

struct Here {
  unsigned cpu = 0;
  affinity::CpuSet usable;
};

SeriesPlan blank(const Here& here, std::string name, std::string group,
                 std::vector<std::pair<std::string, std::string>> values) {
  SeriesPlan series;
  series.name = std::move(name);
  series.group = std::move(group);
  series.params = std::move(values);
  series.relation = "same-pu";
  series.cpus = {here.cpu};
  return series;
}

void add_harms(Plan& plan, const Here& here) {
  const std::string no_cage =
      plan.topology().foreign() ? "" : apparatus::memory_cage_refusal(apparatus::cage_bytes);
  for (const auto harm : apparatus::all_harms())
    for (const auto kind : {TaskKind::threads, TaskKind::processes}) {
      const bool thread = kind == TaskKind::threads;
      auto series = blank(
          here, fmt::format("{}/{}", apparatus::to_text(harm), thread ? "thread" : "process"),
          std::string(apparatus::to_text(harm)),
          {{"what", std::string(apparatus::to_text(harm))}, {"by", thread ? "thread" : "process"}});
      if (harm == Harm::memory)
        series.skip = no_cage;
      const apparatus::HarmOptions options{.harm = harm,
                                           .kind = kind,
                                           .cpu = here.cpu,
                                           .usable = here.usable,
                                           .alive = alive,
                                           .changed = changed,
                                           .left = left,
                                           .told = took};
      series.make = [options] { return apparatus::make_harm(options); };
      plan.add(std::move(series));
    }
}

void add_inheritance(Plan& plan, const Here& here) {
  for (const auto thing : apparatus::all_things())
    for (const auto start : apparatus::all_starts()) {
      const std::string what(apparatus::to_text(thing)), how(apparatus::to_text(start));
      auto series = blank(here, fmt::format("inherit/{}/{}", what, how), "inherit/" + how,
                          {{"what", what}, {"by", how}});
      const apparatus::InheritanceOptions options{.thing = thing,
                                                  .start = start,
                                                  .cpu = here.cpu,
                                                  .usable = here.usable,
                                                  .passed = passed,
                                                  .shared = shared};
      series.make = [options] { return apparatus::make_inheritance(options); };
      plan.add(std::move(series));
    }
}

void add_copies(Plan& plan, const Here& here) {
  for (const bool writes : {true, false}) {
    auto series = blank(here, writes ? "copy/written" : "copy/read", "copy",
                        {{"what", writes ? "page written" : "page read"}, {"by", "fork"}});
    const apparatus::CopyOnWriteOptions options{
        .writes = writes, .cpu = here.cpu, .usable = here.usable, .faults = faults, .each = took};
    series.make = [options] { return apparatus::make_copy_on_write(options); };
    plan.add(std::move(series));
  }
}

void add_order(Plan& plan, const Here& here) {
  for (const bool anywhere : {false, true}) {
    auto series = blank(here, anywhere ? "order/anywhere" : "order/one-cpu", "order",
                        {{"what", "two prints"}, {"by", "thread"}});
    if (anywhere) {
      series.relation = "unpinned";
      series.cpus.clear();
    }
    const apparatus::TwoThreadsOptions options{.cpu = here.cpu,
                                               .anywhere = anywhere,
                                               .usable = here.usable,
                                               .overtook = overtook,
                                               .each = took};
    series.make = [options] { return apparatus::make_two_threads(options); };
    plan.add(std::move(series));
  }
}

void plan_series(Plan& plan) {
  const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
  plan.add_absent(ones.absent);
  if (ones.chosen.empty())
    return;
  const Here here{ones.chosen.front(), plan.topology().usable()};
  for (const auto& part : plan.words("part"))
    if (part == "harm")
      add_harms(plan, here);
    else if (part == "inherit")
      add_inheritance(plan, here);
    else if (part == "copies")
      add_copies(plan, here);
    else
      add_order(plan, here);
}

void conclude(const Plan& plan, LabResult& result) {
  apparatus::pool_shares(plan, share_metrics, result);
}

std::optional<double> value(const Findings& findings, std::string_view series,
                            std::string_view metric) {
  const Metric* found = findings.metric(series, metric);
  return found ? found->median : std::nullopt;
}

std::string series_of(Harm harm, std::string_view task) {
  return fmt::format("{}/{}", apparatus::to_text(harm), task);
}

// Harms after which something is dead.
bool is_deadly(Harm harm) {
  return harm != Harm::none && harm != Harm::leak;
}

constexpr std::string_view all_of_it = "isolation";

Judgement judge_start_and_join(const Findings& findings) {
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  bool overtaken = false;
  for (const auto* name : {"order/one-cpu", "order/anywhere"}) {
    const Series* series = findings.series(name);
    if (apparatus::fails(series, apparatus::lines_check) ||
        apparatus::fails(series, apparatus::done_check))
      return apparatus::refuted("in some runs a line was missing or \"Done!\" was not the last");
    overtaken = overtaken || (apparatus::is_sound(series) && value(findings, name, "overtook") > 0);
  }
  if (overtaken) {
    judgement.verdict = Verdict::confirmed;
    judgement.evidence = fmt::format(
        "all runs printed the three lines, \"Done!\" last; the thread started second printed first "
        "in {} of the runs anywhere and {} on one CPU",
        apparatus::share(findings, "order/anywhere", "overtook"),
        apparatus::share(findings, "order/one-cpu", "overtook"));
  } else {
    judgement.needs = "runs in which the second thread prints first: more processes, or two CPUs";
  }
  return judgement;
}

// Whether a value was measured and lies between.
bool within(std::optional<double> value, double low, double high) {
  return value && *value >= low && *value <= high;
}

Judgement judge_separate_memory(const Findings& findings) {
  const auto global = value(findings, "inherit/global/fork", "shared");
  const auto private_memory = value(findings, "inherit/private/fork", "shared");
  const auto shared_memory = value(findings, "inherit/shared/fork", "shared");
  const auto fault = value(findings, "copy/written", "faults");
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  if (global && private_memory && shared_memory)
    judgement.evidence = fmt::format(
        "of what a forked child wrote its parent found {:.0f} % in a variable, {:.0f} % in private "
        "and {:.0f} % in shared memory; a page costs the child {} faults, once",
        100 * *global, 100 * *private_memory, 100 * *shared_memory,
        apparatus::quote(findings, "copy/written", "faults"));
  if (within(global, 1e-9, 1) || within(private_memory, 1e-9, 1))
    judgement.verdict = Verdict::refuted;
  else if (within(global, 0, 0) && within(private_memory, 0, 0) && within(shared_memory, 1, 1) &&
           within(fault, 0.95, 1.1))
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = "isolation (part=inherit,copies)";
  return judgement;
}

Judgement judge_share_nothing(const Findings& findings) {
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  const auto forked = value(findings, "inherit/descriptor/fork", "shared");
  const auto plain = value(findings, "inherit/descriptor/exec", "passed");
  const auto marked = value(findings, "inherit/cloexec/exec", "passed");
  const auto memory = value(findings, "inherit/private/fork", "shared");
  if (!forked || !plain || !marked || !memory) {
    judgement.needs = "isolation (part=inherit)";
    return judgement;
  }
  judgement.evidence = fmt::format(
      "memory: {:.0f} % shared by fork; descriptors: {:.0f} % share their offset with a forked "
      "child, {:.0f} % pass to a program, {:.0f} % of those marked close-on-exec",
      100 * *memory, 100 * *forked, 100 * *plain, 100 * *marked);
  const bool nothing = *forked == 0 && *plain == 0 && *memory == 0;
  judgement.verdict = nothing ? Verdict::confirmed : Verdict::refuted;
  return judgement;
}

Judgement judge_processes_reduce_corruption(const Findings& findings) {
  const auto by_thread = value(findings, "none/thread", "changed");
  const auto by_process = value(findings, "none/process", "changed");
  const auto beside_thread = value(findings, "write/thread", "alive");
  const auto beside_process = value(findings, "write/process", "alive");
  const auto segment = value(findings, "inherit/shared/fork", "shared");
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  // A scene that could not be played harmed nobody, and its starter did not live through anything.
  const auto played = [&](const char* name) { return apparatus::is_sound(findings.series(name)); };
  if (!by_thread || !by_process || !beside_thread || !beside_process || !played("none/thread") ||
      !played("none/process") || !played("write/thread") || !played("write/process"))
    return apparatus::undecided("isolation (part=harm,inherit), all of whose checks hold");
  judgement.evidence = fmt::format(
      "a thread changed {:.0f} % of its starter's state, a process {:.0f} %; after a wild write "
      "{:.0f} % of the starters of a thread lived, {:.0f} % of those of a process",
      100 * *by_thread, 100 * *by_process, 100 * *beside_thread, 100 * *beside_process);
  if (segment && *segment > 0)
    judgement.evidence += "; what processes share by mmap is written over as well";
  const bool at_risk = *by_thread > 0 && *beside_thread < 1;
  const bool kept = *by_process == 0 && *beside_process == 1;
  judgement.verdict = at_risk && kept ? Verdict::confirmed : Verdict::refuted;
  return judgement;
}

Judgement judge_isolated(const Findings& findings) {
  Judgement judgement{.verdict = Verdict::inconclusive, .evidence = {}, .needs = {}};
  std::string survived, died, wrong, missing;
  const auto add = [](std::string& list, std::string_view word) {
    list += (list.empty() ? "" : ", ") + std::string(word);
  };
  for (const auto harm : apparatus::all_harms()) {
    if (!is_deadly(harm))
      continue;
    const std::string thread = series_of(harm, "thread"), process = series_of(harm, "process");
    const auto beside_thread = value(findings, thread, "alive");
    const auto beside_process = value(findings, process, "alive");
    if (!beside_thread || !beside_process || !apparatus::is_sound(findings.series(thread)) ||
        !apparatus::is_sound(findings.series(process))) {
      add(missing, apparatus::to_text(harm));
      continue;
    }
    add(*beside_process == 1 && within(value(findings, process, "changed"), 0, 0) ? survived
                                                                                  : wrong,
        apparatus::to_text(harm));
    if (*beside_thread == 0)
      add(died, apparatus::to_text(harm));
  }
  if (!survived.empty())
    judgement.evidence = fmt::format("a process's parent outlived it unchanged after: {}; a "
                                     "thread's process died with it of: {}",
                                     survived, died.empty() ? "none" : died);
  if (!missing.empty())
    judgement.evidence += "; not measured here: " + missing;
  if (!wrong.empty()) {
    judgement.verdict = Verdict::refuted;
    judgement.evidence += "; a parent was harmed by: " + wrong;
  } else if (!survived.empty() && survived == died) {
    judgement.verdict = Verdict::confirmed;
  } else {
    judgement.needs = all_of_it;
  }
  return judgement;
}

// How it ended, as its parent was told.
std::string cause_of(const Findings& findings, const std::string& series) {
  const Check* cause = apparatus::find_check(findings.series(series), apparatus::cause_check);
  return cause && cause->seen.text() ? *cause->seen.text() : "";
}

std::string answer(const Findings& findings) {
  std::string text, list;
  for (const auto harm : apparatus::all_harms()) {
    const auto alone = value(findings, series_of(harm, "process"), "alive");
    const auto together = value(findings, series_of(harm, "thread"), "alive");
    if (is_deadly(harm) && within(alone, 1, 1) && within(together, 0, 0))
      list += fmt::format("{}{} ({})", list.empty() ? "" : ", ", apparatus::to_text(harm),
                          cause_of(findings, series_of(harm, "process")));
  }
  if (!list.empty())
    text += fmt::format("A thread takes its whole process with it, and a process dies alone, of: "
                        "{}. ",
                        list);
  if (const auto by_thread = value(findings, "none/thread", "changed"),
      by_process = value(findings, "none/process", "changed");
      by_thread && by_process)
    text += fmt::format("Without any crash a thread can change {:.0f} % of its starter's state, a "
                        "process {:.0f} %",
                        100 * *by_thread, 100 * *by_process);
  if (const auto segment = value(findings, "inherit/shared/fork", "shared"); segment)
    text += fmt::format(", but {:.0f} % of what both map as shared", 100 * *segment);
  if (!text.empty())
    text += ". ";
  const std::string fault = apparatus::quote(findings, "copy/written", "faults");
  if (!fault.empty())
    text += fmt::format("A page that a forked child writes costs {} faults, {}. ", fault,
                        apparatus::quote(findings, "copy/written", "took"));
  if (text.empty())
    return "Nothing was measured.";
  text.pop_back();
  return text;
}

constexpr ClaimInfo claims[] = {
    {.id = "C8",
     .text = "Threads that are started and joined print in any order, and what follows the join is "
             "last",
     .source = "S0",
     .judge = judge_start_and_join},
    {.id = "C18",
     .text = "Processes have separate memory",
     .source = "S0 S2 S3 S4",
     .judge = judge_separate_memory},
    {.id = "C38",
     .text = "Processes share nothing by default",
     .source = "S1",
     .judge = judge_share_nothing},
    {.id = "C56",
     .text = "Shared memory is a risk, and processes reduce corruption",
     .source = "S2",
     .judge = judge_processes_reduce_corruption},
    {.id = "C80",
     .text = "Processes are isolated from each other unless they communicate",
     .source = "S4",
     .judge = judge_isolated},
};

}  // namespace

extern constinit const Lab isolation = {
    .name = "isolation",
    .family = "procs",
    .question = "when a task goes wrong, who dies, who lives, and what is left?",
    .version = 1,
    .shape = Shape::one,
    .starves = true,
    .params = params,
    .metrics = metrics,
    // Each operation takes one process or two.
    .budget = {.quick_s = 4, .full_s = 30},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
