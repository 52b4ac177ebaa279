#include "lab/cli/topology_view.hh"

#include "affinity/placement.hh"
#include "lab/base/text.hh"
#include "lab/cli/topology_tree.hh"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <set>

namespace schedlab::cli {

using affinity::Cpu;
using affinity::CpuSet;
using affinity::Topology;
using nlohmann::json;

namespace {

using Lines = std::vector<std::string>;

// CPUs that may not be used, by who takes them away.
struct Loss {
  CpuSet cpus;
  const char* code;
  const char* reason;
};

std::vector<Loss> losses(const Topology& topology) {
  std::vector<Loss> all = {
      {topology.offline(), "offline", "offline"},
      {topology.online() - topology.allowed(), "cgroup", "not in the cgroup's cpuset"},
      {(topology.online() & topology.allowed()) - topology.affinity(), "affinity",
       "not in this process's affinity"}};
  std::erase_if(all, [](const Loss& loss) { return loss.cpus.empty(); });
  return all;
}

affinity::Choice<affinity::Pair> relations(const Topology& topology) {
  affinity::Placement all;
  all.items.emplace_back(affinity::Placement::All{});
  return affinity::choose_pairs(topology, all);
}

void add_kinds(Lines& lines, const Topology& topology, unsigned width) {
  if (topology.kinds().size() < 2)
    return;
  lines.insert(lines.end(), {"", "kinds of core, the least performant first:"});
  for (std::size_t i = 0; i < topology.kinds().size(); ++i) {
    const auto& kind = topology.kinds()[i];
    add_wrapped(lines, "  ",
                fmt::format("{}  {}: CPUs {}", i, kind.name.empty() ? "unnamed" : kind.name,
                            kind.cpus.list()),
                width);
  }
}

void add_usable(Lines& lines, const Topology& topology, unsigned width) {
  const std::size_t all = topology.cpus().size() + topology.offline().count();
  lines.emplace_back();
  lines.push_back(fmt::format("usable: {} of {} {}", topology.usable().count(), all,
                              all == 1 ? "CPU" : "CPUs"));
  for (const auto& loss : losses(topology))
    add_wrapped(lines, "  ",
                fmt::format("{} {}: {}", loss.cpus.count() == 1 ? "CPU" : "CPUs", loss.cpus.list(),
                            loss.reason),
                width);
  if (topology.foreign())
    lines.emplace_back("  This is another machine's topology: nothing can be pinned.");
}

void add_relations(Lines& lines, const Topology& topology, unsigned width) {
  constexpr unsigned name_width = 10;  // "unpinned" and a gap
  const auto found = relations(topology);
  lines.insert(lines.end(), {"", "relations, each with the pair that stands for it:"});
  for (int i = 0; i <= static_cast<int>(affinity::Relation::unpinned); ++i) {
    const auto relation = static_cast<affinity::Relation>(i);
    std::string text;
    for (const auto& pair : found.chosen)
      if (pair.relation == relation)
        text = relation == affinity::Relation::unpinned
                   ? "any usable CPU"
                   : topology.label(pair.first) + " " + topology.label(pair.second);
    for (const auto& absent : found.absent)
      if (absent.name == name(relation))
        text = "none: " + absent.reason;
    add_wrapped(lines, fmt::format("  {:<{}}", name(relation), name_width), text, width);
  }
}

// A matrix that is too wide for the screen is summed up: which distances occur.
void add_distances(Lines& lines, const Topology& topology, unsigned width) {
  const auto& distances = topology.node_distances();
  const std::size_t count = topology.nodes().size();
  if (distances.empty())
    return;
  lines.insert(lines.end(), {"", "node distances, as the firmware states them:"});
  constexpr std::size_t head = 14, cell = 5;
  if (head + cell * count > width) {
    std::vector<std::string> seen;
    for (const auto distance : std::set(distances.begin(), distances.end()))
      seen.push_back(std::to_string(distance));
    add_wrapped(lines, "  ",
                fmt::format("{} nodes, with distances of {} (the matrix is in --json)", count,
                            join(seen, ", ")),
                width);
    return;
  }
  std::string line(head, ' ');
  for (const auto& node : topology.nodes())
    line += fmt::format("{:>{}}", fmt::format("L#{}", node.logical), cell);
  lines.push_back(line);
  for (const auto& node : topology.nodes()) {
    line = fmt::format("  {:<{}}", fmt::format("L#{}(P#{})", node.logical, node.os), head - 2);
    for (std::size_t other = 0; other < count; ++other)
      line += fmt::format("{:>{}}", distances[node.logical * count + other], cell);
    lines.push_back(line);
  }
}

json number_or_null(int number) {
  return number < 0 ? json() : json(number);
}

json cpu_json(const Topology& topology, const Cpu& cpu) {
  json entry = {{"os", cpu.os},
                {"logical", cpu.logical},
                {"smt", cpu.smt},
                {"usable", topology.usable().contains(cpu.os)}};
  entry["core"] = number_or_null(cpu.core);
  entry["l2"] = number_or_null(cpu.l2);
  entry["l3"] = number_or_null(cpu.l3);
  entry["die"] = number_or_null(cpu.die);
  entry["package"] = number_or_null(cpu.package);
  entry["numa"] = number_or_null(cpu.numa);
  entry["numa_os"] = number_or_null(cpu.numa_os);
  entry["kind"] = number_or_null(cpu.kind);
  return entry;
}

json caches_json(const Topology& topology) {
  json entries = json::array();
  for (const auto& cache : topology.caches())
    entries.push_back({{"level", cache.level},
                       {"type", cache.type == 'd'   ? "data"
                                : cache.type == 'i' ? "instruction"
                                                    : "unified"},
                       {"size", cache.size},
                       {"line", cache.line},
                       {"ways", cache.ways},
                       {"cpus", cache.cpus.list()}});
  return entries;
}

json nodes_json(const Topology& topology) {
  json entries = json::array();
  const std::size_t count = topology.nodes().size();
  for (const auto& node : topology.nodes()) {
    json entry = {{"os", node.os},
                  {"logical", node.logical},
                  {"memory", node.memory},
                  {"cpus", node.cpus.list()},
                  {"distances", json::array()}};
    for (std::size_t i = 0; i < count && !topology.node_distances().empty(); ++i)
      entry["distances"].push_back(topology.node_distances()[node.logical * count + i]);
    entries.push_back(std::move(entry));
  }
  return entries;
}

json relations_json(const Topology& topology) {
  const auto found = relations(topology);
  json entries = json::object();
  for (const auto& pair : found.chosen)
    entries[name(pair.relation)] = {{"cpus", {pair.first, pair.second}}};
  for (const auto& absent : found.absent)
    entries[absent.name] = {{"cpus", nullptr}, {"reason", absent.reason}};
  return entries;
}

}  // namespace

std::string topology_text(const Topology& topology, unsigned width) {
  Lines lines = topology_tree(topology, width);
  add_kinds(lines, topology, width);
  add_usable(lines, topology, width);
  add_relations(lines, topology, width);
  add_distances(lines, topology, width);
  return join(lines, "\n") + "\n";
}

json topology_json(const Topology& topology) {
  json document = {{"shape", topology.shape()},
                   {"foreign", topology.foreign()},
                   {"online", topology.online().list()},
                   {"offline", topology.offline().list()},
                   {"allowed", topology.allowed().list()},
                   {"affinity", topology.affinity().list()},
                   {"usable", topology.usable().list()},
                   {"caches", caches_json(topology)},
                   {"nodes", nodes_json(topology)},
                   {"relations", relations_json(topology)}};
  document["cpus"] = json::array();
  for (const auto& cpu : topology.cpus())
    document["cpus"].push_back(cpu_json(topology, cpu));
  document["kinds"] = json::array();
  for (const auto& kind : topology.kinds())
    document["kinds"].push_back(
        {{"name", kind.name}, {"efficiency", kind.efficiency}, {"cpus", kind.cpus.list()}});
  document["unusable"] = json::object();
  for (const auto& loss : losses(topology))
    document["unusable"][loss.code] = loss.cpus.list();
  return document;
}

}  // namespace schedlab::cli
