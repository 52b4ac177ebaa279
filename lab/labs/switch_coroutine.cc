// switch_coroutine: what does it cost to hand over, from a call to a thread?
//
// Method   Two flows of control go to and fro; half a round trip is one hand-over. The rungs: a
//          call and its return; a coroutine that is resumed by its handle, awaited as a child, or
//          goes on through the loop's ready list; a second stack; another thread, by a futex.
// Reading  From rung to rung one more thing is paid for: a frame, a queue, the registers, the
//          signal mask, the kernel's scheduler. "late" is the other side of it: who does not hand
//          over keeps the others waiting.
// Traps    A call is predicted and overlaps with what stands around it: the lowest rungs are the
//          throughput of a loop, no latency. A child whose frame the compiler leaves out is
//          another rung, and the frames are counted. A futex that wakes another CPU is no switch.

#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/floors.hh"
#include "lab/apparatus/lateness.hh"
#include "lab/apparatus/ping_pong.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/rung.hh"
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
using affinity::Relation;
using apparatus::Beside;
using apparatus::quote;
using apparatus::times;

enum : std::size_t { round_trip, switch_time, wakeup, late, floor_time };

constexpr MetricInfo metrics[] = {
    {.name = "round_trip", .unit = "ns", .help = "there and back: two hand-overs"},
    {.name = "switch", .unit = "ns", .help = "one hand-over on one CPU", .interval = true},
    {.name = "wakeup", .unit = "ns", .help = "one hand-over to another CPU", .interval = true},
    {.name = "late",
     .unit = "ns",
     .help = "how late a sleeper woke at most beside what does not hand over",
     .interval = true},
    {.name = "floor", .unit = "ns", .help = "the same calls, no switch", .interval = true},
};

constexpr std::string_view rung_words[] = {
    "call",  "virtual", "resume",   "transfer", "child",       "child-elided", "yield", "yield-64",
    "event", "queue",   "fcontext", "fiber",    "swapcontext", "futex",        "hog"};
constexpr std::string_view all_rungs =
    "call,virtual,resume,transfer,child,child-elided,yield,yield-64,event,queue,fcontext,fiber,"
    "swapcontext,futex,hog";

constexpr Param params[] = {
    {.name = "rung",
     .help = "how the turn is handed over; hog: what happens if it is not",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_rungs,
     .quick = all_rungs,
     .full = all_rungs,
     .words = rung_words},
    {.name = "hog",
     .help = "us that the hog computes",
     .smoke = "1000",
     .quick = "5000",
     .full = "5000",
     .min = 1000,
     .max = 1'000'000},
};

constexpr std::string_view one_cpu = "one CPU";
constexpr std::string_view mask_floor = "floor/pthread_sigmask";
constexpr std::string_view futex_floor = "floor/futex-private";

SeriesPlan blank(std::string name, std::string_view group, unsigned cpu) {
  SeriesPlan series;
  series.name = std::move(name);
  series.group = group;
  series.params = {{"rung", series.name}};
  series.relation = "same-pu";
  series.cpus = {cpu};
  return series;
}

void add_rung(Plan& plan, const std::string& rung, unsigned cpu) {
  auto series = blank(rung, one_cpu, cpu);
  apparatus::RungOptions options{.cpu = cpu,
                                 .usable = plan.topology().usable(),
                                 .round_trip_metric = round_trip,
                                 .one_way_metric = switch_time};
  series.skip = apparatus::rung_refusal(rung);
  if (apparatus::needs_loop(rung)) {
    const auto arm = apparatus::best_driver(plan);
    options.driver = arm.choice;
    series.driver = arm.name;
    series.skip = arm.skip;
  }
  if (rung == "swapcontext") {
    const std::string name(mask_floor);
    series.derive = {
        {.metric = switch_time, .value = {}, .floors = {{"pthread_sigmask", {name, floor_time}}}}};
    auto floor = apparatus::floor_series(name, cpu);
    floor.make = [options] { return apparatus::make_signal_mask_call(options, floor_time); };
    plan.add(std::move(floor));
  }
  series.make = [rung, options] { return apparatus::make_rung(rung, options); };
  plan.add(std::move(series));
}

apparatus::PingPongOptions futex_options(const Plan& plan, const affinity::Pair& pair) {
  apparatus::PingPongOptions options;
  options.first = pair.first;
  options.second = pair.second;
  options.usable = plan.topology().usable();
  options.round_trip_metric = round_trip;
  options.one_way_metric = pair.relation == Relation::same_pu ? switch_time : wakeup;
  return options;
}

