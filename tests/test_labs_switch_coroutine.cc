#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"
#include "tests/metric_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>

using namespace schedlab;
using namespace schedlab::harness;

namespace {

const Lab& lab() {
  return **std::ranges::find(all_labs(), "switch_coroutine", &Lab::name);
}

using Values = std::map<std::string, std::string>;

PlanOutcome plan_on(const affinity::Topology& topology, const std::string& place = "all",
                    const Values& values = {}, const std::string& driver = "epoll") {
  return plan_lab(lab(), topology,
                  {.preset = Preset::quick,
                   .placement = place,
                   .values = values,
                   .driver = driver,
                   .processes = 6});
}

// A result with these medians of `switch`, in six processes that differ by a promille.
LabResult measured(const std::map<std::string, double>& costs) {
  LabResult result = blank_result(lab());
  for (const auto& [name, cost] : costs) {
    Series series;
    series.name = name;
    series.metrics.push_back(metric("switch", about(cost), "ns"));
    result.series.push_back(series);
  }
  return result;
}

Verdict verdict(std::string_view id, const std::map<std::string, double>& costs) {
  const LabResult result = measured(costs);
  return std::ranges::find(lab().claims, id, &ClaimInfo::id)->judge(Findings(result)).verdict;
}

}  // namespace

BOOST_AUTO_TEST_CASE(one_thread_climbs_on_one_cpu_and_threads_meet_on_every_relation) {
  const auto topology = synthetic("pack:2 numa:1 l3:1(size=32MiB) core:4 pu:2");
  const auto outcome = plan_on(topology);
  for (const auto* rung : {"call", "resume", "child", "yield", "queue", "swapcontext"}) {
    const auto* series = outcome.plan->find(rung);
    BOOST_TEST_REQUIRE(series, rung);
    BOOST_TEST(series->cpus == std::vector<unsigned>{0}, boost::test_tools::per_element());
    BOOST_TEST(series->skip == "");
  }
  BOOST_TEST(outcome.plan->find("yield")->driver == "epoll");
  BOOST_TEST(outcome.plan->find("resume")->driver == "");
  for (const auto* relation : {"same-pu", "smt", "l3", "remote"}) {
    const auto* series = outcome.plan->find(std::string("futex/") + relation);
    BOOST_TEST_REQUIRE(series, relation);
    BOOST_TEST(series->skip == "");
    BOOST_TEST(series->cpus.size() == 2u);
  }
  BOOST_TEST(outcome.plan->find("futex/die")->skip != "");
  BOOST_TEST(outcome.plan->find("futex/unpinned")->skip != "");
}

BOOST_AUTO_TEST_CASE(one_cpu_is_enough_and_hundreds_plan_as_well) {
  for (const auto* machine : {"pu:1", "core:2 pu:1", "pack:2 core:96 pu:2"}) {
    const auto outcome = plan_on(synthetic(machine));
    BOOST_TEST(outcome.unsupported == "");
    BOOST_TEST(outcome.plan->find("yield")->skip == "");
    BOOST_TEST(outcome.plan->find("futex/same-pu")->skip == "");
    BOOST_TEST(outcome.plan->find("hog/thread")->skip == "");
  }
}

BOOST_AUTO_TEST_CASE(a_placement_moves_the_ladder) {
  const auto topology = synthetic("core:4 pu:1");
  BOOST_TEST(plan_on(topology, "cpus:3").plan->find("resume")->cpus.front() == 3u);
  BOOST_TEST(plan_on(topology, "unpinned").plan->find("resume")->cpus.front() == 0u);
}

BOOST_AUTO_TEST_CASE(only_the_rungs_asked_for_are_planned) {
  const auto topology = synthetic("core:2 pu:1");
  const auto outcome = plan_on(topology, "all", {{"rung", "resume,child"}});
  BOOST_TEST(outcome.plan->find("child"));
  BOOST_TEST(!outcome.plan->find("yield"));
  BOOST_TEST(!outcome.plan->find("hog/task"));
  BOOST_CHECK_EXCEPTION(check_value(lab(), "rung", "stairs"), BadInput, says("stairs"));
  BOOST_CHECK_THROW(check_value(lab(), "hog", "999"), BadInput);
}

BOOST_AUTO_TEST_CASE(a_single_thread_avoids_switches_if_its_hand_overs_are_cheaper) {
  BOOST_TEST((verdict("C86", {{"futex/same-pu", 700}, {"yield", 20}}) == Verdict::confirmed));
  BOOST_TEST((verdict("C86", {{"futex/same-pu", 15}, {"yield", 20}}) == Verdict::refuted));
  BOOST_TEST((verdict("C86", {{"yield", 20}}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(frequent_switching_is_slow_only_if_it_takes_a_hundredth_of_the_time) {
  BOOST_TEST((verdict("C82", {{"yield", 20}}) == Verdict::refuted));
  BOOST_TEST((verdict("C82", {{"yield", 500}}) == Verdict::confirmed));
  BOOST_TEST((verdict("C82", {{"yield", 100}}) == Verdict::inconclusive));
  BOOST_TEST((verdict("C82", {}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(the_answer_names_what_was_measured_and_nothing_else) {
  const LabResult some = measured({{"resume", 0.8}, {"yield", 20}, {"futex/same-pu", 700}});
  const std::string text = lab().answer(Findings(some));
  BOOST_TEST(text.find("switching to another thread costs 70") != std::string::npos, text);
  BOOST_TEST(text.find("Boost") == std::string::npos, text);
  BOOST_TEST(lab().answer(Findings(measured({}))) == "No rung was measured.");
}
