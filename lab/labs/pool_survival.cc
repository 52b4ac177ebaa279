// pool_survival: what does the death of a worker cost a pool of processes, and whom?
//
// Method   Pools of two workers run tasks that write down each begin themselves. Workers die at
//          each step of the pool's protocol, by a kill from outside, of a poisonous task, of a time
//          limit, for want of memory in a cgroup; programs with a pool die at each step of the
//          parent. Beside them a loop hands work to a pool.
// Reading  "recovery" is the time from the kill until the successor begins a task. What must not
//          happen is counted in the other columns, and each count is a check: one makes the series
//          invalid. "kills" is the number of them, over all processes.
// Traps    A kill from outside rarely meets a window of nanoseconds: that is what the steps are
//          for.
//          The successor of a fork costs more the more memory the parent has; that of a forkserver
//          does not.

#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/pool_kills.hh"
#include "lab/apparatus/pool_loop.hh"
#include "lab/apparatus/python.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/survival_verdicts.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/plan.hh"

#include <algorithm>
#include <array>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::LoopWork;
using apparatus::PoolKill;
using apparatus::quote;
using procs::Step;

enum : std::size_t { recovery, kills, lost, doubled, hurt, unnamed, left, late };

constexpr MetricInfo count_of(std::string_view name, std::string_view help, bool show = false) {
  return {.name = name, .unit = "", .kind = Kind::count, .help = help, .show = show};
}

constexpr MetricInfo metrics[] = {
    {.name = "recovery",
     .unit = "ns",
     .help = "from the kill until the successor begins a task; of a program, until nothing is left",
     .interval = true},
    {.name = "kills",
     .unit = "",
     .better = Better::none,
     .kind = Kind::count,
     .help = "that landed, in all processes",
     .interval = true},  // without one, but a column on every screen
    count_of("lost", "tasks without a result, or with a wrong one", true),
    count_of("doubled", "tasks that began more often than they may"),
    count_of("hurt", "tasks that failed though their worker was not killed"),
    count_of("unnamed", "failures that name another worker or another cause"),
    count_of("left", "processes that are left of a killed program"),
    {.name = "late", .unit = "ns", .help = "how late a time limit struck, or a sleeper woke"},
};

constexpr std::string_view part_words[] = {"worker",  "parent", "outside", "poison",
                                           "timeout", "memory", "loop"};
constexpr std::string_view all_parts = "worker,parent,outside,poison,timeout,memory,loop";
constexpr std::string_view start_words[] = {"fork", "exec", "forkserver"};

constexpr Param params[] = {
    {.name = "part",
     .help = "who is killed and how",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_parts,
     .quick = all_parts,
     .full = all_parts,
     .words = part_words},
    {.name = "start",
     .help = "how workers are started",
     .kind = Param::Kind::word,
     .smoke = "forkserver",
     .quick = "forkserver",
     .full = "forkserver",
     .words = start_words},
    {.name = "kills",
     .help = "kills in a sample",
     .smoke = "1",
     .quick = "4",
     .full = "10",
     .min = 1,
     .max = 1'000'000},
    apparatus::python_param,
};

// concurrent.futures under the same treatment: a worker is killed while tasks are under way.
constexpr std::string_view python_script = R"(
import concurrent.futures, signal
from concurrent.futures.process import BrokenProcessPool

def work(length):
    end = time.perf_counter() + length
    while time.perf_counter() < end:
        pass
    return os.getpid()

def sample(operations):
    lost = 0
    begin = time.perf_counter_ns()
    spent = 0
    for _ in range(operations):
        pool = concurrent.futures.ProcessPoolExecutor(2)
        victim = pool.submit(work, 0).result()
        futures = [pool.submit(work, 0.002) for _ in range(6)]
        time.sleep(0.0005)
        killed = time.perf_counter_ns()
        os.kill(victim, signal.SIGKILL)
        for future in futures:
            try:
                future.result()
            except BrokenProcessPool:
                lost += 1
        pool.shutdown()
        pool = concurrent.futures.ProcessPoolExecutor(2)
        pool.submit(work, 0).result()
        spent += time.perf_counter_ns() - killed
        pool.shutdown()
    return {'ns': spent, 'done': operations, 'kills': operations, 'lost': lost}
)";

procs::StartMethod start_from(const std::string& word) {
  for (const auto method : {procs::StartMethod::fork, procs::StartMethod::exec})
    if (procs::to_text(method) == word)
      return method;
  return procs::StartMethod::forkserver;
}

SeriesPlan blank(std::string name, std::string_view group, std::string what) {
  SeriesPlan series;
  series.name = std::move(name);
  series.group = group;
  series.params = {{"what", std::move(what)}};
  series.relation = "unpinned";
  return series;
}

apparatus::PoolKillOptions kill_options(const Plan& plan, PoolKill how) {
  apparatus::PoolKillOptions options;
  options.usable = plan.topology().usable();
  options.how = how;
  options.start = start_from(plan.text("start"));
  options.kills = static_cast<std::uint64_t>(plan.number("kills"));
  // To use up a cgroup takes as long as several starts.
  if (how == PoolKill::memory)
    options.kills = (options.kills + 3) / 4;
  options.metrics = {recovery, kills, lost, doubled, hurt, unnamed, left, late};
  return options;
}

void add_kills(Plan& plan, std::string name, std::string_view group, std::string what,
               const apparatus::PoolKillOptions& options, std::string skip = "") {
  auto series = blank(std::move(name), group, std::move(what));
  series.skip = std::move(skip);
  series.make = [options] { return apparatus::make_pool_kills(options); };
  plan.add(std::move(series));
}

