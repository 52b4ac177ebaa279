// pool_dispatch: what does it cost to have a pool of threads, or of processes, do something?
//
// Method   One task there and back, by relation of the two CPUs and by way to wait, beside the same
//          hand-over made by hand. Floods of tiny tasks. Pieces of work by length, until the pool
//          does what its workers could; and by number of workers. What it takes to have a pool.
// Reading  "each" is the time of a task; "net" what the pool adds to a hand-over by hand, and what
//          processes add to threads. What a worker asleep costs is the machine's price, not the
//          pool's: compare ways to wait.
// Traps    The worker must be asleep to be woken: with tasks on the heels of each other it is not.
//          A flood's tasks meet a queue that grows; with one CPU the submitter runs first, then
//          the worker. Efficiency counts CPUs: where two are one core, or the host's, 0.9 is out
//          of reach.

#include "lab/apparatus/floors.hh"
#include "lab/apparatus/pool_verdicts.hh"
#include "lab/apparatus/pool_work.hh"
#include "lab/apparatus/process_pool_work.hh"
#include "lab/apparatus/python.hh"
#include "lab/apparatus/quote.hh"
#include "lab/apparatus/quotient.hh"
#include "lab/apparatus/task_cost.hh"
#include "lab/apparatus/work_length.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Relation;
using apparatus::piece_name;
using apparatus::quote;
using apparatus::size_name;
using procs::Waiting;

enum : std::size_t { each, wakes, efficiency, at_90 };

constexpr MetricInfo metrics[] = {
    {.name = "each", .unit = "ns", .help = "one task or piece of work", .interval = true},
    {.name = "wakes",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "how often a sleeping worker was woken, a task"},
    {.name = "efficiency",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "work done against what so many workers could do"},
    {.name = "at_90",
     .unit = "ns",
     .help = "of a pool: time a piece; of calls: what it may be where the pool does 90 %",
     .show = false},
};

constexpr std::string_view part_words[] = {"trip", "flood", "length", "size", "start"};
constexpr std::string_view all_parts = "trip,flood,length,size,start";
constexpr std::string_view pool_words[] = {"threads", "processes"};
constexpr std::string_view all_pools = "threads,processes";
constexpr std::string_view waiting_words[] = {"block", "adaptive", "spin"};
constexpr std::string_view all_waitings = "block,adaptive,spin";

