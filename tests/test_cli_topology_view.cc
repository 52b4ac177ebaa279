#include "lab/cli/topology_view.hh"

#include "lab/base/text.hh"
#include "tests/topology_fixtures.hh"

#include <nlohmann/json.hpp>

using namespace schedlab;

namespace {

constexpr unsigned width = 80;

// The part of the text up to the first empty line.
std::string tree_of(const affinity::Topology& topology) {
  const std::string text = cli::topology_text(topology, width);
  return text.substr(0, text.find("\n\n") + 1);
}

}  // namespace

BOOST_AUTO_TEST_CASE(two_sockets_are_shown_whole) {
  BOOST_TEST(cli::topology_text(fixture("two_sockets"), width) ==
             R"(Package L#0(P#0)
  NUMANode L#0(P#0) 16 GiB
  L3 L#0 32 MiB
    L2 L#0 1 MiB + Core L#0(P#0): PU L#0(P#0) L#1(P#4)
    L2 L#1 1 MiB + Core L#1(P#1): PU L#2(P#1) L#3(P#5)
Package L#1(P#1)
  NUMANode L#1(P#1) 16 GiB
  L3 L#1 32 MiB
    L2 L#2 1 MiB + Core L#2(P#0): PU L#4(P#2) L#5(P#6)
    L2 L#3 1 MiB + Core L#3(P#1): PU L#6(P#3) L#7(P#7)

usable: 8 of 8 CPUs
  This is another machine's topology: nothing can be pinned.

relations, each with the pair that stands for it:
  same-pu   L#0(P#0) L#0(P#0)
  smt       L#0(P#0) L#1(P#4)
  l2        none: no two CPUs share an L2 cache without sharing a core
  l3        L#0(P#0) L#2(P#1)
  die       none: the machine reports no dies
  numa      none: no two CPUs share a node without sharing a die or a cache
  package   none: no two CPUs share a package without sharing a node, a die or a
            cache
  remote    L#0(P#0) L#4(P#2)
  unpinned  any usable CPU

node distances, as the firmware states them:
                L#0  L#1
  L#0(P#0)       10   21
  L#1(P#1)       21   10
)");
}

