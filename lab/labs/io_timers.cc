// io_timers: how late do sleepers wake, how many can one thread serve, and what runs beside a wait?
//
// Method   N sleepers on one CPU are each due once in a period, evenly spread: tasks of one loop,
//          threads in clock_nanosleep, timers of the kernel behind epoll. Lateness is when a
//          sleeper goes on less when it was due. One sleeper alone is also measured with the least
//          timer slack. Small programs of two sleepers, of one wait after another, and of waits
//          beside computing show by their total time what overlaps.
// Reading  "late" against the slack of the thread, then against N: while the CPU that one sleep
//          takes, times N, stays below the period, lateness is that of one; beyond it one thread
//          is saturated and lateness grows without bound. "total" is 1 where all waits overlap.
// Traps    The kernel adds the timer slack (50 us unless told otherwise) to every sleep of an
//          ordinary thread; epoll adds a thousandth of the wait where that is more. A wake-up of
//          an idle CPU is part of the lateness. Sleepers that are due together share one wake-up,
//          so that a CPU's cost for one falls with N.

#include "lab/apparatus/crossover.hh"
#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/sleep_overlap.hh"
#include "lab/apparatus/sleep_verdicts.hh"
#include "lab/apparatus/sleepers.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>
#include <sys/prctl.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::alone_name;
using apparatus::crowd_name;
using apparatus::many_sleepers;
using apparatus::program_name;
using apparatus::quote;

enum : std::size_t { late, p99, p999, worst, cpu, calls, memory, total };

constexpr MetricInfo metrics[] = {
    {.name = "late",
     .unit = "ns",
     .help = "when a sleeper goes on less when it was due; of a pair, a step's delay",
     .interval = true},
    {.name = "p99", .unit = "ns", .help = "that 99 of 100 sleepers of a sample stay below"},
    {.name = "p999", .unit = "ns", .help = "the same of 1000 sleepers 999", .show = false},
    {.name = "worst", .unit = "ns", .help = "the latest sleeper of a sample", .show = false},
    {.name = "cpu", .unit = "ns", .help = "CPU time of the process for one sleep"},
    {.name = "calls", .unit = "", .kind = Kind::count, .help = "system calls for one sleep"},
    {.name = "memory",
     .unit = "B",
     .kind = Kind::size,
     .help = "user memory of one sleeper: task and timer, or stack",
     .show = false},
    {.name = "total",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "time of a program as a multiple of its longest wait (or computation)",
     .interval = true},
};

constexpr std::string_view arm_words[] = {"loop", "timerfd", "threads"};
constexpr std::string_view program_words[] = {"threads",     "processes",  "processes-started",
                                              "coroutines",  "sequential", "create_task",
                                              "slice-short", "slice-long", "compute-pair"};
constexpr std::string_view all_programs = "threads,processes,processes-started,coroutines,"
                                          "sequential,create_task,slice-short,slice-long,"
                                          "compute-pair";

constexpr Param params[] = {
    {.name = "sleepers",
     .help = "how many sleepers",
     .list = true,
     .smoke = "1,100",
     .quick = "1,100,10000",
     .full = "1,10,100,1000,10000,100000",
     .min = 1,
     .max = 1'000'000},
    {.name = "period_us",
     .help = "microseconds in which each sleeper is due once; one sleeper also without timer slack",
     .smoke = "2000",
     .quick = "10000",
     .full = "10000",
     .min = 100,
     .max = 10'000'000},
    {.name = "arm",
     .help = "what sleeps: tasks of a loop, timerfds behind epoll, threads",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "loop,timerfd,threads",
     .quick = "loop,timerfd,threads",
     .full = "loop,timerfd,threads",
     .words = arm_words},
    {.name = "program",
     .help = "small programs of waits, by what overlaps in them",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_programs,
     .quick = all_programs,
     .full = all_programs,
     .words = program_words},
    {.name = "step_us",
     .help = "microseconds of one of their steps; ten are a wait",
     .smoke = "200",
     .quick = "500",
     .full = "1000",
     .min = 50,
     .max = 1'000'000},
};

// More of them only take memory and prove nothing new.
constexpr std::int64_t most_threads = 1000;
constexpr std::int64_t most_timerfds = 10'000;
constexpr std::uint64_t least_slack_ns = 1;

std::uint64_t own_slack_ns() {
  const int slack = ::prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
  return slack > 0 ? static_cast<std::uint64_t>(slack) : 0;
}

// Something that sleeps: a loop on a driver, or what stands beside it.
struct Sleeping {
  std::string name;
  std::string driver;  // "" for what runs no loop
  std::string skip;
  std::function<std::unique_ptr<Subject>(const apparatus::SleepersOptions&)> make;
};

