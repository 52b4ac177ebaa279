#include "affinity/topology.hh"

#include "affinity/pin.hh"
#include "affinity/synthetic.hh"
#include "affinity/tree.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "tests/fake_root.hh"
#include "tests/topology_fixtures.hh"

#include <cstdlib>
#include <unistd.h>

using namespace schedlab;
using affinity::Relation;
using affinity::Topology;
using boost::test_tools::per_element;

// hwloc 2.9 forgets the object it was reading when its XML ends too early.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:hwloc_alloc_setup_object";
}

namespace {

// A file for one test.
class File {
public:
  explicit File(std::string_view text)
      : path_("/tmp/schedlab-topology-" + std::to_string(::getpid()) + ".xml") {
    write_output(path_, text);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { ::unlink(path_.c_str()); }
  [[nodiscard]] const std::string& path() const { return path_; }

private:
  std::string path_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(this_machine_is_not_foreign_and_may_be_used_within_its_limits) {
  const auto machine = Topology::machine();
  BOOST_TEST(!machine.foreign());
  BOOST_TEST(!machine.usable().empty());
  BOOST_TEST(machine.online().contains(machine.usable()));
  BOOST_TEST(machine.allowed().contains(machine.usable()));
  BOOST_TEST(bool(machine.affinity() == affinity::thread_affinity()));
  BOOST_TEST(machine.find(affinity::current_cpu()) != nullptr);
}

BOOST_AUTO_TEST_CASE(loading_leaves_the_environment_as_it_was) {
  ::unsetenv("HWLOC_COMPONENTS");
  Topology::machine();
  BOOST_TEST(::getenv("HWLOC_COMPONENTS") == nullptr);
  ::setenv("HWLOC_COMPONENTS", "linux", 1);
  Topology::machine();
  BOOST_TEST(std::string(::getenv("HWLOC_COMPONENTS")) == "linux");
  ::unsetenv("HWLOC_COMPONENTS");
}

BOOST_AUTO_TEST_CASE(a_machine_described_in_the_environment_is_foreign) {
  ::setenv("HWLOC_SYNTHETIC", "pack:3 core:2 pu:1", 1);
  const auto machine = Topology::machine();
  ::unsetenv("HWLOC_SYNTHETIC");
  BOOST_TEST(machine.foreign());
  BOOST_TEST(machine.usable().list() == "0-5");
}

BOOST_AUTO_TEST_CASE(a_description_in_the_environment_that_hwloc_cannot_read_is_refused) {
  ::setenv("HWLOC_SYNTHETIC", "pack:2 nonsense", 1);
  BOOST_CHECK_EXCEPTION(Topology::machine(), BadInput, says("'pack:2 nonsense'"));
  ::unsetenv("HWLOC_SYNTHETIC");
  ::setenv("HWLOC_XMLFILE", "/no/such/file.xml", 1);
  BOOST_CHECK_EXCEPTION(Topology::machine(), BadInput, says("/no/such/file.xml"));
  ::setenv("HWLOC_XMLFILE", "", 1);
  BOOST_TEST(!Topology::machine().foreign());
  ::unsetenv("HWLOC_XMLFILE");
}

BOOST_AUTO_TEST_CASE(this_machine_kept_in_an_xml_file_may_be_pinned_to) {
  const File file(Topology::machine().xml());
  ::setenv("HWLOC_XMLFILE", file.path().c_str(), 1);
  BOOST_TEST(Topology::machine().foreign());
  ::setenv("HWLOC_THISSYSTEM", "1", 1);
  BOOST_TEST(!Topology::machine().foreign());
  ::unsetenv("HWLOC_THISSYSTEM");
  ::unsetenv("HWLOC_XMLFILE");
}

BOOST_AUTO_TEST_CASE(without_a_sys_that_tells_of_cpus_the_error_says_what_is_missing) {
  const testing::FakeRoot empty;
  ::setenv("HWLOC_FSROOT", empty.path().c_str(), 1);
  BOOST_CHECK_EXCEPTION(Topology::machine(), Unsupported,
                        says(empty.path() + "/sys/devices/system/cpu: has no topology"));
  ::unsetenv("HWLOC_FSROOT");
}

BOOST_AUTO_TEST_CASE(the_library_that_runs_tells_its_version) {
  const std::string version = affinity::hwloc_version();
  BOOST_TEST(version.find("API") == std::string::npos, version);
  BOOST_TEST(version.find('.') != std::string::npos, version);
}

BOOST_AUTO_TEST_CASE(each_cpu_knows_the_objects_it_is_in) {
  const auto machine = fixture("two_sockets");
  const auto* cpu = machine.find(6);
  BOOST_REQUIRE(cpu);
  BOOST_TEST(cpu->logical == 5u);
  BOOST_TEST(cpu->core == 2);
  BOOST_TEST(cpu->smt == 1u);
  BOOST_TEST(cpu->l2 == 2);
  BOOST_TEST(cpu->l3 == 1);
  BOOST_TEST(cpu->die == -1);
  BOOST_TEST(cpu->package == 1);
  BOOST_TEST(cpu->numa == 1);
  BOOST_TEST(machine.label(6) == "L#5(P#6)");
  BOOST_TEST(machine.find(8) == nullptr);
  BOOST_TEST(machine.cache_size(6, 3) == 32u << 20);
  BOOST_TEST(machine.cache_size(6, 1) == 0u);
}

BOOST_AUTO_TEST_CASE(a_pair_has_the_relation_of_its_closest_shared_object) {
  const auto relation = [](const Topology& machine, unsigned a, unsigned b) {
    BOOST_TEST(bool(machine.relation(a, b) == machine.relation(b, a)));
    return std::string(name(machine.relation(a, b)));
  };
  const auto sockets = fixture("two_sockets");
  BOOST_TEST(relation(sockets, 0, 0) == "same-pu");
  BOOST_TEST(relation(sockets, 0, 4) == "smt");
  BOOST_TEST(relation(sockets, 0, 1) == "l3");
  BOOST_TEST(relation(sockets, 0, 2) == "remote");
  BOOST_TEST(relation(fixture("hybrid"), 4, 7) == "l2");
  BOOST_TEST(relation(fixture("nodeless_cpus"), 2, 3) == "package");
  BOOST_TEST(relation(fixture("cpuless_node"), 0, 1) == "numa");
  const auto dies = synthetic("pack:2 die:2 l3:2 l2:2 core:1 pu:1");
  BOOST_TEST(relation(dies, 0, 1) == "l3");
  BOOST_TEST(relation(dies, 0, 2) == "die");
  BOOST_TEST(relation(synthetic("pack:2 [numa] die:2 core:1 pu:1"), 0, 1) == "numa");
  BOOST_TEST(relation(synthetic("pack:2 numa:2 core:2 pu:1"), 0, 2) == "package");
}

BOOST_AUTO_TEST_CASE(a_relation_is_read_by_its_name) {
  for (int i = 0; i <= static_cast<int>(Relation::unpinned); ++i) {
    const auto relation = static_cast<Relation>(i);
    BOOST_TEST(bool(affinity::relation_from(name(relation)) == relation));
  }
  BOOST_TEST(!affinity::relation_from("l4"));
}

BOOST_AUTO_TEST_CASE(an_l1_below_the_core_does_not_part_siblings) {
  const auto machine = fixture("l1_below_core");
  BOOST_TEST(bool(machine.relation(0, 1) == Relation::smt));
  BOOST_TEST(machine.find(1)->core == 0);
  BOOST_TEST(machine.find(1)->smt == 1u);
  BOOST_TEST(machine.cache_size(1, 1) == 32u << 10);
}

BOOST_AUTO_TEST_CASE(cores_at_two_depths_are_told_apart) {
  const auto machine = fixture("sibling_offline");  // the core of CPU 0 is inside its L1
  BOOST_TEST(bool(machine.relation(2, 3) == Relation::smt));
  BOOST_TEST(bool(machine.relation(0, 2) == Relation::l3));
  BOOST_TEST(machine.find(0)->core == 0);
  BOOST_TEST(machine.find(2)->core == 1);
  BOOST_TEST(machine.find(2)->smt == 0u);
  BOOST_TEST(machine.find(3)->smt == 1u);
  for (const auto& cpu : machine.cpus())
    BOOST_TEST(machine.cache_size(cpu.os, 1) == 32u << 10);
  BOOST_TEST(machine.shape() == "1 package, 1 node, 2 cores, 3 PUs, L3 16 MiB");
}

BOOST_AUTO_TEST_CASE(without_cores_each_pu_stands_alone) {
  const auto machine = synthetic("pack:1 l2:2 pu:2");
  BOOST_TEST(machine.find(1)->core == -1);
  BOOST_TEST(machine.find(1)->smt == 0u);
  BOOST_TEST(bool(machine.relation(0, 1) == Relation::l2));
}

BOOST_AUTO_TEST_CASE(groups_between_the_levels_change_nothing) {
  const auto machine = synthetic("pack:2 group:2 core:2 pu:2");
  BOOST_TEST(machine.find(15)->package == 1);
  BOOST_TEST(machine.find(15)->core == 7);
}

BOOST_AUTO_TEST_CASE(a_memory_only_node_is_nobodys_own_and_keeps_both_its_numbers) {
  const auto machine = fixture("cpuless_node");
  BOOST_REQUIRE(machine.nodes().size() == 3u);
  const auto& node = machine.nodes()[2];
  BOOST_TEST(node.logical == 2u);
  BOOST_TEST(node.os == 3u);
  BOOST_TEST(node.memory == 64ull << 30);
  BOOST_TEST(node.cpus.empty());
  BOOST_TEST(machine.nodes()[1].cpus.list() == "2-3");
  for (const auto& cpu : machine.cpus())
    BOOST_TEST(cpu.numa != 2);
}

BOOST_AUTO_TEST_CASE(a_memory_only_node_beside_a_package_is_not_the_node_of_its_cpus) {
  const auto machine = synthetic("pack:2 [numa] [numa] core:2 pu:1");
  BOOST_REQUIRE(machine.nodes().size() == 4u);
  BOOST_TEST(machine.nodes()[0].cpus.list() == "0-1");
  BOOST_TEST(machine.nodes()[1].cpus.empty());
  BOOST_TEST(machine.nodes()[2].cpus.list() == "2-3");
  BOOST_TEST(machine.nodes()[3].cpus.empty());
  BOOST_TEST(machine.find(2)->numa == 2);
}

BOOST_AUTO_TEST_CASE(a_cpu_without_a_node_has_none) {
  const auto machine = fixture("nodeless_cpus");
  BOOST_TEST(machine.find(0)->numa == 0);
  BOOST_TEST(machine.find(2)->numa == -1);
  BOOST_TEST(machine.find(2)->numa_os == -1);
}

BOOST_AUTO_TEST_CASE(node_distances_stand_in_logical_order) {
  const std::vector<std::uint64_t> expected = {10, 20, 17, 20, 10, 28, 17, 28, 10};
  BOOST_TEST(fixture("cpuless_node").node_distances() == expected, per_element());
  BOOST_TEST(fixture("one_cpu").node_distances().empty());
}

BOOST_AUTO_TEST_CASE(an_offline_cpu_is_known_but_not_usable) {
  const auto machine = fixture("offline");
  BOOST_TEST(machine.online().list() == "0,2");
  BOOST_TEST(machine.offline().list() == "1,3");
  BOOST_TEST(machine.usable().list() == "0,2");
  BOOST_TEST(machine.find(1) == nullptr);
  BOOST_TEST(machine.find(2)->logical == 1u);
}

BOOST_AUTO_TEST_CASE(what_the_cgroup_forbids_is_shown_but_not_usable) {
  const auto machine = fixture("cgroup");
  BOOST_TEST(machine.cpus().size() == 4u);
  BOOST_TEST(machine.allowed().list() == "2-3");
  BOOST_TEST(machine.usable().list() == "2-3");
}

BOOST_AUTO_TEST_CASE(kinds_are_ranked_and_cut_down_to_the_cpus_there_are) {
  const auto hybrid = fixture("hybrid");
  BOOST_REQUIRE(hybrid.kinds().size() == 2u);
  BOOST_TEST(hybrid.kinds()[0].name == "CoreType=IntelAtom");
  BOOST_TEST(hybrid.kinds()[0].cpus.list() == "4-7");
  BOOST_TEST(hybrid.kinds()[1].efficiency == 1);
  BOOST_TEST(hybrid.find(0)->kind == 1);
  const auto offline = fixture("offline");
  BOOST_REQUIRE(offline.kinds().size() == 1u);
  BOOST_TEST(offline.kinds()[0].cpus.list() == "0,2");
  BOOST_TEST(fixture("two_sockets").find(0)->kind == -1);
}

BOOST_AUTO_TEST_CASE(the_shape_names_what_does_not_drift) {
  BOOST_TEST(fixture("two_sockets").shape() ==
             "2 packages, 2 nodes, 4 cores, 8 PUs, 2 x L3 32 MiB");
  BOOST_TEST(fixture("one_cpu").shape() == "1 package, 1 node, 1 core, 1 PU, L3 16 MiB");
  BOOST_TEST(synthetic("pack:1 die:2 l2:2(size=512KiB) pu:1").shape() ==
             "1 package, 2 dies, 1 node, 4 PUs, 4 x L2 512 KiB");
  BOOST_TEST(fixture("hybrid").shape() == "1 package, 1 node, 6 cores, 8 PUs, L3 12 MiB");
}

BOOST_AUTO_TEST_CASE(four_thousand_cpus_are_a_machine_too) {
  const auto machine = synthetic("pack:64 core:32 pu:2");
  BOOST_TEST(machine.cpus().size() == 4096u);
  BOOST_TEST(machine.usable().count() == 4096u);
  BOOST_TEST(machine.find(4095)->package == 63);
  BOOST_TEST(bool(machine.relation(4094, 4095) == Relation::smt));
}

BOOST_AUTO_TEST_CASE(a_topology_survives_its_own_xml) {
  const auto before = fixture("hybrid");
  const File file(before.xml());
  const auto after = Topology::from_input(file.path());
  BOOST_TEST(after.foreign());
  BOOST_TEST(after.shape() == before.shape());
  BOOST_TEST(after.kinds().size() == before.kinds().size());
}

BOOST_AUTO_TEST_CASE(an_input_that_describes_no_machine_is_refused_by_name) {
  for (const auto* input : {"no/such/file.xml", "pack:2 core", "pu:0", ""})
    BOOST_CHECK_EXCEPTION(Topology::from_input(input), BadInput,
                          says("'" + std::string(input) + "'"));
  BOOST_CHECK_EXCEPTION(Topology::from_input("/"), BadInput, says("/: is a directory"));
}

BOOST_AUTO_TEST_CASE(the_cpus_of_a_description_are_counted_before_hwloc_makes_them) {
  using affinity::described_pus;
  for (const auto* description :
       {"pack:2 core:4 pu:2", "2 4 2", "l2:2(size=4MiB) [numa(memory=16GiB)] l1d:4 pu: 2",
        "pack:0x2 core:04 pu:+2", "[numa] pack:2 pu:8(indexes=0,2,4,6,1,3,5,7)"})
    BOOST_TEST(described_pus(description) == 16u, description);
  BOOST_TEST(described_pus("") == 1u);
  BOOST_TEST(described_pus("pack:2(size=4") == 2u);
  BOOST_TEST(described_pus("pack") == 1u);
  for (const auto* huge : {"pu:-1", "pu:99999999999999999999", "4294967295 4294967295 4294967295"})
    BOOST_TEST(described_pus(huge) == ~std::uint64_t{0}, huge);
}

BOOST_AUTO_TEST_CASE(a_count_that_agrees_with_what_hwloc_makes) {
  for (const auto* description : {"pack:2 core:4 pu:2", "2 3 4", "numa:2 l3:1 core: 3 pu:0x2",
                                  "pack:2 [numa] [numa(memory=2GiB)] pu:010"})
    BOOST_TEST(affinity::described_pus(description) == synthetic(description).cpus().size(),
               description);
}

BOOST_AUTO_TEST_CASE(a_description_of_more_cpus_than_any_machine_has_is_refused) {
  for (const std::string huge : {"pu:999999999", "pack:64 core:257 pu:1", "pu:-1"}) {
    BOOST_CHECK_EXCEPTION(Topology::from_synthetic(huge), BadInput, says("more than 16384 PUs"));
    BOOST_CHECK_EXCEPTION(Topology::from_input(huge), BadInput, says("'" + huge + "'"));
  }
}

BOOST_AUTO_TEST_CASE(an_xml_file_that_is_damaged_is_refused_by_path) {
  const std::string good = read_input("tests/data/topology/hybrid.xml", 1 << 20);
  std::string newer = good;
  newer.replace(newer.find("version=\"2.0\""), 13, "version=\"9.0\"");
  for (const auto& text : {std::string(), std::string("{}"), good.substr(0, good.size() / 2),
                           std::string("<?xml"), newer}) {
    const File file(text);
    BOOST_CHECK_EXCEPTION(Topology::from_xml(file.path()), BadInput, says(file.path()));
  }
}

BOOST_AUTO_TEST_CASE(the_tree_holds_memory_beside_the_rest) {
  const auto root = affinity::object_tree(fixture("two_sockets"));
  BOOST_TEST(root.type == "Machine");
  BOOST_REQUIRE(root.children.size() == 2u);
  const auto& package = root.children[1];
  BOOST_TEST(package.type == "Package");
  BOOST_REQUIRE(package.memory.size() == 1u);
  BOOST_TEST(package.memory[0].type == "NUMANode");
  BOOST_TEST(package.memory[0].size == 16ull << 30);
  BOOST_TEST(package.children[0].type == "L3");
  BOOST_TEST(package.cpus.list() == "2-3,6-7");
}
