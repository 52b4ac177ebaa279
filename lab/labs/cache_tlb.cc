// cache_tlb: how much memory do the TLBs reach, and what does a miss cost?
//
// Method   Two dependent chases over the same number of lines: one line of each page, and as many
//          lines packed side by side. Both hit the same caches; only the first needs a translation
//          for every line. The number of pages is swept, on base pages and on huge pages.
// Reading  The difference is the price of translation. It leaves zero where the first-level TLB is
//          full, and climbs again where the second is: there a page walk begins.
// Traps    The line within the page moves on from page to page, or the lines of all pages would
//          meet in a few cache sets and the misses would be the cache's. In a virtual machine a
//          walk goes through two page tables, and the host's pages under ours decide what a TLB
//          entry holds. Page-table entries are cached like data: a walk costs more the more there
//          are of them. The packed lines of many pages fill more than one page themselves.

#include "lab/apparatus/chase.hh"
#include "lab/base/error.hh"
#include "lab/harness/change_point.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::Pages;

enum : std::size_t { load, packed, reach, span, translation };

constexpr MetricInfo metrics[] = {
    {.name = "load",
     .unit = "ns",
     .help = "one load, a line of each page",
     .interval = true,
     .net = "penalty"},
    {.name = "packed", .unit = "ns", .help = "one load, as many lines side by side"},
    {.name = "reach",
     .unit = "",
     .better = Better::higher,
     .kind = Kind::count,
     .help = "pages at which half of the climb to the next level is done",
     .interval = true},
    {.name = "span",
     .unit = "B",
     .better = Better::higher,
     .kind = Kind::size,
     .help = "the bytes of so many pages"},
    {.name = "translation",
     .unit = "ns",
     .help = "what a load costs more than packed, behind that reach",
     .interval = true},
};

constexpr std::string_view page_words[] = {"base", "huge"};

constexpr Param params[] = {
    {.name = "count",
     .help = "number of pages; 0: a sweep",
     .list = true,
     .smoke = "16,256",
     .quick = "0",
     .full = "0",
     .max = std::int64_t{1} << 24},
    {.name = "pages",
     .help = "kind of memory pages",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "base",
     .quick = "base,huge",
     .full = "base,huge",
     .words = page_words},
};

using Counts = std::vector<std::uint64_t>;

// First-level TLBs hold 16 to 128 translations, second-level ones some thousand.
std::uint64_t last_count(Preset preset, Pages pages) {
  if (pages == Pages::huge)
    return preset == Preset::full ? 1024 : 128;
  return preset == Preset::full ? 65536 : 16384;
}

// So many to an octave: more where first-level TLBs end.
Counts sweep(Preset preset, Pages pages) {
  const unsigned fine = preset == Preset::full ? 8 : 4;
  const unsigned coarse = preset == Preset::full ? 4 : 2;
  const std::uint64_t last = last_count(preset, pages);
  Counts counts;
  for (std::uint64_t octave = 8; octave < last; octave *= 2) {
    const unsigned steps = octave >= 16 && octave < 256 ? fine : coarse;
    for (unsigned step = 0; step < steps; ++step)
      counts.push_back(octave + octave * step / steps);
  }
  counts.push_back(last);
  return counts;
}

Counts counts_for(const Plan& plan, Pages pages) {
  const auto given = plan.numbers("count");
  Counts counts;
  if (std::ranges::find(given, 0) != given.end())
    counts = sweep(plan.preset(), pages);
  for (const auto count : given)
    if (count > 0)
      counts.push_back(static_cast<std::uint64_t>(count));
  std::ranges::sort(counts);
  counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  return counts;
}

std::string spread_name(std::string_view pages, std::uint64_t count) {
  return fmt::format("spread/{}/{}", pages, count);
}
std::string packed_name(std::string_view pages, std::uint64_t count) {
  return fmt::format("packed/{}/{}", pages, count);
}

SeriesPlan blank(std::string name, Pages pages, std::uint64_t count, unsigned cpu) {
  SeriesPlan series;
  series.name = std::move(name);
  series.group = fmt::format("{}/{}", to_text(pages), count);
  series.params = {{"pages", std::string(to_text(pages))}, {"count", std::to_string(count)}};
  series.relation = "same-pu";
  series.cpus = {cpu};
  return series;
}

