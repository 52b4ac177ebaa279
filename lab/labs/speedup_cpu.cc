// speedup_cpu: from how much work on do threads and processes pay?
//
// Method   The tutorial's ten tasks that count, here in compiled code: one after the other, as
//          threads that are started for them, as processes by each start method. N is swept, and
//          the time of all holds starting them and seeing them end. A line through the times over N
//          gives what a task costs to start and over how many CPUs the loops went.
// Reading  "speedup" is the serial time divided by this. Below some N it is less than 1: starting
//          costs more than the loops. "each" is a start, "cores" what the loops had; T = each x
//          tasks + serial work / cores.
// Traps    A compiler that sees through the loop leaves nothing to measure: the counter is kept
//          from it. A forked process pays for the memory of its parent (spawn_cost); this one has
//          little.

#include "lab/apparatus/crossover.hh"
#include "lab/apparatus/gil_verdicts.hh"
#include "lab/apparatus/interpreted.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/started_loops.hh"
#include "lab/apparatus/timing_habits.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::quote;
using apparatus::StartAs;
using apparatus::TimingHabit;

enum : std::size_t { time, start, work, speedup, each, cores, error };

constexpr MetricInfo metrics[] = {
    {.name = "time",
     .unit = "ns",
     .help = "all tasks, started, done and seen to have ended",
     .interval = true},
    {.name = "start", .unit = "ns", .help = "of it, until the last task's loop begins"},
    {.name = "work", .unit = "ns", .help = "from the first loop's begin to the last one's end"},
    {.name = "speedup",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "time of the tasks one after the other divided by this",
     .interval = true},
    {.name = "each",
     .unit = "ns",
     .help = "to start one more task and see it end, by a line through all N",
     .interval = true},
    {.name = "cores",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "CPUs that the loops had, by the same line",
     .interval = true},
    {.name = "error",
     .unit = "",
     .kind = Kind::ratio,
     .help = "by how much a way to clock differs from the work, as a share of it"},
};

constexpr std::string_view way_words[] = {"serial", "threads", "fork", "exec", "forkserver"};
constexpr std::string_view all_ways = "serial,threads,fork,exec,forkserver";
constexpr std::string_view habit_words[] = {"none", "start-up", "process", "print", "rounding"};
constexpr std::string_view all_habits = "none,start-up,process,print,rounding";