std::vector<Sleeping> arms_of(const Plan& plan) {
  std::vector<Sleeping> arms;
  for (const auto& word : plan.words("arm")) {
    if (word == "threads")
      arms.push_back({"threads", "", "", apparatus::make_thread_sleepers});
    else if (word == "timerfd")
      arms.push_back({"timerfd", "", "", apparatus::make_timerfd_sleepers});
    else
      for (const auto& driver : apparatus::driver_arms(plan))
        arms.push_back({driver.name, driver.name, driver.skip,
                        [choice = driver.choice](const apparatus::SleepersOptions& options) {
                          return apparatus::make_loop_sleepers(choice, options);
                        }});
  }
  return arms;
}

std::string too_many(const Sleeping& arm, std::int64_t sleepers) {
  if (arm.name == "threads" && sleepers > most_threads)
    return fmt::format("at most {} threads are measured", most_threads);
  if (arm.name != "timerfd")
    return "";
  if (sleepers > most_timerfds)
    return fmt::format("at most {} timerfds are measured", most_timerfds);
  return apparatus::too_many_timerfds(static_cast<std::uint64_t>(sleepers));
}

void add_sleepers(Plan& plan, const Sleeping& arm, const std::string& name,
                  apparatus::SleepersOptions options) {
  const auto sleepers = static_cast<std::int64_t>(options.sleepers);
  SeriesPlan series;
  series.name = name;
  series.group = fmt::format("{} sleepers", sleepers);
  series.params = {
      {"arm", arm.name},
      {"sleepers", std::to_string(sleepers)},
      {"period_us", std::to_string(options.period_ns / 1000)},
      {"slack_ns", std::to_string(options.slack_ns > 0 ? options.slack_ns : own_slack_ns())}};
  series.relation = "same-pu";
  series.cpus = {options.cpu};
  series.driver = arm.driver;
  series.skip = arm.skip.empty() ? too_many(arm, sleepers) : arm.skip;
  options.late = late;
  options.p99 = p99;
  options.p999 = p999;
  options.worst = worst;
  options.cpu_time = cpu;
  options.calls = calls;
  options.memory = memory;
  series.make = [make = arm.make, options] { return make(options); };
  plan.add(std::move(series));
}

void add_program(Plan& plan, const std::string& program, const apparatus::DriverArm& driver,
                 const apparatus::OverlapOptions& options) {
  SeriesPlan series;
  series.name = program_name(program, driver.name);
  series.group = "programs";
  series.params = {{"program", program}, {"step_us", std::to_string(options.step_ns / 1000)}};
  if (!driver.name.empty())
    series.params.insert(series.params.begin() + 1, {"driver", driver.name});
  series.cpus = {options.cpu};
  series.driver = driver.name;
  series.skip = driver.skip;
  series.make = [program, options] { return apparatus::make_overlap(program, options); };
  plan.add(std::move(series));
}

void add_programs(Plan& plan, unsigned where) {
  apparatus::OverlapOptions options;
  options.cpu = where;
  options.usable = plan.topology().usable();
  options.step_ns = 1000 * plan.number("step_us");
  options.total = total;
  options.late = late;
  for (const auto& program : plan.words("program")) {
    if (!apparatus::runs_a_loop(program)) {
      add_program(plan, program, {}, options);
      continue;
    }
    const auto best = apparatus::best_driver(plan);
    for (const auto& driver : apparatus::driver_arms(plan))
      if (program == "coroutines" || driver.choice == best.choice) {
        options.driver = driver.choice;
        add_program(plan, program, driver, options);
      }
  }
}

void plan_series(Plan& plan) {
  const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
  if (ones.chosen.empty())
    return;
  apparatus::SleepersOptions options;
  options.cpu = ones.chosen.front();
  options.usable = plan.topology().usable();
  options.period_ns = 1000 * plan.number("period_us");
  const auto arms = arms_of(plan);
  for (const auto sleepers : plan.numbers("sleepers")) {
    options.sleepers = static_cast<std::uint64_t>(sleepers);
    for (const auto& arm : arms)
      add_sleepers(plan, arm, crowd_name(sleepers, arm.name), options);
    if (sleepers > 1)
      continue;
    auto least = options;
    least.slack_ns = least_slack_ns;
    for (const auto& arm : arms)
      add_sleepers(plan, arm, alone_name(arm.name, false), least);
  }
  add_programs(plan, options.cpu);
}

