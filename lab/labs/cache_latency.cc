// cache_latency: what does a load cost in each cache and in memory, and how large are the caches?
//
// Method   A dependent chase over one random cycle of all lines of a piece of memory; its size is
//          swept across the caches that hwloc reports, on base pages and on huge pages. Where the
//          latencies of neighbouring sizes differ by more than a third, sizes are added between.
// Reading  Each level of the staircase is a cache, each edge its capacity. Edges are found by
//          change points of the logarithm of the latency, in each process for itself, and stand
//          beside what hwloc says. On base pages a TLB has edges too: what huge pages do not show
//          is a TLB's.
// Traps    Time is wall time, from the TSC: with turbo the same load takes as many cycles and fewer
//          nanoseconds. Of base pages some share cache sets (page colour), which brings an edge
//          forward and rounds it. A last-level cache that others use is smaller than it is. The
//          prefetchers fetch whole pairs of lines: in page-local order, where the neighbour is soon
//          wanted, that would halve the latency, so that order takes one line of each pair.

#include "lab/apparatus/cache_sizes.hh"
#include "lab/apparatus/chase.hh"
#include "lab/apparatus/staircase.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/validity.hh"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::CacheLevel;
using apparatus::Pages;
using apparatus::Pattern;
using apparatus::size_word;
using apparatus::Sizes;

enum : std::size_t { latency, edge };

constexpr MetricInfo metrics[] = {
    {.name = "latency", .unit = "ns", .help = "one load, dependent on the last", .interval = true},
    {.name = "edge",
     .unit = "B",
     .better = Better::none,
     .kind = Kind::size,
     .help = "bytes of lines at which half of the climb to the next level is done",
     .interval = true},
};

constexpr std::string_view page_words[] = {"base", "huge"};
constexpr std::string_view pattern_words[] = {"random", "page-local", "long", "flushed"};

constexpr Param params[] = {
    {.name = "size",
     .help = "bytes walked; 0: around the caches of the CPU, and past them",
     .kind = Param::Kind::size,
     .list = true,
     .smoke = "16K,256K",
     .quick = "0",
     .full = "0",
     .max = std::int64_t{1} << 40},
    {.name = "stride",
     .help = "bytes from one place to the next, a power of two; one line of each is used",
     .kind = Param::Kind::size,
     .smoke = "64",
     .quick = "64",
     .full = "64",
     .min = cache_line,
     .max = 1 << 20},
    {.name = "pages",
     .help = "kind of memory pages",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "base,huge",
     .quick = "base,huge",
     .full = "base,huge",
     .words = page_words},
    {.name = "pattern",
     .help = "order of the lines",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "random,page-local,long",
     .quick = "random,page-local,flushed",
     .full = "random,page-local,long,flushed",
     .words = pattern_words},
};

// Faulting in and writing a pattern of this size takes a tenth of a second, in each process.
constexpr std::uint64_t affordable = std::uint64_t{256} << 20;

// `pattern` is one of pattern_words.
Sizes sizes_for(const Plan& plan, unsigned cpu, std::string_view pattern) {
  const auto given = plan.numbers("size");
  const bool of_machine = std::ranges::find(given, 0) != given.end();
  const auto caches = apparatus::caches_of(plan.topology(), cpu);
  apparatus::SweepOptions sweep;
  sweep.coarse = plan.preset() != Preset::full;
  if (sweep.coarse || pattern != "random")
    sweep.limit = affordable;
  Sizes sizes;
  if (of_machine && pattern == "random")
    sizes = apparatus::sweep_sizes(caches, sweep);
  else if (of_machine && pattern == "flushed")
    sizes = {affordable};
  else if (of_machine)
    sizes = apparatus::level_sizes(caches, sweep);
  for (const auto size : given)
    if (size > 0 && (pattern == "random" || !of_machine))
      sizes.push_back(static_cast<std::uint64_t>(size));
  std::ranges::sort(sizes);
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return sizes;
}

