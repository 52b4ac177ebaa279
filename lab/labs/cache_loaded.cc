// cache_loaded: how does the latency of memory grow when others use its bandwidth?
//
// Method   One CPU chases pointers through memory, a load at a time. On all others threads stream,
//          with a pause between blocks. The pause is swept, from so long that they hardly matter to
//          none. Each pause gives a point: the bytes a second that the threads moved, and the
//          nanoseconds a load of the chase took, both over the same time.
// Reading  The latency stays near that of an idle memory, and rises when queues form. The knee is
//          the point of the largest bandwidth whose latency is at most 1.2 times the idle one.
// Traps    A few threads cannot saturate a memory that many cores share: then there is no knee, and
//          the lab says so. The chase is told from the cache only by its size; a last-level cache
//          that the threads empty makes the chase slower, too, without any queue.

#include "lab/apparatus/cache_share.hh"
#include "lab/apparatus/loaded_chase.hh"
#include "lab/apparatus/start_line.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/validity.hh"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::LoadedChase;
using apparatus::Shared;

enum : std::size_t { latency, bandwidth, slowdown };

constexpr MetricInfo metrics[] = {
    {.name = "latency", .unit = "ns", .help = "one load of the chase", .interval = true},
    {.name = "bandwidth",
     .unit = "B/s",
     .better = Better::higher,
     .kind = Kind::rate,
     .help = "of all load threads meanwhile, by STREAM's count",
     .interval = true},
    {.name = "slowdown",
     .unit = "",
     .kind = Kind::ratio,
     .help = "the latency over that of the idle memory, in the same process"},
};

constexpr std::string_view load_words[] = {"read", "copy", "triad"};
constexpr std::string_view store_words[] = {"ordinary", "nontemporal"};
constexpr std::string_view page_words[] = {"base", "huge"};

constexpr std::int64_t most_bytes = std::int64_t{64} << 40;
constexpr double knee_slowdown = 1.2;

constexpr Param params[] = {
    {.name = "delay",
     .help = "nanoseconds that a load thread pauses between two blocks of 3 KiB, to whole PAUSEs",
     .list = true,
     .smoke = "0,1000",
     .quick = "0,50,100,200,400,800,1600,6400,20000",
     .full = "0,50,100,150,200,300,400,600,800,1200,1600,2400,3200,6400,20000",
     .max = 1'000'000},
    {.name = "load",
     .help = "what the load threads do",
     .kind = Param::Kind::word,
     .smoke = "read",
     .quick = "read",
     .full = "read",
     .words = load_words},
    {.name = "stores",
     .help = "their stores",
     .kind = Param::Kind::word,
     .smoke = "ordinary",
     .quick = "ordinary",
     .full = "ordinary",
     .words = store_words},
    {.name = "pages",
     .help = "4 KiB (base) or transparent huge pages, of chase and load",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "base",
     .quick = "base",
     .full = "base,huge",
     .words = page_words},
    {.name = "size",
     .help = "bytes that are chased, and that the load threads stream over together; 0: 2 x the "
             "last-level caches above them, and at least 64 MiB",
     .kind = Param::Kind::size,
     .smoke = "0",
     .quick = "0",
     .full = "0",
     .max = most_bytes},
    // Touching memory for the first time takes up to a second a GiB on a guest, in each process.
    {.name = "limit",
     .help = "with size 0: the most bytes for the chaser, and for each load thread",
     .kind = Param::Kind::size,
     .smoke = "4M",
     .quick = "192M",
     .full = "4G",
     .min = 1 << 20,
     .max = most_bytes},
};

constexpr std::uint64_t rule = 2;  // size to last-level caches
constexpr std::uint64_t least_size = 64 << 20;
constexpr std::uint64_t load_chunk = 1024;  // bytes of each array in a block

// Bytes of the chain, and of all load threads together.
struct Sizes {
  std::uint64_t chain = 0;
  std::uint64_t load = 0;
};

