#include "affinity/annotate.hh"

#include "affinity/handle.hh"
#include "lab/base/error.hh"
#include "tests/sanitized.hh"
#include "tests/topology_fixtures.hh"

#include <hwloc.h>
#include <hwloc/distances.h>
#include <hwloc/memattrs.h>

using namespace schedlab;
using affinity::Annotations;
using affinity::Quantity;
using boost::test_tools::per_element;

namespace {

// What hwloc makes of an XML, without any of our code.
affinity::Handle load(const std::string& xml) {
  hwloc_topology_t topology = nullptr;
  BOOST_TEST_REQUIRE(hwloc_topology_init(&topology) == 0);
  affinity::Handle handle(topology);
  BOOST_TEST_REQUIRE(
      hwloc_topology_set_xmlbuffer(topology, xml.c_str(), static_cast<int>(xml.size() + 1)) == 0);
  BOOST_TEST_REQUIRE(hwloc_topology_load(topology) == 0);
  return handle;
}

struct Read {
  unsigned long kind = 0;
  std::vector<unsigned> objects;  // kernel numbers
  std::vector<hwloc_obj_type_t> types;
  std::vector<std::uint64_t> values;
};

Read distances(const affinity::Handle& topology, const char* name) {
  unsigned count = 1;
  hwloc_distances_s* found = nullptr;
  BOOST_TEST_REQUIRE(hwloc_distances_get_by_name(topology.get(), name, &count, &found, 0) == 0);
  BOOST_TEST_REQUIRE(count == 1u);
  Read read{found->kind, {}, {}, {}};
  for (unsigned i = 0; i < found->nbobjs; ++i) {
    read.objects.push_back(found->objs[i]->os_index);
    read.types.push_back(found->objs[i]->type);
  }
  read.values.assign(found->values, found->values + found->nbobjs * found->nbobjs);
  hwloc_distances_release(topology.get(), found);
  return read;
}

// The node with the best value of an attribute for a CPU, and that value.
std::pair<unsigned, std::uint64_t> best(const affinity::Handle& topology,
                                        hwloc_memattr_id_t attribute, unsigned cpu) {
  hwloc_location from{};
  from.type = HWLOC_LOCATION_TYPE_CPUSET;
  from.location.cpuset = hwloc_get_pu_obj_by_os_index(topology.get(), cpu)->cpuset;
  hwloc_obj_t node = nullptr;
  hwloc_uint64_t value = 0;
  BOOST_TEST_REQUIRE(
      hwloc_memattr_get_best_target(topology.get(), attribute, &from, 0, &node, &value) == 0);
  return {node->os_index, value};
}

}  // namespace

BOOST_AUTO_TEST_CASE(distances_between_cpus_come_back_through_the_xml_as_they_were) {
  const auto before = fixture("two_sockets");
  Annotations annotations;
  annotations.distances = {{"schedlab:x:ps", Quantity::latency, false, {0, 4, 2}, {}}};
  annotations.distances[0].values = {0, 6350, 84100, 6370, 0, 84200, 84300, 84400, 0};
  const auto after = load(annotated_xml(before, annotations));
  const Read read = distances(after, "schedlab:x:ps");
  BOOST_TEST(read.objects == annotations.distances[0].objects, per_element());
  BOOST_TEST(read.values == annotations.distances[0].values, per_element());
  BOOST_TEST((read.types[0] == HWLOC_OBJ_PU));
  BOOST_TEST(read.kind == (HWLOC_DISTANCES_KIND_FROM_USER | HWLOC_DISTANCES_KIND_MEANS_LATENCY));
}

BOOST_AUTO_TEST_CASE(several_structures_stand_beside_the_kernels_own) {
  Annotations annotations;
  annotations.distances = {
      {"schedlab:numa:ps", Quantity::latency, true, {0, 1}, {90000, 140000, 141000, 91000}},
      {"schedlab:numa:MiB/s", Quantity::bandwidth, true, {1, 0}, {40000, 20000, 21000, 41000}}};
  const auto after = load(annotated_xml(fixture("two_sockets"), annotations));
  const std::vector<std::uint64_t> kernels = {10, 21, 21, 10};
  BOOST_TEST(distances(after, "NUMALatency").values == kernels, per_element());
  const Read bandwidth = distances(after, "schedlab:numa:MiB/s");
  BOOST_TEST((bandwidth.types[1] == HWLOC_OBJ_NUMANODE));
  BOOST_TEST(bandwidth.kind ==
             (HWLOC_DISTANCES_KIND_FROM_USER | HWLOC_DISTANCES_KIND_MEANS_BANDWIDTH));
  BOOST_TEST(distances(after, "schedlab:numa:ps").values == annotations.distances[0].values,
             per_element());
}