std::string futex_name(std::string_view relation) {
  return fmt::format("futex/{}", relation);
}

void add_futex(Plan& plan, const affinity::Pair& pair) {
  const bool switches = pair.relation == Relation::same_pu;
  auto series = blank(futex_name(name(pair.relation)),
                      switches ? one_cpu : std::string_view(name(pair.relation)), pair.first);
  series.params = {{"rung", "futex, threads"}};
  series.relation = name(pair.relation);
  if (pair.relation == Relation::unpinned) {
    series.skip = "threads that are not pinned switch or wake as the scheduler likes; switch_cost "
                  "measures that";
    series.cpus.clear();
  } else {
    series.cpus = {pair.first, pair.second};
  }
  const auto options = futex_options(plan, pair);
  series.derive = {{.metric = options.one_way_metric,
                    .value = {},
                    .floors = {{"futex-private", {std::string(futex_floor), floor_time}}}}};
  series.make = [options] { return apparatus::make_ping_pong("futex-private", options); };
  plan.add(std::move(series));
}

struct Hog {
  std::string_view name;
  std::string_view what;
  Beside beside;
  bool threads;
};
constexpr std::array hogs = {
    Hog{"hog/none", "beside no hog", Beside::nothing, false},
    Hog{"hog/task", "beside a task", Beside::hog, false},
    Hog{"hog/task-yields", "beside a yielder", Beside::yielding_hog, false},
    Hog{"hog/thread", "beside a thread", Beside::hog, true},
};

void add_hogs(Plan& plan, unsigned cpu) {
  const auto arm = apparatus::best_driver(plan);
  const apparatus::SleeperOptions options{.cpu = cpu,
                                          .usable = plan.topology().usable(),
                                          .driver = arm.choice,
                                          .length_ns = 1000 * plan.number("hog"),
                                          .metric = late};
  for (const Hog& hog : hogs) {
    auto series = blank(std::string(hog.name), "a sleeper of 100 us", cpu);
    series.params = {{"rung", std::string(hog.what)}};
    if (!hog.threads) {
      series.driver = arm.name;
      series.skip = arm.skip;
    }
    series.make = [options, hog] {
      return hog.threads ? apparatus::make_sleeping_thread(hog.beside, options)
                         : apparatus::make_sleeping_task(hog.beside, options);
    };
    plan.add(std::move(series));
  }
}

void add_floors(Plan& plan, const affinity::Pair& pair) {
  for (auto& floor : apparatus::common_floors(pair.first, plan.topology().usable(), floor_time))
    plan.add(std::move(floor));
  auto floor = apparatus::floor_series(std::string(futex_floor), pair.first);
  auto options = futex_options(plan, pair);
  floor.make = [options] {
    return apparatus::make_self_handover("futex-private", options, floor_time);
  };
  plan.add(std::move(floor));
}

void plan_series(Plan& plan) {
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  // The first CPU of the placement climbs the rungs of one thread, whatever the relation.
  affinity::Pair here{.first = plan.topology().usable().first(), .second = 0};
  if (!pairs.chosen.empty() && pairs.chosen.front().relation != Relation::unpinned)
    here = pairs.chosen.front();
  for (const auto& rung : plan.words("rung")) {
    if (rung == "futex") {
      for (const auto& pair : pairs.chosen)
        add_futex(plan, pair);
      for (const auto& absent : pairs.absent) {
        SeriesPlan series;
        series.name = futex_name(absent.name);
        series.relation = absent.name;
        series.skip = absent.reason;
        plan.add(std::move(series));
      }
    } else if (rung == "hog") {
      add_hogs(plan, here.first);
    } else {
      add_rung(plan, rung, here.first);
    }
  }
  add_floors(plan, here);
}