// The most sleepers that the loop's thread served in time, and the fewest that it did not.
std::string served(const Findings& findings, std::string_view driver) {
  const Series *most = nullptr, *too_many = nullptr;
  for (const auto& series : findings.result().series) {
    const auto kept_up = series.driver == driver ? apparatus::keeps_up(series) : std::nullopt;
    if (!kept_up || !series.name.ends_with(fmt::format("/{}", driver)))
      continue;
    const double sleepers = param_number(series, "sleepers");
    if (*kept_up && (!most || sleepers > param_number(*most, "sleepers")))
      most = &series;
    if (!*kept_up && (!too_many || sleepers < param_number(*too_many, "sleepers")))
      too_many = &series;
  }
  if (!most)
    return "";
  const double rate = param_number(*most, "sleepers") / param_number(*most, "period_us") * 1e6;
  return fmt::format(
      " The loop on {} keeps up with {} sleepers, {}{}; a sleep costs {} of CPU time.", driver,
      param_number(*most, "sleepers"), quantity(rate, "1/s"),
      too_many ? fmt::format(", not with {}", param_number(*too_many, "sleepers")) : "",
      with_interval(*find_metric(*most, "cpu")));
}

// From how many sleepers on the loop needs less CPU a sleep than timerfds.
std::string crossover(const Findings& findings, std::string_view driver) {
  std::vector<apparatus::Rung> rungs;
  for (const auto sleepers : apparatus::measured_numbers(findings, [&](const Series& series) {
         const auto number = static_cast<std::int64_t>(param_number(series, "sleepers"));
         const bool counts = number > 0 && series.name == crowd_name(number, driver);
         return counts ? std::optional(number) : std::nullopt;
       }))
    rungs.push_back({static_cast<double>(sleepers), crowd_name(sleepers, driver),
                     crowd_name(sleepers, "timerfd")});
  const auto found = apparatus::find_crossover(findings, rungs, "cpu", Better::lower);
  return found ? fmt::format(" The loop takes less CPU than timerfds {}.",
                             apparatus::text_of(*found, "sleeper count"))
               : "";
}

std::string answer(const Findings& findings) {
  std::string text;
  const auto driver = apparatus::measured_driver(findings);
  const std::string alone = quote(findings, alone_name(driver, true), "late");
  if (!alone.empty()) {
    text = fmt::format("A coroutine that sleeps alone goes on {} late", alone);
    if (const auto least = quote(findings, alone_name(driver, false), "late"); !least.empty())
      text += fmt::format(", {} without timer slack", least);
    if (const auto thread = quote(findings, alone_name("threads", true), "late"); !thread.empty())
      text += fmt::format(", a thread {}", thread);
    text += ".";
  }
  if (const auto crowd = quote(findings, crowd_name(many_sleepers, driver), "p99"); !crowd.empty())
    text += fmt::format(" Of {} sleepers in one thread 99 % are less than {} late.", many_sleepers,
                        crowd);
  text += served(findings, driver);
  text += crossover(findings, driver);
  return text.empty() ? "No sleeper could be measured." : text;
}

constexpr ClaimInfo claims[] = {
    {.id = "C25",
     .text = "A loop gives no parallelism of CPUs: what computes in it holds up everything else",
     .source = "S0 S4",
     .judge = apparatus::judge_computing_in_a_loop},
    {.id = "C43",
     .text = "Awaiting a sleep of one second goes on after one second",
     .source = "S1 S4",
     .judge = apparatus::judge_sleep},
    {.id = "C49",
     .text = "Two threads that print and sleep take turns, in the time of one",
     .source = "S2 S3",
     .judge = apparatus::judge_two_threads},
    {.id = "C50",
     .text = "Two processes that print and sleep take turns, in the time of one",
     .source = "S2 S3",
     .judge = apparatus::judge_two_processes},
    {.id = "C51",
     .text = "Two coroutines under gather take turns in one thread, in the time of one",
     .source = "S2 S3",
     .judge = apparatus::judge_two_coroutines},
    {.id = "C71",
     .text = "Awaiting does not block the thread: other tasks go on meanwhile",
     .source = "S3",
     .judge = apparatus::judge_await_blocks_no_thread},
    {.id = "C85",
     .text = "One thread serves thousands of waits without time lost to waiting",
     .source = "S4",
     .judge = apparatus::judge_many_waits},
    {.id = "C87",
     .text = "Awaits of one coroutine run one after another, while the program stays live",
     .source = "S4",
     .judge = apparatus::judge_awaits_in_sequence},
    {.id = "C88",
     .text = "create_task starts a task before it is awaited, without a new thread",
     .source = "S4",
     .judge = apparatus::judge_create_task},
};

}  // namespace

extern constinit const Lab io_timers = {
    .name = "io_timers",
    .family = "io",
    .question = "how late do sleepers wake, how many does one thread serve, and what runs beside a "
                "wait?",
    .version = 1,
    .shape = Shape::one,
    .params = params,
    .metrics = metrics,
    // A sample lasts a period at least, here 10 ms, and there are some 25 series.
    .budget = {.quick_s = 6, .full_s = 60},
    .plan = plan_series,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
