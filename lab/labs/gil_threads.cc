// gil_threads: what do threads gain under a lock that one of them holds at a time?
//
// Method   The article's experiment: tasks that each count to N in a bytecode machine, one after
//          the other, as threads under an interpreter lock by CPython's rule of today and by that
//          of before 3.2, as threads without a lock, and as processes with a lock each. Then
//          threads whose loop hashes a block in C, which needs no lock.
// Reading  "cores" is the time of the serial run divided by this one's: 1 under a lock, as many as
//          there are CPUs without. "turns" is how often the lock changed hands in each interval
//          that passed: about 1 by CPython's rule, where a task lasts many intervals.
// Traps    N is a scale: three hundredths of the article's in the quick preset, and the shape does
//          not depend on it while a run lasts many intervals. Starting threads and processes is not
//          in it; that is speedup_cpu's. Two CPUs of one core are less than two.

#include "lab/apparatus/gil_verdicts.hh"
#include "lab/apparatus/interpreted.hh"
#include "lab/apparatus/python.hh"
#include "lab/apparatus/quote.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::hash_name;
using apparatus::quote;
using apparatus::Spread;
using apparatus::tasks_name;
using procs::LockRule;

enum : std::size_t { time, cores, running, held, switches, turns, waits };

constexpr MetricInfo metrics[] = {
    {.name = "time",
     .unit = "ns",
     .help = "all tasks, from the first one's begin to the last one's end",
     .interval = true},
    {.name = "cores",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "time of the same work in one thread divided by this",
     .interval = true},
    {.name = "running",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "tasks that were on a CPU at the same time, on average"},
    {.name = "held",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "tasks that held their lock at the same time, on average"},
    {.name = "switches",
     .unit = "",
     .better = Better::none,
     .kind = Kind::count,
     .help = "times that the lock went from one thread to another"},
    {.name = "turns",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "the same for each interval that passed"},
    {.name = "waits",
     .unit = "",
     .better = Better::none,
     .kind = Kind::count,
     .help = "times that a thread found its lock held"},
};

constexpr std::string_view way_words[] = {"interval", "ticks", "none", "processes"};

