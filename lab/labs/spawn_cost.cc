// spawn_cost: what does it cost to start a thread or a process, and what decides it?
//
// Method   One pinned task starts a child that ends at once, and waits for its end, by every way
//          that Linux has. Parent and child share the CPU. The parent is small, or holds memory
//          of a known kind of page; then each page is written once after the fork.
// Reading  "whole" is start and end; "blocked" what the parent stood still for; "begun" when the
//          child's first instruction ran. A fork copies page tables: it grows with the parent's
//          memory, and what it put off is the "write" of each page. vfork, posix_spawn and a
//          forkserver do not.
// Traps    On one CPU "begun" contains the parent's way into its wait. fork returns twice: the
//          parent goes on first. posix_spawn is measured with the smallest program there can be:
//          a dynamic linker costs more than all the rest. glibc keeps stacks of ended threads.

#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/first_write.hh"
#include "lab/apparatus/floors.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/spawn.hh"
#include "lab/apparatus/task_cost.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::Ballast;
using apparatus::BallastPages;
using apparatus::quote;
using apparatus::times;
using apparatus::Writer;

enum : std::size_t { whole, blocked, begun, join, faults, write, page_faults, right };

constexpr MetricInfo metrics[] = {
    {.name = "whole", .unit = "ns", .help = "from the call to the awaited end", .interval = true},
    {.name = "blocked", .unit = "ns", .help = "of that, the call that starts the child"},
    {.name = "begun", .unit = "ns", .help = "from the call to the child's first instruction"},
    {.name = "join",
     .unit = "ns",
     .help = "from the child's last instruction to the return of the wait",
     .show = false},
    {.name = "faults",
     .unit = "",
     .kind = Kind::count,
     .help = "page faults of the child in its life; of procs, before its body"},
    {.name = "write",
     .unit = "ns",
     .help = "first write to a base page after the fork",
     .interval = true},
    {.name = "page_faults",
     .unit = "",
     .kind = Kind::ratio,
     .help = "page faults for a base page written",
     .show = false},
    {.name = "right",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "share of children that had ended, and had answered rightly, after the wait",
     .show = false},
};

constexpr std::string_view part_words[] = {"ways", "size", "flags", "write"};
constexpr std::string_view all_parts = "ways,size,flags,write";
constexpr std::string_view pages_words[] = {"base", "huge", "shared"};
constexpr std::string_view all_pages = "base,huge,shared";

constexpr Param params[] = {
    {.name = "part",
     .help = "ways to start; size of the parent; what a child shares; first writes",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_parts,
     .quick = all_parts,
     .full = all_parts,
     .words = part_words},
    {.name = "size",
     .help = "bytes that the parent holds",
     .kind = Param::Kind::size,
     .list = true,
     .smoke = "4M",
     .quick = "16M,128M",
     .full = "16M,64M,256M,512M",
     .min = 1 << 20,
     .max = std::int64_t{1} << 40},
    {.name = "pages",
     .help = "of what kind they are",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_pages,
     .quick = all_pages,
     .full = all_pages,
     .words = pages_words},
    {.name = "written",
     .help = "bytes that are written after a fork",
     .kind = Param::Kind::size,
     .smoke = "2M",
     .quick = "8M",
     .full = "64M",
     .min = 1 << 20,
     .max = std::int64_t{1} << 40},
};

struct WayInfo {
  std::string_view way;
  std::string_view words;
  bool of_size;   // measured with a large parent too
  bool threaded;  // keeps a thread of its own for a while
};
constexpr std::array ways = {
    WayInfo{"thread", "thread", true, true},
    WayInfo{"detached", "thread, no join", false, true},
    WayInfo{"fork", "fork", false, false},  // of all sizes and kinds of pages
    WayInfo{"pidfd", "fork, pidfd", false, false},
    WayInfo{"clone3", "clone3, pidfd", false, false},
    WayInfo{"vfork", "vfork", true, false},
    WayInfo{"spawn", "posix_spawn", true, false},
    WayInfo{"fork-exec", "fork, exec", true, false},
    WayInfo{"vfork-exec", "vfork, exec", false, false},
    WayInfo{"vfork-exec-dynamic", "the same, libc", false, false},
    WayInfo{"procs/fork", "procs, fork", false, false},
    WayInfo{"procs/exec", "procs, exec", true, false},
    WayInfo{"procs/forkserver", "procs, server", true, false},
};

struct Here {
  unsigned cpu = 0;
  affinity::CpuSet usable;
};