// Both chases over `count` lines; they lie in parts of one area, which serves all counts.
void add_count(Plan& plan, Pages pages, std::uint64_t count, std::uint64_t most, unsigned cpu,
               const std::shared_ptr<apparatus::SharedArea>& area, const std::string& skip) {
  const std::uint64_t page = apparatus::size_of(pages);
  apparatus::ChaseSubject subject{.loop = {cpu, plan.topology().usable(), load}, .area = area};
  subject.settle = count;
  subject.warm = count;  // the other chase has had the caches and the TLB

  SeriesPlan spread = blank(spread_name(to_text(pages), count), pages, count, cpu);
  SeriesPlan side_by_side = blank(packed_name(to_text(pages), count), pages, count, cpu);
  spread.skip = side_by_side.skip = skip;
  spread.derive = {
      {.metric = load, .value = {}, .floors = {{"packed", {side_by_side.name, packed}}}}};
  subject.chase.stride = page;
  subject.size = count * page;
  spread.make = [subject] { return apparatus::make_chase(subject); };
  subject.loop.metric = packed;
  subject.chase.stride = cache_line;
  subject.offset = most * page;
  subject.size = count * cache_line;
  side_by_side.floor = true;
  side_by_side.make = [subject] { return apparatus::make_chase(subject); };
  plan.add(std::move(spread));
  plan.add(std::move(side_by_side));
}

void add_pages(Plan& plan, Pages pages, unsigned cpu) {
  const std::uint64_t page = apparatus::size_of(pages);
  const Counts counts = counts_for(plan, pages);
  const auto too_large = [&](std::uint64_t count) {
    return apparatus::too_large(1, count * (page + cache_line));
  };
  const bool all_fit = too_large(counts.back()).empty();
  const auto why_not = [&](std::uint64_t count) -> std::string {
    if (page == 0)
      return "the kernel has no transparent huge pages";
    return all_fit ? "" : too_large(count);
  };
  std::uint64_t most = 1;
  for (const auto count : counts)
    if (why_not(count).empty())
      most = std::max(most, count);
  apparatus::AreaOptions memory;
  memory.size = most * (page + cache_line);
  memory.pages = pages;
  const auto area = std::make_shared<apparatus::SharedArea>(memory);
  for (const auto count : counts)
    add_count(plan, pages, count, most, cpu, area, why_not(count));
}

void plan_series(Plan& plan) {
  const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
  if (ones.chosen.empty())
    return;
  for (const auto& pages : plan.words("pages"))
    add_pages(plan, apparatus::pages_from(pages), ones.chosen.front());
}

constexpr double least_rise = 1.25;  // of a load, translation included
constexpr double same_reach = 1.5;   // reaches of two processes are one if no further apart

// What translation costs, by the number of pages; both ascending.
struct Curve {
  std::vector<double> counts;
  std::vector<const Metric*> spread;
  std::vector<const Metric*> side_by_side;
};

Curve curve_of(const Plan& plan, const Findings& findings, std::string_view pages) {
  Curve curve;
  for (const auto count : counts_for(plan, apparatus::pages_from(pages))) {
    const Metric* spread = findings.metric(spread_name(pages, count), "load");
    const Metric* side_by_side = findings.metric(packed_name(pages, count), "packed");
    if (!spread || !side_by_side || !spread->median || !side_by_side->median)
      continue;
    curve.counts.push_back(static_cast<double>(count));
    curve.spread.push_back(spread);
    curve.side_by_side.push_back(side_by_side);
  }
  return curve;
}

// A load that hits everything, which the price of translation is measured by.
double hit_of(const Curve& curve) {
  return *curve.side_by_side.front()->median;
}