// Where the lab runs: a CPU, and what precedes the names of its series if there are several.
struct Spot {
  unsigned cpu = 0;
  std::string prefix;
};

std::vector<Spot> spots_of(const Plan& plan) {
  std::vector<Spot> spots;
  const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
  for (const unsigned cpu : ones.chosen)
    spots.push_back({cpu, ones.chosen.size() > 1 ? fmt::format("P#{}/", cpu) : ""});
  return spots;
}

std::string series_name(const Spot& spot, std::string_view pages, std::string_view pattern,
                        std::uint64_t size) {
  return fmt::format("{}{}/{}/{}", spot.prefix, pages, pattern, size_word(size));
}

apparatus::ChaseOptions options_for(const Plan& plan, std::string_view pattern) {
  apparatus::ChaseOptions options;
  options.pattern = pattern == "flushed" ? Pattern::random : apparatus::pattern_from(pattern);
  options.stride = static_cast<std::uint64_t>(plan.number("stride"));
  if (options.pattern == Pattern::page_local)
    options.stride = std::max<std::uint64_t>(options.stride, line_pair);
  return options;
}

// Why a chase cannot be had here, or empty.
std::string why_not(const apparatus::ChaseSubject& subject, std::string_view too_large) {
  if (subject.flushed && !apparatus::can_flush())
    return "a process cannot flush cache lines on this architecture";
  if (subject.flushed && subject.size / subject.chase.stride < apparatus::least_flushed)
    return fmt::format("flushed needs {} lines or more, so that none comes twice in a sample",
                       apparatus::least_flushed);
  return std::string(too_large);
}

void add_series(Plan& plan, const Spot& spot, Pages pages, std::string_view pattern,
                const apparatus::ChaseSubject& subject, std::string_view too_large) {
  SeriesPlan series;
  series.name = series_name(spot, to_text(pages), pattern, subject.size);
  // Alone, so that its lines stay in the caches from one sample to the next.
  series.group = series.name;
  series.params = {{"pages", std::string(to_text(pages))},
                   {"pattern", std::string(pattern)},
                   {"size", size_word(subject.size)}};
  series.relation = "same-pu";
  series.cpus = {spot.cpu};
  series.skip = why_not(subject, too_large);
  series.set_up_s = apparatus::chase_set_up_s(subject);
  series.make = [subject] { return apparatus::make_chase(subject); };
  plan.add(std::move(series));
}

// The sizes of all patterns that are too large, and why; asked of the kernel for the largest first,
// because mostly that fits.
std::map<std::uint64_t, std::string> too_large_sizes(const Plan& plan, const Spot& spot,
                                                     std::size_t areas) {
  std::set<std::uint64_t, std::greater<>> sizes;
  for (const auto& pattern : plan.words("pattern"))
    for (const auto size : sizes_for(plan, spot.cpu, pattern))
      sizes.insert(size);
  std::map<std::uint64_t, std::string> refused;
  for (const auto size : sizes) {
    std::string why = apparatus::too_large(areas, size);
    if (why.empty())
      break;
    refused.emplace(size, std::move(why));
  }
  return refused;
}

// All sizes and patterns on one kind of pages; they use one piece of memory in turns, of which
// there will be `areas`.
void add_pages(Plan& plan, const Spot& spot, Pages pages, std::size_t areas) {
  const auto refused = too_large_sizes(plan, spot, areas);
  apparatus::AreaOptions memory;
  memory.pages = pages;
  for (const auto& pattern : plan.words("pattern"))
    for (const auto size : sizes_for(plan, spot.cpu, pattern))
      if (!refused.contains(size))
        memory.size = std::max(memory.size, size);
  apparatus::ChaseSubject subject;
  subject.loop = {spot.cpu, plan.topology().usable(), latency};
  subject.area = std::make_shared<apparatus::SharedArea>(memory);
  for (const auto& pattern : plan.words("pattern")) {
    subject.chase = options_for(plan, pattern);
    subject.flushed = pattern == "flushed";
    for (const auto size : sizes_for(plan, spot.cpu, pattern)) {
      if (size < 2 * subject.chase.stride)
        throw BadInput(fmt::format("cache_latency.size: {} is less than two strides of {} bytes",
                                   size_word(size), subject.chase.stride));
      subject.size = size;
      const auto why = refused.find(size);
      add_series(plan, spot, pages, pattern, subject, why == refused.end() ? "" : why->second);
    }
  }
}