std::string sized(std::string_view way, const Ballast& ballast) {
  return fmt::format("{}/{}/{}", way, quantity(static_cast<double>(ballast.size), "B"),
                     to_text(ballast.pages));
}

SeriesPlan blank(const Here& here, std::string name, std::string group, std::string_view what,
                 const Ballast& ballast) {
  SeriesPlan series;
  series.name = std::move(name);
  series.group = std::move(group);
  series.relation = "same-pu";
  series.cpus = {here.cpu};
  series.params = {{"start", std::string(what)}};
  if (ballast.size > 0) {
    series.params.emplace_back(
        "parent", fmt::format("{} {}", quantity(static_cast<double>(ballast.size), "B"),
                              to_text(ballast.pages)));
    series.skip = apparatus::too_large(1, ballast.size);
  } else {
    series.params.emplace_back("parent", "small");
  }
  return series;
}

void add_way(Plan& plan, const Here& here, std::string_view way, std::string_view words,
             std::string group, const Ballast& ballast = {}) {
  auto series = blank(here, ballast.size > 0 ? sized(way, ballast) : std::string(way),
                      std::move(group), words, ballast);
  if (series.skip.empty())
    series.skip = apparatus::spawn_refusal(way);
  const apparatus::SpawnCostOptions options{.cpu = here.cpu,
                                            .usable = here.usable,
                                            .ballast = ballast,
                                            .metrics = {.whole = whole,
                                                        .blocked = blocked,
                                                        .begun = begun,
                                                        .join = join,
                                                        .faults = faults,
                                                        .right = right}};
  series.make = [way = std::string(way), options] { return apparatus::make_spawn(way, options); };
  plan.add(std::move(series));
}

// Nothing here waits: it never has to be woken by a driver.
void add_coroutine(Plan& plan, const Here& here) {
  const auto arm = apparatus::best_driver(plan);
  auto series = blank(here, "coroutine", "a loop", "coroutine", {});
  series.driver = arm.name;
  series.skip = arm.skip;
  const apparatus::TaskCostOptions options{.cpu = here.cpu,
                                           .usable = here.usable,
                                           .driver = arm.choice,
                                           .tasks = 100,
                                           .time_metric = whole,
                                           .frame_metric = {}};
  series.make = [options] { return apparatus::make_task_cost("start", options); };
  plan.add(std::move(series));
}

void add_ways(Plan& plan, const Here& here) {
  add_coroutine(plan, here);
  for (const auto& info : ways)
    add_way(plan, here, info.way, info.words, info.threaded ? "threads" : "processes");
}

void add_sizes(Plan& plan, const Here& here) {
  auto sizes = plan.numbers("size");
  std::ranges::sort(sizes);
  for (const auto& word : plan.words("pages"))
    for (const auto size : sizes) {
      const Ballast ballast{static_cast<std::uint64_t>(size), apparatus::ballast_pages_from(word)};
      const std::string group = sized("ballast", ballast);
      add_way(plan, here, "fork", "fork", group, ballast);
      if (ballast.pages == BallastPages::base && size == sizes.back())
        for (const auto& info : ways)
          if (info.of_size)
            add_way(plan, here, info.way, info.words, group, ballast);
    }
}

void add_flags(Plan& plan, const Here& here) {
  for (const auto flags : apparatus::clone_flag_sets())
    add_way(plan, here, fmt::format("clone/{}", flags), fmt::format("clone {}", flags), "clone");
}

void add_writes(Plan& plan, const Here& here) {
  for (const auto& word : plan.words("pages"))
    for (const auto writer :
         {Writer::nobody_forked, Writer::child, Writer::parent, Writer::parent_alone}) {
      const Ballast ballast{static_cast<std::uint64_t>(plan.number("written")),
                            apparatus::ballast_pages_from(word)};
      const auto who = to_text(writer);
      auto series = blank(here, fmt::format("write/{}/{}", who, word),
                          fmt::format("write/{}", word), fmt::format("write: {}", who), ballast);
      const apparatus::FirstWriteOptions options{.cpu = here.cpu,
                                                 .usable = here.usable,
                                                 .ballast = ballast,
                                                 .write_metric = write,
                                                 .faults_metric = page_faults};
      series.make = [writer, options] { return apparatus::make_first_write(writer, options); };
      plan.add(std::move(series));
    }
}

void plan_series(Plan& plan) {
  const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
  const Here here{.cpu =
                      ones.chosen.empty() ? plan.topology().usable().first() : ones.chosen.front(),
                  .usable = plan.topology().usable()};
  for (const auto& part : plan.words("part")) {
    if (part == "ways")
      add_ways(plan, here);
    else if (part == "size")
      add_sizes(plan, here);
    else if (part == "flags")
      add_flags(plan, here);
    else
      add_writes(plan, here);
  }
  for (auto& floor : apparatus::common_floors(here.cpu, here.usable, whole))
    plan.add(std::move(floor));
}