// The climbs of the logarithm of a hit and its translation.
std::vector<SharedRise> rises_of(const Curve& curve) {
  CurveRuns runs{curve.counts, {}, {}};
  const auto log_of = [hit = hit_of(curve)](std::optional<double> spread,
                                            std::optional<double> side_by_side) {
    return spread && side_by_side ? std::log(std::max(hit + *spread - *side_by_side, 0.5 * hit))
                                  : not_measured;
  };
  for (std::size_t i = 0; i < curve.counts.size(); ++i)
    runs.y.push_back(log_of(curve.spread[i]->median, curve.side_by_side[i]->median));
  for (std::uint32_t process = 0; process < curve.spread.front()->per_run.size(); ++process) {
    auto& values = runs.processes.emplace_back();
    for (std::size_t i = 0; i < curve.counts.size(); ++i)
      values.push_back(
          log_of(median_in(*curve.spread[i], process), median_in(*curve.side_by_side[i], process)));
  }
  return shared_rises(runs, {.least = std::log(least_rise)}, same_reach);
}

constexpr std::string_view ordinals[] = {"1st", "2nd", "3rd", "4th"};

Series reach_series(const Curve& curve, std::string_view pages, std::size_t number,
                    const SharedRise& shared) {
  const auto processes = shared.seen.size();
  std::vector<std::vector<double>> reaches(processes), spans(processes), costs(processes);
  const auto page = static_cast<double>(apparatus::size_of(apparatus::pages_from(pages)));
  for (std::size_t process = 0; process < processes; ++process)
    if (const auto& rise = shared.seen[process]) {
      reaches[process].push_back(rise->at);
      spans[process].push_back(rise->at * page);
      costs[process].push_back(std::exp(rise->high) - hit_of(curve));
    }
  Series series;
  series.name = fmt::format("reach/{}/{}", pages, ordinals[number]);
  series.params = {{"pages", Value(pages)}, {"climb", Value(ordinals[number])}};
  series.metrics = {make_metric(metrics[reach], reaches), make_metric(metrics[span], spans),
                    make_metric(metrics[translation], costs)};
  return series;
}

void conclude(const Plan& plan, LabResult& result) {
  std::vector<Series> added;
  const Findings findings(result);
  for (const auto& pages : plan.words("pages")) {
    const Curve curve = curve_of(plan, findings, pages);
    if (curve.counts.size() < 4)
      continue;
    const auto rises = rises_of(curve);
    for (std::size_t i = 0; i < std::min(rises.size(), std::size(ordinals)); ++i)
      added.push_back(reach_series(curve, pages, i, rises[i]));
  }
  for (auto& series : added) {
    series.placement = result.series.front().placement;
    series.placement.relation = "reach";
  }
  std::ranges::move(added, std::back_inserter(result.series));
}

std::string answer(const Findings& findings) {
  std::string text;
  for (const auto& series : findings.result().series) {
    if (!series.name.starts_with("reach/") || !series.metrics[0].median)
      continue;
    const std::string where = fmt::format("{} pages ({})", with_interval(series.metrics[0]),
                                          quantity(*series.metrics[1].median, "B"));
    const std::string cost = with_interval(series.metrics[2]);
    if (series.name.ends_with("/1st"))
      text += fmt::format("{}Translation of {} pages is free up to {}; beyond, a load pays {}.",
                          text.empty() ? "" : " ", *series.params[0].second.text(), where, cost);
    else
      text += fmt::format(" Beyond {} it pays {}.", where, cost);
  }
  if (!text.empty())
    return text;
  const Metric* worst = nullptr;
  std::string where;
  for (const auto& series : findings.result().series)
    if (const Metric* metric = find_metric(series, "load"); metric && metric->net) {
      worst = metric;
      where = series.name;
    }
  return worst ? fmt::format("Translation costs {} a load ({}).", with_interval(*worst->net, "ns"),
                             where)
               : "No chase could be measured.";
}

}  // namespace

extern constinit const Lab cache_tlb = {
    .name = "cache_tlb",
    .family = "cache",
    .question = "how much memory do the TLBs reach, and what does a miss cost?",
    .shape = Shape::one,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 4, .full_s = 60},  // some 80 series, or 200
    .plan = plan_series,
    .conclude = conclude,
    .answer = answer,
};

}  // namespace schedlab::labs