void add_steps(Plan& plan, bool of_workers) {
  for (std::size_t i = 0; i < procs::step_count; ++i) {
    const auto step = static_cast<Step>(i);
    if (procs::of_worker(step) != of_workers)
      continue;
    auto options = kill_options(plan, of_workers ? PoolKill::at_step : PoolKill::parent);
    options.step = step;
    add_kills(plan, apparatus::step_series(step),
              of_workers ? "a worker dies at a step" : "the parent dies at a step",
              fmt::format("{} {}", of_workers ? "worker" : "parent", procs::to_text(step)),
              options);
  }
  if (of_workers)
    return;
  auto options = kill_options(plan, PoolKill::parent);
  add_kills(plan, "parent/outside", "the parent dies at a step", "parent, tasks run", options);
}

void add_loop(Plan& plan) {
  struct Arm {
    std::string_view name;
    std::string_view what;
    LoopWork work;
  };
  constexpr std::array arms = {Arm{"loop/here", "work in the loop", LoopWork::here},
                               Arm{"loop/in-pool", "work in a pool", LoopWork::in_pool},
                               Arm{"loop/crash", "crash in a pool", LoopWork::crash}};
  const auto driver = apparatus::best_driver(plan);
  for (const auto& arm : arms) {
    auto series = blank(std::string(arm.name), "a loop beside 5 ms of work", std::string(arm.what));
    series.driver = driver.name;
    series.skip = driver.skip;
    apparatus::PoolLoopOptions options{.cpu = plan.topology().usable().first(),
                                       .usable = plan.topology().usable(),
                                       .driver = driver.choice,
                                       .late = late};
    series.relation = "same-pu";
    series.cpus = {options.cpu};
    series.make = [options, work = arm.work] { return apparatus::make_pool_loop(work, options); };
    plan.add(std::move(series));
  }
}

void add_python(Plan& plan) {
  const auto python = apparatus::find_python(plan.text("python"));
  if (!python)
    return;
  auto series = blank("outside/python", "a kill from outside", "CPython's pool");
  series.skip = python->objection;
  const apparatus::PythonOptions options{.python = *python,
                                         .script = python_script,
                                         .usable = plan.topology().usable(),
                                         .metric = recovery,
                                         .values = {{"kills", kills}, {"lost", lost}}};
  series.make = [options] { return apparatus::make_python(options); };
  plan.add(std::move(series));
}

void plan_series(Plan& plan) {
  for (const auto& part : plan.words("part")) {
    if (part == "worker")
      add_steps(plan, true);
    else if (part == "parent")
      add_steps(plan, false);
    else if (part == "outside")
      add_kills(plan, "outside", "a kill from outside", "any moment",
                kill_options(plan, PoolKill::outside));
    else if (part == "poison")
      add_kills(plan, "poison", "a task that kills", "three attempts",
                kill_options(plan, PoolKill::poison));
    else if (part == "timeout")
      add_kills(plan, "timeout", "a time limit", "2 ms", kill_options(plan, PoolKill::timeout));
    else if (part == "memory")
      add_kills(plan, "memory", "a task that outgrows its cgroup", "two attempts",
                kill_options(plan, PoolKill::memory),
                plan.topology().foreign() ? "" : apparatus::pool_cage_refusal());
    else
      add_loop(plan);
  }
  add_python(plan);
}

// Counts are of all samples and processes together.
void conclude(const Plan&, LabResult& result) {
  for (auto& series : result.series)
    for (std::size_t index = kills; index <= left; ++index) {
      const auto found = std::ranges::find(series.metrics, metrics[index].name, &Metric::name);
      if (found == series.metrics.end())
        continue;
      const double total = apparatus::total_of(series, metrics[index].name);
      const std::vector<std::vector<double>> runs = {{total}};
      *found = make_metric(metrics[index], runs);
    }
}

std::string answer(const Findings& findings) {
  double all = 0;
  double bad = 0;
  for (const auto& series : findings.result().series)
    if (!series.name.ends_with("/python")) {
      all += apparatus::total_of(series, "kills");
      for (std::size_t index = lost; index <= left; ++index)
        bad += apparatus::total_of(series, metrics[index].name);
    }
  if (all == 0 && !findings.series("loop/here"))
    return "Nothing was measured.";
  std::string text;
  if (all > 0)
    text = fmt::format("{:.0f} kills lost, doubled, hurt or misnamed {} tasks and processes.", all,
                       bad == 0 ? "no" : fmt::format("{:.0f}", bad));
  const std::string running = quote(findings, "worker/running", "recovery");
  if (!running.empty())
    text += fmt::format(" After {} the successor of a killed worker begins a task.", running);
  const Series* python = findings.series("outside/python");
  if (python && apparatus::total_of(*python, "kills") > 0)
    text +=
        fmt::format(" CPython's pool loses {:.3g} of 6 tasks to one kill.",
                    apparatus::total_of(*python, "lost") / apparatus::total_of(*python, "kills"));
  return text;
}

constexpr ClaimInfo claims[] = {
    {.id = "C53",
     .text = "A pool of processes has the interface of one of threads; here: and a worker that is "
             "killed costs at most its own task",
     .source = "S2",
     .judge = apparatus::judge_survival},
    {.id = "C90",
     .text = "Work that computes goes to a process of its own and leaves the loop free, also when "
             "it crashes",
     .source = "S4",
     .judge = apparatus::judge_offload},
};

}  // namespace

extern constinit const Lab pool_survival = {
    .name = "pool_survival",
    .family = "procs",
    .question = "what does the death of a worker cost a pool of processes, and whom?",
    .version = 1,
    .shape = Shape::none,
    .starves = true,
    .params = params,
    .metrics = metrics,
    // Some 20 series, each of which starts processes: a program and its pool take 15 ms.
    .budget = {.quick_s = 5, .full_s = 60},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
