// io_submit: what does it cost to ask the kernel for something through io_uring?
//
// Method   One pinned task has batches of 1 to 128 requests done, NOPs or reads of 4 KiB that the
//          page cache holds, so that the asking is all there is: by a system call each, by liburing
//          alone, through the library's driver, through its loop with a coroutine for each request
//          under way, through the epoll driver (reads), and with a polling thread of the kernel on
//          another CPU (SQPOLL).
// Reading  The price of a system call is divided by the batch; what is left at large batches is the
//          ring's own price. Driver less ring is the driver's price, loop less driver the
//          coroutines'. A NOP shows it bare; a read adds the copy of 4 KiB, which all pay.
// Traps    With SQPOLL the caller's time falls and another CPU is busy: look at `cpu`, which counts
//          all tasks. Completions are never waited for here: what ends later than it is asked for
//          (devices, sockets) costs a wake-up on top.

#include "lab/apparatus/block_io_subject.hh"
#include "lab/apparatus/crossover.hh"
#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/polling_cpu.hh"
#include "lab/apparatus/team.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::Action;
using apparatus::BlockIoOptions;

enum : std::size_t { time_taken, cpu_time, calls, per_call };

constexpr MetricInfo metrics[] = {
    {.name = "time", .unit = "ns", .help = "one request", .interval = true},
    {.name = "cpu",
     .unit = "ns",
     .help = "CPU time of one request, of all tasks, the kernel's threads included",
     .interval = true},
    {.name = "calls", .unit = "", .kind = Kind::count, .help = "system calls for one request"},
    {.name = "per_call",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::count,
     .help = "requests for one system call"},
};

constexpr std::string_view action_words[] = {"nop", "read"};
constexpr std::string_view arm_words[] = {"call", "ring", "driver", "loop", "epoll", "sqpoll"};
constexpr std::string_view all_arms = "call,ring,driver,loop,epoll,sqpoll";

constexpr Param params[] = {
    {.name = "action",
     .help = "what is asked for",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "nop,read",
     .quick = "nop,read",
     .full = "nop,read",
     .words = action_words},
    {.name = "arm",
     .help = "how",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_arms,
     .quick = all_arms,
     .full = all_arms,
     .words = arm_words},
    {.name = "batch",
     .help = "requests handed over at a time",
     .list = true,
     .smoke = "1,8",
     .quick = "1,4,32,128",
     .full = "1,2,4,8,16,32,64,128",
     .min = 1,
     .max = 4096},
    {.name = "dir",
     .help = "folder of the file that is read; auto: $TMPDIR or the like",
     .kind = Param::Kind::text,
     .smoke = "auto",
     .quick = "auto",
     .full = "auto"},
};

constexpr std::uint64_t file_size = 1
                                    << 20;  // stays in the L2 cache's reach, and in the page cache

std::string series_name(std::string_view action, std::string_view arm, std::int64_t batch) {
  return arm == "call" ? fmt::format("{}/call", action)
                       : fmt::format("{}/{}/{}", action, arm, batch);
}

struct Place {
  unsigned cpu = 0;
  std::optional<unsigned> polling;
  affinity::CpuSet usable;
  std::shared_ptr<apparatus::SharedFile> file;
};

std::unique_ptr<Subject> make_subject(const Place& place, Action action, const std::string& arm,
                                      unsigned batch) {
  apparatus::BlockIoSeries series;
  series.metrics = {.time = time_taken, .cpu = cpu_time, .calls = calls, .per_call = per_call};
  series.cpu = place.cpu;
  series.usable = place.usable;
  series.keeps_cpu_busy = arm != "sqpoll";
  BlockIoOptions options;
  options.action = action;
  options.depth = arm == "call" ? 1 : batch;
  if (action != Action::nop) {
    options.file = series.file = place.file->get();
    options.cache = series.cache = apparatus::CacheState::cached;
  }
  apparatus::stand_on(place.cpu, place.usable);
  using iouring::DriverChoice;
  if (arm == "call")
    series.io = apparatus::make_call_io(options, 0);
  else if (arm == "ring")
    series.io = apparatus::make_ring_io(options, {});
  else if (arm == "sqpoll")
    series.io = apparatus::make_ring_io(options, {.polling_cpu = place.polling});
  else if (arm == "loop")
    series.io = apparatus::make_loop_io(options, DriverChoice::io_uring);
  else
    series.io = apparatus::make_driver_io(
        options, arm == "epoll" ? DriverChoice::epoll : DriverChoice::io_uring, false);
  return apparatus::make_block_io_subject(std::move(series));
}

void add_series(Plan& plan, const Place& place, const std::string& action, const std::string& arm,
                std::int64_t batch) {
  const auto [ring, epoll] = apparatus::driver_arms(plan);
  SeriesPlan series;
  series.name = series_name(action, arm, batch);
  if (plan.find(series.name))
    return;  // a call is no batch
  series.group = action;
  series.params = {{"action", action}, {"arm", arm}};
  if (arm != "call")
    series.params.emplace_back("batch", std::to_string(batch));
  series.relation = "same-pu";
  series.cpus = {place.cpu};
  series.floor = arm == "call";
  if (arm == "epoll") {
    series.driver = epoll.name;
    series.skip = action == "nop" ? "the kernel is not asked for a NOP" : epoll.skip;
  } else if (arm != "call") {
    series.driver = ring.name;
    series.skip = ring.skip;
  }
  if (arm == "sqpoll" && place.polling) {
    series.relation = name(plan.topology().relation(place.cpu, *place.polling));
    series.params.emplace_back("polling", std::to_string(*place.polling));
  } else if (arm == "sqpoll" && series.skip.empty()) {
    series.skip = "needs a second CPU for the kernel's polling thread";
  }
  const Action what = action == "nop" ? Action::nop : Action::read;
  series.make = [place, what, arm, batch] {
    return make_subject(place, what, arm, static_cast<unsigned>(batch));
  };
  plan.add(std::move(series));
}