constexpr Param params[] = {
    {.name = "tasks",
     .help = "how many tasks",
     .list = true,
     .smoke = "2",
     .quick = "2,10",
     .full = "2,10",
     .min = 2,
     .max = 1000},
    {.name = "loop",
     .help = "what each task counts to; the article's is 10000000",
     .smoke = "10000",
     .quick = "300000",
     .full = "10000000",
     .min = 1,
     .max = 1'000'000'000},
    {.name = "way",
     .help = "how the tasks run beside each other: by the rule of their lock, or as processes",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "interval,ticks,none,processes",
     .quick = "interval,ticks,none,processes",
     .full = "interval,ticks,none,processes",
     .words = way_words},
    {.name = "interval_us",
     .help = "microseconds after which a thread asks for the lock; 5000 is CPython's",
     .list = true,
     .smoke = "5000",
     .quick = "500,5000",
     .full = "500,5000,50000",
     .min = 1,
     .max = 10'000'000},
    {.name = "block",
     .help = "bytes that are hashed without the lock in each turn of two threads' loops",
     .kind = Param::Kind::size,
     .list = true,
     .smoke = "4K",
     .quick = "64,1K,16K,256K",
     .full = "64,256,1K,4K,16K,64K,256K,1M",
     .min = 1,
     .max = std::int64_t{1} << 30},
    {.name = "hashed",
     .help = "bytes that each of the two threads hashes in all",
     .kind = Param::Kind::size,
     .smoke = "64K",
     .quick = "2M",
     .full = "16M",
     .min = 1,
     .max = std::int64_t{1} << 40},
    apparatus::python_param,
};

// The article's program: threads that are there, and count when they are told to.
constexpr std::string_view python_script = R"(
import sys, threading
tasks, loops, interval_us, how = (*map(int, sys.argv[1:4]), sys.argv[4])
sys.setswitchinterval(interval_us / 1e6)

def task(results, index):
    count = 0
    for _ in range(loops):
        count += 1
    results[index] = count

def once():
    results = [0] * tasks
    if how == 'threads':
        threads = [threading.Thread(target=task, args=(results, i)) for i in range(tasks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for i in range(tasks):
            task(results, i)
    return results

def sample(operations):
    begin = time.perf_counter_ns()
    done = sum(once() == [loops] * tasks for _ in range(operations))
    ns = time.perf_counter_ns() - begin
    return {'ns': ns, 'done': done}
)";

constexpr unsigned hashing = 2;  // threads
constexpr std::int64_t usual_interval_us = 5000;

apparatus::InterpretedOptions common(const Plan& plan) {
  apparatus::InterpretedOptions options;
  options.cpus = apparatus::named_cpus(plan.topology(), plan.placement());
  options.usable = plan.topology().usable();
  options.interval_ns = 1000 * usual_interval_us;
  options.time = time;
  options.running = running;
  options.held = held;
  options.switches = switches;
  options.turns = turns;
  options.waits = waits;
  return options;
}

void add(Plan& plan, const std::string& name, const std::string& group,
         const apparatus::InterpretedOptions& options,
         std::vector<std::pair<std::string, std::string>> shown) {
  SeriesPlan series;
  series.name = name;
  series.group = group;
  series.params = std::move(shown);
  if (options.rule != LockRule::none && options.spread == Spread::threads)
    series.params.emplace_back("interval_us", std::to_string(options.interval_ns / 1000));
  series.cpus = options.cpus;
  series.make = [options] { return apparatus::make_interpreted(options); };
  plan.add(std::move(series));
}

void add_tasks(Plan& plan, unsigned tasks) {
  const auto add_way = [&](std::string_view way, const apparatus::InterpretedOptions& options) {
    const std::string name = tasks_name(tasks, way);
    add(plan, name, fmt::format("{} tasks", tasks), options,
        {{"way", std::string(way.substr(0, way.find('/')))},
         {"tasks", std::to_string(tasks)},
         {"loop", std::to_string(options.loops)}});
  };
  auto options = common(plan);
  options.tasks = tasks;
  options.loops = plan.number("loop");
  options.spread = Spread::serial;
  add_way("serial", options);
  for (const auto& way : plan.words("way")) {
    options.spread = way == "processes" ? Spread::processes : Spread::threads;
    options.rule = way == "processes" ? LockRule::interval : procs::lock_rule_from(way);
    options.interval_ns = 1000 * usual_interval_us;
    if (way != "interval") {
      add_way(way, options);
      continue;
    }
    for (const auto interval_us : plan.numbers("interval_us")) {
      options.interval_ns = 1000 * interval_us;
      add_way(interval_us == usual_interval_us ? way : fmt::format("{}/{}us", way, interval_us),
              options);
    }
  }
}

void add_python(Plan& plan, const apparatus::Python& python, unsigned tasks) {
  for (const std::string_view how : {"serial", "threads"}) {
    apparatus::PythonOptions options;
    options.python = python;
    options.script = python_script;
    options.arguments = {std::to_string(tasks), plan.text("loop"),
                         std::to_string(usual_interval_us), std::string(how)};
    options.cpus = apparatus::named_cpus(plan.topology(), plan.placement());
    options.usable = plan.topology().usable();
    options.metric = time;
    SeriesPlan series;
    series.name = tasks_name(tasks, fmt::format("python-{}", how));
    series.group = fmt::format("{} tasks", tasks);
    series.params = {{"way", fmt::format("python {}", how)},
                     {"tasks", std::to_string(tasks)},
                     {"loop", plan.text("loop")},
                     {"python", python.version}};
    series.cpus = options.cpus;
    series.skip = python.objection;
    series.make = [options] { return apparatus::make_python(options); };
    plan.add(std::move(series));
  }
}

void add_hashing(Plan& plan, std::uint64_t block) {
  auto options = common(plan);
  options.tasks = hashing;
  options.block = block;
  options.loops =
      std::max<std::int64_t>(1, plan.number("hashed") / static_cast<std::int64_t>(block));
  const std::string group = fmt::format("{} B", block);
  const auto add_way = [&](std::string_view way) {
    add(plan, hash_name(block, way), group, options,
        {{"way", fmt::format("hash {}", way)}, {"block", std::to_string(block)}});
  };
  options.spread = Spread::serial;
  add_way("serial");
  options.spread = Spread::threads;
  add_way("held");
  options.release = true;
  add_way("released");
}

void plan_series(Plan& plan) {
  const auto python = apparatus::find_python(plan.text("python"));
  for (const auto tasks : plan.numbers("tasks")) {
    add_tasks(plan, static_cast<unsigned>(tasks));
    if (python)
      add_python(plan, *python, static_cast<unsigned>(tasks));
  }
  for (const auto block : plan.numbers("block"))
    add_hashing(plan, static_cast<std::uint64_t>(block));
}

// Of every series, how many cores its work had.
void conclude(const Plan&, LabResult& result) {
  apparatus::add_speedups(result, metrics[time], metrics[cores], [](const Series& series) {
    const double block = param_number(series, "block"), tasks = param_number(series, "tasks");
    if (block > 0)
      return hash_name(static_cast<std::uint64_t>(block), "serial");
    const bool python = !param_text(series, "python").empty();
    return tasks_name(static_cast<unsigned>(tasks), python ? "python-serial" : "serial");
  });
}

std::string answer(const Findings& findings) {
  const unsigned tasks = apparatus::most_tasks(findings);
  std::string text;
  const auto say = [&](std::string_view way, std::string_view what) {
    const std::string found = quote(findings, tasks_name(tasks, way), "cores");
    if (!found.empty())
      text += fmt::format("{}{} use {}", text.empty() ? "" : ", ", what, found);
  };
  say("interval", fmt::format("{} threads under an interpreter lock", tasks));
  say("ticks", "by the rule of before 3.2 they");
  say("none", "without a lock they");
  say("processes", "as processes they");
  if (text.empty())
    return "No task could be measured.";
  text += " cores.";
  if (const auto other = quote(findings, tasks_name(tasks, "python-threads"), "cores");
      !other.empty())
    text += fmt::format(" Python's threads use {}.", other);
  const std::string turned = quote(findings, tasks_name(tasks, "interval"), "turns");
  if (!turned.empty())
    text += fmt::format(" The lock changes hands {} times in an interval.", turned);
  if (const auto even = apparatus::break_even(findings))
    text += fmt::format(" To hash without the lock pays {}.", apparatus::text_of_bytes(*even));
  return text;
}

constexpr ClaimInfo claims[] = {
    {.id = "C1",
     .text = "The interpreter lock is a mutex: one thread at a time executes bytecode",
     .source = "S0 S1 S2 S4",
     .judge = apparatus::judge_one_at_a_time},
    {.id = "C3",
     .text = "A lock on the whole interpreter costs the parallelism of several processors",
     .source = "S0",
     .judge = apparatus::judge_parallelism_lost},
    {.id = "C4",
     .text = "Extensions give the lock up while they hash or compress",
     .source = "S0",
     .judge = apparatus::judge_released_hashing},
    {.id = "C19",
     .text = "Processes escape the interpreter lock and run in parallel",
     .source = "S0 S1 S2 S3 S4",
     .judge = apparatus::judge_processes_escape},
    {.id = "C27",
     .text = "Threads are for jobs bound by I/O or by the CPU",
     .source = "S0",
     .judge = apparatus::judge_threads_for_computing},
    {.id = "C30",
     .text = "Each process has an interpreter and a lock of its own",
     .source = "S1",
     .judge = apparatus::judge_own_locks},
    {.id = "C44",
     .text = "Two threads that count take as long as one that counts twice, or slightly longer",
     .source = "S2",
     .judge = apparatus::judge_two_counting_threads},
    {.id = "C58",
     .text = "Ten threads that count to ten million take 2.53 s, ten times one",
     .source = "S2",
     .judge = apparatus::judge_ten_threads},
    {.id = "C60",
     .text = "Ten processes take less than a third of the time of ten threads",
     .source = "S2",
     .judge = apparatus::judge_less_than_a_third},
    {.id = "C61",
     .text = "Each of the ten tasks ends with a count of ten million",
     .source = "S2",
     .judge = apparatus::judge_results},
    {.id = "C68",
     .text = "The lock limits threads to jobs bound by I/O",
     .source = "S3",
     .judge = apparatus::judge_limited_to_io},
    {.id = "C73",
     .text = "An event loop has no limitation by the interpreter lock",
     .source = "S3",
     .judge = apparatus::judge_loops_in_threads},
};

}  // namespace

extern constinit const Lab gil_threads = {
    .name = "gil_threads",
    .family = "gil",
    .question = "what do threads gain under a lock that one of them holds at a time?",
    .version = 2,
    .shape = Shape::workers,
    .params = params,
    .metrics = metrics,
    // A run of ten tasks must last several intervals of 5 ms, and there are some 25 series.
    .budget = {.quick_s = 5, .full_s = 60},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