// By the rule for the caches above those that use the memory, cut to what each of them may take and
// to what memory allows.
Sizes sizes_for(const Plan& plan, std::span<const unsigned> cpus) {
  const auto wanted = static_cast<std::uint64_t>(plan.number("size"));
  if (wanted > 0)
    return {wanted, wanted};
  const auto limit = static_cast<std::uint64_t>(plan.number("limit"));
  const auto by_rule = [&](std::span<const unsigned> users) {
    const std::uint64_t caches = apparatus::last_level_sum(plan.topology(), users);
    return std::min(std::max(rule * caches, least_size), limit * users.size());
  };
  Sizes sizes = {by_rule(cpus.first(1)), by_rule(cpus.subspan(1))};
  while (sizes.chain > (1 << 20) && !apparatus::too_large(1, sizes.chain + sizes.load).empty()) {
    sizes.chain /= 2;
    sizes.load /= 2;
  }
  return sizes;
}

apparatus::LoadedChaseOptions options_for(const Plan& plan, const std::vector<unsigned>& cpus,
                                          const Sizes& sizes, std::string_view pages) {
  const auto& topology = plan.topology();
  apparatus::LoadedChaseOptions options;
  options.chaser = cpus.front();
  options.usable = topology.usable();
  options.size = sizes.chain;
  options.latency_metric = latency;
  options.bandwidth_metric = bandwidth;
  auto& memory = options.load.memory;
  for (std::size_t i = 1; i < cpus.size(); ++i) {
    const auto* cpu = topology.find(cpus[i]);
    memory.owners.push_back({cpus[i], topology.nodes().size() > 1 && cpu ? cpu->numa_os : -1});
  }
  memory.usable = topology.usable();
  memory.chunk = load_chunk;
  memory.chunks = std::max<std::uint64_t>(sizes.load / memory.owners.size() / 3 / load_chunk, 1);
  memory.pages = apparatus::pages_from(pages);
  options.load.kernel = apparatus::stream_kernel_from(plan.text("load"));
  options.load.stores = apparatus::stores_from(plan.text("stores"));
  return options;
}

// What the points of a sweep have in common.
struct Common {
  std::vector<unsigned> cpus;
  Sizes sizes;
  std::uint64_t caches = 0;  // above the chaser
  std::string pages;
  std::shared_ptr<Shared<LoadedChase>> chase;
  std::string skip;
};

void add_point(Plan& plan, const Common& common, std::optional<std::uint64_t> delay_ns) {
  const std::string delay = delay_ns ? std::to_string(*delay_ns) : "none";
  SeriesPlan series;
  series.name = delay_ns ? fmt::format("delay/{}/{}", delay, common.pages)
                         : fmt::format("idle/{}", common.pages);
  series.group = common.pages;
  series.params = {{"delay", delay},
                   {"pages", common.pages},
                   {"size", quantity(static_cast<double>(common.sizes.chain), "B")},
                   {"load_size", quantity(static_cast<double>(common.sizes.load), "B")}};
  if (common.caches > 0)
    series.params.emplace_back("size_to_caches",
                               fmt::format("{:.2f}", static_cast<double>(common.sizes.chain) /
                                                         static_cast<double>(common.caches)));
  series.relation = delay_ns ? plan.placement().text : "";
  series.cpus = delay_ns ? common.cpus : std::vector{common.cpus.front()};
  series.skip = common.skip;
  series.make = [chase = common.chase, delay_ns] {
    return apparatus::make_loaded_chase(chase->get(), delay_ns);
  };
  plan.add(std::move(series));
}

