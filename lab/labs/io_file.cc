// io_file: which way of reading a file is the fastest, and from how many requests at a time on?
//
// Method   One pinned task keeps 1 to 128 requests for blocks of 4 KiB under way, on a preallocated
//          and written file: by preadv2, by so many blocking threads, through the epoll driver with
//          its threads, through io_uring (the library's driver; with registered buffers and file;
//          with a polling thread of the kernel), all of them on that one CPU but for the polling
//          thread. The file is in the page cache, dropped from it, or read around it (O_DIRECT).
// Reading  Where a read is short (cached), the way itself is what it costs; where it waits for a
//          device, one at a time gets one device latency each, and what counts is how many can be
//          under way and how much CPU each takes. `cpu` has all tasks, the kernel's workers too.
// Traps    A file system may take O_DIRECT and read from the cache all the same (tmpfs): `device`
//          says how many bytes came from a device for each byte read. Behind a virtual disk the
//          host may cache. mincore proves what was cached before each sample.

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
#include <sys/uio.h>

#include <algorithm>
#include <bit>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::Action;
using apparatus::BlockIoOptions;
using apparatus::CacheState;

enum : std::size_t { rate, cpu_time, median_latency, late, calls, helpers, device };

constexpr MetricInfo metrics[] = {
    {.name = "rate",
     .unit = "1/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "requests done in a second",
     .interval = true},
    {.name = "cpu",
     .unit = "ns",
     .help = "CPU time of one request, of all tasks, the kernel's threads included",
     .interval = true},
    {.name = "p50", .unit = "ns", .help = "from asking to having, the median of a sample"},
    {.name = "p99",
     .unit = "ns",
     .help = "likewise the 99th percentile, where a sample has 299 requests that were timed"},
    {.name = "calls", .unit = "", .kind = Kind::count, .help = "system calls for one request"},
    {.name = "helpers",
     .unit = "ns",
     .help = "of cpu, that of other threads than the one that asks",
     .show = false},
    {.name = "device",
     .unit = "",
     .better = Better::none,
     .kind = Kind::ratio,
     .help = "bytes from a device for each byte read",
     .show = false},
};

constexpr std::string_view arm_words[] = {"sync",     "nowait", "threads", "epoll",
                                          "io_uring", "fixed",  "sqpoll"};
constexpr std::string_view all_arms = "sync,nowait,threads,epoll,io_uring,fixed,sqpoll";
constexpr std::string_view mode_words[] = {"cached", "cold", "direct"};
constexpr std::string_view order_words[] = {"random", "sequential"};
constexpr std::string_view action_words[] = {"read", "write"};

constexpr Param params[] = {
    {.name = "arm",
     .help = "how",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = all_arms,
     .quick = all_arms,
     .full = all_arms,
     .words = arm_words},
    {.name = "mode",
     .help = "cached: from the page cache; cold: through it; direct: around it (O_DIRECT)",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "cached,direct",
     .quick = "cached,direct",
     .full = "cached,cold,direct",
     .words = mode_words},
    {.name = "order",
     .help = "of the blocks",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "random",
     .quick = "random",
     .full = "random,sequential",
     .words = order_words},
    {.name = "action",
     .help = "what is done with them",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "read",
     .quick = "read",
     .full = "read,write",
     .words = action_words},
    {.name = "depth",
     .help = "requests under way at a time",
     .list = true,
     .smoke = "1,8",
     .quick = "1,4,32,128",
     .full = "1,4,16,64,128",
     .min = 1,
     .max = 1024},
    {.name = "size",
     .help = "bytes of the file, a power of two",
     .kind = Param::Kind::size,
     .smoke = "4M",
     .quick = "64M",
     .full = "256M",
     .min = 1 << 20,
     .max = std::int64_t{1} << 40},
    {.name = "dir",
     .help = "folder of the file; auto: $TMPDIR, this folder, /var/tmp, /tmp, with O_DIRECT first",
     .kind = Param::Kind::text,
     .smoke = "auto",
     .quick = "auto",
     .full = "auto"},
};

constexpr unsigned timed_every_cached = 8;  // reading the clock twice would be a tenth of a read

// One point of the grid, less how and how many.
struct Cell {
  std::string mode;
  std::string order;
  std::string action;
  [[nodiscard]] std::string name() const { return fmt::format("{}/{}/{}", mode, order, action); }
};

bool is_one_at_a_time(std::string_view arm) {
  return arm == "sync" || arm == "nowait";
}

std::string series_name(const std::string& cell, std::string_view arm, std::int64_t depth) {
  return is_one_at_a_time(arm) ? fmt::format("{}/{}", cell, arm)
                               : fmt::format("{}/{}/{}", cell, arm, depth);
}

