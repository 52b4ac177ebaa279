// numa_placement: does memory end up where it was put, and what does a wrong place cost?
//
// Method   The same area is placed in the ways that Linux has (first touch, bind, interleave,
//          preferred, another node) and read by one task on one CPU, in dependent loads that all
//          miss the caches. Where each page lies is asked of the kernel (move_pages without a
//          target), not assumed. Then pages that are there are moved to another node and back, with
//          move_pages and with migrate_pages, and counted.
// Reading  "first-touch" and "bind" to the own node are the fastest there is; what the others cost
//          more is the price of their place. The net of "page" is the copying of a page, without
//          what the call costs that finds it there already.
// Traps    Who writes a page first decides, not who allocated it: "touched-elsewhere" is the usual
//          way to remote memory. Automatic NUMA balancing would move pages under the measurement:
//          every area here has a policy of its own, which it leaves alone.

#include "affinity/memory.hh"
#include "lab/apparatus/node_memory.hh"
#include "lab/apparatus/nodes.hh"
#include "lab/apparatus/page_moves.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <variant>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Cpu;
using affinity::Node;
using affinity::Policy;
using apparatus::node_distance;
using apparatus::node_label;

enum : std::size_t { load, page, moved, call };

constexpr MetricInfo metrics[] = {
    {.name = "load",
     .unit = "ns",
     .help = "a dependent load that misses all caches",
     .interval = true},
    {.name = "page",
     .unit = "ns",
     .help = "one page moved to the other node, the call included",
     .interval = true,
     .net = "copy"},
    {.name = "moved",
     .unit = "",
     .better = Better::none,
     .kind = Kind::count,
     .help = "pages that one call moved, counted where they were found afterwards"},
    {.name = "call", .unit = "ns", .help = "a page of a call that finds every page there already"},
};

constexpr Param params[] = {
    {.name = "size",
     .help = "bytes of the area that is placed",
     .kind = Param::Kind::size,
     .smoke = "4M",
     .quick = "64M",
     .full = "256M",
     .min = 1 << 20,
     .max = std::int64_t{1} << 40},
    {.name = "pages",
     .help = "pages that are moved at a time",
     .smoke = "32",
     .quick = "256",
     .full = "1024",
     .min = 1,
     .max = 1 << 20},
};

// Who reads, and the nodes that memory can be put on.
struct Site {
  const Plan& plan;
  Cpu cpu;
  std::vector<Node> nodes;    // that may be used
  std::optional<Node> home;   // the CPU's own, if it is one of them
  std::vector<Node> remotes;  // the others, one for each distance from the CPU; the farthest last

  [[nodiscard]] std::uint64_t size() const {
    return static_cast<std::uint64_t>(plan.number("size"));
  }
};

// One other node for each distance, and of each the first with CPUs and the first without.
std::vector<Node> remotes_of(const Site& site) {
  const auto& topology = site.plan.topology();
  std::map<std::pair<std::uint64_t, bool>, Node> classes;
  for (const auto& node : site.nodes)
    if (!site.home || node.os != site.home->os)
      classes.try_emplace(
          {node_distance(topology, site.cpu.numa, node), apparatus::is_memory_only(topology, node)},
          node);
  std::vector<Node> remotes;
  for (const auto& [key, node] : classes)
    remotes.push_back(node);
  return remotes;
}

// The CPUs to choose the reader from: those that --place names, or all that may be used.
std::vector<unsigned> candidates(const Plan& plan, std::vector<unsigned> chosen) {
  for (const auto& item : plan.placement().items)
    if (std::holds_alternative<affinity::Placement::Location>(item))
      return chosen;
  for (const auto& cpu : plan.topology().cpus())
    if (plan.topology().usable().contains(cpu.os))
      chosen.push_back(cpu.os);
  return chosen;
}

// The reader is the first whose own node may be used, else the first.
Site make_site(const Plan& plan, const std::vector<unsigned>& chosen) {
  const auto nodes = affinity::usable_nodes(plan.topology());
  Site site{.plan = plan,
            .cpu = *plan.topology().find(chosen.front()),
            .nodes = nodes,
            .home = {},
            .remotes = {}};
  for (const unsigned os : candidates(plan, chosen)) {
    const Cpu& cpu = *plan.topology().find(os);
    const auto own = std::ranges::find(
        nodes, cpu.numa, [](const Node& node) { return static_cast<int>(node.logical); });
    if (own == nodes.end())
      continue;
    site.cpu = cpu;
    site.home = *own;
    break;
  }
  site.remotes = remotes_of(site);
  return site;
}