constexpr Param params[] = {
    {.name = "part",
     .help = "which questions are asked",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_parts,
     .quick = all_parts,
     .full = all_parts,
     .words = part_words},
    {.name = "pool",
     .help = "of what the pools are; without threads there is nothing to compare with",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_pools,
     .quick = all_pools,
     .full = all_pools,
     .words = pool_words},
    {.name = "waiting",
     .help = "how the worker waits for a task, and the caller for its end",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_waitings,
     .quick = all_waitings,
     .full = all_waitings,
     .words = waiting_words},
    {.name = "tasks",
     .help = "tiny tasks in a flood",
     .smoke = "1000",
     .quick = "20000",
     .full = "1000000",
     .min = 1,
     .max = 10'000'000},
    {.name = "length",
     .help = "ns of a piece of work",
     .list = true,
     .smoke = "1000,100000",
     .quick = "300,1000,3000,10000,100000,1000000",
     .full = "100,300,1000,2000,5000,10000,20000,50000,100000,300000,1000000,10000000",
     .min = 10,
     .max = 1'000'000'000},
    {.name = "wait_us",
     .help = "microseconds of a piece that waits",
     .smoke = "50",
     .quick = "200",
     .full = "1000",
     .min = 1,
     .max = 900'000},
    apparatus::python_param,
};

constexpr double compute_ns = 20'000;  // of a piece that computes, where workers are counted

// What the series of a plan have in common.
struct Here {
  unsigned cpu = 0;
  affinity::CpuSet usable;
  std::optional<apparatus::Python> python;
  bool threads = true;
  std::shared_ptr<apparatus::SharedProcesses> processes;  // null: not asked for
};

SeriesPlan blank(std::string name, std::string group, std::string what) {
  SeriesPlan series;
  series.name = std::move(name);
  series.group = std::move(group);
  series.params = {{"what", std::move(what)}};
  series.relation = "unpinned";
  return series;
}

// Does the same work in Python on command. Modes: threads and processes, a task there and back;
// flood, submitted one by one to threads.
constexpr std::string_view python_script = R"(
import sys
from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor
mode, here, there = sys.argv[1:4]
def one():
    return 1
def stand(cpu):
    if cpu:
        os.sched_setaffinity(0, {int(cpu)})
def begin_process(cpu):
    die_with_parent()
    stand(cpu)
stand(here)
options = {'initargs': (there,)} if mode == 'flood' else {'initargs': (there,), 'max_workers': 1}
pool = (ProcessPoolExecutor(initializer=begin_process, **options) if mode == 'processes' else
        ThreadPoolExecutor(initializer=stand, **options))
pool.submit(one).result()
def sample(operations):
    done = 0
    begin = time.perf_counter_ns()
    if mode == 'flood':
        done = sum([future.result() for future in [pool.submit(one) for _ in range(operations)]])
    else:
        for _ in range(operations):
            done += pool.submit(one).result()
    return {'ns': time.perf_counter_ns() - begin, 'done': done}
)";

void add_python(Plan& plan, const Here& here, SeriesPlan series, const std::string& mode) {
  if (!here.python)
    return;
  apparatus::PythonOptions options{.python = *here.python,
                                   .script = python_script,
                                   .arguments = {mode, "", ""},
                                   .cpus = {},
                                   .usable = here.usable,
                                   .metric = each,
                                   .values = {}};
  if (!series.cpus.empty()) {
    options.arguments[1] = std::to_string(series.cpus.front());
    options.arguments[2] = std::to_string(series.cpus.back());
  }
  series.params = {{"what", fmt::format("python {}", mode)}, {"version", options.python.version}};
  series.skip = options.python.objection;
  series.make = [options] { return apparatus::make_python(options); };
  plan.add(std::move(series));
}

std::string trip_name(std::string_view relation, std::string_view waiting, std::string_view how) {
  return fmt::format("trip/{}/{}/{}", relation, waiting, how);
}

// Why two threads that never sleep may not be measured here.
std::string objection(Relation relation, Waiting waiting) {
  if (waiting != Waiting::spin)
    return "";
  if (relation == Relation::same_pu)
    return "two threads that spin on one CPU wait for the end of each other's slices";
  if (relation == Relation::unpinned)
    return "two threads that spin may be put on one CPU; pin them with --place";
  return "";
}

SeriesPlan trip(const affinity::Pair& pair, std::string_view waiting, std::string_view how) {
  const std::string_view relation = name(pair.relation);
  auto series = blank(trip_name(relation, waiting, how), fmt::format("trip {}", relation),
                      fmt::format("{}, {}", waiting, how));
  series.params.emplace_back("waiting", waiting);
  series.relation = relation;
  if (pair.relation != Relation::unpinned)
    series.cpus = {pair.first, pair.second};
  return series;
}

// One way to wait: by hand, by threads with the former as their floor, by processes with these as
// theirs.
void add_trip(Plan& plan, const Here& here, const affinity::Pair& pair, const std::string& word,
              const apparatus::RoundTripOptions& options) {
  const auto add = [&](std::string_view how, std::vector<Derivation> derived, auto make) {
    auto series = trip(pair, word, how);
    series.skip = objection(pair.relation, options.waiting);
    series.derive = std::move(derived);
    series.make = [options, make] { return make(options); };
    plan.add(std::move(series));
  };
  const auto net_of = [&](std::string floor, std::string_view how) {
    const auto name = trip_name(affinity::name(pair.relation), word, how);
    return std::vector<Derivation>{
        {.metric = each, .value = {}, .floors = {{std::move(floor), {name, each, 1}}}}};
  };
  if (here.threads) {
    add("by-hand", {}, apparatus::make_raw_round_trip);
    add("pool", net_of("by hand", "by-hand"), apparatus::make_pool_round_trip);
  }
  if (here.processes)
    add("processes", here.threads ? net_of("threads", "pool") : std::vector<Derivation>(),
        apparatus::make_process_round_trip);
}

void add_trips(Plan& plan, const Here& here, const affinity::Pair& pair) {
  for (const auto& word : plan.words("waiting")) {
    apparatus::RoundTripOptions options{.waiting = procs::waiting_from(word),
                                        .submitter = {},
                                        .worker = {},
                                        .usable = here.usable,
                                        .metric = each,
                                        .wakes = wakes};
    if (pair.relation != Relation::unpinned) {
      options.submitter = pair.first;
      options.worker = pair.second;
    }
    add_trip(plan, here, pair, word, options);
  }
  for (const std::string mode : {"threads", "processes"})
    add_python(plan, here, trip(pair, "block", "python-" + mode), mode);
}

// A thread made and joined for each task: what a pool saves.
void add_thread(Plan& plan, const Here& here) {
  auto series = blank("trip/thread", "thread", "thread a task");
  series.relation = "same-pu";
  series.cpus = {here.cpu};
  const apparatus::TaskCostOptions options{
      .cpu = here.cpu, .usable = here.usable, .time_metric = each};
  series.make = [options] { return apparatus::make_task_cost("thread", options); };
  plan.add(std::move(series));
}

void add_floods(Plan& plan, const Here& here) {
  struct Way {
    std::string_view word;
    apparatus::Flood how;
  };
  constexpr std::array ways = {Way{"one-by-one", apparatus::Flood::one_by_one},
                               Way{"at-once", apparatus::Flood::at_once},
                               Way{"recursive", apparatus::Flood::recursive}};
  const auto tasks = static_cast<std::uint64_t>(plan.number("tasks"));
  if (here.threads)
    for (const auto& way : ways) {
      auto series = blank(fmt::format("flood/{}", way.word), "flood", std::string(way.word));
      const apparatus::FloodOptions options{
          .how = way.how, .tasks = tasks, .usable = here.usable, .metric = each, .wakes = wakes};
      series.make = [options] { return apparatus::make_flood(options); };
      plan.add(std::move(series));
    }
  if (here.processes) {
    auto series = blank("flood/processes", "flood", "one-by-one, processes");
    series.make = [processes = here.processes, tasks] {
      return apparatus::make_process_flood(processes, tasks, each);
    };
    plan.add(std::move(series));
  }
  add_python(plan, here, blank("flood/python", "flood", "python"), "flood");
}

// Enough pieces that the last to end does not count.
std::uint64_t pieces_of(double length_ns, unsigned workers) {
  constexpr double batch_ns = 2e6;
  return std::clamp<std::uint64_t>(static_cast<std::uint64_t>(batch_ns / length_ns), 4, 1000) *
         workers;
}

void add_lengths(Plan& plan, const Here& here) {
  const unsigned workers = here.usable.count();
  for (const auto length : plan.numbers("length")) {
    const auto length_ns = static_cast<double>(length);
    auto calls = blank(piece_name(length, "calls"), "pieces of work", "");
    calls.params = {{"what", fmt::format("{}, calls", quantity(length_ns, "ns"))}};
    calls.relation = "same-pu";
    calls.cpus = {here.cpu};
    calls.derive = {{.metric = at_90,
                     .value = {{calls.name, each, 1 / (apparatus::wanted_efficiency * workers)}},
                     .floors = {}}};
    const apparatus::WorkOptions work{
        .cpu = here.cpu, .usable = here.usable, .length_ns = length_ns, .metric = each};
    calls.make = [work] { return apparatus::make_work(apparatus::RunAs::calls, work); };
    plan.add(std::move(calls));
    const apparatus::PieceOptions options{.length_ns = length_ns,
                                          .workers = workers,
                                          .pieces = pieces_of(length_ns, workers),
                                          .usable = here.usable,
                                          .metric = each};
    const auto add = [&](std::string_view how, std::string_view of, auto make) {
      auto pool = blank(piece_name(length, how), "pieces of work", "");
      pool.params = {{"what", fmt::format("{}, {}", quantity(length_ns, "ns"), of)},
                     {"workers", std::to_string(workers)}};
      pool.derive = {{.metric = at_90, .value = {{pool.name, each, 1}}, .floors = {}}};
      pool.make = std::move(make);
      plan.add(std::move(pool));
    };
    if (here.threads)
      add("pool", "threads", [options] { return apparatus::make_pool_pieces(options); });
    if (here.processes)
      add("processes", "processes", [options, processes = here.processes] {
        return apparatus::make_process_pieces(processes, options);
      });
  }
}

// Pools of more workers take longer in proportion.
void add_start(Plan& plan, const Here& here, apparatus::PoolOf what, std::string_view word) {
  const unsigned workers = std::min(here.usable.count(), 8u);
  auto series = blank(fmt::format("start/{}", word), "start", fmt::format("pool of {}", word));
  series.params.emplace_back("workers", std::to_string(workers));
  const apparatus::PoolStartOptions options{
      .what = what, .workers = workers, .usable = here.usable, .metric = each};
  series.make = [options] { return apparatus::make_pool_start(options); };
  plan.add(std::move(series));
}

// Numbers of workers to be tried: around the CPUs, Python's rule, and far beyond.
std::vector<std::int64_t> sizes(std::int64_t cpus) {
  std::vector<std::int64_t> list = {1, cpus, apparatus::python_workers(cpus), 2 * cpus, 64};
  std::ranges::sort(list);
  list.erase(std::ranges::unique(list).begin(), list.end());
  return list;
}

void add_sizes(Plan& plan, const Here& here) {
  const std::int64_t cpus = here.usable.count();
  const auto rule = std::to_string(apparatus::python_workers(cpus));
  for (const std::string_view kind : {"compute", "wait"})
    for (const auto workers : sizes(cpus)) {
      auto series = blank(size_name(kind, workers), fmt::format("workers, pieces {}", kind),
                          fmt::format("{}, {} workers", kind, workers));
      series.params.emplace_back("workers", std::to_string(workers));
      series.params.emplace_back("rule", rule);
      const bool waits = kind == "wait";
      const apparatus::PieceOptions options{
          .length_ns = waits ? 1e3 * static_cast<double>(plan.number("wait_us")) : compute_ns,
          .waits = waits,
          .workers = static_cast<unsigned>(workers),
          .pieces = static_cast<std::uint64_t>(std::max<std::int64_t>(64, 2 * cpus)),
          .usable = here.usable,
          .metric = each};
      series.make = [options] { return apparatus::make_pool_pieces(options); };
      plan.add(std::move(series));
    }
}

void plan_series(Plan& plan) {
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  const auto has = [pools = plan.words("pool")](std::string_view pool) {
    return std::ranges::find(pools, pool) != pools.end();
  };
  Here here{.cpu = plan.topology().usable().first(),
            .usable = plan.topology().usable(),
            .python = apparatus::find_python(plan.text("python")),
            .threads = has("threads"),
            .processes = {}};
  if (has("processes"))
    here.processes = std::make_shared<apparatus::SharedProcesses>(here.usable);
  if (!pairs.chosen.empty() && pairs.chosen.front().relation != Relation::unpinned)
    here.cpu = pairs.chosen.front().first;
  for (const auto& part : plan.words("part")) {
    if (part == "trip") {
      for (const auto& pair : pairs.chosen)
        add_trips(plan, here, pair);
      plan.add_absent(pairs.absent);
      if (here.threads)
        add_thread(plan, here);
    } else if (part == "flood") {
      add_floods(plan, here);
    } else if (part == "length") {
      add_lengths(plan, here);
    } else if (part == "start") {
      if (here.threads)
        add_start(plan, here, apparatus::PoolOf::threads, "threads");
      if (here.processes)
        add_start(plan, here, apparatus::PoolOf::processes, "processes");
    } else if (here.threads) {
      add_sizes(plan, here);
    }
  }
  for (auto& floor : apparatus::common_floors(here.cpu, here.usable, each))
    plan.add(std::move(floor));
}

// The efficiency of each length: what calls take, over what all workers of the pool take together.
void conclude(const Plan& plan, LabResult& result) {
  for (auto& series : result.series) {
    const auto workers = param_number(series, "workers");
    if (!series.name.starts_with("length/") || workers == 0)
      continue;
    const auto calls_name = series.name.substr(0, series.name.rfind('/')) + "/calls";
    const Findings findings(result);
    const Metric* const calls = findings.metric(calls_name, "each");
    const Metric* const pool = find_metric(series, "each");
    if (calls && pool)
      series.metrics.push_back(
          apparatus::quotient(plan.processes(), metrics[efficiency], *calls, *pool, workers));
  }
}

std::string answer(const Findings& findings) {
  std::string text;
  for (const auto& series : findings.result().series) {
    const Metric* const trip = find_metric(series, "each");
    if (!series.name.ends_with("/block/pool") || !trip || !trip->median)
      continue;
    text += fmt::format("{}{}: a task there and back by a pool of one takes {}",  //
                        text.empty() ? "" : ". ", series.placement.relation, with_interval(*trip));
    const auto hand = series.name.substr(0, series.name.size() - 4) + "by-hand";
    if (const auto ratio = findings.ratio(series.name, hand, "each"))
      text += fmt::format(", {} of the same by hand", percent(*ratio));
  }
  if (!text.empty())
    text += ". ";
  if (const auto tiny = quote(findings, "flood/one-by-one", "each"); !tiny.empty())
    text += fmt::format("Of many tiny tasks one takes {}. ", tiny);
  for (const auto& [pool, name] : {std::pair{"pool", "threads"}, {"processes", "processes"}})
    if (const auto from = apparatus::break_even_text(findings, pool); !from.empty())
      text += fmt::format("A pool of {} does 90 % of what its CPUs could {}. ", name, from);
  if (const auto more = findings.ratio("start/processes", "start/threads", "each"))
    text += fmt::format("To have a pool of processes takes {}, {} times one of threads. ",
                        quote(findings, "start/processes", "each"), apparatus::times(*more));
  if (text.empty())
    return "Nothing was measured.";
  text.pop_back();
  return text;
}

constexpr ClaimInfo claims[] = {
    {.id = "C52",
     .text = "A ThreadPoolExecutor takes work by submit, gives its result, and chooses a number of "
             "workers that suits: min(32, CPUs + 4)",
     .source = "S2",
     .judge = apparatus::judge_default_size},
    {.id = "C54",
     .text = "Executors take the handling of threads off the program, at no cost to speak of",
     .source = "S2",
     .judge = apparatus::judge_abstraction},
    {.id = "C66",
     .text = "Processes cost more than threads to start and to give work to",
     .source = "S2",
     .judge = apparatus::judge_process_overhead},
};

}  // namespace

extern constinit const Lab pool_dispatch = {
    .name = "pool_dispatch",
    .family = "procs",
    .question = "what does it cost to have a pool of threads or processes do something?",
    .version = 1,
    .shape = Shape::pair,
    .params = params,
    .metrics = metrics,
    // Some 60 series: a trip for each relation and way to wait, thrice; lengths; sizes.
    .budget = {.quick_s = 5, .full_s = 60},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
