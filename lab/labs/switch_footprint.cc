// switch_footprint: what does a switch cost once the tasks have working sets?
//
// Method   N tasks on one CPU pass a token around a ring of pipes; each walks its own working set
//          before it passes on. One task alone, which makes the same calls and walks one set, is
//          the control. Ring less control is the whole cost of a switch; the ring with empty sets
//          less its control is the direct cost; the difference of the two is the indirect cost,
//          the refilling of caches and TLB (Li, Ding, Shen: Quantifying the cost of context
//          switch, 2007).
// Reading  While all sets fit into the L2 cache together the indirect cost is small; it grows with
//          the set until the set does not survive in any cache even without a switch, where the
//          control is slow too and the difference shrinks.
// Traps    A woken task may preempt its waker, and then a hop is two switches: the tasks are
//          SCHED_BATCH, which do not, and the switches are counted. Each difference has an interval
//          of its own; one that holds zero is below resolution, not zero. The control must be
//          measured with the same set in the same process, or page placement decides the result.

#include "lab/apparatus/area.hh"
#include "lab/apparatus/cache_sizes.hh"
#include "lab/apparatus/ring.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>

namespace schedlab::labs {
namespace {

using namespace harness;
using apparatus::Access;
using apparatus::RingOptions;
using apparatus::size_word;

enum : std::size_t { hop, switches, total, alone };

constexpr MetricInfo metrics[] = {
    {.name = "hop", .unit = "ns", .help = "take the token, walk the set, pass it on"},
    {.name = "switches",
     .unit = "",
     .better = Better::none,
     .kind = Kind::count,
     .help = "switches counted for one hop",
     .show = false},
    {.name = "total",
     .unit = "ns",
     .help = "hop less the same by one task alone: direct and indirect cost of a switch",
     .interval = true,
     .net = "indirect"},
    {.name = "alone", .unit = "ns", .help = "the same calls and walk by one task, no switch"},
};

constexpr std::string_view task_words[] = {"threads", "processes"};
constexpr std::string_view access_words[] = {"read", "write"};
constexpr std::string_view policy_words[] = {"batch", "other"};
constexpr std::string_view page_words[] = {"private", "shared"};

constexpr Param params[] = {
    {.name = "ring",
     .help = "tasks in the ring",
     .list = true,
     .smoke = "2",
     .quick = "2,8",
     .full = "2,8,32,96",
     .min = 2,
     .max = 512},
    {.name = "size",
     .help = "bytes of each task's working set",
     .kind = Param::Kind::size,
     .list = true,
     .smoke = "0,16K",
     .quick = "0,16K,128K,1M,4M",
     .full = "0,16K,64K,256K,1M,4M",
     .max = std::int64_t{64} << 30},
    {.name = "stride",
     .help = "bytes between two accesses",
     .kind = Param::Kind::size,
     .smoke = "64",
     .quick = "64",
     .full = "64",
     .min = 8,
     .max = 1 << 20},
    {.name = "access",
     .help = "how the set is walked",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "write",
     .quick = "write",
     .full = "read,write",
     .words = access_words},
    {.name = "pages",
     .help = "each task its own pages, or all the same",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "private",
     .quick = "private",
     .full = "private,shared",
     .words = page_words},
    {.name = "tasks",
     .help = "what the ring is made of",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "threads,processes",
     .quick = "threads,processes",
     .full = "threads,processes",
     .words = task_words},
    {.name = "policy",
     .help = "batch: one switch a hop; other: a woken task may preempt its waker",
     .kind = Param::Kind::word,
     .smoke = "batch",
     .quick = "batch",
     .full = "batch",
     .words = policy_words},
};

// One cell of the grid, less the size and what the ring is made of.
struct Cell {
  unsigned ring;
  std::string access;
  std::string pages;
};

std::string ring_name(const Cell& cell, std::uint64_t size, std::string_view tasks) {
  return fmt::format("{}/{}/{}/{}/{}", tasks, cell.ring, size_word(size), cell.access, cell.pages);
}

std::string control_name(const Cell& cell, std::uint64_t size) {
  return fmt::format("alone/{}/{}/{}/{}", cell.ring, size_word(size), cell.access, cell.pages);
}

RingOptions options_for(const Plan& plan, const Cell& cell, std::uint64_t size, unsigned cpu) {
  RingOptions options;
  options.count = cell.ring;
  options.size = size;
  options.stride = static_cast<std::uint64_t>(plan.number("stride"));
  options.access = cell.access == "read" ? Access::read : Access::write;
  options.shared_pages = cell.pages == "shared";
  options.cpu = cpu;
  options.usable = plan.topology().usable();
  options.metric = hop;
  options.switches_metric = switches;
  if (plan.text("policy") == "batch")
    options.tasks.policy = procs::SchedPolicy::batch;
  return options;
}

SeriesPlan blank(const Cell& cell, std::uint64_t size, unsigned cpu) {
  SeriesPlan series;
  series.group = fmt::format("{}/{}/{}/{}", cell.ring, size_word(size), cell.access, cell.pages);
  series.params = {{"ring", std::to_string(cell.ring)},
                   {"size", size_word(size)},
                   {"access", cell.access},
                   {"pages", cell.pages}};
  series.relation = "same-pu";
  series.cpus = {cpu};
  return series;
}

void add_size(Plan& plan, const Cell& cell, std::uint64_t size, unsigned cpu) {
  const auto options = options_for(plan, cell, size, cpu);
  const std::string control = control_name(cell, size);
  const std::string too_much = apparatus::too_large(cell.pages == "shared" ? 1 : cell.ring, size);
  for (const auto& tasks : plan.words("tasks")) {
    SeriesPlan series = blank(cell, size, cpu);
    series.name = ring_name(cell, size, tasks);
    series.params.insert(series.params.begin(), {"tasks", tasks});
    series.skip = too_much;
    Derivation cost{
        .metric = total, .value = {{series.name, hop, 1}, {control, alone, -1}}, .floors = {}};
    if (size > 0)
      cost.floors = {{"direct", {ring_name(cell, 0, tasks), total}}};
    series.derive = {cost};
    auto ring = options;
    ring.tasks.kind = apparatus::task_kind(tasks);
    series.make = [ring] { return apparatus::make_ring(ring); };
    plan.add(std::move(series));
  }
  SeriesPlan series = blank(cell, size, cpu);
  series.name = control;
  series.params.insert(series.params.begin(), {"tasks", "alone"});
  series.skip = too_much;
  series.floor = true;
  auto lone = options;
  lone.metric = alone;
  series.make = [lone] { return apparatus::make_lone_walker(lone); };
  plan.add(std::move(series));
}

void plan_series(Plan& plan) {
  const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
  if (ones.chosen.empty())
    return;
  const unsigned cpu = ones.chosen.front();
  if (plan.number("stride") % 8 != 0)
    throw BadInput("switch_footprint.stride: a multiple of 8 is needed, the size of one access");
  auto sizes = plan.numbers("size");
  if (std::ranges::find(sizes, 0) == sizes.end())
    sizes.insert(sizes.begin(), 0);  // the direct cost is needed
  for (const auto ring : plan.numbers("ring"))
    for (const auto& access : plan.words("access"))
      for (const auto& pages : plan.words("pages"))
        for (const auto size : sizes)
          add_size(plan, {static_cast<unsigned>(ring), access, pages},
                   static_cast<std::uint64_t>(size), cpu);
}

std::string answer(const Findings& findings) {
  const Metric* direct = nullptr;
  const Metric* worst = nullptr;
  std::string where;
  for (const auto& series : findings.result().series) {
    const Metric* cost = find_metric(series, "total");
    if (!cost || !cost->median)
      continue;
    if (!direct && !cost->net)
      direct = cost;
    const bool above = cost->net && cost->net->median && !cost->net->below_resolution;
    if (!above || (worst && *worst->net->median >= *cost->net->median))
      continue;
    worst = cost;
    where = series.name;
  }
  if (!direct)
    return "No ring could be measured.";
  std::string text =
      fmt::format("With empty working sets a switch costs {}.", with_interval(*direct));
  if (worst)
    text += fmt::format(" Refilling the caches adds up to {} ({}).",
                        with_interval(*worst->net, "ns"), where);
  else
    text += " Refilling the caches stayed below resolution.";
  return text;
}

}  // namespace

extern constinit const Lab switch_footprint = {
    .name = "switch_footprint",
    .family = "switch",
    .question = "what does a switch cost once the tasks have working sets?",
    .shape = Shape::one,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 6, .full_s = 120},  // a grid of some 30 cells, or 300
    .plan = plan_series,
    .answer = answer,
};

}  // namespace schedlab::labs