void plan_series(Plan& plan) {
  if (!std::has_single_bit(static_cast<std::uint64_t>(plan.number("stride"))))
    throw BadInput("cache_latency.stride: a power of two is needed");
  const auto spots = spots_of(plan);
  const auto kinds = plan.words("pages");
  for (const auto& spot : spots)
    for (const auto& pages : kinds)
      add_pages(plan, spot, apparatus::pages_from(pages), spots.size() * kinds.size());
}

// The median latency of a series in a reply, or 0.
double seen(const Reply& reply, const std::string& name) {
  const auto found = std::ranges::find(reply.series, name, &RawSeries::name);
  if (found == reply.series.end() || found->samples.empty())
    return 0;
  std::vector<double> values;
  for (const auto& sample : found->samples)
    values.push_back(sample.values[latency]);
  return median(values);
}

std::map<std::string, std::string> refine(const Plan& plan, const Reply& reply) {
  const bool full = plan.preset() == Preset::full;
  Sizes added;
  for (const auto& spot : spots_of(plan))
    for (const auto& pages : plan.words("pages")) {
      const auto sizes = sizes_for(plan, spot.cpu, "random");
      std::vector<double> latencies;
      for (const auto size : sizes)
        latencies.push_back(seen(reply, series_name(spot, pages, "random", size)));
      std::size_t left = full ? 12 : 3;
      for (const auto size : apparatus::steep_middles(sizes, latencies))
        if (left > 0 && (full || size < apparatus::dear)) {
          added.push_back(size);
          --left;
        }
    }
  std::ranges::sort(added);
  added.erase(std::unique(added.begin(), added.end()), added.end());
  std::string text = plan.text("size");
  for (const auto size : added)
    text += fmt::format(",{}", size);
  return {{"size", text}};
}

constexpr double agreement = 0.25;

// The random chase on one kind of pages.
struct Curve {
  Spot spot;
  std::string pages;
  apparatus::Staircase staircase;
  std::size_t disturbed = 0;  // of its sizes
};

constexpr double too_disturbed = 0.25;  // a share

Curve curve_of(const Plan& plan, const Findings& findings, const Spot& spot,
               const std::string& pages) {
  Curve curve{spot, pages, {}};
  const double share = static_cast<double>(cache_line) / static_cast<double>(plan.number("stride"));
  for (const auto size : sizes_for(plan, spot.cpu, "random")) {
    const std::string name = series_name(spot, pages, "random", size);
    const Metric* metric = findings.metric(name, "latency");
    if (!metric || !metric->median)
      continue;
    curve.staircase.sizes.push_back(static_cast<double>(size) * share);
    curve.staircase.latencies.push_back(metric);
    curve.disturbed += findings.series(name)->status != Status::ok;
  }
  return curve;
}

std::string size_name(double size) {
  return quantity(size, "B");
}

Series blank(const Plan& plan, const Curve& curve, std::string_view heading,
             const std::string& level) {
  Series series;
  series.name = fmt::format("{}{}/{}/{}", curve.spot.prefix, heading, curve.pages, level);
  series.params = {{"pages", Value(curve.pages)}, {"level", Value(level)}};
  series.placement.relation = heading;
  series.placement.cpus = {curve.spot.cpu};
  if (const auto* cpu = plan.topology().find(curve.spot.cpu))
    series.placement.logical = {cpu->logical};
  return series;
}