std::string answer(const Findings& findings) {
  struct Rung {
    std::string_view series;
    std::string_view words;
  };
  constexpr std::array told = {
      Rung{"resume", "resuming a coroutine by its handle"},
      Rung{"child", "calling a child task and returning"},
      Rung{"yield", "going through the loop's ready list"},
      Rung{"fiber", "changing the stack (Boost.Context)"},
      Rung{"futex/same-pu", "switching to another thread"},
  };
  std::string text;
  for (const Rung& rung : told) {
    const std::string cost = quote(findings, rung.series, "switch");
    if (!cost.empty())
      text += fmt::format("{}{} costs {}", text.empty() ? "One way, " : "; ", rung.words, cost);
  }
  if (text.empty())
    return "No rung was measured.";
  text += ".";
  const auto ratio = findings.ratio("futex/same-pu", "yield", "switch");
  if (ratio)
    text += fmt::format(" A thread switch costs {} hand-overs between tasks.", times(*ratio));
  // What a switch may cost at most for a tenth of the time.
  const Metric* thread = findings.metric("futex/same-pu", "switch");
  const Metric* task = findings.metric("yield", "switch");
  if (thread && task && thread->median && task->median)
    text += fmt::format(" Switching takes a tenth of the time at {} of work between two switches "
                        "with tasks, at {} with threads.",
                        quantity(9 * *task->median, "ns"), quantity(9 * *thread->median, "ns"));
  const std::string hog = quote(findings, "hog/task", "late");
  const std::string beside = quote(findings, "hog/thread", "late");
  if (!hog.empty() && !beside.empty())
    text += fmt::format(" Beside a hog a task wakes {} late, a thread {}.", hog, beside);
  return text;
}

std::string starvation(const Findings& findings) {
  const std::string task = quote(findings, "hog/task", "late");
  if (task.empty())
    return "";
  std::string text = fmt::format("; the price: beside a task that does not yield, a sleeper of the "
                                 "same loop wakes {} late",
                                 task);
  const std::string yields = quote(findings, "hog/task-yields", "late");
  const std::string thread = quote(findings, "hog/thread", "late");
  if (!yields.empty())
    text += fmt::format(", {} if it yields every 50 us", yields);
  if (!thread.empty())
    text += fmt::format(", beside a computing thread {}", thread);
  return text;
}

// C86: confirmed if a hand-over between tasks, through the loop, is cheaper than between threads.
Judgement judge_single_thread_avoids_switches(const Findings& findings) {
  Judgement judgement;
  const auto ratio = findings.ratio("futex/same-pu", "yield", "switch");
  if (!ratio || !ratio->interval) {
    judgement.needs = "switch_coroutine with 6 processes or more, yield and futex on one CPU";
    return judgement;
  }
  judgement.evidence = fmt::format("a futex hand-over between two threads of one CPU costs {} "
                                   "times one between two tasks of a loop ({} against {}){}",
                                   times(*ratio), quote(findings, "futex/same-pu", "switch"),
                                   quote(findings, "yield", "switch"), starvation(findings));
  if (ratio->interval->low > 1)
    judgement.verdict = Verdict::confirmed;
  else if (ratio->interval->high < 1)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine or more processes";
  return judgement;
}

// C82 for tasks: confirmed if even they lose a hundredth of the time at a switch every 10 us.
Judgement judge_frequent_switching(const Findings& findings) {
  constexpr double every_ns = 10e3;
  constexpr double noticeable = 0.01;
  Judgement judgement;
  const Metric* task = findings.metric("yield", "switch");
  if (!task || !task->ci) {
    judgement.needs = "switch_coroutine with 6 processes or more, yield";
    return judgement;
  }
  judgement.evidence = fmt::format("a switch every 10 us between tasks takes {:.2f} % [{:.2f} "
                                   "{:.2f}] of the time",
                                   100 * *task->median / every_ns, 100 * task->ci->low / every_ns,
                                   100 * task->ci->high / every_ns);
  if (const Metric* thread = findings.metric("futex/same-pu", "switch"); thread && thread->median)
    judgement.evidence +=
        fmt::format(", between threads {:.1f} %", 100 * *thread->median / every_ns);
  judgement.evidence += "; caches not counted";
  if (task->ci->low > noticeable * every_ns)
    judgement.verdict = Verdict::confirmed;
  else if (task->ci->high < noticeable * every_ns)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine or more processes";
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C82",
     .text = "Frequent switching slows a program down, also between tasks of one thread",
     .source = "S4",
     .judge = judge_frequent_switching},
    {.id = "C86",
     .text = "A single thread avoids the overhead of switching threads",
     .source = "S4",
     .judge = judge_single_thread_avoids_switches},
};

}  // namespace

extern constinit const Lab switch_coroutine = {
    .name = "switch_coroutine",
    .family = "switch",
    .question = "what does it cost to hand over, from a call to a thread?",
    .version = 1,
    .shape = Shape::pair,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 4, .full_s = 30},  // some 25 series; a hog takes 5 ms
    .plan = plan_series,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
