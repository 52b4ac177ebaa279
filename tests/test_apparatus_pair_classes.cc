#include "lab/apparatus/pair_classes.hh"
#include "lab/apparatus/pair_matrix.hh"
#include "lab/base/random.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <cmath>

using namespace schedlab;
using namespace schedlab::apparatus;
using affinity::Relation;
using Kind = Contradiction::Kind;

namespace {

// Every pair of `cpus` CPUs, with what `describe(a, b)` says of it and some noise.
template <typename Describe>
std::vector<MeasuredPair> machine(unsigned cpus, Describe describe, double noise = 0.05) {
  Random random(7);
  std::vector<MeasuredPair> pairs;
  for (unsigned a = 0; a < cpus; ++a)
    for (unsigned b = a + 1; b < cpus; ++b) {
      const auto [relation, ns, l3] = describe(a, b);
      const double factor = 1 + noise * (static_cast<double>(random.below(1000)) / 500 - 1);
      pairs.push_back({{relation, a, b}, ns * factor, l3});
    }
  return pairs;
}

struct Described {
  Relation relation;
  double ns;
  int l3;
};

std::vector<Kind> kinds(const std::vector<Contradiction>& found) {
  std::vector<Kind> result;
  for (const auto& one : found)
    result.push_back(one.kind);
  return result;
}

bool finds(const std::vector<MeasuredPair>& pairs, std::vector<Kind> expected) {
  return kinds(find_contradictions(pairs)) == expected;
}

// Two packages, each with one L3 of four cores of two threads: what hwloc says is so.
Described honest(unsigned a, unsigned b) {
  if (a / 8 != b / 8)
    return {Relation::remote, 130, -1};
  if (a / 2 == b / 2)
    return {Relation::smt, 8, static_cast<int>(a / 8)};
  return {Relation::l3, 22, static_cast<int>(a / 8)};
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_machine_that_is_what_it_says_is_not_contradicted) {
  BOOST_TEST(find_contradictions(machine(16, honest)).empty());
  BOOST_TEST(find_contradictions({}).empty());
  BOOST_TEST(find_contradictions(machine(2, [](unsigned, unsigned) {
               return Described{Relation::l3, 65, 0};
             })).empty());
}

BOOST_AUTO_TEST_CASE(a_mesh_whose_pairs_differ_without_a_gap_is_one_cache) {
  const auto mesh = [](unsigned a, unsigned b) {
    return Described{Relation::l3, 44.0 + static_cast<double>(b - a), 0};
  };
  BOOST_TEST(find_contradictions(machine(32, mesh)).empty());
}

BOOST_AUTO_TEST_CASE(two_cores_that_are_as_near_as_threads_are_threads) {
  // A guest that shows eight cores and runs on four.
  const auto guest = [](unsigned a, unsigned b) {
    return Described{Relation::l3, a / 2 == b / 2 ? 7.5 : 23, 0};
  };
  const auto found = find_contradictions(machine(8, guest));
  BOOST_TEST_REQUIRE(found.size() == 1u);
  BOOST_TEST((found[0].kind == Kind::hidden_smt));
  BOOST_TEST(found[0].text.find("(4 such pairs)") != std::string::npos, found[0].text);
  BOOST_TEST(found[0].cpus.size() == 8u);
  // The smallest such guest has one pair and nothing to compare it with.
  const auto two = [](unsigned, unsigned) { return Described{Relation::l3, 7.5, 0}; };
  BOOST_TEST(finds(machine(2, two), {Kind::hidden_smt}));
}

BOOST_AUTO_TEST_CASE(an_l3_whose_cpus_form_two_groups_is_two) {
  const auto split = [](unsigned a, unsigned b) {
    return Described{Relation::l3, a / 4 == b / 4 ? 20.0 : 90.0, 0};
  };
  const auto found = find_contradictions(machine(8, split));
  BOOST_TEST_REQUIRE(found.size() == 1u);
  BOOST_TEST((found[0].kind == Kind::split_cache));
  BOOST_TEST(found[0].text.find("2 groups") != std::string::npos, found[0].text);
  BOOST_TEST(found[0].near_ns == 20, boost::test_tools::tolerance(0.06));
  BOOST_TEST(found[0].far_ns == 90, boost::test_tools::tolerance(0.06));
}

BOOST_AUTO_TEST_CASE(a_split_is_seen_with_a_third_of_the_pairs_measured) {
  auto pairs = machine(32, [](unsigned a, unsigned b) {
    return Described{Relation::l3, a / 8 == b / 8 ? 20.0 : 90.0, 0};
  });
  Random random(3);
  shuffle(pairs, random);
  pairs.resize(pairs.size() / 3);
  BOOST_TEST(finds(pairs, {Kind::split_cache}));
}

BOOST_AUTO_TEST_CASE(two_caches_of_different_speed_are_not_split) {
  const auto uneven = [](unsigned a, unsigned b) {
    if (a / 4 != b / 4)
      return Described{Relation::remote, 300, -1};
    return Described{Relation::l3, a < 4 ? 107.0 : 200.0, static_cast<int>(a / 4)};
  };
  BOOST_TEST(find_contradictions(machine(8, uneven)).empty());
}

// One slow CPU makes two groups of values, but not two groups of CPUs.
BOOST_AUTO_TEST_CASE(one_cpu_that_is_far_from_all_is_no_second_group) {
  const auto slow = [](unsigned a, unsigned b) {
    return Described{Relation::l3, a == 0 || b == 0 ? 60.0 : 20.0, 0};
  };
  BOOST_TEST(find_contradictions(machine(8, slow)).empty());
}

BOOST_AUTO_TEST_CASE(threads_of_a_core_that_are_no_nearer_are_none) {
  const auto guest = [](unsigned a, unsigned b) {
    return Described{a / 2 == b / 2 ? Relation::smt : Relation::l3, 22, 0};
  };
  BOOST_TEST(finds(machine(8, guest, 0.01), {Kind::false_smt}));
}

BOOST_AUTO_TEST_CASE(packages_that_are_as_near_as_cores_are_one) {
  const auto guest = [](unsigned a, unsigned b) {
    const bool apart = a / 4 != b / 4;
    return Described{apart ? Relation::remote : Relation::l3, 22,
                     apart ? -1 : static_cast<int>(a / 4)};
  };
  BOOST_TEST(finds(machine(8, guest, 0.01), {Kind::false_package}));
}

BOOST_AUTO_TEST_CASE(a_contradiction_is_a_note_with_its_evidence) {
  const auto warnings = topology_warnings(machine(2, [](unsigned, unsigned) {
    return Described{Relation::l3, 7.5, 0};
  }));
  BOOST_TEST_REQUIRE(warnings.size() == 1u);
  BOOST_TEST(warnings[0].code == "TOPOLOGY");
  BOOST_TEST((warnings[0].severity == harness::Severity::note));
  BOOST_TEST(warnings[0].evidence.size() == 3u);
  BOOST_TEST(*warnings[0].evidence[0].second.text() == "0,1");
}

BOOST_AUTO_TEST_CASE(a_matrix_is_in_the_order_of_the_topology_with_borders) {
  // The kernel numbers the first threads of all cores first.
  const auto topology = synthetic("pack:2 numa:1 l3:1 core:2 pu:2(indexes=0,4,1,5,2,6,3,7)");
  const std::vector<MeasuredPair> pairs = {{{Relation::smt, 0, 4}, 8, 0},
                                           {{Relation::remote, 2, 0}, 130, -1},
                                           {{Relation::l3, 2, 3}, 22, 1}};
  const auto matrix = pair_matrix(topology, pairs);
  const std::vector<std::string> labels = {"L#0(P#0)", "L#1(P#4)", "L#4(P#2)", "L#6(P#3)"};
  BOOST_TEST(matrix.rows == labels, boost::test_tools::per_element());
  BOOST_TEST(matrix.columns == labels, boost::test_tools::per_element());
  const std::vector<std::uint32_t> borders = {2};
  BOOST_TEST(matrix.borders == borders, boost::test_tools::per_element());
  BOOST_TEST(matrix.values[0][1] == 8);
  BOOST_TEST(matrix.values[1][0] == 8);
  BOOST_TEST(matrix.values[0][2] == 130);
  BOOST_TEST(matrix.values[3][2] == 22);
  for (std::size_t i = 0; i < 4; ++i)
    BOOST_TEST(std::isnan(matrix.values[i][i]));
  BOOST_TEST(std::isnan(matrix.values[1][3]));
}

BOOST_AUTO_TEST_CASE(each_l3_of_a_package_begins_at_a_border) {
  const auto topology = synthetic("pack:1 l3:3 core:2 pu:1");
  std::vector<MeasuredPair> pairs;
  for (unsigned cpu = 1; cpu < 6; ++cpu)
    pairs.push_back({{Relation::package, 0, cpu}, 50, -1});
  const std::vector<std::uint32_t> borders = {2, 4};
  BOOST_TEST(pair_matrix(topology, pairs).borders == borders, boost::test_tools::per_element());
}
