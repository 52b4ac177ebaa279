// gil_convoy: how long does a thread that did I/O wait to get the interpreter's lock back?
//
// Method   One thread does I/O without the lock, a sleep or a byte that another thread echoes,
//          beside threads that compute with it, at several intervals. Its waits for the lock are
//          clocked, and the intervals that passed in them counted. Beside it: two that sleep at a
//          time, four that mostly sleep, up to 64 of those on one CPU, and a thread that is alone.
// Reading  "wait" against interval x computing threads: who comes back asks after an interval, and
//          gets the lock when those before it have had it for one each. "progress" is what the
//          computing threads did meanwhile.
// Traps    Who is back before another thread has taken the lock waits for nothing, as from a call
//          of a few microseconds. With one CPU the kernel's slices are on top. A rate of operations
//          says nothing of the work beside them: see progress.

#include "lab/apparatus/convoy.hh"
#include "lab/apparatus/convoy_verdicts.hh"
#include "lab/apparatus/interpreted.hh"
#include "lab/apparatus/loop.hh"
#include "lab/apparatus/quote.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <memory>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::ConvoyOptions;
using apparatus::IoOperation;
using apparatus::quote;
using procs::LockRule;

enum : std::size_t { latency, p99, wait, expiries, rate, progress, running, turn };

