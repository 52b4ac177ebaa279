#pragma once
// Turns hwloc's tree into the plain tables of Topology.

#include "affinity/topology.hh"

#include <vector>

struct hwloc_obj;

namespace schedlab::affinity {

// All objects of a type (an hwloc_obj_type_t that is no memory) in the order of the tree. hwloc
// may put a type at two depths, as where one core stands above the L1s of its PUs and another,
// with one PU left online, below its own: it then numbers each depth from 0 and finds none by type.
std::vector<hwloc_obj*> objects_in_tree(hwloc_topology* topology, int type);

// Cut down to the CPUs of the tree; kinds that are then empty are left out.
std::vector<Kind> read_kinds(hwloc_topology* topology);
// In logical order. Objects are numbered in the order of the tree, which is hwloc's logical order
// wherever that is unique.
std::vector<Cpu> read_cpus(hwloc_topology* topology, const std::vector<Kind>& kinds);
// By level, then type, then logical number.
std::vector<Cache> read_caches(hwloc_topology* topology);
std::vector<Node> read_nodes(hwloc_topology* topology);
std::vector<std::uint64_t> read_node_distances(hwloc_topology* topology);

}  // namespace schedlab::affinity
