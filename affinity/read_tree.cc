#include "affinity/read_tree.hh"

#include <array>
#include <hwloc.h>
#include <map>

namespace schedlab::affinity {

namespace {

// The NUMA node of a memory child, which may stand behind a memory-side cache.
hwloc_obj_t node_behind(hwloc_obj_t memory) {
  while (memory && memory->type != HWLOC_OBJ_NUMANODE)
    memory = memory->memory_first_child;
  return memory;
}

// The object that the closest memory of a CPU hangs from. A node without CPUs may hang from the
// root, and hwloc then gives it the root's CPUs: it is no CPU's closest unless nothing else is.
hwloc_obj_t memory_place(hwloc_obj_t pu) {
  hwloc_obj_t above = pu;
  while (above && !above->memory_first_child)
    above = above->parent;
  return above;
}

// The node that the kernel counts a CPU to. Firmware (HMAT) may say of a node without CPUs whose it
// is closest to; hwloc hangs it beside theirs, behind it, because the kernel numbers nodes with
// CPUs first.
hwloc_obj_t own_node(hwloc_obj_t pu) {
  const hwloc_obj_t place = memory_place(pu);
  return place ? node_behind(place->memory_first_child) : nullptr;
}

// Which column of the table an object type fills.
struct Column {
  hwloc_obj_type_t type;
  int Cpu::*number;
};
constexpr std::array<Column, 5> columns = {{{HWLOC_OBJ_CORE, &Cpu::core},
                                            {HWLOC_OBJ_L2CACHE, &Cpu::l2},
                                            {HWLOC_OBJ_L3CACHE, &Cpu::l3},
                                            {HWLOC_OBJ_DIE, &Cpu::die},
                                            {HWLOC_OBJ_PACKAGE, &Cpu::package}}};

// The number of each object that fills a column.
using Numbers = std::map<hwloc_obj_t, int>;
Numbers number_objects(hwloc_topology_t topology) {
  Numbers numbers;
  for (const auto& column : columns) {
    int next = 0;
    for (const hwloc_obj_t object : objects_in_tree(topology, column.type))
      numbers[object] = next++;
  }
  return numbers;
}

Cpu read_cpu(hwloc_obj_t pu, const std::vector<Kind>& kinds, const Numbers& numbers) {
  Cpu cpu;
  cpu.os = pu->os_index;
  cpu.logical = pu->logical_index;
  for (hwloc_obj_t above = pu->parent; above; above = above->parent)
    for (const auto& column : columns)
      if (above->type == column.type)
        cpu.*column.number = numbers.at(above);
  if (const hwloc_obj_t node = own_node(pu)) {
    cpu.numa = static_cast<int>(node->logical_index);
    cpu.numa_os = static_cast<int>(node->os_index);
  }
  for (std::size_t i = 0; i < kinds.size(); ++i)
    if (kinds[i].cpus.contains(cpu.os))
      cpu.kind = static_cast<int>(i);
  return cpu;
}

Cache read_cache(hwloc_obj_t object) {
  const auto& attributes = object->attr->cache;
  Cache cache;
  cache.level = static_cast<int>(attributes.depth);
  cache.type = attributes.type == HWLOC_OBJ_CACHE_DATA          ? 'd'
               : attributes.type == HWLOC_OBJ_CACHE_INSTRUCTION ? 'i'
                                                                : 'u';
  cache.size = attributes.size;
  cache.line = attributes.linesize;
  cache.ways = attributes.associativity;
  cache.cpus = CpuSet::from_hwloc(object->cpuset);
  return cache;
}

// hwloc knows kinds by what it could find out: a core type, a capacity, a frequency.
std::string kind_name(const hwloc_info_s* infos, unsigned count) {
  std::string name;
  for (unsigned i = 0; i < count; ++i)
    if (name.empty() || std::string_view(infos[i].name) == "CoreType")
      name = std::string(infos[i].name) + "=" + infos[i].value;
  return name;
}

void collect(hwloc_obj_t from, hwloc_obj_type_t type, std::vector<hwloc_obj_t>& found) {
  if (from->type == type)
    found.push_back(from);
  for (hwloc_obj_t child = from->first_child; child; child = child->next_sibling)
    collect(child, type, found);
}

}  // namespace

std::vector<hwloc_obj_t> objects_in_tree(hwloc_topology* topology, int type) {
  std::vector<hwloc_obj_t> found;
  collect(hwloc_get_root_obj(topology), static_cast<hwloc_obj_type_t>(type), found);
  return found;
}

std::vector<Kind> read_kinds(hwloc_topology* topology) {
  const CpuSet tree = CpuSet::from_hwloc(hwloc_topology_get_topology_cpuset(topology));
  const int count = hwloc_cpukinds_get_nr(topology, 0);
  std::vector<Kind> kinds;
  const std::unique_ptr<hwloc_bitmap_s, decltype(&hwloc_bitmap_free)> cpus(hwloc_bitmap_alloc(),
                                                                           hwloc_bitmap_free);
  for (int i = 0; i < count; ++i) {
    hwloc_info_s* infos = nullptr;
    unsigned info_count = 0;
    Kind kind;
    if (hwloc_cpukinds_get_info(topology, static_cast<unsigned>(i), cpus.get(), &kind.efficiency,
                                &info_count, &infos, 0) < 0)
      continue;
    kind.cpus = CpuSet::from_hwloc(cpus.get()) & tree;
    kind.name = kind_name(infos, info_count);
    if (!kind.cpus.empty())
      kinds.push_back(std::move(kind));
  }
  return kinds;
}

std::vector<Cpu> read_cpus(hwloc_topology* topology, const std::vector<Kind>& kinds) {
  std::vector<Cpu> cpus;
  const Numbers numbers = number_objects(topology);
  for (const hwloc_obj_t pu : objects_in_tree(topology, HWLOC_OBJ_PU)) {
    Cpu cpu = read_cpu(pu, kinds, numbers);
    if (!cpus.empty() && cpu.core >= 0 && cpus.back().core == cpu.core)
      cpu.smt = cpus.back().smt + 1;
    cpus.push_back(cpu);
  }
  return cpus;
}

std::vector<Cache> read_caches(hwloc_topology* topology) {
  std::vector<Cache> caches;
  for (const auto type :
       {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L1ICACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L2ICACHE,
        HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L3ICACHE, HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L5CACHE})
    for (const hwloc_obj_t object : objects_in_tree(topology, type))
      caches.push_back(read_cache(object));
  return caches;
}

std::vector<Node> read_nodes(hwloc_topology* topology) {
  std::vector<Node> nodes;
  hwloc_obj_t object = nullptr;
  while ((object = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, object))) {
    Node node;
    node.os = object->os_index;
    node.logical = object->logical_index;
    node.memory = object->attr->numanode.local_memory;
    nodes.push_back(std::move(node));
  }
  for (const hwloc_obj_t pu : objects_in_tree(topology, HWLOC_OBJ_PU))
    if (const hwloc_obj_t node = own_node(pu))
      nodes[node->logical_index].cpus.add(pu->os_index);
  return nodes;
}

std::vector<std::uint64_t> read_node_distances(hwloc_topology* topology) {
  unsigned found = 1;
  hwloc_distances_s* distances = nullptr;
  // The name that hwloc gives the kernel's matrix. Its objects stand in the kernel's order.
  if (hwloc_distances_get_by_name(topology, "NUMALatency", &found, &distances, 0) < 0 || found == 0)
    return {};
  const auto nodes =
      static_cast<std::size_t>(hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE));
  const std::size_t count = distances->nbobjs;
  std::vector<std::uint64_t> matrix(nodes * nodes);
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t j = 0; j < count; ++j)
      if (distances->objs[i] && distances->objs[j])
        matrix[distances->objs[i]->logical_index * nodes + distances->objs[j]->logical_index] =
            distances->values[i * count + j];
  hwloc_distances_release(topology, distances);
  return matrix;
}

}  // namespace schedlab::affinity