// The fork from the parent that holds most in base pages, or null.
const Series* largest_fork(const LabResult& result) {
  const Series* largest = nullptr;
  for (const Series& series : result.series)
    if (series.name.starts_with("fork/") && series.name.ends_with("/base") &&
        find_metric(series, "whole") && find_metric(series, "whole")->median)
      largest = &series;  // they are planned in ascending order
  return largest;
}

std::string answer(const Findings& findings) {
  struct Told {
    std::string_view series;
    std::string_view words;
  };
  constexpr std::array told = {
      Told{"coroutine", "a coroutine"},
      Told{"thread", "a thread"},
      Told{"vfork", "vfork"},
      Told{"fork", "fork"},
      Told{"spawn", "posix_spawn"},
      Told{"procs/forkserver", "a forkserver"},
      Told{"procs/exec", "this program afresh"},
  };
  std::string text;
  for (const Told& one : told) {
    const std::string cost = quote(findings, one.series, "whole");
    if (!cost.empty())
      text +=
          fmt::format("{}{} {}", text.empty() ? "To start and to end: " : ", ", one.words, cost);
  }
  if (!text.empty())
    text += ".";
  if (const Series* fork = largest_fork(findings.result())) {
    text += fmt::format("{}A fork from a parent of {} takes {}", text.empty() ? "" : " ",
                        param_text(*fork, "parent"), quote(findings, fork->name, "whole"));
    const std::string page = quote(findings, "write/child/base", "write");
    if (!page.empty())
      text += fmt::format(", and then {} for each page that the child writes", page);
    text += ".";
  }
  return text.empty() ? "No way was measured." : text;
}

// How a claim goes that a ratio lies above a bound.
void decide(Judgement& judgement, const std::optional<Estimate>& ratio, double bound) {
  if (ratio->interval->low > bound)
    judgement.verdict = Verdict::confirmed;
  else if (ratio->interval->high < bound)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine or more processes";
}

// C55: confirmed if a process takes longer than a thread, however it is made.
Judgement judge_threads_cheaper(const Findings& findings) {
  Judgement judgement;
  const auto ratio = findings.ratio("fork", "thread", "whole");
  if (!ratio || !ratio->interval) {
    judgement.needs = "spawn_cost with 6 processes or more, part=ways";
    return judgement;
  }
  judgement.evidence = fmt::format("to start and to end, a process by fork takes {} times a thread "
                                   "({} against {})",
                                   times(*ratio), quote(findings, "fork", "whole"),
                                   quote(findings, "thread", "whole"));
  struct Other {
    std::string_view series;
    std::string_view words;
  };
  constexpr std::array others = {Other{"coroutine", "a coroutine"}, Other{"vfork", "by vfork"},
                                 Other{"procs/forkserver", "by a forkserver"},
                                 Other{"procs/exec", "by exec of this program"}};
  for (const Other& other : others)
    if (const auto cost = quote(findings, other.series, "whole"); !cost.empty())
      judgement.evidence += fmt::format(", {} {}", other.words, cost);
  decide(judgement, ratio, 1);
  return judgement;
}

// C31: confirmed if sharing all that a thread shares makes a child cheaper than sharing nothing.
Judgement judge_lightweight_processes(const Findings& findings) {
  Judgement judgement;
  const auto ratio = findings.ratio("clone/none", "clone/thread", "whole");
  if (!ratio || !ratio->interval) {
    judgement.needs = "spawn_cost with 6 processes or more, part=flags";
    return judgement;
  }
  judgement.evidence =
      fmt::format("clone makes both; sharing nothing costs {} times sharing what a thread shares",
                  times(*ratio));
  constexpr std::array<std::pair<std::string_view, std::string_view>, 5> steps = {{
      {"clone/none", "clone/vm"},
      {"clone/none", "clone/fs"},
      {"clone/none", "clone/files"},
      {"clone/vm", "clone/vm+sighand"},
      {"clone/all", "clone/thread"},
  }};
  for (const auto& [without, with] : steps)
    if (const auto saved = findings.difference(without, with, "whole"))
      judgement.evidence += fmt::format(
          "; {} saves {:.2g} us", with.substr(with.find_last_of("/+") + 1), saved->value / 1000);
  decide(judgement, ratio, 1);
  return judgement;
}

