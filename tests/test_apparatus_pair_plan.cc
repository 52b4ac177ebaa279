#include "lab/apparatus/pair_plan.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <set>

using namespace schedlab;
using namespace schedlab::apparatus;
using affinity::Pair;
using affinity::Relation;
namespace bdata = boost::unit_test::data;

namespace {

// 128 CPUs: 2 packages, 8 caches of 4 cores each, 2 threads a core.
const std::string cpus_128 = "pack:2 numa:1 l3:8(size=32MiB) core:4 pu:2";
// 384 CPUs: 2 packages, 12 caches of 8 cores each.
const std::string cpus_384 = "pack:2 numa:1 l3:12(size=32MiB) core:8 pu:2";

std::vector<Pair> pairs_of(const affinity::Topology& topology, const std::string& place = "all") {
  return spinning_pairs(topology, affinity::parse_placement(place, topology)).chosen;
}

PairPlanOptions options(double budget_s, unsigned processes = 6) {
  PairPlanOptions options;
  options.budget_s = budget_s;
  options.processes = processes;
  options.class_series = 40;
  return options;
}

PairPlan plan_for(const std::string& shape, double budget_s, unsigned processes = 6) {
  const auto topology = synthetic(shape);
  return plan_pairs(topology, pairs_of(topology), options(budget_s, processes));
}

std::set<Relation> relations(const std::vector<Pair>& pairs) {
  std::set<Relation> found;
  for (const auto& pair : pairs)
    found.insert(pair.relation);
  return found;
}

std::set<std::pair<unsigned, unsigned>> unordered(const std::vector<Pair>& pairs) {
  std::set<std::pair<unsigned, unsigned>> found;
  for (const auto& pair : pairs)
    found.insert(std::minmax({pair.first, pair.second}));
  return found;
}

std::size_t total(const PairPlan& plan) {
  return plan.classes.size() + plan.more.size() + plan.left_out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_class_comes_first) {
  for (const auto& shape : {cpus_128, cpus_384}) {
    const PairPlan plan = plan_for(shape, 4);
    const std::set<Relation> all = {Relation::smt, Relation::l3, Relation::numa, Relation::remote};
    BOOST_TEST((relations(plan.classes) == all));
    BOOST_TEST(plan.classes.size() == all.size());
    BOOST_TEST(plan.more.size() > 100u);
  }
}

BOOST_DATA_TEST_CASE(the_predicted_time_keeps_the_budget, bdata::make({3, 4, 8, 30, 60, 120, 600}),
                     budget_s) {
  for (const auto& shape : {cpus_128, cpus_384})
    for (const unsigned processes : {1u, 6u, 20u}) {
      const PairPlan plan = plan_for(shape, budget_s, processes);
      // What the classes alone take is planned in any case.
      BOOST_TEST((plan.predicted_s <= budget_s || plan.more.empty()),
                 shape << ", " << processes << " processes: " << plan.predicted_s);
      BOOST_TEST(plan.predicted_s <= 1.2 * budget_s);
      BOOST_TEST(plan.predicted_s > 0);
    }
}

BOOST_AUTO_TEST_CASE(a_machine_of_128_cpus_answers_within_a_minute) {
  const PairPlan plan = plan_for(cpus_128, 60, 20);
  BOOST_TEST(total(plan) == 128u * 127u / 2u);
  BOOST_TEST(plan.left_out == 0u);
  BOOST_TEST(plan.predicted_s <= 60.0);
}

BOOST_AUTO_TEST_CASE(a_larger_budget_never_measures_less) {
  for (const auto& shape : {cpus_128, cpus_384}) {
    std::size_t before = 0;
    double visits_before = 0;
    for (const double budget_s : {1.0, 2.0, 4.0, 8.0, 16.0, 60.0, 120.0, 600.0, 3600.0}) {
      const PairPlan plan = plan_for(shape, budget_s);
      const double visits = static_cast<double>(plan.more.size()) / plan.parts;
      BOOST_TEST(plan.more.size() >= before);
      BOOST_TEST(visits >= visits_before);
      before = plan.more.size();
      visits_before = visits;
    }
    BOOST_TEST(visits_before > 0);
  }
}

// The rest of the budget goes into more processes for the same pairs.
BOOST_AUTO_TEST_CASE(with_time_enough_every_process_measures_every_pair) {
  const PairPlan plenty = plan_for(cpus_128, 3600);
  BOOST_TEST(plenty.left_out == 0u);
  BOOST_TEST(plenty.parts == 1u);
  const PairPlan scarce = plan_for(cpus_128, 30);
  BOOST_TEST(scarce.parts > 1u);
  BOOST_TEST(scarce.parts <= 6u);
}

BOOST_AUTO_TEST_CASE(no_pair_is_planned_twice_or_with_itself) {
  for (const auto& shape : {cpus_128, cpus_384}) {
    const PairPlan plan = plan_for(shape, 20);
    auto all = plan.classes;
    all.insert(all.end(), plan.more.begin(), plan.more.end());
    BOOST_TEST(unordered(all).size() == all.size());
    for (const auto& pair : all)
      BOOST_TEST(pair.first != pair.second);
  }
}

BOOST_AUTO_TEST_CASE(what_is_planned_in_part_is_spread_over_relations_and_cpus) {
  const PairPlan plan = plan_for(cpus_384, 4);
  BOOST_TEST(plan.left_out > 0u);
  std::map<Relation, std::size_t> counts;
  std::set<unsigned> cpus;
  for (const auto& pair : plan.more) {
    ++counts[pair.relation];
    cpus.insert({pair.first, pair.second});
  }
  BOOST_TEST(counts.size() == 4u);
  BOOST_TEST(counts[Relation::remote] <= counts[Relation::l3] + 1);
  BOOST_TEST(cpus.size() > 300u);
}

BOOST_AUTO_TEST_CASE(a_plan_is_the_same_every_time) {
  const PairPlan first = plan_for(cpus_128, 5), second = plan_for(cpus_128, 5);
  BOOST_TEST(first.predicted_s == second.predicted_s);
  BOOST_TEST_REQUIRE(first.more.size() == second.more.size());
  for (std::size_t i = 0; i < first.more.size(); ++i) {
    BOOST_TEST(first.more[i].first == second.more[i].first);
    BOOST_TEST(first.more[i].second == second.more[i].second);
  }
}

BOOST_AUTO_TEST_CASE(two_cpus_have_one_pair_and_one_has_none) {
  const PairPlan two = plan_for("core:2 pu:1", 4);
  BOOST_TEST(two.classes.size() == 1u);
  BOOST_TEST(total(two) == 1u);
  BOOST_TEST(two.predicted_s <= 4.0);
  const PairPlan one = plan_for("pu:1", 4);
  BOOST_TEST(total(one) == 0u);
}

BOOST_AUTO_TEST_CASE(classes_only_leaves_out_every_other_pair) {
  const auto topology = synthetic(cpus_128);
  auto wanted = options(3600);
  wanted.classes_only = true;
  const PairPlan plan = plan_pairs(topology, pairs_of(topology), wanted);
  BOOST_TEST(plan.classes.size() == 4u);
  BOOST_TEST(plan.more.size() == 0u);
  BOOST_TEST(plan.left_out == 128u * 127u / 2u - 4u);
}

BOOST_AUTO_TEST_CASE(classes_are_planned_even_beyond_the_budget) {
  const PairPlan plan = plan_for(cpus_128, 0.001);
  BOOST_TEST(plan.classes.size() == 4u);
  BOOST_TEST(plan.more.size() == 0u);
  BOOST_TEST(plan.predicted_s > 0.001);
}

BOOST_AUTO_TEST_CASE(kinds_of_core_are_classes_of_their_own) {
  const auto topology = fixture("hybrid");
  BOOST_TEST_REQUIRE(topology.kinds().size() > 1u);
  const auto plan = plan_pairs(topology, pairs_of(topology), options(60));
  std::set<PairClass> classes;
  for (const auto& pair : plan.classes)
    classes.insert(class_of(topology, pair));
  BOOST_TEST(classes.size() == plan.classes.size());
  std::set<PairClass> all;
  std::set<std::string> names;
  for (const auto& pair : pairs_of(topology)) {
    all.insert(class_of(topology, pair));
    names.insert(class_name(topology, pair));
  }
  BOOST_TEST((classes == all));
  BOOST_TEST(names.size() == all.size());
  BOOST_TEST(relations(plan.classes).size() < classes.size());
}

BOOST_AUTO_TEST_CASE(a_class_is_named_after_its_relation_where_all_cores_are_alike) {
  const auto topology = synthetic(cpus_128);
  const Pair pair{Relation::smt, 0, 1};
  BOOST_TEST(class_name(topology, pair) == "smt");
}

BOOST_AUTO_TEST_CASE(a_relation_selects_its_pairs_and_a_location_those_among_its_cpus) {
  const auto topology = synthetic("pack:2 numa:1 l3:1 core:2 pu:2");
  BOOST_TEST(pairs_of(topology).size() == 28u);
  BOOST_TEST(pairs_of(topology, "smt").size() == 4u);
  BOOST_TEST(pairs_of(topology, "remote").size() == 16u);
  BOOST_TEST(pairs_of(topology, "smt,l3").size() == 12u);
  BOOST_TEST(pairs_of(topology, "package:1").size() == 6u);
  BOOST_TEST(pairs_of(topology, "cpus:0,2,4").size() == 3u);
  BOOST_TEST(pairs_of(topology, "compact").size() == 1u);
}

BOOST_AUTO_TEST_CASE(two_cpus_that_are_named_keep_their_order) {
  const auto topology = synthetic("pack:2 numa:1 l3:1 core:2 pu:2");
  const auto pairs = pairs_of(topology, "cpus:5,0");
  BOOST_TEST_REQUIRE(pairs.size() == 1u);
  BOOST_TEST(pairs[0].first == 5u);
  BOOST_TEST(pairs[0].second == 0u);
}

BOOST_AUTO_TEST_CASE(a_pair_on_one_cpu_or_on_unknown_ones_is_absent_with_the_reason) {
  for (const auto* shape : {"core:2 pu:1", "pu:1"}) {
    const auto topology = synthetic(shape);
    for (const auto* place : {"same-pu", "unpinned", "cpus:0"}) {
      const auto pairs = spinning_pairs(topology, affinity::parse_placement(place, topology));
      BOOST_TEST(pairs.chosen.empty());
      BOOST_TEST_REQUIRE(pairs.absent.size() == 1u);
      BOOST_TEST(pairs.absent[0].reason.find("spin") != std::string::npos);
    }
  }
}

BOOST_AUTO_TEST_CASE(every_shape_of_machine_has_a_plan) {
  for (const auto* name : {"cgroup", "cpuless_node", "hybrid", "l1_below_core", "nodeless_cpus",
                           "offline", "one_cpu", "two_sockets"}) {
    const auto topology = fixture(name);
    const auto pairs = pairs_of(topology);
    const PairPlan plan = plan_pairs(topology, pairs, options(4));
    BOOST_TEST(total(plan) == pairs.size(), name);
    const auto usable = topology.usable();
    for (const auto& pair : plan.classes)
      BOOST_TEST((usable.contains(pair.first) && usable.contains(pair.second)), name);
  }
}