// How many areas lie on one node at the same time, and in all.
constexpr std::uint64_t areas_on_a_node = 4;
constexpr std::uint64_t areas = 8;

// Why areas cannot be put on these nodes in equal parts, or empty.
std::string no_room(const Site& site, const std::vector<Node>& nodes, std::uint64_t size) {
  std::string reason = apparatus::too_large(areas, size);
  for (const auto& node : nodes)
    if (reason.empty())
      reason =
          apparatus::too_large_on(site.plan.topology(), node, areas_on_a_node, size / nodes.size());
  return reason;
}

// One way to place the area: where it must lie, and the CPU that touches it first.
struct Way {
  std::string name;
  Policy policy;
  std::vector<Node> nodes;
  unsigned writer;
};

void add_way(Plan& plan, const Site& site, const Way& way) {
  SeriesPlan series;
  series.name = way.name;
  series.group = "place";
  series.relation = name(affinity::Relation::same_pu);
  series.cpus = {site.cpu.os};
  std::string nodes;
  apparatus::NodeMemoryOptions options;
  for (const auto& node : way.nodes) {
    nodes += (nodes.empty() ? "" : " ") + node_label(node);
    options.nodes.push_back(node.os);
    options.shares[node.os] = 1.0 / static_cast<double>(way.nodes.size());
  }
  series.params = {{"place", way.name}, {"node", nodes}};
  series.skip = no_room(site, way.nodes, site.size());
  options.size = site.size();
  options.policy = way.policy;
  options.writer = way.writer;
  options.usable = plan.topology().usable();
  const auto memory = std::make_shared<apparatus::NodeMemory>(options);
  const apparatus::LoopOptions loop{site.cpu.os, plan.topology().usable(), load};
  series.make = [loop, memory] { return apparatus::make_memory_chase(loop, memory); };
  plan.add(std::move(series));
}

void add_skipped(Plan& plan, const std::string& name, const std::string& reason) {
  SeriesPlan series;
  series.name = name;
  series.params = {{"place", name}};
  series.skip = reason;
  plan.add(std::move(series));
}

// The CPUs that may be used and are closest to a node.
std::vector<unsigned> cpus_of(const Site& site, const Node& node) {
  const auto& topology = site.plan.topology();
  return apparatus::cpus_closest_to(topology, node, topology.usable());
}

// The farthest other node that has such a CPU, or null.
const Node* other_with_cpu(const Site& site) {
  const auto distance = [&](const Node& node) {
    return node_distance(site.plan.topology(), site.cpu.numa, node);
  };
  const Node* found = nullptr;
  for (const auto& node : site.nodes) {
    const bool home = site.home && node.os == site.home->os;
    if (!home && !cpus_of(site, node).empty() && (!found || distance(node) > distance(*found)))
      found = &node;
  }
  return found;
}

void add_ways(Plan& plan, const Site& site) {
  const Node& far = site.remotes.back();
  if (site.home) {
    add_way(plan, site, {"first-touch", Policy::first_touch, {*site.home}, site.cpu.os});
    add_way(plan, site, {"bind", Policy::bind, {*site.home}, site.cpu.os});
  } else {
    const std::string reason = fmt::format("CPU {} has no node of its own that may be used",
                                           plan.topology().label(site.cpu.os));
    add_skipped(plan, "first-touch", reason);
    add_skipped(plan, "bind", reason);
  }
  add_way(plan, site, {"interleave", Policy::interleave, site.nodes, site.cpu.os});
  add_way(plan, site, {"preferred", Policy::preferred, {far}, site.cpu.os});
  for (const auto& node : site.remotes)
    add_way(plan, site,
            {fmt::format("wrong-node/P#{}", node.os), Policy::bind, {node}, site.cpu.os});
  if (const Node* elsewhere = other_with_cpu(site))
    add_way(plan, site,
            {"touched-elsewhere",
             Policy::first_touch,
             {*elsewhere},
             cpus_of(site, *elsewhere).front()});
  else
    add_skipped(plan, "touched-elsewhere",
                "no CPU that may be used is closest to another node that may be");
}

// Where pages are moved from, and the farthest node to move them to.
Node start_of(const Site& site) {
  if (site.home)
    return *site.home;
  const auto& nodes = site.nodes;
  return nodes.front().os == site.remotes.back().os ? nodes.back() : nodes.front();
}

