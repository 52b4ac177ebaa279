#pragma once
// An hwloc topology with its owner, before and besides Topology.

#include <memory>
#include <string>

struct hwloc_topology;

namespace schedlab::affinity {

struct DestroyTopology {
  void operator()(hwloc_topology* topology) const noexcept;
};
using Handle = std::unique_ptr<hwloc_topology, DestroyTopology>;

// Not loaded; will hold everything but I/O devices, also what the cgroup forbids.
Handle make_topology();

// hwloc XML of a loaded topology.
std::string xml_of(hwloc_topology* topology);

}  // namespace schedlab::affinity
