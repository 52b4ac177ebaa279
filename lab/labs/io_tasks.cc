// io_tasks: what does a task cost, in time and in memory, and when is a thread better?
//
// Method   Batches of tasks on one pinned loop: made, awaited, gathered, cancelled, sent to a
//          thread. The frames are counted by their pool; the memory of those that wait is the
//          slope of the process's pages over their number. Threads and processes beside them.
// Reading  "each" is the time of one. A gather of many touches each task four times: from some
//          thousand tasks on they no longer fit the L2 cache. "speedup" is work done against
//          the same work by plain calls; it exceeds 1 where threads use more than one CPU.
// Traps    A frame's bytes are what the compiler asked for; a waiting task is more than its frame,
//          and a thread's resident bytes lack what the kernel keeps for it (16 KiB of stack). The
//          counters of /proc/self/statm lag: pages are counted by smaps_rollup.

#include "lab/apparatus/asyncio.hh"
#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/floors.hh"
#include "lab/apparatus/lateness.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/quotient.hh"
#include "lab/apparatus/task_cost.hh"
#include "lab/apparatus/task_memory.hh"
#include "lab/apparatus/task_rules.hh"
#include "lab/apparatus/task_verdicts.hh"
#include "lab/apparatus/work_length.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::Beside;
using apparatus::length_name;
using apparatus::quote;
using apparatus::RunAs;

enum : std::size_t { each, frame, resident, reserved, speedup, late, lost, switches };

constexpr MetricInfo metrics[] = {
    {.name = "each", .unit = "ns", .help = "one task, call or piece of work", .interval = true},
    {.name = "frame",
     .unit = "B",
     .kind = Kind::size,
     .help = "bytes asked of the frame pool, a task"},
    {.name = "resident", .unit = "B", .kind = Kind::size, .help = "memory of one that waits"},
    {.name = "reserved",
     .unit = "B",
     .kind = Kind::size,
     .help = "address space of one that waits",
     .show = false},
    {.name = "speedup",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "work done against plain calls in the same time"},
    {.name = "late", .unit = "ns", .help = "how late a sleeper of the loop woke at most"},
    {.name = "lost",
     .unit = "",
     .kind = Kind::ratio,
     .help = "share of updates that were lost",
     .show = false},
    {.name = "switches",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "voluntary switches of the thread for each wait of the loop in the kernel",
     .show = false},
};

constexpr std::string_view part_words[] = {"cost", "gather", "memory", "length", "rules", "thread"};
constexpr std::string_view all_parts = "cost,gather,memory,length,rules,thread";

