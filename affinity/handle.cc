#include "affinity/handle.hh"

#include "affinity/topology.hh"
#include "lab/base/error.hh"

#include <hwloc.h>

namespace schedlab::affinity {

void DestroyTopology::operator()(hwloc_topology* topology) const noexcept {
  hwloc_topology_destroy(topology);
}

Handle make_topology() {
  hwloc_topology_t topology = nullptr;
  check(hwloc_topology_init(&topology), "hwloc_topology_init");
  Handle handle(topology);
  check(hwloc_topology_set_flags(topology, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED),
        "hwloc_topology_set_flags");
  hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_type_filter(topology, HWLOC_OBJ_MISC, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_icache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_ALL);
  return handle;
}

std::string xml_of(hwloc_topology* topology) {
  char* buffer = nullptr;
  int length = 0;
  check(hwloc_topology_export_xmlbuffer(topology, &buffer, &length, 0),
        "hwloc_topology_export_xmlbuffer");
  const std::string text(buffer);
  hwloc_free_xmlbuffer(topology, buffer);
  return text;
}

std::string hwloc_version() {
  const Handle smallest = make_topology();
  // Only a topology that was not read from XML names the library that made it.
  if (hwloc_topology_set_synthetic(smallest.get(), "pu:1") == 0 &&
      hwloc_topology_load(smallest.get()) == 0) {
#if HWLOC_API_VERSION >= 0x00030000
    const char* version =
        hwloc_get_info_by_name(hwloc_topology_get_infos(smallest.get()), "hwlocVersion");
#else
    const char* version =
        hwloc_obj_get_info_by_name(hwloc_get_root_obj(smallest.get()), "hwlocVersion");
#endif
    if (version)
      return version;
  }
  const unsigned api = hwloc_get_api_version();
  return "API " + std::to_string(api >> 16) + "." + std::to_string(api >> 8 & 0xff);
}

}  // namespace schedlab::affinity