constexpr MetricInfo metrics[] = {
    {.name = "latency",
     .unit = "ns",
     .help = "an operation, until the thread has the lock again",
     .interval = true},
    {.name = "p99", .unit = "ns", .help = "that 99 of 100 operations of a sample stay below"},
    {.name = "wait",
     .unit = "ns",
     .help = "of an operation, waiting for the lock",
     .interval = true},
    {.name = "expiries",
     .unit = "",
     .better = Better::none,
     .kind = Kind::count,
     .help = "intervals that passed in the waits of an operation"},
    {.name = "rate",
     .unit = "1/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "operations of all I/O threads"},
    {.name = "progress",
     .unit = "1/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "turns of the loops of those that compute"},
    {.name = "running",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::ratio,
     .help = "CPU time of those that hold the lock as a share of the time"},
    {.name = "turn",
     .unit = "ns",
     .help = "a turn of the loop in a thread alone",
     .interval = true},
};

constexpr std::string_view operation_words[] = {"timer", "echo"};

constexpr Param params[] = {
    {.name = "operation",
     .help = "the I/O: a sleep of 100 us, or a byte that is echoed after 100 us",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "timer,echo",
     .quick = "timer,echo",
     .full = "timer,echo",
     .words = operation_words},
    {.name = "computing",
     .help = "threads that compute beside it",
     .list = true,
     .smoke = "0,1",
     .quick = "0,1,2",
     .full = "0,1,2,4",
     .max = 1000},
    {.name = "interval_us",
     .help = "microseconds after which a thread asks for the lock; 5000 is CPython's",
     .list = true,
     .smoke = "500",
     .quick = "50,500,5000",
     .full = "50,500,5000,50000",
     .min = 1,
     .max = 1'000'000},
    {.name = "threads",
     .help = "threads on one CPU that compute a tenth and sleep nine",
     .list = true,
     .smoke = "1,4",
     .quick = "1,2,4,8,16,64",
     .full = "1,2,4,8,12,16,32,64",
     .min = 1,
     .max = 1000},
};

constexpr std::int64_t usual_interval_us = 5000;
constexpr std::int64_t timer_ns = 100'000;
// A task that mostly waits: what it computes and what it sleeps.
constexpr std::int64_t compute_ns = 50'000, sleep_ns = 9 * compute_ns;
constexpr unsigned crowd = 4;

ConvoyOptions common(const Plan& plan) {
  ConvoyOptions options;
  options.cpus =
      affinity::CpuSet::from_numbers(apparatus::named_cpus(plan.topology(), plan.placement()));
  options.usable = plan.topology().usable();
  options.latency = latency;
  options.p99 = p99;
  options.wait = wait;
  options.expiries = expiries;
  options.rate = rate;
  options.progress = progress;
  options.running = running;
  return options;
}

void add(Plan& plan, const std::string& name, const std::string& group,
         const ConvoyOptions& options) {
  SeriesPlan series;
  series.name = name;
  series.group = group;
  series.params = {{"what", name.starts_with("sleepers") ? name : name.substr(0, name.find('/'))},
                   {"rule", std::string(to_text(options.rule))},
                   {"io", std::to_string(options.io_threads)},
                   {"computing", std::to_string(options.cpu_threads)},
                   {"interval_us", std::to_string(options.interval_ns / 1000)}};
  if (options.cpu)
    series.relation = "same-pu";
  series.cpus = options.cpu ? std::vector{*options.cpu} : options.cpus.cpus();
  series.make = [options] { return apparatus::make_convoy(options); };
  plan.add(std::move(series));
}

// All intervals of an operation, and at the usual one the other rules.
void add_operation(Plan& plan, std::string_view word, unsigned computing) {
  auto options = common(plan);
  options.operation = word == "echo" ? IoOperation::echo : IoOperation::timer;
  options.sleep_ns = timer_ns;
  options.cpu_threads = computing;
  const auto add_one = [&] {
    add(plan, apparatus::convoy_name(word, computing, options.rule, options.interval_ns / 1000),
        std::string(word), options);
  };
  for (const auto interval_us : plan.numbers("interval_us")) {
    options.interval_ns = 1000 * interval_us;
    add_one();
    if (computing == 0)
      break;  // nobody who could wait
  }
  if (computing != 1)
    return;
  options.interval_ns = 1000 * usual_interval_us;
  for (const auto rule : {LockRule::ticks, LockRule::none}) {
    options.rule = rule;
    add_one();
  }
}

void add_programs(Plan& plan) {
  auto options = common(plan);
  options.io_threads = 2;
  options.sleep_ns = 2'000'000;
  for (const bool release : {true, false}) {
    options.release = release;
    add(plan, release ? "sleepers/released" : "sleepers/held", "sleepers", options);
  }
  options.release = true;
  options.io_threads = crowd;
  options.sleep_ns = sleep_ns;
  options.compute_ns = compute_ns;
  for (const unsigned computing : {0u, 1u})
    for (const auto rule : {LockRule::interval, LockRule::none}) {
      options.rule = rule;
      options.cpu_threads = computing;
      add(plan, apparatus::crowd_of_io(rule, computing), "mixed", options);
    }
}

void add_one_cpu(Plan& plan) {
  auto options = common(plan);
  options.cpu = options.cpus.first();
  options.sleep_ns = sleep_ns;
  options.compute_ns = compute_ns;
  for (const auto threads : plan.numbers("threads")) {
    options.io_threads = static_cast<unsigned>(threads);
    add(plan, apparatus::one_cpu_name(options.io_threads), "one CPU", options);
  }
}

void add_alone(Plan& plan, LockRule rule) {
  const auto cpus = apparatus::named_cpus(plan.topology(), plan.placement());
  const apparatus::LoopOptions options{cpus.front(), plan.topology().usable(), turn};
  SeriesPlan series;
  series.name = fmt::format("alone/{}", to_text(rule));
  series.group = "alone";
  series.params = {{"what", "alone"}, {"rule", std::string(to_text(rule))}};
  series.relation = "same-pu";
  series.cpus = {options.cpu};
  series.make = [options, rule] {
    return apparatus::make_loop(options, [alone = std::make_shared<apparatus::Alone>(rule)](
                                             std::uint64_t turns) noexcept { alone->run(turns); });
  };
  plan.add(std::move(series));
}

void plan_series(Plan& plan) {
  for (const auto& operation : plan.words("operation"))
    for (const auto computing : plan.numbers("computing"))
      add_operation(plan, operation, static_cast<unsigned>(computing));
  add_programs(plan);
  add_one_cpu(plan);
  for (const auto rule : {LockRule::interval, LockRule::ticks, LockRule::none})
    add_alone(plan, rule);
}

std::string answer(const Findings& findings) {
  std::string text;
  const auto usual = [&](std::string_view operation, unsigned computing) {
    return apparatus::convoy_name(operation, computing, LockRule::interval, usual_interval_us);
  };
  for (const auto operation : operation_words) {
    const Series* alone = apparatus::without_computing(findings, operation);
    const std::string beside = quote(findings, usual(operation, 1), "latency");
    if (!alone || beside.empty())
      continue;
    text +=
        fmt::format("{}{} takes {} alone and {} beside a thread that computes, at an interval "
                    "of 5 ms.",
                    text.empty() ? "" : " ", operation == "echo" ? "An echo" : "A sleep of 100 us",
                    quote(findings, alone->name, "latency"), beside);
  }
  if (const auto share = apparatus::wait_by_model(findings))
    text += fmt::format(" The waits are {} of interval x computing threads.", *share);
  return text.empty() ? "No operation could be measured." : text;
}

constexpr ClaimInfo claims[] = {
    {.id = "C5",
     .text = "The lock is always given up for I/O, and a sleep counts as I/O",
     .source = "S0 S4",
     .judge = apparatus::judge_release_for_io},
    {.id = "C10",
     .text = "Threads make the most of one CPU core",
     .source = "S0",
     .judge = apparatus::judge_one_core},
    {.id = "C64",
     .text = "For I/O the interpreter lock is less of a bottleneck",
     .source = "S2",
     .judge = apparatus::judge_io_under_the_lock},
    {.id = "C83",
     .text = "The lock costs one thread nothing, and is a bottleneck where threads compute",
     .source = "S4",
     .judge = apparatus::judge_convoy},
};

}  // namespace

extern constinit const Lab gil_convoy = {
    .name = "gil_convoy",
    .family = "gil",
    .question = "how long does a thread that did I/O wait to get the interpreter's lock back?",
    .version = 2,
    .shape = Shape::workers,
    .params = params,
    .metrics = metrics,
    // An operation beside two computing threads lasts 10 to 20 ms at the usual interval, and there
    // are some 35 series.
    .budget = {.quick_s = 7, .full_s = 60},
    .plan = plan_series,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