std::string why_smaller(const Curve& curve, bool last) {
  if (static_cast<double>(curve.disturbed) >
      too_disturbed * static_cast<double>(curve.staircase.sizes.size()))
    return fmt::format("{} of {} sizes were disturbed, which hides edges", curve.disturbed,
                       curve.staircase.sizes.size());
  if (last)
    return "a cache shared with other CPUs, or other guests of the host, is not all ours";
  return curve.pages == "base" ? "base pages share cache sets by chance (page colour)"
                               : "in a virtual machine huge pages may lie on small ones of the "
                                 "host, which share cache sets by chance";
}

void compare_with_hwloc(const Curve& curve, const CacheLevel& cache, bool last, Series& series) {
  const auto size = static_cast<double>(cache.size);
  const double seen_at = *series.metrics[0].median;
  const bool agrees = std::abs(seen_at / size - 1) <= agreement;
  series.params.emplace_back("agrees", Value(agrees ? "yes" : "no"));
  series.checks.push_back(
      {"edge within 25 % of the size that hwloc reports", size, seen_at, agrees});
  if (agrees)
    return;
  series.warnings.push_back(make_warning(
      Code::topology, {{"hwloc", size}, {"edge", seen_at}}, {},
      fmt::format("{}: {} of lines fit on {} pages, hwloc says {}; {}", cache.name,
                  size_name(seen_at), curve.pages, size_name(size),
                  seen_at < size ? why_smaller(curve, last)
                                 : "a cache that replaces at random, or prefetching, has a late "
                                   "edge")));
}

// A cache whose edge was not seen.
void no_edge(const Curve& curve, const CacheLevel& cache, bool last, Series& series) {
  const auto size = static_cast<double>(cache.size);
  const double end = curve.staircase.sizes.back();
  series.status = Status::skipped;
  if (end < apparatus::edge_of_cache * size) {
    series.reason = fmt::format("the sizes end at {}, too early for the edge of an {} of {}",
                                size_name(end), cache.name, size_name(size));
    return;
  }
  series.reason = fmt::format("no edge within a factor of two of {}; {}", size_name(size),
                              why_smaller(curve, last));
  series.warnings.push_back(make_warning(Code::topology, {{"hwloc", size}}, {},
                                         fmt::format("{}: {}", cache.name, series.reason)));
}

// The edge of each cache that hwloc knows; those that are found are noted in `known`.
void add_cache_edges(const Plan& plan, const Curve& curve, const std::vector<SharedRise>& rises,
                     std::set<const SharedRise*>& known, LabResult& result) {
  const auto caches = apparatus::caches_of(plan.topology(), curve.spot.cpu);
  for (const auto& cache : caches) {
    Series series = blank(plan, curve, "edges", cache.name);
    series.params.emplace_back("hwloc", Value(size_name(static_cast<double>(cache.size))));
    const SharedRise* nearest = apparatus::edge_near(rises, static_cast<double>(cache.size));
    const Metric metric =
        nearest ? make_metric(metrics[edge], apparatus::places_of(*nearest)) : Metric{};
    const bool last = &cache == &caches.back();
    if (metric.median && known.insert(nearest).second) {
      series.metrics.push_back(metric);
      compare_with_hwloc(curve, cache, last, series);
    } else {
      no_edge(curve, cache, last, series);
    }
    result.series.push_back(std::move(series));
  }
}

void add_edges(const Plan& plan, const Curve& curve, LabResult& result) {
  const auto rises = apparatus::edges_of(curve.staircase);
  std::set<const SharedRise*> known;
  add_cache_edges(plan, curve, rises, known, result);
  for (const auto& shared : rises) {
    const Metric metric = make_metric(metrics[edge], apparatus::places_of(shared));
    if (known.contains(&shared) || 2 * metric.runs <= apparatus::processes_of(curve.staircase))
      continue;  // what few processes saw is noise
    Series series =
        blank(plan, curve, "edges", fmt::format("other near {}", size_name(shared.rise.at)));
    series.params.emplace_back("hwloc", Value("none"));
    series.metrics.push_back(metric);
    result.series.push_back(std::move(series));
  }
}

