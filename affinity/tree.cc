#include "affinity/tree.hh"

#include <array>
#include <hwloc.h>
#include <map>

namespace schedlab::affinity {

namespace {

std::uint64_t size_of(hwloc_obj_t object) {
  if (hwloc_obj_type_is_cache(object->type) || object->type == HWLOC_OBJ_MEMCACHE)
    return object->attr->cache.size;
  return object->type == HWLOC_OBJ_NUMANODE ? object->attr->numanode.local_memory : 0;
}

// Numbers the objects of a type in the order of the tree: hwloc's own numbers are not unique where
// a type stands at several depths. Groups and memory keep them.
class Reader {
public:
  Object read(hwloc_obj_t from);

private:
  unsigned logical(hwloc_obj_t object) {
    const bool by_tree = object->type != HWLOC_OBJ_GROUP && !hwloc_obj_type_is_memory(object->type);
    return by_tree ? next_[object->type]++ : object->logical_index;
  }
  std::map<hwloc_obj_type_t, unsigned> next_;
};

Object Reader::read(hwloc_obj_t from) {
  std::array<char, 64> type{};
  hwloc_obj_type_snprintf(type.data(), type.size(), from, 0);
  Object object;
  object.type = type.data();
  object.logical = logical(from);
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
  return Reader().read(hwloc_get_root_obj(topology.hwloc()));
}

}  // namespace schedlab::affinity