void plan_series(Plan& plan) {
  auto cpus = apparatus::cpus_apart(plan.topology(), plan.placement());
  // A sibling of the chaser would slow it down inside their core.
  std::erase_if(cpus, [&plan, chaser = cpus.front()](unsigned cpu) {
    return plan.topology().relation(chaser, cpu) == affinity::Relation::smt;
  });
  if (cpus.size() < 2)
    throw Unsupported("needs a second core, whose CPU loads the memory");
  Common common;
  common.cpus = cpus;
  common.caches = apparatus::last_level_sum(plan.topology(), std::span(cpus).first(1));
  common.sizes = sizes_for(plan, cpus);
  common.skip = apparatus::too_large(1, common.sizes.chain + common.sizes.load);
  if (!apparatus::has_stores(apparatus::stores_from(plan.text("stores"))))
    common.skip = "this build has non-temporal stores for x86-64 only";
  for (const auto& pages : plan.words("pages")) {
    common.pages = pages;
    common.chase = std::make_shared<Shared<LoadedChase>>(
        [options = options_for(plan, cpus, common.sizes, pages)] {
          return std::make_shared<LoadedChase>(options);
        });
    add_point(plan, common, std::nullopt);
    for (const auto delay : plan.numbers("delay"))
      add_point(plan, common, static_cast<std::uint64_t>(delay));
  }
}

// The sweep of one kind of page.
struct Sweep {
  const Series* idle = nullptr;
  std::vector<Series*> points;
};

Sweep sweep_of(LabResult& result, std::string_view pages) {
  Sweep sweep;
  for (auto& series : result.series) {
    if (param_text(series, "pages") != pages || !find_metric(series, "latency"))
      continue;
    if (find_metric(series, "bandwidth"))
      sweep.points.push_back(&series);
    else
      sweep.idle = &series;
  }
  return sweep;
}

void add_slowdowns(const Sweep& sweep) {
  const Metric& idle = *find_metric(*sweep.idle, "latency");
  for (Series* point : sweep.points) {
    std::vector<std::vector<double>> runs;
    for (const auto& run : find_metric(*point, "latency")->per_run) {
      const auto without = median_in(idle, run.process);
      auto& ratios = runs.emplace_back();
      if (run.median && without)
        ratios.push_back(*run.median / *without);
    }
    point->metrics.push_back(make_metric(metrics[slowdown], runs));
  }
}

// The knee of one process: among the points that are not much slower than the idle memory, the one
// of the largest bandwidth. Known only where a point of more bandwidth is much slower.
struct Knee {
  double bandwidth = 0;
  double latency = 0;
  double slowdown = 0;
};
std::optional<Knee> knee_of(const Sweep& sweep, std::uint32_t process) {
  const auto idle = median_in(*find_metric(*sweep.idle, "latency"), process);
  Knee knee;
  double slow_bandwidth = 0;
  for (const Series* point : sweep.points) {
    const auto took = median_in(*find_metric(*point, "latency"), process);
    const auto moved = median_in(*find_metric(*point, "bandwidth"), process);
    if (!idle || !took || !moved)
      continue;
    if (*took > knee_slowdown * *idle)
      slow_bandwidth = std::max(slow_bandwidth, *moved);
    else if (*moved > knee.bandwidth)
      knee = {*moved, *took, *took / *idle};
  }
  const bool bends = knee.bandwidth > 0 && slow_bandwidth > knee.bandwidth;
  return bends ? std::optional(knee) : std::nullopt;
}

// What was wrong with a point is wrong with the knee: one warning of each code.
void inherit_warnings(const Sweep& sweep, Series& knee) {
  std::vector<const Series*> parts(sweep.points.begin(), sweep.points.end());
  parts.push_back(sweep.idle);
  for (const Series* part : parts)
    for (const auto& warning : part->warnings)
      if (std::ranges::find(knee.warnings, warning.code, &Warning::code) == knee.warnings.end())
        knee.warnings.push_back(warning);
  knee.status = worst(knee.warnings);
}