constexpr Param params[] = {
    {.name = "loop",
     .help = "what each task counts to; the tutorial's is 10000000",
     .list = true,
     .smoke = "1000,100000",
     .quick = "1000,100000,1000000,10000000",
     .full = "1000,10000,100000,1000000,10000000",
     .min = 1,
     .max = 10'000'000'000},
    {.name = "tasks",
     .help = "how many tasks",
     .smoke = "2",
     .quick = "10",
     .full = "10",
     .min = 1,
     .max = 1000},
    {.name = "way",
     .help = "how the tasks are started",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_ways,
     .quick = all_ways,
     .full = all_ways,
     .words = way_words},
    {.name = "habit",
     .help = "ways to clock one task, with what they add to it",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_habits,
     .quick = all_habits,
     .full = all_habits,
     .words = habit_words},
};

std::string loop_name(std::int64_t loops, std::string_view way) {
  return fmt::format("{}/{}", loops, way);
}
std::string fit_name(std::string_view way) {
  return fmt::format("fit/{}", way);
}
std::string habit_name(std::string_view habit) {
  return fmt::format("habit/{}", habit);
}

void add_loops(Plan& plan, std::int64_t loops, const std::string& way) {
  apparatus::StartedLoopsOptions options;
  options.way = apparatus::start_as(way);
  options.tasks = static_cast<unsigned>(plan.number("tasks"));
  options.loops = static_cast<std::uint64_t>(loops);
  options.cpus = apparatus::named_cpus(plan.topology(), plan.placement());
  options.usable = plan.topology().usable();
  options.time = time;
  options.start = start;
  options.work = work;
  SeriesPlan series;
  series.name = loop_name(loops, way);
  series.group = fmt::format("{} loops", loops);
  series.params = {
      {"loop", std::to_string(loops)}, {"way", way}, {"tasks", std::to_string(options.tasks)}};
  series.cpus = options.cpus;
  series.make = [options] { return apparatus::make_started_loops(options); };
  plan.add(std::move(series));
}

void add_habit(Plan& plan, const std::string& habit, std::int64_t loops) {
  apparatus::TimingHabitOptions options;
  options.habit = apparatus::timing_habit(habit);
  options.loops = static_cast<std::uint64_t>(loops);
  options.cpu = apparatus::named_cpus(plan.topology(), plan.placement()).front();
  options.usable = plan.topology().usable();
  options.work = work;
  options.error = error;
  SeriesPlan series;
  series.name = habit_name(habit);
  series.group = "habits";
  series.params = {{"habit", habit}, {"loop", std::to_string(loops)}};
  series.relation = "same-pu";
  series.cpus = {options.cpu};
  series.make = [options] { return apparatus::make_timing_habit(options); };
  plan.add(std::move(series));
}

// The longest loop is kind to habits: what they add is the smallest share of it.
void plan_series(Plan& plan) {
  auto loops = plan.numbers("loop");
  std::ranges::sort(loops);
  for (const auto limit : loops)
    for (const auto& way : plan.words("way"))
      add_loops(plan, limit, way);
  for (const auto& habit : plan.words("habit"))
    add_habit(plan, habit, loops.back());
}

// The series of a way that have a time, by N.
std::vector<const Series*> series_of(const Findings& findings, std::string_view way) {
  std::vector<const Series*> found;
  for (const auto& series : findings.result().series)
    if (param_text(series, "way") == way && find_metric(series, "time"))
      found.push_back(&series);
  std::ranges::sort(found, {}, [](const Series* s) { return param_number(*s, "loop"); });
  return found;
}

// A line through the times of one process, each weighted so that its relative error counts.
struct LineFit {
  double at_zero = 0;
  double slope = 0;
};
std::optional<LineFit> fit_line(const std::vector<const Series*>& all, std::uint32_t process) {
  double sum = 0, sum_x = 0, sum_y = 0, sum_xx = 0, sum_xy = 0;
  std::size_t points = 0;
  for (const Series* series : all) {
    const auto y = median_in(*find_metric(*series, "time"), process);
    if (!y || *y <= 0)
      continue;
    const double x = param_number(*series, "loop"), weight = 1 / (*y * *y);
    sum += weight;
    sum_x += weight * x;
    sum_y += weight * *y;
    sum_xx += weight * x * x;
    sum_xy += weight * x * *y;
    ++points;
  }
  const double determinant = sum * sum_xx - sum_x * sum_x;
  if (points < 2 || determinant <= 0)
    return std::nullopt;
  const double slope = (sum * sum_xy - sum_x * sum_y) / determinant;
  return LineFit{(sum_y - slope * sum_x) / sum, slope};
}

void add_fit(LabResult& result, std::string_view way) {
  const Findings findings(result);
  const auto own = series_of(findings, way), serial = series_of(findings, "serial");
  if (own.size() < 2 || serial.size() < 2)
    return;
  const double tasks = param_number(*own.front(), "tasks");
  std::vector<std::vector<double>> starts, shares;
  for (const auto& run : find_metric(*own.back(), "time")->per_run) {
    const auto line = fit_line(own, run.process), base = fit_line(serial, run.process);
    // A machine that does something else meanwhile can bend the line anywhere.
    if (!line || !base || line->slope <= 0 || base->slope <= 0)
      continue;
    starts.push_back({std::max(line->at_zero, 0.0) / tasks});
    shares.push_back({base->slope / line->slope});
  }
  Series fitted;
  fitted.name = fit_name(way);
  fitted.params = {{"way", std::string(way)}, {"fit", "T = each x tasks + serial / cores"}};
  fitted.placement = own.back()->placement;
  fitted.metrics = {make_metric(metrics[each], starts), make_metric(metrics[cores], shares)};
  result.series.push_back(std::move(fitted));
}

void conclude(const Plan&, LabResult& result) {
  apparatus::add_speedups(result, metrics[time], metrics[speedup], [](const Series& series) {
    return loop_name(static_cast<std::int64_t>(param_number(series, "loop")), "serial");
  });
  for (const auto way : way_words)
    if (way != "serial")
      add_fit(result, way);
}

// From which N on a way is quicker than doing it alone.
std::optional<apparatus::Crossover> pays_from(const Findings& findings, std::string_view way) {
  std::vector<apparatus::Rung> rungs;
  for (const Series* series : series_of(findings, way)) {
    const double loops = param_number(*series, "loop");
    rungs.push_back({loops, series->name, loop_name(static_cast<std::int64_t>(loops), "serial")});
  }
  return apparatus::find_crossover(findings, rungs, "time", Better::lower);
}

std::string answer(const Findings& findings) {
  std::string text;
  for (const auto way : way_words) {
    const auto from = pays_from(findings, way);
    if (way == "serial" || !from)
      continue;
    const std::string one = quote(findings, fit_name(way), "each");
    const std::string shared = quote(findings, fit_name(way), "cores");
    text +=
        fmt::format("{} as {} {}", text.empty() ? "" : ";", way, apparatus::text_of(*from, "N"));
    if (!one.empty())
      text += fmt::format(" ({} a start, {} cores)", one, shared);
  }
  return text.empty() ? "No task could be measured."
                      : "Tasks that count to N are quicker than one after the other" + text + ".";
}

// What a way to clock adds: 1 % and more of a task of the tutorial's kind is bad. All must be good.
Judgement judge_habits(const Findings& findings) {
  constexpr double tolerable = 0.01;
  constexpr std::array<std::string_view, 4> habits = {"start-up", "process", "print", "rounding"};
  Judgement judgement;
  std::size_t bad = 0, good = 0;
  for (const std::string_view habit : habits) {
    const Metric* found = apparatus::bounded(findings.metric(habit_name(habit), "error"));
    if (!found)
      continue;
    bad += found->ci->low > tolerable;
    good += found->ci->high <= tolerable;
    judgement.evidence += fmt::format("{}{} {} %", judgement.evidence.empty() ? "" : ", ", habit,
                                      quantity(100 * *found->median, ""));
  }
  if (judgement.evidence.empty()) {
    judgement.needs = "speedup_cpu with 6 processes or more";
    return judgement;
  }
  const Series* one = findings.series(habit_name("none"));
  judgement.evidence =
      fmt::format("of one task that counts to {} the clocked time is wrong by: {}; a step of the "
                  "wall clock cannot be provoked here, CLOCK_MONOTONIC has none",
                  one ? param_text(*one, "loop") : "N", judgement.evidence);
  if (bad > 0)
    judgement.verdict = Verdict::refuted;
  else if (good == habits.size())
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = "all habits, and a quieter machine";
  return judgement;
}

// A metric of a way's series of the largest N. If that one is invalid no smaller stands for it.
const Metric* longest(const Findings& findings, std::string_view way, std::string_view name) {
  const Series* last = nullptr;
  for (const auto& series : findings.result().series)
    if (param_text(series, "way") == way && recorded_metric(series, "time") &&
        (!last || param_number(series, "loop") > param_number(*last, "loop")))
      last = &series;
  return last ? apparatus::bounded(find_metric(*last, name)) : nullptr;
}

// Fewer tasks have less to gain, and shorter ones gain less than a start costs.
constexpr std::string_view needs_the_tutorials = "tasks=10 and a loop of 10000000 or more";
bool is_the_tutorials(const Series& series) {
  return param_number(series, "tasks") >= 10 && param_number(series, "loop") >= 1e7;
}

Judgement judge_ten_processes(const Findings& findings) {
  constexpr double of_the_article = 2.53 / 0.78;
  Judgement judgement;
  const Metric* gained = longest(findings, "fork", "speedup");
  const Metric* fitted = findings.metric(fit_name("fork"), "cores");
  if (!gained || !fitted || !fitted->median) {
    judgement.needs = "speedup_cpu with 6 processes or more";
    return judgement;
  }
  const Series& series = *series_of(findings, "fork").back();
  judgement.evidence = fmt::format(
      "processes that count to {} are {} times as fast as one, of a start of {} each and {} cores; "
      "2.53 s / 0.78 s is {:.3g}, which 4 CPUs and 15 ms a start explain as well as 8 and 46 ms",
      param_text(series, "loop"), with_interval(*gained), quote(findings, fit_name("fork"), "each"),
      with_interval(*fitted), of_the_article);
  for (const std::string_view way : {"exec", "forkserver"})
    if (const Metric* other = longest(findings, way, "speedup"))
      judgement.evidence += fmt::format("; by {} {}", way, with_interval(*other));
  if (gained->ci->low > 3)
    judgement.verdict = Verdict::confirmed;
  else if (series.placement.cpus.size() < 4)
    judgement.needs = "4 CPUs or more";
  else if (!is_the_tutorials(series))
    judgement.needs = needs_the_tutorials;
  else if (gained->ci->high < 3)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine";
  return judgement;
}

Judgement judge_several_cores(const Findings& findings) {
  constexpr double gain = 1.15;
  Judgement judgement;
  const Metric* gained = longest(findings, "fork", "speedup");
  const auto all = series_of(findings, "fork");
  if (!gained || all.back()->placement.cpus.size() < 2) {
    judgement.needs = "speedup_cpu on 2 CPUs or more, with 6 processes or more";
    return judgement;
  }
  judgement.evidence = fmt::format("{} processes on {} CPUs are {} times as fast as one",
                                   param_text(*all.back(), "tasks"),
                                   all.back()->placement.cpus.size(), with_interval(*gained));
  if (const auto from = pays_from(findings, "fork"))
    judgement.evidence += fmt::format("; they pay {}", apparatus::text_of(*from, "N"));
  if (gained->ci->low > gain)
    judgement.verdict = Verdict::confirmed;
  else if (!is_the_tutorials(*all.back()))
    judgement.needs = needs_the_tutorials;
  else if (gained->ci->high < 1)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a longer loop, or a quieter machine";
  return judgement;
}

Judgement judge_learning_curve(const Findings&) {
  Judgement judgement;
  judgement.verdict = Verdict::untestable;
  judgement.evidence = "how hard something is to learn is no measurement";
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C29",
     .text = "asyncio is hard to learn",
     .source = "S0",
     .judge = judge_learning_curve},
    {.id = "C48",
     .text = "Clocking with start-up and prints inside, to hundredths of a second, is good enough",
     .source = "S2",
     .judge = judge_habits},
    {.id = "C59",
     .text = "Ten processes that count to ten million take 0.78 s where one after the other takes "
             "2.53 s",
     .source = "S2",
     .judge = judge_ten_processes},
    {.id = "C67",
     .text = "On several cores processes are faster",
     .source = "S2",
     .judge = judge_several_cores},
};

}  // namespace

extern constinit const Lab speedup_cpu = {
    .name = "speedup_cpu",
    .family = "speedup",
    .question = "from how much work on do threads and processes pay?",
    .version = 1,
    .shape = Shape::workers,
    .params = params,
    .metrics = metrics,
    // Ten starts of a process are 10 ms, and there are 15 series of them.
    .budget = {.quick_s = 5, .full_s = 60},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