// The share of `right` over all processes; nothing if it was not measured.
std::optional<double> least_right(const Findings& findings, std::string_view series) {
  const Metric* metric = findings.metric(series, "right");
  if (!metric || !metric->median || !metric->min)
    return std::nullopt;
  return metric->min;
}

// C9: confirmed if no wait for a thread or a process returned before its child's last instruction,
// and without a wait the parent got ahead of it.
Judgement judge_join_waits(const Findings& findings) {
  Judgement judgement;
  constexpr std::array<std::string_view, 3> waits = {"thread", "fork", "pidfd"};
  double least = 1;
  for (const auto wait : waits) {
    const auto share = least_right(findings, wait);
    if (!share) {
      judgement.needs = "spawn_cost with part=ways";
      return judgement;
    }
    least = std::min(least, *share);
    judgement.evidence += fmt::format("{}{} returned {} after the child's last instruction",
                                      judgement.evidence.empty() ? "" : ", ",
                                      wait == "thread" ? "pthread_join"
                                      : wait == "fork" ? "waitpid"
                                                       : "poll of a pidfd and waitid",
                                      quote(findings, wait, "join"));
  }
  const Metric* without = findings.metric("detached", "right");
  if (least < 1) {
    judgement.verdict = Verdict::refuted;
    judgement.evidence += "; some returned before it";
  } else if (without && without->median && *without->median < 1) {
    judgement.verdict = Verdict::confirmed;
    judgement.evidence += fmt::format(", and never before; without a join the thread had ended in "
                                      "{:.0f} % of the cases",
                                      100 * *without->median);
  } else {
    judgement.needs = "the control, way detached, in which a thread is still running";
  }
  return judgement;
}

// C17: confirmed if all start methods of procs::Process gave the same, right answers.
Judgement judge_same_by_all_methods(const Findings& findings) {
  Judgement judgement;
  constexpr std::array<std::string_view, 3> methods = {"procs/fork", "procs/exec",
                                                       "procs/forkserver"};
  double least = 1;
  for (const auto method : methods) {
    const auto share = least_right(findings, method);
    if (!share) {
      judgement.needs = "spawn_cost with part=ways; each start method must work here";
      return judgement;
    }
    least = std::min(least, *share);
  }
  judgement.evidence = fmt::format(
      "the same function and argument gave the right answer in {} of the children of fork, exec "
      "and "
      "forkserver; a child by exec begins at main, where procs::enter() stands for Python's guard",
      least == 1 ? "all" : "not all");
  judgement.verdict = least == 1 ? Verdict::confirmed : Verdict::refuted;
  return judgement;
}

// C96: confirmed if a program is brought in by page faults when it is started, more of them the
// more it consists of.
Judgement judge_passive_until_loaded(const Findings& findings) {
  Judgement judgement;
  const auto ratio = findings.ratio("vfork-exec-dynamic", "vfork-exec", "faults");
  if (!ratio || !ratio->interval) {
    judgement.needs = "spawn_cost with 6 processes or more, part=ways, a dynamic /bin/true";
    return judgement;
  }
  judgement.evidence = fmt::format(
      "{} page faults load a static program of two instructions, {} one with its C library, {} "
      "this "
      "program up to main's first line, {} after its start",
      quote(findings, "vfork-exec", "faults"), quote(findings, "vfork-exec-dynamic", "faults"),
      quote(findings, "procs/exec", "faults"), quote(findings, "procs/exec", "begun"));
  decide(judgement, ratio, 1);
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C9",
     .text = "join() waits until the thread or process has completed",
     .source = "S0 S2 S3",
     .judge = judge_join_waits},
    {.id = "C17",
     .text = "A process starts like a thread, and works alike by every start method",
     .source = "S0 S2 S3",
     .judge = judge_same_by_all_methods},
    {.id = "C31",
     .text = "Threads are lightweight processes",
     .source = "S1",
     .judge = judge_lightweight_processes},
    {.id = "C55",
     .text = "Threads are cheaper to create than processes",
     .source = "S2",
     .judge = judge_threads_cheaper},
    {.id = "C96",
     .text = "A program is passive until it is loaded; then it is a process",
     .source = "S4",
     .judge = judge_passive_until_loaded},
};

}  // namespace

extern constinit const Lab spawn_cost = {
    .name = "spawn_cost",
    .family = "procs",
    .question = "what does it cost to start a thread or a process, and what decides it?",
    .version = 2,
    .shape = Shape::one,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 5, .full_s = 40},  // some 50 series, of which some take milliseconds
    .plan = plan_series,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
