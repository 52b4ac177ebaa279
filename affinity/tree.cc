#include "affinity/tree.hh"

#include <array>
#include <hwloc.h>

namespace schedlab::affinity {

namespace {

std::uint64_t size_of(hwloc_obj_t object) {
  if (hwloc_obj_type_is_cache(object->type) || object->type == HWLOC_OBJ_MEMCACHE)
    return object->attr->cache.size;
  return object->type == HWLOC_OBJ_NUMANODE ? object->attr->numanode.local_memory : 0;
}

Object read(hwloc_obj_t from) {
  std::array<char, 64> type{};
  hwloc_obj_type_snprintf(type.data(), type.size(), from, 0);
  Object object;
  object.type = type.data();
  object.logical = from->logical_index;
  object.os = from->os_index == HWLOC_UNKNOWN_INDEX ? -1 : static_cast<int>(from->os_index);
  object.size = size_of(from);
  object.cpus = CpuSet::from_hwloc(from->cpuset);
  for (hwloc_obj_t child = from->memory_first_child; child; child = child->next_sibling)
    object.memory.push_back(read(child));
  for (hwloc_obj_t child = from->first_child; child; child = child->next_sibling)
    object.children.push_back(read(child));
  return object;
}

}  // namespace

Object object_tree(const Topology& topology) {
  return read(hwloc_get_root_obj(topology.hwloc()));
}

}  // namespace schedlab::affinity