struct Place {
  unsigned cpu = 0;
  std::optional<unsigned> polling;
  affinity::CpuSet usable;
  std::shared_ptr<apparatus::SharedFile> file;
  std::string no_room;  // why there can be no such file, or empty
  std::string storage;
};

BlockIoOptions options_for(const Place& place, const Cell& cell, unsigned depth) {
  BlockIoOptions options;
  options.file = place.file->get();
  options.action = cell.action == "read" ? Action::read : Action::write;
  options.direct = cell.mode == "direct";
  options.random = cell.order == "random";
  options.cache = cell.mode == "cached" ? CacheState::cached : CacheState::dropped;
  options.depth = depth;
  options.timed_every = cell.mode == "cached" ? timed_every_cached : 1;
  return options;
}

std::unique_ptr<apparatus::BlockIo> make_io(const Place& place, const BlockIoOptions& options,
                                            const std::string& arm) {
  using iouring::DriverChoice;
  if (arm == "sync")
    return apparatus::make_call_io(options, 0);
  if (arm == "nowait")
    return apparatus::make_call_io(options, RWF_NOWAIT);
  if (arm == "threads")
    return apparatus::make_thread_io(options, place.cpu);
  if (arm == "sqpoll")
    return apparatus::make_ring_io(options, {.registered = true, .polling_cpu = place.polling});
  if (arm == "epoll")
    return apparatus::make_driver_io(options, DriverChoice::epoll, false);
  return apparatus::make_driver_io(options, DriverChoice::io_uring, arm == "fixed");
}

std::unique_ptr<Subject> make_subject(const Place& place, const Cell& cell, const std::string& arm,
                                      unsigned depth) {
  apparatus::stand_on(place.cpu, place.usable);
  const BlockIoOptions options = options_for(place, cell, depth);
  if (cell.mode == "cold") {
    place.file->get()->bring(options.cache);
    if (place.file->get()->resident() > 0)
      throw Unsupported("the page cache keeps the file: it cannot be dropped there");
  }
  apparatus::BlockIoSeries series;
  series.metrics = {.rate = rate,
                    .cpu = cpu_time,
                    .helpers = helpers,
                    .p50 = median_latency,
                    .p99 = late,
                    .calls = calls,
                    .device = device};
  series.cpu = place.cpu;
  series.usable = place.usable;
  series.file = place.file->get();
  series.cache = options.cache;
  series.around_cache = options.direct;
  series.keeps_cpu_busy = cell.mode == "cached" && cell.action == "read" && arm != "sqpoll";
  series.io = make_io(place, options, arm);
  return apparatus::make_block_io_subject(std::move(series));
}

// Why an arm is not measured in a cell, or empty.
std::string why_not(const Plan& plan, const Place& place, const Cell& cell,
                    const std::string& arm) {
  const auto [ring, epoll] = apparatus::driver_arms(plan);
  if (!place.no_room.empty())
    return place.no_room;
  if (arm == "nowait" && (cell.mode != "cached" || cell.action != "read"))
    return "RWF_NOWAIT reads only what is cached";
  if (arm == "epoll")
    return epoll.skip;
  if (is_one_at_a_time(arm) || arm == "threads")
    return "";
  if (ring.skip.empty() && arm == "sqpoll" && !place.polling)
    return "needs a second CPU for the kernel's polling thread";
  return ring.skip;
}

void add_series(Plan& plan, const Place& place, const Cell& cell, const std::string& arm,
                std::int64_t depth) {
  SeriesPlan series;
  series.name = series_name(cell.name(), arm, depth);
  if (plan.find(series.name))
    return;  // one at a time has no depth
  series.group = cell.name();
  series.params = {{"mode", cell.mode},
                   {"order", cell.order},
                   {"action", cell.action},
                   {"arm", arm},
                   {"depth", std::to_string(is_one_at_a_time(arm) ? 1 : depth)},
                   {"storage", place.storage}};
  series.relation = "same-pu";
  series.cpus = {place.cpu};
  if (!is_one_at_a_time(arm) && arm != "threads")
    series.driver = arm == "epoll" ? "epoll" : "io_uring";
  if (arm == "sqpoll" && place.polling) {
    series.relation = name(plan.topology().relation(place.cpu, *place.polling));
    series.params.emplace_back("polling", std::to_string(*place.polling));
  }
  series.skip = why_not(plan, place, cell, arm);
  series.make = [place, cell, arm, depth] {
    return make_subject(place, cell, arm, is_one_at_a_time(arm) ? 1 : static_cast<unsigned>(depth));
  };
  plan.add(std::move(series));
}