constexpr Param params[] = {
    {.name = "part",
     .help = "which questions are asked",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_parts,
     .quick = all_parts,
     .full = all_parts,
     .words = part_words},
    {.name = "gather",
     .help = "tasks in a gather",
     .list = true,
     .smoke = "1,100",
     .quick = "1,10,100,1000,10000,100000",
     .full = "1,2,5,10,20,50,100,200,500,1000,2000,5000,10000,20000,50000,100000",
     .min = 1,
     .max = 1'000'000},
    {.name = "length",
     .help = "ns of a piece of work",
     .list = true,
     .smoke = "100,10000",
     .quick = "100,1000,10000,100000,1000000,10000000",
     .full = "100,300,1000,3000,10000,30000,100000,300000,1000000,3000000,10000000",
     .min = 10,
     .max = 1'000'000'000},
    {.name = "waiting",
     .help = "tasks that wait at the same time, for their memory",
     .smoke = "2000",
     .quick = "20000",
     .full = "100000",
     .min = 1000,
     .max = 10'000'000},
    {.name = "threads",
     .help = "threads that wait at the same time, for theirs",
     .smoke = "16",
     .quick = "64",
     .full = "256",
     .min = 8,
     .max = 10'000},
    apparatus::python_param,
};

constexpr std::uint64_t tasks_in_batch = 1000;

// What the series of a plan have in common.
struct Here {
  unsigned cpu = 0;
  affinity::CpuSet usable;
  apparatus::DriverArm arm;
};

SeriesPlan blank(const Here& here, std::string name, std::string_view group, std::string what) {
  SeriesPlan series;
  series.name = std::move(name);
  series.group = group;
  series.params = {{"what", std::move(what)}};
  series.relation = "same-pu";
  series.cpus = {here.cpu};
  return series;
}

SeriesPlan looped(const Here& here, std::string name, std::string_view group, std::string what) {
  auto series = blank(here, std::move(name), group, std::move(what));
  series.driver = here.arm.name;
  series.skip = here.arm.skip;
  return series;
}

apparatus::TaskCostOptions cost_options(const Here& here) {
  return {.cpu = here.cpu,
          .usable = here.usable,
          .driver = here.arm.choice,
          .tasks = tasks_in_batch,
          .time_metric = each,
          .frame_metric = frame};
}

void add_costs(Plan& plan, const Here& here) {
  for (const auto what : apparatus::task_costs()) {
    const std::string name(what);
    if (name == "gather" || name == "to-thread")
      continue;  // by number, and by relation
    const bool tasks = apparatus::is_of_tasks(what);
    auto series =
        tasks ? looped(here, name, "one of 1000", name) : blank(here, name, "one of 1000", name);
    series.make = [name, options = cost_options(here)] {
      return apparatus::make_task_cost(name, options);
    };
    plan.add(std::move(series));
  }
}

std::string gather_name(std::int64_t count) {
  return fmt::format("gather/{}", count);
}

void add_gathers(Plan& plan, const Here& here) {
  for (const auto count : plan.numbers("gather")) {
    auto series = looped(here, gather_name(count), "gather", fmt::format("gather {}", count));
    auto options = cost_options(here);
    options.tasks = static_cast<std::uint64_t>(count);
    series.make = [options] { return apparatus::make_task_cost("gather", options); };
    plan.add(std::move(series));
  }
}

// The same by asyncio, where a Python is asked for.
void add_asyncio(Plan& plan, const Here& here) {
  const auto python = apparatus::find_python(plan.text("python"));
  for (const auto count : plan.numbers("gather")) {
    if (!python)
      return;
    auto series =
        blank(here, fmt::format("asyncio/{}", count), "gather", fmt::format("asyncio {}", count));
    series.params.emplace_back("version", python->version);
    series.skip = python->objection;
    series.make = [python = *python, count, here] {
      return apparatus::make_asyncio_gather(python, count, here.cpu, here.usable, each);
    };
    plan.add(std::move(series));
  }
}

void add_memory(Plan& plan, const Here& here) {
  apparatus::TaskMemoryOptions options{.cpu = here.cpu,
                                       .usable = here.usable,
                                       .driver = here.arm.choice,
                                       .most = static_cast<std::uint64_t>(plan.number("waiting")),
                                       .frame_metric = frame,
                                       .resident_metric = resident,
                                       .reserved_metric = reserved};
  auto tasks = looped(here, "waiting/tasks", "waiting", plan.text("waiting") + " tasks wait");
  tasks.make = [options] { return apparatus::make_waiting_tasks(options); };
  plan.add(std::move(tasks));
  auto threads = blank(here, "waiting/threads", "waiting", plan.text("threads") + " threads wait");
  options.most = static_cast<std::uint64_t>(plan.number("threads"));
  threads.make = [options] { return apparatus::make_waiting_threads(options); };
  plan.add(std::move(threads));
}

void add_lengths(Plan& plan, const Here& here) {
  struct Way {
    std::string_view word;
    RunAs how;
  };
  constexpr std::array ways = {Way{"calls", RunAs::calls}, Way{"tasks", RunAs::tasks},
                               Way{"threads", RunAs::threads}};
  for (const auto length : plan.numbers("length"))
    for (const auto& way : ways) {
      const auto name = length_name(length, way.word);
      auto series = way.how == RunAs::tasks
                        ? looped(here, name, "work in pieces", "tasks")
                        : blank(here, name, "work in pieces", std::string(way.word));
      series.params = {
          {"what", fmt::format("{}, {}", quantity(static_cast<double>(length), "ns"), way.word)}};
      if (way.how == RunAs::threads) {
        series.relation = "unpinned";
        series.cpus.clear();
      }
      const apparatus::WorkOptions options{.cpu = here.cpu,
                                           .usable = here.usable,
                                           .driver = here.arm.choice,
                                           .length_ns = static_cast<double>(length),
                                           .metric = each};
      series.make = [how = way.how, options] { return apparatus::make_work(how, options); };
      plan.add(std::move(series));
    }
}

void add_rules(Plan& plan, const Here& here) {
  apparatus::TaskRuleOptions options{.cpu = here.cpu,
                                     .usable = here.usable,
                                     .driver = here.arm.choice,
                                     .time_metric = each,
                                     .ratio_metric = switches};
  auto waits = looped(here, "rules/waits", "what is said of tasks", "100 sleepers");
  waits.make = [options] { return apparatus::make_waits_in_one_thread(options); };
  plan.add(std::move(waits));
  options.ratio_metric = speedup;
  auto order = looped(here, "rules/order", "what is said of tasks", "gather, no wait");
  order.make = [options] { return apparatus::make_gather_in_order(options); };
  plan.add(std::move(order));
  options.ratio_metric = lost;
  for (const bool yields : {true, false}) {
    auto updates = looped(here, yields ? "rules/update-yields" : "rules/update",
                          "what is said of tasks", yields ? "update with wait" : "update, no wait");
    updates.make = [yields, options] { return apparatus::make_updates(yields, options); };
    plan.add(std::move(updates));
  }
}

struct SleeperArm {
  std::string_view name;
  std::string_view what;
  Beside beside;
};
constexpr std::array sleepers = {
    SleeperArm{"late/alone", "sleeper alone", Beside::nothing},
    SleeperArm{"late/to-thread", "sleeper, thread", Beside::call_in_thread},
    SleeperArm{"late/blocked", "sleeper, blocked", Beside::blocking_call},
};

void add_sleepers(Plan& plan, const Here& here) {
  const apparatus::SleeperOptions options{
      .cpu = here.cpu,
      .usable = here.usable,
      .driver = here.arm.choice,
      .length_ns = static_cast<std::int64_t>(apparatus::blocking_call_ns),
      .metric = late};
  for (const auto& one : sleepers) {
    auto series =
        looped(here, std::string(one.name), "a call that blocks for 5 ms", std::string(one.what));
    series.make = [options, beside = one.beside] {
      return apparatus::make_sleeping_task(beside, options);
    };
    plan.add(std::move(series));
  }
}

void add_to_thread(Plan& plan, const Here& here, const affinity::Pair& pair) {
  auto series =
      looped(here, fmt::format("to-thread/{}", name(pair.relation)), "to_thread", "to_thread");
  series.relation = name(pair.relation);
  auto options = cost_options(here);
  options.tasks = 1;
  if (pair.relation == affinity::Relation::unpinned) {
    series.skip = "a loop and a thread that are not pinned are on one CPU or two as the scheduler "
                  "likes";
    series.cpus.clear();
  } else {
    series.cpus = {pair.first, pair.second};
    options.cpu = pair.first;
    options.thread_on = pair.second;
  }
  series.make = [options] { return apparatus::make_task_cost("to-thread", options); };
  plan.add(std::move(series));
}

void plan_series(Plan& plan) {
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  Here here{.cpu = plan.topology().usable().first(),
            .usable = plan.topology().usable(),
            .arm = apparatus::best_driver(plan)};
  if (!pairs.chosen.empty() && pairs.chosen.front().relation != affinity::Relation::unpinned)
    here.cpu = pairs.chosen.front().first;
  for (const auto& part : plan.words("part")) {
    if (part == "cost")
      add_costs(plan, here);
    else if (part == "gather") {
      add_gathers(plan, here);
      add_asyncio(plan, here);
    } else if (part == "memory")
      add_memory(plan, here);
    else if (part == "length")
      add_lengths(plan, here);
    else if (part == "rules")
      add_rules(plan, here);
    else {
      add_sleepers(plan, here);
      for (const auto& pair : pairs.chosen)
        add_to_thread(plan, here, pair);
    }
  }
  for (auto& floor : apparatus::common_floors(here.cpu, here.usable, each))
    plan.add(std::move(floor));
}

// The length from which threads do more work than tasks: where the ratio of their times for a
// piece crosses 1, on logarithms between the lengths measured. Nothing if it does not.
std::optional<double> crossover(const std::vector<std::pair<double, double>>& ratios) {
  for (std::size_t i = 1; i < ratios.size(); ++i) {
    const auto [shorter, before] = ratios[i - 1];
    const auto [longer, after] = ratios[i];
    if (before <= 1 || after > 1)
      continue;
    const double part = std::log(before) / (std::log(before) - std::log(after));
    return shorter * std::pow(longer / shorter, part);
  }
  return std::nullopt;
}

void add_speedup(const Plan& plan, std::int64_t length, LabResult& result) {
  for (auto& series : result.series) {
    const Findings findings(result);
    const Metric* calls = findings.metric(length_name(length, "calls"), "each");
    const Metric* here = find_metric(series, "each");
    const bool mine = series.name == length_name(length, "tasks") ||
                      series.name == length_name(length, "threads");
    if (mine && calls && here)
      series.metrics.push_back(
          apparatus::quotient(plan.processes(), metrics[speedup], *calls, *here));
  }
}

// Adds the speedups, and the length where threads begin to win.
void conclude(const Plan& plan, LabResult& result) {
  auto lengths = plan.numbers("length");
  std::ranges::sort(lengths);
  std::vector<std::vector<std::pair<double, double>>> ratios(plan.processes());
  for (const auto length : lengths) {
    add_speedup(plan, length, result);
    const Findings findings(result);
    const Metric* tasks = findings.metric(length_name(length, "tasks"), "each");
    const Metric* threads = findings.metric(length_name(length, "threads"), "each");
    for (std::uint32_t process = 0; tasks && threads && process < plan.processes(); ++process)
      if (const auto a = median_in(*threads, process), b = median_in(*tasks, process); a && b)
        ratios[process].emplace_back(static_cast<double>(length), *a / *b);
  }
  std::vector<std::vector<double>> runs(plan.processes());
  bool found = false;
  for (std::size_t process = 0; process < runs.size(); ++process)
    if (const auto at = crossover(ratios[process])) {
      runs[process] = {*at};
      found = true;
    }
  if (!found)
    return;
  Series series;
  series.name = "length/crossover";
  series.params = {{"what", "threads win from"}};
  series.metrics.push_back(make_metric(metrics[each], runs));
  result.series.push_back(std::move(series));
}

// The series whose name begins so, with the largest number behind it; "" if there is none.
std::string largest(const Findings& findings, std::string_view head) {
  std::string name;
  std::int64_t most = 0;
  for (const auto& series : findings.result().series)
    if (series.name.starts_with(head) && find_metric(series, "each"))
      if (const auto number = std::stoll(series.name.substr(head.size())); number > most) {
        most = number;
        name = series.name;
      }
  return name;
}

std::string answer(const Findings& findings) {
  std::string text;
  const auto add = [&](std::string_view words, std::string_view series, std::string_view metric) {
    const std::string cost = quote(findings, series, metric);
    if (!cost.empty())
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", words, cost);
  };
  add("A task that is awaited costs", "await", "each");
  add("one that is started and joined", "start", "each");
  if (const std::string gather = largest(findings, "gather/"); !gather.empty())
    add(fmt::format("one of {} gathered", gather.substr(7)), gather, "each");
  add("a thread", "thread", "each");
  if (!text.empty())
    text += ". ";
  const std::string task = quote(findings, "waiting/tasks", "resident");
  const std::string thread = quote(findings, "waiting/threads", "resident");
  if (!task.empty() && !thread.empty())
    text += fmt::format("While it waits a task holds {}, a thread {} and what the kernel keeps. ",
                        task, thread);
  const std::string from = quote(findings, "length/crossover", "each");
  if (!from.empty())
    text += fmt::format("Threads do more than tasks from pieces of {} on. ", from);
  else if (findings.ratio("waiting/tasks", "waiting/threads", "resident"))
    text += "No length was found from which threads do more than tasks. ";
  if (text.empty())
    return "Nothing was measured.";
  text.pop_back();
  return text;
}

constexpr ClaimInfo claims[] = {
    {.id = "C22",
     .text = "Asynchronous code is a single thread with an event loop, and cooperative",
     .source = "S0 S1 S3 S4",
     .judge = apparatus::judge_single_thread},
    {.id = "C23",
     .text = "gather runs tasks that never wait one after the other",
     .source = "S0",
     .judge = apparatus::judge_in_order},
    {.id = "C26",
     .text = "Threading is about workers, asynchrony about tasks: there can be far more of them",
     .source = "S0",
     .judge = apparatus::judge_workers_and_tasks},
    {.id = "C72",
     .text = "Least overhead have asynchronous tasks, then threads, then processes: to make and "
             "end one",
     .source = "S3",
     .judge = apparatus::judge_ranks},
    {.id = "C74",
     .text = "Asynchronous tasks share no memory, so that they cannot disturb each other's data",
     .source = "S3",
     .judge = apparatus::judge_no_shared_memory},
    {.id = "C75",
     .text = "Tasks are best when they are lightweight",
     .source = "S3",
     .judge = apparatus::judge_lightweight},
    {.id = "C89",
     .text = "A function that blocks goes to a thread and leaves the loop free",
     .source = "S4",
     .judge = apparatus::judge_to_thread},
};

}  // namespace

extern constinit const Lab io_tasks = {
    .name = "io_tasks",
    .family = "io",
    .question = "what does a task cost, in time and in memory, and when is a thread better?",
    .version = 1,
    .shape = Shape::pair,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 6, .full_s = 60},  // some 45 series, of which a piece takes up to 10 ms
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
