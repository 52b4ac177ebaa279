// switch_cost: what does a context switch cost here, and what decides it?
//
// Method   Two tasks hand a turn to and fro through one mechanism; each sleeps until it is its
//          turn. Half a round trip is one hand-over: on one CPU a context switch with the system
//          calls that cause it, on two CPUs a wake-up. The same calls by one task alone are the
//          floor; the difference is the net cost of the switch.
// Reading  Compare mechanisms within a placement, threads with processes within a mechanism (the
//          difference is the other address space), and placements with each other.
// Traps    A hand-over to another CPU is no switch: it is an interrupt, perhaps an idle state and,
//          in a virtual machine, an exit; it has a metric of its own. sched_yield need not switch:
//          its time is divided by the switches counted. Every other series must show two switches
//          a round trip, or it is flagged.

#include "lab/apparatus/floors.hh"
#include "lab/apparatus/ping_pong.hh"
#include "lab/apparatus/quote.hh"
#include "lab/base/text.hh"
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
using apparatus::TaskKind;

enum : std::size_t { round_trip, switch_time, wakeup, handover, floor_time };

constexpr MetricInfo metrics[] = {
    {.name = "round_trip", .unit = "ns", .help = "there and back: two hand-overs"},
    {.name = "switch", .unit = "ns", .help = "one hand-over on one CPU", .interval = true},
    {.name = "wakeup", .unit = "ns", .help = "one hand-over to another CPU", .interval = true},
    {.name = "handover",
     .unit = "ns",
     .help = "one hand-over, both tasks wherever the scheduler puts them",
     .interval = true},
    {.name = "floor",
     .unit = "ns",
     .help = "the same calls by one task alone, no switch",
     .interval = true},
};

constexpr std::string_view mechanism_words[] = {
    "pipe", "eventfd", "futex-private", "futex", "condvar", "unix", "mq", "yield"};
constexpr std::string_view task_words[] = {"threads", "processes"};
constexpr std::string_view vector_words[] = {"clean", "dirty"};
constexpr std::string_view policy_words[] = {"other", "fifo"};

constexpr std::string_view all_mechanisms =
    "pipe,eventfd,futex-private,futex,condvar,unix,mq,yield";