Series knee_series(const Sweep& sweep, std::string_view pages) {
  Series series;
  series.name = fmt::format("knee/{}", pages);
  series.params = {{"delay", Value("knee")}, {"pages", Value(pages)}};
  series.placement = sweep.points.front()->placement;
  std::vector<std::vector<double>> latencies, bandwidths, slowdowns;
  std::size_t bent = 0;
  const auto& processes = find_metric(*sweep.idle, "latency")->per_run;
  for (const auto& run : processes) {
    const auto knee = knee_of(sweep, run.process);
    bent += knee ? 1 : 0;
    latencies.push_back(knee ? std::vector{knee->latency} : std::vector<double>{});
    bandwidths.push_back(knee ? std::vector{knee->bandwidth} : std::vector<double>{});
    slowdowns.push_back(knee ? std::vector{knee->slowdown} : std::vector<double>{});
  }
  if (2 * bent <= processes.size()) {
    const std::size_t threads = series.placement.cpus.size() - 1;
    series.status = Status::skipped;
    series.reason = fmt::format(
        "no knee: in {} of {} processes the latency stayed within {} x idle;"
        " {} load thread{} cannot saturate this memory",
        processes.size() - bent, processes.size(), knee_slowdown, threads, threads == 1 ? "" : "s");
    return series;
  }
  series.metrics = {make_metric(metrics[latency], latencies),
                    make_metric(metrics[bandwidth], bandwidths),
                    make_metric(metrics[slowdown], slowdowns)};
  inherit_warnings(sweep, series);
  return series;
}

void conclude(const Plan& plan, LabResult& result) {
  const Series* any = nullptr;
  for (const auto& series : result.series)
    if (!series.metrics.empty() && !param_text(series, "size_to_caches").empty())
      any = &series;  // the size is the same for all
  if (any && plan.preset() != Preset::smoke) {
    const double times = std::stod(param_text(*any, "size_to_caches"));
    if (times < 0.95 * rule)
      result.warnings.push_back(apparatus::below_rule(plan.lab().name, "the chain",
                                                      param_text(*any, "size"), times, rule));
  }
  std::vector<Series> knees;
  for (const auto& pages : plan.words("pages")) {
    const Sweep sweep = sweep_of(result, pages);
    if (!sweep.idle || sweep.points.empty())
      continue;
    add_slowdowns(sweep);
    knees.push_back(knee_series(sweep, pages));
  }
  for (auto& knee : knees)
    result.series.push_back(std::move(knee));
}

std::string answer(const Findings& findings) {
  const Series* idle = nullptr;
  const Series* busiest = nullptr;
  const Series* knee = nullptr;
  for (const auto& series : findings.result().series) {
    const Metric* moved = find_metric(series, "bandwidth");
    if (!idle && series.name.starts_with("idle/") && find_metric(series, "latency"))
      idle = &series;
    if (!idle || param_text(series, "pages") != param_text(*idle, "pages"))
      continue;
    if (series.name.starts_with("knee/"))
      knee = &series;
    else if (moved && moved->median &&
             (!busiest || *moved->median > *find_metric(*busiest, "bandwidth")->median))
      busiest = &series;
  }
  if (!idle || !busiest)
    return "No sweep could be measured.";
  std::string text =
      fmt::format("An idle memory answers in {}, one from which {} thread{} take{} {} in {}.",
                  with_interval(*find_metric(*idle, "latency")), busiest->placement.cpus.size() - 1,
                  busiest->placement.cpus.size() == 2 ? "" : "s",
                  busiest->placement.cpus.size() == 2 ? "s" : "",
                  with_interval(*find_metric(*busiest, "bandwidth")),
                  with_interval(*find_metric(*busiest, "latency")));
  const Metric* bend = knee ? find_metric(*knee, "bandwidth") : nullptr;
  if (bend)
    text += fmt::format(" The knee lies at {}.", with_interval(*bend));
  else if (knee && knee->status == Status::skipped)
    text += fmt::format(" There is {}.", knee->reason);
  return text;
}

}  // namespace

extern constinit const Lab cache_loaded = {
    .name = "cache_loaded",
    .family = "cache",
    .question = "how does the latency of memory grow when others use its bandwidth?",
    .shape = Shape::workers,
    .min_cpus = 2,
    .params = params,
    .metrics = metrics,
    // Ten points, and memory that is touched for the first time in each of six processes.
    .budget = {.quick_s = 4, .full_s = 60},
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
};

}  // namespace schedlab::labs
