#pragma once
// The machine as a tree, for showing. To place and pin, the tables of Topology are handier.

#include "affinity/topology.hh"

#include <string>
#include <vector>

namespace schedlab::affinity {

struct Object {
  std::string type;        // "Package", "NUMANode", "L3", "L1d", "Core", "PU", ...
  unsigned logical = 0;    // L#, among the objects of its type
  int os = -1;             // P#, -1 where the kernel gives no number
  std::uint64_t size = 0;  // bytes of a cache or of a node's memory
  CpuSet cpus;
  std::vector<Object> memory;  // NUMA nodes and memory-side caches that hang here
  std::vector<Object> children;
};

// A copy of the whole tree from the machine down, in logical order.
Object object_tree(const Topology& topology);

}  // namespace schedlab::affinity
