#include "affinity/annotate.hh"

#include "affinity/handle.hh"
#include "lab/base/error.hh"

#include <cassert>
#include <cerrno>
#include <hwloc.h>
#include <hwloc/distances.h>
#include <hwloc/memattrs.h>

namespace schedlab::affinity {

namespace {

// A const topology is not written to: this is its own.
Handle copy_of(const Topology& topology) {
  hwloc_topology_t copy = nullptr;
  check(hwloc_topology_dup(&copy, topology.hwloc()), "hwloc_topology_dup");
  return Handle(copy);
}

hwloc_obj_t object_of(hwloc_topology_t topology, bool node, unsigned os) {
  const hwloc_obj_t object = node ? hwloc_get_numanode_obj_by_os_index(topology, os)
                                  : hwloc_get_pu_obj_by_os_index(topology, os);
  if (!object)
    throw BadInput((node ? "node P#" : "CPU P#") + std::to_string(os) +
                   ": is not in this topology");
  return object;
}

void add(hwloc_topology_t topology, const Distances& distances) {
  assert(distances.values.size() == distances.objects.size() * distances.objects.size());
  std::vector<hwloc_obj_t> objects;
  for (const unsigned os : distances.objects)
    objects.push_back(object_of(topology, distances.of_nodes, os));
  const unsigned long means = distances.quantity == Quantity::latency
                                  ? HWLOC_DISTANCES_KIND_MEANS_LATENCY
                                  : HWLOC_DISTANCES_KIND_MEANS_BANDWIDTH;
  void* handle = hwloc_distances_add_create(topology, distances.name.c_str(),
                                            HWLOC_DISTANCES_KIND_FROM_USER | means, 0);
  if (!handle)
    throw_errno(errno, "hwloc_distances_add_create", distances.name);
  // On an error hwloc has already freed the handle.
  std::vector<hwloc_uint64_t> values(distances.values.begin(), distances.values.end());
  check(hwloc_distances_add_values(topology, handle, static_cast<unsigned>(objects.size()),
                                   objects.data(), values.data(), 0),
        "hwloc_distances_add_values", distances.name);
  check(hwloc_distances_add_commit(topology, handle, 0), "hwloc_distances_add_commit",
        distances.name);
}

void add(hwloc_topology_t topology, const MemoryValue& value) {
  const hwloc_obj_t node = object_of(topology, true, value.node);
  hwloc_location initiator{};
  initiator.type = HWLOC_LOCATION_TYPE_CPUSET;
  // hwloc takes a copy, but asks for the right to write.
  const std::unique_ptr<hwloc_bitmap_s, decltype(&hwloc_bitmap_free)> cpus(
      hwloc_bitmap_dup(value.initiator.hwloc()), hwloc_bitmap_free);
  initiator.location.cpuset = cpus.get();
  check(hwloc_memattr_set_value(topology,
                                value.quantity == Quantity::latency ? HWLOC_MEMATTR_ID_LATENCY
                                                                    : HWLOC_MEMATTR_ID_BANDWIDTH,
                                node, &initiator, 0, value.value),
        "hwloc_memattr_set_value", "node P#" + std::to_string(value.node));
}

}  // namespace

std::string annotated_xml(const Topology& topology, const Annotations& annotations) {
  const Handle copy = copy_of(topology);
  for (const auto& distances : annotations.distances)
    add(copy.get(), distances);
  for (const auto& value : annotations.memory)
    add(copy.get(), value);
  return xml_of(copy.get());
}

}  // namespace schedlab::affinity