BOOST_AUTO_TEST_CASE(what_may_not_be_used_is_marked_and_explained) {
  const std::string text = cli::topology_text(fixture("cgroup"), width);
  BOOST_TEST(text.substr(0, text.find("  This is")) ==
             R"(Package L#0(P#0)
  NUMANode L#0(P#0) 4 GiB
  L3 L#0 8 MiB
    Core L#0(P#0): PU L#0(P#0)[cgroup]
    Core L#1(P#1): PU L#1(P#1)[cgroup]
Package L#1(P#1)
  NUMANode L#1(P#1) 4 GiB
  L3 L#1 8 MiB
    Core L#2(P#0): PU L#2(P#2)
    Core L#3(P#1): PU L#3(P#3)

usable: 2 of 4 CPUs
  CPUs 0-1: not in the cgroup's cpuset
)");
  BOOST_TEST(cli::topology_text(fixture("offline"), width)
                 .find("usable: 2 of 4 CPUs\n  CPUs 1,3: offline\n") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(kinds_of_core_are_listed_where_there_are_several) {
  BOOST_TEST(cli::topology_text(fixture("hybrid"), width)
                 .find("\nkinds of core, the least performant first:\n"
                       "  0  CoreType=IntelAtom: CPUs 4-7\n"
                       "  1  CoreType=IntelCore: CPUs 0-3\n") != std::string::npos);
  BOOST_TEST(cli::topology_text(fixture("offline"), width).find("kinds") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(on_a_large_machine_equal_cores_share_a_line) {
  BOOST_TEST(tree_of(synthetic("pack:2 [numa(memory=64GiB)] l3:2(size=32MiB) l2:32(size=1MiB) "
                               "l1d:1(size=32KiB) core:1 pu:2")) ==
             R"(Package L#0(P#0)
  NUMANode L#0(P#0) 64 GiB
  L3 L#0 32 MiB
    32 x (L2 L#0-31 1 MiB + L1d 32 KiB + Core L#0-31(P#0-31)): 64 PUs, CPUs 0-63
  L3 L#1 32 MiB
    32 x (L2 L#32-63 1 MiB + L1d 32 KiB + Core L#32-63(P#32-63)): 64 PUs,
        CPUs 64-127
Package L#1(P#1)
  NUMANode L#1(P#1) 64 GiB
  L3 L#2 32 MiB
    32 x (L2 L#64-95 1 MiB + L1d 32 KiB + Core L#64-95(P#64-95)): 64 PUs,
        CPUs 128-191
  L3 L#3 32 MiB
    32 x (L2 L#96-127 1 MiB + L1d 32 KiB + Core L#96-127(P#96-127)): 64 PUs,
        CPUs 192-255
)");
}

BOOST_AUTO_TEST_CASE(on_a_huge_machine_equal_packages_share_a_line) {
  BOOST_TEST(tree_of(synthetic("pack:64 [numa(memory=64GiB)] core:32 pu:2")) ==
             R"(64 x Package L#0-63(P#0-63)
  64 x NUMANode L#0-63(P#0-63) 64 GiB
  2048 x Core L#0-2047(P#0-2047): 4096 PUs, CPUs 0-4095
)");
}

BOOST_AUTO_TEST_CASE(odd_shapes_are_shown_as_they_are) {
  BOOST_TEST(tree_of(fixture("cpuless_node")) ==
             R"(NUMANode L#2(P#3) 64 GiB
Package L#0(P#0)
  NUMANode L#0(P#0) 4 GiB
  Core L#0(P#0): PU L#0(P#0)
  Core L#1(P#1): PU L#1(P#1)
Package L#1(P#1)
  NUMANode L#1(P#1) 4 GiB
  Core L#2(P#0): PU L#2(P#2)
  Core L#3(P#1): PU L#3(P#3)
)");
  BOOST_TEST(tree_of(fixture("l1_below_core")) ==
             R"(Package L#0(P#0)
  NUMANode L#0(P#0) 1 GiB
  L3 L#0 16 MiB
    L2 L#0 4 MiB + Core L#0(P#0)
      L1d 32 KiB: PU L#0(P#0)
      L1d 32 KiB: PU L#1(P#1)
    L2 L#1 4 MiB + Core L#1(P#1)
      L1d 32 KiB: PU L#2(P#2)
      L1d 32 KiB: PU L#3(P#3)
)");
  BOOST_TEST(tree_of(fixture("sibling_offline")) ==
             R"(Package L#0(P#0)
  NUMANode L#0(P#0) 1 GiB
  L3 L#0 16 MiB
    L2 L#0 4 MiB + L1d 32 KiB + Core L#0(P#0): PU L#0(P#0)
    L2 L#1 4 MiB + Core L#1(P#1)
      L1d 32 KiB: PU L#1(P#2)
      L1d 32 KiB: PU L#2(P#3)
)");
  BOOST_TEST(tree_of(fixture("one_cpu")) == R"(Package L#0(P#0)
  NUMANode L#0(P#0) 1 GiB
  L3 L#0 16 MiB + Core L#0(P#0): PU L#0(P#0)
)");
}

BOOST_AUTO_TEST_CASE(no_line_is_wider_than_the_terminal) {
  for (const auto* description :
       {"pack:2 [numa] l3:12 l2:8 l1d:1 core:1 pu:2", "pack:16 [numa] core:2 pu:1", "pu:1"})
    for (const unsigned columns : {80u, 100u}) {
      const std::string text = cli::topology_text(synthetic(description), columns);
      for (const auto line : split(text, '\n'))
        BOOST_TEST(display_width(line) <= columns, line);
    }
}

BOOST_AUTO_TEST_CASE(the_document_holds_every_cpu_with_all_its_numbers) {
  const auto document = cli::topology_json(fixture("cgroup"));
  BOOST_TEST(document["foreign"] == true);
  BOOST_TEST(document["usable"] == "2-3");
  BOOST_TEST(document["unusable"].dump() == R"({"cgroup":"0-1"})");
  BOOST_TEST(document["cpus"].size() == 4u);
  BOOST_TEST(document["cpus"][3].dump() ==
             R"({"core":3,"die":null,"kind":null,"l2":null,"l3":1,"logical":3,"numa":1,)"
             R"("numa_os":1,"os":3,"package":1,"smt":0,"usable":true})");
  BOOST_TEST(document["relations"]["l3"].dump() == R"({"cpus":[2,3]})");
  BOOST_TEST(document["relations"]["die"].dump() ==
             R"({"cpus":null,"reason":"the machine reports no dies"})");
}

BOOST_AUTO_TEST_CASE(the_document_holds_caches_nodes_and_distances) {
  const auto document = cli::topology_json(fixture("two_sockets"));
  BOOST_TEST(document["shape"] == "2 packages, 2 nodes, 4 cores, 8 PUs, 2 x L3 32 MiB");
  BOOST_TEST(document["nodes"][1].dump() ==
             R"({"cpus":"2-3,6-7","distances":[21,10],"logical":1,"memory":17179869184,"os":1})");
  BOOST_TEST(document["caches"].back().dump() ==
             R"({"cpus":"2-3,6-7","level":3,"line":64,"size":33554432,"type":"unified","ways":8})");
  BOOST_TEST(cli::topology_json(fixture("hybrid"))["kinds"][0].dump() ==
             R"({"cpus":"4-7","efficiency":0,"name":"CoreType=IntelAtom"})");
}
