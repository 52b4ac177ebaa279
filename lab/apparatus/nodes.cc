#include "lab/apparatus/nodes.hh"

#include "affinity/memory.hh"
#include "lab/base/error.hh"
#include "lab/harness/numbers.hh"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace schedlab::apparatus {

std::string node_label(const affinity::Node& node) {
  return fmt::format("L#{}(P#{})", node.logical, node.os);
}

std::vector<unsigned> cpus_closest_to(const affinity::Topology& topology,
                                      const affinity::Node& node, const affinity::CpuSet& among) {
  std::vector<unsigned> cpus;
  for (const auto& cpu : topology.cpus())
    if (cpu.numa == static_cast<int>(node.logical) && among.contains(cpu.os))
      cpus.push_back(cpu.os);
  return cpus;
}

bool is_memory_only(const affinity::Topology& topology, const affinity::Node& node) {
  return std::ranges::none_of(topology.cpus(), [&](const affinity::Cpu& cpu) {
    return cpu.numa == static_cast<int>(node.logical);
  });
}

std::uint64_t node_distance(const affinity::Topology& topology, std::int64_t from_logical,
                            const affinity::Node& to) {
  const auto& distances = topology.node_distances();
  if (from_logical < 0 || distances.empty())
    return 0;
  return distances[static_cast<std::size_t>(from_logical) * topology.nodes().size() + to.logical];
}

std::string too_large_on(const affinity::Topology& topology, const affinity::Node& node,
                         std::uint64_t count, std::uint64_t size) {
  const std::uint64_t left = topology.foreign() ? node.memory : affinity::available_on(node);
  if (count == 0 || size <= left / 2 / count)
    return "";
  return fmt::format("{} x {} is more than half of what is left on node {} ({})", count,
                     harness::quantity(static_cast<double>(size), "B"), node_label(node),
                     harness::quantity(static_cast<double>(left), "B"));
}

std::optional<unsigned> own_node(const affinity::Topology& topology, unsigned cpu) {
  const int node = topology.find(cpu)->numa_os;
  for (const auto& usable : affinity::usable_nodes(topology))
    if (static_cast<int>(usable.os) == node)
      return usable.os;
  return {};
}

void require_node(const affinity::Topology& topology, unsigned node, std::string_view parameter) {
  std::vector<unsigned> nodes;
  for (const auto& usable : affinity::usable_nodes(topology))
    nodes.push_back(usable.os);
  if (std::ranges::find(nodes, node) == nodes.end())
    throw BadInput(fmt::format("{}: there is no node {} here, or it is not allowed; there is {}",
                               parameter, node, fmt::join(nodes, ", ")));
}

}  // namespace schedlab::apparatus