void plan_series(Plan& plan) {
  const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
  if (ones.chosen.empty())
    return;
  const auto actions = plan.words("action");
  Place place{.cpu = ones.chosen.front(),
              .polling = {},
              .usable = plan.topology().usable(),
              .file = std::make_shared<apparatus::SharedFile>()};
  place.polling = apparatus::polling_cpu_for(plan.topology(), place.cpu);
  place.file->size = file_size;
  if (std::ranges::find(actions, "read") != actions.end())
    place.file->folder = apparatus::data_folder(plan.text("dir"), "io_submit.dir");
  for (const auto& action : actions)
    for (const auto& arm : plan.words("arm"))
      for (const auto batch : plan.numbers("batch"))
        add_series(plan, place, action, arm, batch);
}

// The batches of an arm that were measured, ascending.
std::vector<std::int64_t> batches_of(const Findings& findings, std::string_view action,
                                     std::string_view arm) {
  const std::string head = fmt::format("{}/{}/", action, arm);
  return apparatus::measured_numbers(findings, [&](const Series& series) {
    return find_metric(series, "cpu") ? apparatus::number_after(head, series.name) : std::nullopt;
  });
}

std::string against_calls(const Findings& findings, std::string_view action, std::string_view arm) {
  std::vector<apparatus::Rung> rungs;
  for (const auto batch : batches_of(findings, action, arm))
    rungs.push_back({static_cast<double>(batch), series_name(action, arm, batch),
                     series_name(action, "call", 0)});
  const auto found = apparatus::find_crossover(findings, rungs, "cpu", Better::lower);
  return found ? apparatus::text_of(*found, "batch") : "";
}

// "1.2 us of CPU time at batch 1 and 140 ns at batch 128".
std::string ends_of(const Findings& findings, std::string_view action, std::string_view arm) {
  const auto batches = batches_of(findings, action, arm);
  if (batches.empty())
    return "";
  std::string text;
  for (const auto batch : {batches.front(), batches.back()}) {
    const Metric* taken = findings.metric(series_name(action, arm, batch), "cpu");
    text += text.empty() ? fmt::format("{} of CPU time at batch {}", with_interval(*taken), batch)
                         : fmt::format(" and {} at batch {}", with_interval(*taken), batch);
    if (batches.size() == 1)
      break;
  }
  return text;
}

// What the way of `arm` adds to that of `base` at the largest batch.
std::string price_over(const Findings& findings, std::string_view arm, std::string_view base) {
  const auto batches = batches_of(findings, "nop", arm);
  if (batches.empty())
    return "";
  const auto batch = batches.back();
  const auto more =
      findings.difference(series_name("nop", arm, batch), series_name("nop", base, batch), "cpu");
  if (!more)
    return "";
  if (more->interval ? more->interval->low <= 0 : more->value <= 0)
    return "nothing that could be told";
  return quantity(more->value, "ns") +
         (more->interval ? " " + bounds(more->value, more->interval, "ns") : "");
}

std::string sentence(const Findings& findings, std::string_view action, std::string_view what) {
  const std::string ends = ends_of(findings, action, "ring");
  if (ends.empty())
    return "";
  std::string text = fmt::format("{} through a ring takes {}", what, ends);
  if (const Metric* call = findings.metric(series_name(action, "call", 0), "cpu"))
    text += fmt::format(", by a system call {}; the ring is cheaper {}, the loop {}",
                        with_interval(*call), against_calls(findings, action, "ring"),
                        against_calls(findings, action, "loop"));
  return text + ". ";
}

std::string answer(const Findings& findings) {
  std::string text = sentence(findings, "nop", "A NOP");
  const std::string driver = price_over(findings, "driver", "ring");
  const std::string loop = price_over(findings, "loop", "driver");
  if (!driver.empty() && !loop.empty())
    text += fmt::format("At the largest batch the driver adds {}; a coroutine in the loop adds {} "
                        "to that. ",
                        driver, loop);
  text += sentence(findings, "read", "Reading 4 KiB from the page cache");
  if (!text.empty())
    text.pop_back();
  else if (const Metric* call = findings.metric("read/call", "cpu"))
    text = fmt::format("Reading 4 KiB from the page cache by a system call takes {}; io_uring was "
                       "not measured.",
                       with_interval(*call));
  return text;
}

}  // namespace

extern constinit const Lab io_submit = {
    .name = "io_submit",
    .family = "io",
    .question = "what does it cost to ask the kernel for something through io_uring?",
    .shape = Shape::one,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 4, .full_s = 40},  // some 40 series
    .plan = plan_series,
    .answer = answer,
};

}  // namespace schedlab::labs