void plan_series(Plan& plan) {
  const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
  if (ones.chosen.empty())
    return;
  Place place{.cpu = ones.chosen.front(),
              .polling = {},
              .usable = plan.topology().usable(),
              .file = std::make_shared<apparatus::SharedFile>(),
              .no_room = {},
              .storage = {}};
  place.polling = apparatus::polling_cpu_for(plan.topology(), place.cpu);
  apparatus::SharedFile& file = *place.file;
  file.size = static_cast<std::uint64_t>(plan.number("size"));
  if (!std::has_single_bit(file.size))
    throw BadInput(fmt::format("io_file.size: {} is not a power of two", file.size));
  file.folder = apparatus::data_folder(plan.text("dir"), "io_file.dir");
  place.no_room = apparatus::no_room(file.folder, file.size);
  place.storage = apparatus::storage_of(file.folder);
  for (const auto& mode : plan.words("mode"))
    for (const auto& order : plan.words("order"))
      for (const auto& action : plan.words("action"))
        for (const auto& arm : plan.words("arm"))
          for (const auto depth : plan.numbers("depth"))
            add_series(plan, place, {mode, order, action}, arm, depth);
}

// Did reads around the page cache come from a device?
std::string how_direct(const Series& series) {
  const Metric* const from = find_metric(series, "device");
  if (!from || !from->median)
    return "unknown";
  return *from->median > 0.9 ? "real" : "not real";
}

// Says in the params of what was read with O_DIRECT whether that was so.
void conclude(const Plan&, LabResult& result) {
  for (auto& series : result.series)
    if (param_text(series, "mode") == "direct" && param_text(series, "action") == "read" &&
        find_metric(series, "rate"))
      series.params.emplace_back("direct", Value(how_direct(series)));
}

constexpr std::string_view cached_reads = "cached/random/read";
constexpr std::string_view direct_reads = "direct/random/read";

// The depths at which an arm was measured, ascending.
std::vector<std::int64_t> depths_of(const Findings& findings, const std::string& cell,
                                    std::string_view arm) {
  const std::string head = fmt::format("{}/{}/", cell, arm);
  return apparatus::measured_numbers(findings, [&](const Series& series) {
    return find_metric(series, "rate") ? apparatus::number_after(head, series.name) : std::nullopt;
  });
}

// From which depth on `arm` beats `reference` at the same depth (one at a time: at depth 1). Cached
// reads never wait, so that on one CPU their rate is one over their CPU time, and that is not
// blurred by what else runs there.
std::optional<apparatus::Crossover> crossover(const Findings& findings, const std::string& cell,
                                              std::string_view arm, std::string_view reference) {
  std::vector<apparatus::Rung> rungs;
  for (const auto depth : depths_of(findings, cell, arm))
    rungs.push_back({static_cast<double>(depth), series_name(cell, arm, depth),
                     series_name(cell, reference, depth)});
  return cell == cached_reads ? apparatus::find_crossover(findings, rungs, "cpu", Better::lower)
                              : apparatus::find_crossover(findings, rungs, "rate", Better::higher);
}

// The arm and depth with the most requests a second.
const Series* fastest(const Findings& findings, const std::string& cell) {
  const Series* best = nullptr;
  double most = 0;
  for (const auto& series : findings.result().series)
    if (const Metric* found = find_metric(series, "rate");
        series.name.starts_with(cell + "/") && found && found->median && *found->median > most) {
      best = &series;
      most = *found->median;
    }
  return best;
}

// What of a cell is worth a sentence.
std::string sentence(const Findings& findings, const std::string& cell, const std::string& what) {
  const Series* best = fastest(findings, cell);
  if (!best)
    return "";
  std::string text = what;
  if (const Metric* one = findings.metric(cell + "/sync", "rate"))
    text += fmt::format(": {} by preadv2 one at a time,", with_interval(*one));
  else
    text += ":";
  text += fmt::format(" at most {} ({})", with_interval(*find_metric(*best, "rate")),
                      best->name.substr(cell.size() + 1));
  for (const auto reference : {"sync", "threads"})
    if (const auto found = crossover(findings, cell, "io_uring", reference);
        found && findings.series(series_name(cell, reference, 1)))
      text += fmt::format("; io_uring beats {} {}",
                          reference == std::string_view("sync") ? "preadv2" : reference,
                          apparatus::text_of(*found, "depth"));
  return text + ". ";
}