SeriesPlan moving(const Site& site, const std::string& call_name, const std::string& name) {
  const Node from = start_of(site);
  SeriesPlan series;
  series.name = name;
  series.group = call_name;
  series.relation = affinity::name(affinity::Relation::same_pu);
  series.cpus = {site.cpu.os};
  series.params = {{"place", call_name},
                   {"node", node_label(from) + " to " + node_label(site.remotes.back())}};
  series.skip = no_room(site, {site.remotes.back()},
                        static_cast<std::uint64_t>(site.plan.number("pages")) * page_size());
  return series;
}

apparatus::PageMoveOptions move_options(const Site& site) {
  apparatus::PageMoveOptions options;
  options.pages = static_cast<std::uint64_t>(site.plan.number("pages"));
  options.from = start_of(site).os;
  options.to = site.remotes.back().os;
  options.cpu = site.cpu.os;
  options.usable = site.plan.topology().usable();
  options.metric = page;
  options.moved_metric = moved;
  return options;
}

using Make = std::unique_ptr<Subject> (*)(const apparatus::PageMoveOptions&);

void add_moves(Plan& plan, const Site& site, const std::string& name, Make make) {
  const std::string control = name + "/stay";
  auto options = move_options(site);
  SeriesPlan moves = moving(site, name, name);
  moves.derive = {{.metric = page, .value = {}, .floors = {{"no move", {control, call}}}}};
  moves.make = [=] { return make(options); };
  plan.add(std::move(moves));
  SeriesPlan stays = moving(site, name, control);
  stays.floor = true;
  options.stay = true;
  options.metric = call;
  stays.make = [=] { return make(options); };
  plan.add(std::move(stays));
}

void plan_series(Plan& plan) {
  if (plan.number("size") % static_cast<std::int64_t>(page_size()) != 0)
    throw BadInput(
        fmt::format("numa_placement.size: whole pages are needed, a multiple of {}", page_size()));
  const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
  if (ones.chosen.empty())
    return;
  const std::size_t all = plan.topology().nodes().size();
  const Site site = make_site(plan, ones.chosen);
  if (site.nodes.size() < 2)
    throw Unsupported(
        all < 2 ? "needs 2 NUMA nodes; this machine has one"
                : fmt::format("needs 2 NUMA nodes that this process may allocate on; of {} it may "
                              "use {} (cpuset.mems of its cgroup)",
                              all, site.nodes.size()));
  add_ways(plan, site);
  add_moves(plan, site, "move_pages", apparatus::make_page_mover);
  add_moves(plan, site, "migrate_pages", apparatus::make_process_mover);
}

// The last of the wrong nodes, which is the farthest.
const Series* farthest(const Findings& findings) {
  const Series* found = nullptr;
  for (const auto& series : findings.result().series)
    if (series.name.starts_with("wrong-node/") && find_metric(series, "load"))
      found = &series;
  return found;
}

std::string node_of(const Series& wrong) {
  return wrong.name.substr(wrong.name.find('/') + 1);
}

std::string answer(const Findings& findings) {
  std::string text;
  const Series* far = farthest(findings);
  const Metric* own = findings.metric("bind", "load");
  if (far && own) {
    text =
        fmt::format("A load from the CPU's own node takes {}, from node {} {}", with_interval(*own),
                    node_of(*far), with_interval(*find_metric(*far, "load")));
    const auto ratio = findings.ratio(far->name, "bind", "load");
    text += ratio ? fmt::format(" ({}).", percent(*ratio)) : ".";
  } else if (far) {
    text = fmt::format("A load from node {} takes {}; the CPU's own node may not be used.",
                       node_of(*far), with_interval(*find_metric(*far, "load")));
  }
  for (const auto* name : {"move_pages", "migrate_pages"})
    if (const Metric* cost = findings.metric(name, "page"))
      text += fmt::format("{}A page is moved in {} with {}.", text.empty() ? "" : " ",
                          with_interval(*cost), name);
  return text.empty() ? "No placement could be measured." : text;
}

}  // namespace

extern constinit const Lab numa_placement = {
    .name = "numa_placement",
    .family = "numa",
    .question = "does memory end up where it was put, and what does a wrong place cost?",
    .shape = Shape::one,
    .params = params,
    .metrics = metrics,
    .budget = {.quick_s = 4, .full_s = 40},  // some ten areas are written in each process
    .plan = plan_series,
    .answer = answer,
};

}  // namespace schedlab::labs
