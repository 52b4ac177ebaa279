#pragma once
// Turns hwloc's tree into the plain tables of Topology.

#include "affinity/topology.hh"

#include <vector>

namespace schedlab::affinity {

// Cut down to the CPUs of the tree; kinds that are then empty are left out.
std::vector<Kind> read_kinds(hwloc_topology* topology);
// In logical order.
std::vector<Cpu> read_cpus(hwloc_topology* topology, const std::vector<Kind>& kinds);
// By level, then type, then logical number.
std::vector<Cache> read_caches(hwloc_topology* topology);
std::vector<Node> read_nodes(hwloc_topology* topology);
std::vector<std::uint64_t> read_node_distances(hwloc_topology* topology);

}  // namespace schedlab::affinity