void add_level(const Plan& plan, const Curve& curve, const std::string& name,
               apparatus::Range range, LabResult& result) {
  Series series = blank(plan, curve, "levels", name);
  const Metric metric =
      make_metric(metrics[latency], apparatus::latencies_in(curve.staircase, range));
  if (metric.median) {
    series.metrics.push_back(metric);
  } else {
    series.status = Status::skipped;
    series.reason = fmt::format("no size from {} on was measured", size_name(range.low));
  }
  result.series.push_back(std::move(series));
}

void add_levels(const Plan& plan, const Findings& findings, const Curve& curve, LabResult& result) {
  double below = 0;
  for (const auto& cache : apparatus::caches_of(plan.topology(), curve.spot.cpu)) {
    const auto size = static_cast<double>(cache.size);
    add_level(plan, curve, cache.name, apparatus::well_inside(below, size), result);
    below = size;
  }
  if (below > 0)
    add_level(plan, curve, "memory", {2 * below, INFINITY}, result);
  for (const auto size : sizes_for(plan, curve.spot.cpu, "flushed"))
    if (const Metric* metric =
            findings.metric(series_name(curve.spot, curve.pages, "flushed", size), "latency")) {
      Series series = blank(plan, curve, "levels", "memory, flushed");
      series.metrics.push_back(*metric);
      result.series.push_back(std::move(series));
    }
}

void conclude(const Plan& plan, LabResult& result) {
  const Findings findings(result);
  LabResult added;
  for (const auto& spot : spots_of(plan))
    for (const auto& pages : plan.words("pages"))
      if (const Curve curve = curve_of(plan, findings, spot, pages);
          curve.staircase.sizes.size() > 3) {
        add_levels(plan, findings, curve, added);
        add_edges(plan, curve, added);
      }
  std::ranges::move(added.series, std::back_inserter(result.series));
}

// "L1 1.20 ns, L2 3.9 ns" of one kind of pages.
std::string list_levels(const Findings& findings, std::string_view pages) {
  std::string text;
  for (const auto& series : findings.result().series)
    if (series.name.starts_with(fmt::format("levels/{}/", pages)) && !series.metrics.empty())
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", series.name.substr(12),
                          with_interval(series.metrics[0]));
  return text;
}

std::string list_edges(const Findings& findings, std::string_view pages) {
  std::string text;
  for (const auto& series : findings.result().series) {
    if (!series.name.starts_with(fmt::format("edges/{}/L", pages)) || series.checks.empty())
      continue;
    text += fmt::format("{}{} at {} (hwloc: {})", text.empty() ? "" : ", ", series.name.substr(11),
                        with_interval(series.metrics[0]),
                        quantity(*series.checks[0].expected.number(), "B"));
  }
  return text;
}

std::string answer(const Findings& findings) {
  std::string text;
  for (const std::string_view pages : {"huge", "base"}) {
    const std::string levels = list_levels(findings, pages);
    if (levels.empty())
      continue;
    text += fmt::format("On {} pages a load takes: {}.", pages, levels);
    if (const std::string edges = list_edges(findings, pages); !edges.empty())
      text += fmt::format(" Edges: {}.", edges);
    break;
  }
  if (!text.empty())
    return text;
  for (const auto& series : findings.result().series)
    if (const Metric* metric = find_metric(series, "latency"); metric && metric->median)
      text += fmt::format("{}{} {}", text.empty() ? "A load takes: " : ", ", series.name,
                          with_interval(*metric));
  return text.empty() ? "No load could be measured." : text + ".";
}

}  // namespace

extern constinit const Lab cache_latency = {
    .name = "cache_latency",
    .family = "cache",
    .question = "what does a load cost in each cache and in memory, and how large are the caches?",
    .shape = Shape::one,
    .params = params,
    .metrics = metrics,
    // Some 70 series, or 250 and gigabytes to be written in each process.
    .budget = {.quick_s = 5, .full_s = 180},
    .plan = plan_series,
    .refine = refine,
    .conclude = conclude,
    .answer = answer,
};

}  // namespace schedlab::labs