BOOST_AUTO_TEST_CASE(hwloc_chooses_memory_by_the_measured_attributes) {
  const auto machine = fixture("two_sockets");
  const auto near = machine.nodes()[0].cpus, far = machine.nodes()[1].cpus;
  Annotations annotations;
  // Against all expectation: what is remote is faster, and only a measurement can tell.
  annotations.memory = {
      {Quantity::latency, 0, near, 140},      {Quantity::latency, 1, near, 90},
      {Quantity::latency, 0, far, 95},        {Quantity::latency, 1, far, 150},
      {Quantity::bandwidth, 0, near, 40'000}, {Quantity::bandwidth, 1, near, 20'000}};
  const auto after = load(annotated_xml(machine, annotations));
  BOOST_TEST((best(after, HWLOC_MEMATTR_ID_LATENCY, 4) == std::pair(1u, std::uint64_t{90})));
  BOOST_TEST((best(after, HWLOC_MEMATTR_ID_LATENCY, 6) == std::pair(0u, std::uint64_t{95})));
  BOOST_TEST((best(after, HWLOC_MEMATTR_ID_BANDWIDTH, 0) == std::pair(0u, std::uint64_t{40'000})));
}

BOOST_AUTO_TEST_CASE(a_value_given_again_replaces_the_first) {
  const auto machine = fixture("one_cpu");
  Annotations annotations;
  annotations.memory = {{Quantity::latency, 0, {0}, 140}, {Quantity::latency, 0, {0}, 90}};
  const auto after = load(annotated_xml(machine, annotations));
  BOOST_TEST((best(after, HWLOC_MEMATTR_ID_LATENCY, 0) == std::pair(0u, std::uint64_t{90})));
}

BOOST_AUTO_TEST_CASE(the_annotated_topology_stays_as_it_was) {
  const auto machine = fixture("two_sockets");
  const std::string before = machine.xml();
  Annotations annotations;
  annotations.distances = {{"x", Quantity::latency, false, {0, 1}, {0, 1, 1, 0}}};
  annotations.memory = {{Quantity::latency, 0, {0}, 140}};
  const std::string annotated = annotated_xml(machine, annotations);
  BOOST_TEST(machine.xml() == before);
  BOOST_TEST(annotated != before);
  BOOST_TEST(annotated_xml(machine, {}) == before);
}

BOOST_AUTO_TEST_CASE(objects_that_do_not_exist_are_refused_by_number) {
  const auto machine = fixture("two_sockets");
  Annotations cpus, nodes, memory;
  cpus.distances = {{"x", Quantity::latency, false, {0, 99}, {0, 1, 1, 0}}};
  nodes.distances = {{"x", Quantity::latency, true, {0, 7}, {0, 1, 1, 0}}};
  memory.memory = {{Quantity::latency, 5, {0}, 140}};
  BOOST_CHECK_EXCEPTION(annotated_xml(machine, cpus), BadInput, says("CPU P#99"));
  BOOST_CHECK_EXCEPTION(annotated_xml(machine, nodes), BadInput, says("node P#7"));
  BOOST_CHECK_EXCEPTION(annotated_xml(machine, memory), BadInput, says("node P#5"));
}

BOOST_AUTO_TEST_CASE(a_large_machine_takes_all_its_pairs) {
  // The sanitizer measures the rest of the text at each number that hwloc reads.
  constexpr unsigned cpus = testing::address_sanitizer ? 96 : 384;
  const std::string machine = "pack:2 l3:" + std::to_string(cpus / 32) + " core:8 pu:2";
  Annotations annotations;
  auto& pairs = annotations.distances.emplace_back();
  pairs.name = "schedlab:all:ps";
  for (unsigned cpu = 0; cpu < cpus; ++cpu)
    pairs.objects.push_back(cpus - 1 - cpu);
  for (std::uint64_t i = 0; i < std::uint64_t{cpus} * cpus; ++i)
    pairs.values.push_back(i % (cpus + 1) == 0 ? 0 : 20'000 + i);
  const auto after = load(annotated_xml(synthetic(machine), annotations));
  const Read read = distances(after, "schedlab:all:ps");
  BOOST_TEST(read.objects == pairs.objects, per_element());
  BOOST_TEST(read.values == pairs.values, per_element());
}
