#pragma once
// What the choosers of pairs and of single CPUs share.

#include "affinity/placement.hh"

namespace schedlab::affinity {

// Rows of the CPU table, pointing into the topology.
using Row = std::vector<const Cpu*>;

// The CPUs of a set, in tree order.
Row cpus_in(const Topology& topology, const CpuSet& set);

// The CPUs of all locations of a placement, each once, in the order they are named.
std::vector<unsigned> located(const Placement& placement);

}  // namespace schedlab::affinity