// Whether O_DIRECT is what it says.
std::string about_direct(const Findings& findings) {
  for (const auto& series : findings.result().series) {
    const std::string how = param_text(series, "direct");
    if (how.empty())
      continue;
    const std::string storage = param_text(series, "storage");
    if (how == "unknown")
      return fmt::format("Whether O_DIRECT is real on {} cannot be told: the kernel counts no "
                         "bytes.",
                         storage);
    const Metric* from = find_metric(series, "device");
    return fmt::format("O_DIRECT is {} on {}: {:.2f} bytes came from a device for each byte read.",
                       how, storage, *from->median);
  }
  return "";
}

std::string answer(const Findings& findings) {
  std::string text =
      sentence(findings, std::string(cached_reads), "Random 4 KiB reads from the page cache") +
      sentence(findings, std::string(direct_reads), "Around it (O_DIRECT)") +
      about_direct(findings);
  if (text.empty())
    for (const auto& series : findings.result().series)
      if (const Metric* found = find_metric(series, "rate"); found && found->median && text.empty())
        text = fmt::format("{}: {}.", series.name, with_interval(*found));
  return text.empty() ? "Nothing could be measured." : text;
}

// How two arms compare at one depth.
struct Comparison {
  std::int64_t depth;
  Estimate ratio;
};
std::vector<Comparison> compare(const Findings& findings, std::string_view cell,
                                std::string_view arm, std::string_view reference,
                                std::string_view metric) {
  std::vector<Comparison> all;
  const std::string in(cell);
  for (const auto depth : depths_of(findings, in, arm))
    if (const auto ratio =
            findings.ratio(series_name(in, arm, depth), series_name(in, reference, depth), metric);
        ratio && ratio->interval)
      all.push_back({depth, *ratio});
  return all;
}

std::string list(const std::vector<Comparison>& all) {
  std::string text;
  for (const auto& [depth, ratio] : all)
    text += fmt::format("{}{} at depth {}", text.empty() ? "" : ", ", percent(ratio), depth);
  return text;
}

// C92: threads are best for fast input and output, because they switch less.
Judgement judge_threads_for_fast(const Findings& findings) {
  Judgement judgement;
  const std::string cell(cached_reads);
  const auto against_ring = compare(findings, cell, "threads", "io_uring", "cpu");
  const auto against_one = compare(findings, cell, "threads", "sync", "cpu");
  const Metric* latency = findings.metric(cell + "/sync", "p50");
  if (against_ring.empty() || against_one.empty() || !latency) {
    judgement.needs = "io_file with 6 processes or more, cached, with sync, threads and io_uring";
    return judgement;
  }
  judgement.evidence = fmt::format(
      "4 KiB from the page cache, {} a read: in blocking threads it takes {} of the CPU time that "
      "it takes through io_uring, and {} of that in one thread alone",
      with_interval(*latency), list(against_ring), list(against_one));
  const auto loses = [](const Comparison& one) { return one.ratio.interval->low > 1; };
  const auto wins = [](const Comparison& one) { return one.ratio.interval->high < 1; };
  if (std::ranges::any_of(against_ring, loses))
    judgement.verdict = Verdict::refuted;
  else if (std::ranges::all_of(against_ring, wins))
    judgement.verdict = Verdict::confirmed;
  else
    judgement.needs = "a quieter machine or more processes";
  return judgement;
}

// C72, of which reads from a device decide a part: the overhead of asynchronous code is minimal.
Judgement judge_minimal_overhead(const Findings& findings) {
  Judgement judgement;
  const auto cpu = compare(findings, direct_reads, "io_uring", "threads", "cpu");
  if (cpu.empty()) {
    judgement.needs = "io_file with 6 processes or more, direct, with threads and io_uring";
    return judgement;
  }
  judgement.evidence = fmt::format("a read from the device through io_uring takes {} of the CPU "
                                   "time of one by a blocking thread",
                                   list(cpu));
  const bool dearer =
      std::ranges::any_of(cpu, [](const Comparison& one) { return one.ratio.interval->low > 1; });
  if (dearer)
    judgement.verdict = Verdict::refuted;
  else
    judgement.needs = "spawn_cost, spawn_memory and switch_cost for creation, memory and switches";
  return judgement;
}

constexpr ClaimInfo claims[] = {
    {.id = "C72",
     .text = "Least overhead has asynchronous code: to read from a device",
     .source = "S3",
     .judge = judge_minimal_overhead},
    {.id = "C92",
     .text = "Threads are best for fast input and output, because they switch less",
     .source = "S4",
     .judge = judge_threads_for_fast},
};

}  // namespace

extern constinit const Lab io_file = {
    .name = "io_file",
    .family = "io",
    .question = "which way of reading a file is the fastest, and from what depth on?",
    .shape = Shape::one,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 6, .full_s = 240},  // some 40 series, or 300, and a file to write
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
    .claims = claims,
};

}  // namespace schedlab::labs