constexpr Param params[] = {
    {.name = "mechanism",
     .help = "how the turn is handed over",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_mechanisms,
     .quick = all_mechanisms,
     .full = all_mechanisms,
     .words = mechanism_words},
    {.name = "tasks",
     .help = "what hands it over",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "threads,processes",
     .quick = "threads,processes",
     .full = "threads,processes",
     .words = task_words},
    {.name = "vector",
     .help = "dirty: write the vector registers before each hand-over",
     .kind = Param::Kind::word,
     .smoke = "clean",
     .quick = "clean",
     .full = "clean",
     .words = vector_words},
    {.name = "policy",
     .help = "scheduling policy of both tasks",
     .kind = Param::Kind::word,
     .smoke = "other",
     .quick = "other",
     .full = "other",
     .words = policy_words},
    {.name = "slack",
     .help = "timer slack of both tasks in ns; 0 leaves it",
     .smoke = "0",
     .quick = "0",
     .full = "0",
     .max = 1'000'000'000},
};

std::size_t one_way_metric(Relation relation) {
  if (relation == Relation::same_pu)
    return switch_time;
  return relation == Relation::unpinned ? handover : wakeup;
}

std::string floor_name(std::string_view mechanism) {
  return fmt::format("floor/{}", mechanism);
}

apparatus::PingPongOptions options_for(const Plan& plan, TaskKind kind,
                                       const affinity::Pair& pair) {
  apparatus::PingPongOptions options;
  options.tasks.kind = kind;
  if (plan.text("policy") == "fifo")
    options.tasks.policy = procs::SchedPolicy::fifo;
  options.tasks.slack_ns = static_cast<std::uint64_t>(plan.number("slack"));
  options.usable = plan.topology().usable();
  options.dirty_vector = plan.text("vector") == "dirty";
  options.round_trip_metric = round_trip;
  options.one_way_metric = one_way_metric(pair.relation);
  if (pair.relation != Relation::unpinned) {
    options.first = pair.first;
    options.second = pair.second;
  }
  return options;
}

std::string series_name(std::string_view mechanism, std::string_view tasks,
                        std::string_view relation) {
  return fmt::format("{}/{}/{}", relation, mechanism, tasks);
}

void add_series(Plan& plan, std::string_view mechanism, TaskKind kind, const affinity::Pair& pair) {
  const auto options = options_for(plan, kind, pair);
  SeriesPlan series;
  series.name = series_name(mechanism, to_text(kind), name(pair.relation));
  series.group = name(pair.relation);
  series.params = {{"mechanism", std::string(mechanism)}, {"tasks", std::string(to_text(kind))}};
  series.relation = name(pair.relation);
  if (options.first)
    series.cpus = {*options.first, *options.second};
  series.derive = {{.metric = options.one_way_metric,
                    .value = {},
                    .floors = {{floor_name(mechanism), {floor_name(mechanism), floor_time}}}}};
  if (apparatus::one_cpu_only(mechanism) && pair.relation != Relation::same_pu)
    series.skip = "a yield hands over only on one CPU";
  series.make = [mechanism = std::string(mechanism), options] {
    return apparatus::make_ping_pong(mechanism, options);
  };
  plan.add(std::move(series));
}

void add_floors(Plan& plan, const std::vector<std::string>& mechanisms,
                const affinity::Pair& pair) {
  auto options = options_for(plan, TaskKind::threads, pair);
  options.first =
      pair.relation == Relation::unpinned ? plan.topology().usable().first() : pair.first;
  for (auto& floor : apparatus::common_floors(*options.first, options.usable, floor_time))
    plan.add(std::move(floor));
  for (const auto& mechanism : mechanisms) {
    auto floor = apparatus::floor_series(floor_name(mechanism), *options.first);
    floor.make = [mechanism, options] {
      return apparatus::make_self_handover(mechanism, options, floor_time);
    };
    plan.add(std::move(floor));
  }
}

void plan_series(Plan& plan) {
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  const auto mechanisms = plan.words("mechanism");
  for (const auto& pair : pairs.chosen)
    for (const auto& mechanism : mechanisms)
      for (const auto& tasks : plan.words("tasks")) {
        const TaskKind kind = apparatus::task_kind(tasks);
        if (kind == TaskKind::processes && apparatus::threads_only(mechanism))
          continue;
        add_series(plan, mechanism, kind, pair);
      }
  plan.add_absent(pairs.absent);
  if (!pairs.chosen.empty())
    add_floors(plan, mechanisms, pairs.chosen.front());
}

std::string answer(const Findings& findings) {
  std::string text;
  const std::string futex = quote(findings, "same-pu/futex-private/threads", "switch");
  const std::string pipe = quote(findings, "same-pu/pipe/threads", "switch");
  if (!futex.empty() && !pipe.empty())
    text = fmt::format("A switch between two threads on one CPU costs {} through a futex and {} "
                       "through a pipe, the calls included (usual on x86-64 servers: 0.6 to 2 us).",
                       futex, pipe);
  else
    for (const auto& series : findings.result().series)
      for (const auto metric : {"switch", "wakeup", "handover"})
        if (text.empty() && find_metric(series, metric))
          text = fmt::format("{}: one {} costs {}.", series.name, metric,
                             quote(findings, series.name, metric));
  const auto ratio = findings.ratio("same-pu/pipe/processes", "same-pu/pipe/threads", "switch");
  if (ratio)
    text += fmt::format(" Between processes it takes {} of that between threads.", percent(*ratio));
  for (const auto relation : {"smt", "l2", "l3", "die", "numa", "package", "remote"}) {
    const std::string woken = quote(findings, fmt::format("{}/futex/threads", relation), "wakeup");
    if (woken.empty())
      continue;
    text += fmt::format(" Waking a thread on another CPU ({}) takes {}.", relation, woken);
    break;
  }
  return text;
}

// C12: confirmed if every mechanism that both kinds use is dearer between processes.
Judgement judge_processes_costlier(const Findings& findings) {
  Judgement judgement;
  int dearer = 0, equal_or_cheaper = 0, seen = 0;
  for (const auto mechanism : mechanism_words) {
    const auto ratio = findings.ratio(fmt::format("same-pu/{}/processes", mechanism),
                                      fmt::format("same-pu/{}/threads", mechanism), "switch");
    if (!ratio || !ratio->interval)
      continue;
    ++seen;
    dearer += ratio->interval->low > 1;
    equal_or_cheaper += ratio->interval->high < 1.02;
    judgement.evidence +=
        fmt::format("{}{} {}", judgement.evidence.empty() ? "" : ", ", mechanism, percent(*ratio));
  }
  if (seen == 0) {
    judgement.needs = "switch_cost with 6 processes or more, on one CPU, threads and processes";
    return judgement;
  }
  judgement.evidence =
      "a switch between processes against one between threads: " + judgement.evidence;
  if (2 * dearer > seen)
    judgement.verdict = Verdict::confirmed;
  else if (2 * equal_or_cheaper > seen)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine or more processes";
  return judgement;
}

// C82: what a switch every 10 us would take away, by its direct cost alone: from 1 % it shows.
Judgement judge_frequent_switching(const Findings& findings) {
  Judgement judgement;
  const Metric* cost = findings.metric("same-pu/futex-private/threads", "switch");
  if (!cost || !cost->ci) {
    judgement.needs = "switch_cost with 6 processes or more on one CPU";
    return judgement;
  }
  constexpr double often_ns = 10e3, noticed_ns = 0.01 * often_ns;
  const double share = cost->ci->low / often_ns;
  judgement.evidence =
      fmt::format("one switch costs {}; at one every 10 us that is {:.1f} % of the CPU, every "
                  "100 us {:.2f} %, every 10 ms {:.4f} %, caches not counted",
                  with_interval(*cost), 100 * share, 10 * share, 0.1 * share);
  if (cost->ci->low >= noticed_ns)
    judgement.verdict = Verdict::confirmed;
  else if (cost->ci->high < noticed_ns)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine or more processes";
  return judgement;
}

// C86, its first half: the calls without the switch are cheaper than with it, by 5 % or more.
Judgement judge_single_thread_avoids_switches(const Findings& findings) {
  Judgement judgement;
  const Metric* cost = findings.metric("same-pu/futex-private/threads", "switch");
  if (!cost || !cost->median || !cost->net || !cost->net->ci) {
    judgement.needs = "switch_cost with 6 processes or more on one CPU";
    return judgement;
  }
  judgement.evidence = fmt::format("of a futex hand-over between two threads, {} is the switch "
                                   "itself, which one thread alone does not pay",
                                   with_interval(*cost->net, "ns"));
  const double noticed_ns = 0.05 * *cost->median;
  if (cost->net->ci->low >= noticed_ns)
    judgement.verdict = Verdict::confirmed;
  else if (cost->net->ci->high < noticed_ns)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "a quieter machine or more processes";
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C12",
     .text = "Switching between threads is light; between processes it costs more, because of the "
             "address spaces",
     .source = "S0 S4",
     .judge = judge_processes_costlier},
    {.id = "C82",
     .text = "Frequent switching slows a program down",
     .source = "S4",
     .judge = judge_frequent_switching},
    {.id = "C86",
     .text = "A single thread avoids the overhead of switching threads",
     .source = "S4",
     .judge = judge_single_thread_avoids_switches},
};

}  // namespace

extern constinit const Lab switch_cost = {
    .name = "switch_cost",
    .family = "switch",
    .question = "what does a context switch cost here, and what decides it?",
    .version = 1,
    .shape = Shape::pair,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 6, .full_s = 40},  // some 50 series on two CPUs
    .plan = plan_series,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
