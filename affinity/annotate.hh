#pragma once
// A topology with measured values, for hwloc's own tools: `lstopo --distances`, `hwloc-info`,
// `hwloc-bind --best-memattr`, and any program that reads the XML with hwloc.

#include "affinity/topology.hh"

#include <cstdint>
#include <string>
#include <vector>

namespace schedlab::affinity {

enum class Quantity : std::uint8_t { latency, bandwidth };

// Values between all pairs of some objects, row-major by `objects`: hwloc knows no gaps.
struct Distances {
  std::string name;  // says the unit, for hwloc has no place for one
  Quantity quantity = Quantity::latency;
  bool of_nodes = false;          // else of PUs
  std::vector<unsigned> objects;  // kernel numbers
  std::vector<std::uint64_t> values;
};

// What a node's memory gives to the CPUs that ask for it; hwloc's attributes Latency and Bandwidth.
struct MemoryValue {
  Quantity quantity = Quantity::latency;
  unsigned node = 0;  // kernel number
  CpuSet initiator;
  std::uint64_t value = 0;  // ns, MiB/s
};

struct Annotations {
  std::vector<Distances> distances;
  std::vector<MemoryValue> memory;
};

// hwloc XML of the topology with these beside what it had; a memory value replaces one for the
// same node and initiator. Throws BadInput for an object that the topology does not have, and
// std::system_error where hwloc refuses.
std::string annotated_xml(const Topology& topology, const Annotations& annotations);

}  // namespace schedlab::affinity
