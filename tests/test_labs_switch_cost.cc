#include "lab/harness/document.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "tests/metric_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>

namespace schedlab::labs {

extern const harness::Lab switch_cost;

}  // namespace schedlab::labs

using namespace schedlab;
using namespace schedlab::harness;

namespace {

Series series(const std::string& name, const Metric& metric) {
  Series made;
  made.name = name;
  made.metrics = {metric};
  return made;
}

// The switch of two threads on one CPU, and what of it is not calls.
Series futex(double switch_ns, double net_ns, double scatter = 0.01) {
  Metric cost = metric("switch", about(switch_ns, scatter), "ns");
  cost.net = Net{net_ns, median_interval(about(net_ns, scatter)), false};
  return series("same-pu/futex-private/threads", cost);
}

Verdict verdict(std::string_view id, std::vector<Series> all) {
  LabResult result;
  result.series = std::move(all);
  const auto claim = std::ranges::find(labs::switch_cost.claims, id, &ClaimInfo::id);
  const Judgement judgement = claim->judge(Findings(result));
  BOOST_TEST((judgement.verdict == Verdict::inconclusive) == !judgement.needs.empty());
  return judgement.verdict;
}

using enum Verdict;

}  // namespace

BOOST_DATA_TEST_CASE(any_machine_has_a_plan_on_its_own_cpus,
                     boost::unit_test::data::make({"pu:1", "core:2 pu:1", "pack:2 core:4 pu:2"}),
                     machine) {
  const auto topology = synthetic(machine);
  for (const auto* policy : {"other", "fifo"}) {
    const auto outcome = plan_lab(labs::switch_cost, topology,
                                  {.preset = Preset::full,
                                   .placement = "all",
                                   .values = {{"switch_cost.policy", policy}},
                                   .driver = "auto"});
    BOOST_TEST_REQUIRE(outcome.plan);
    BOOST_TEST(outcome.plan->find("same-pu/futex-private/threads"));
    BOOST_TEST(!outcome.plan->find("same-pu/futex-private/processes"));
    for (const auto& planned : outcome.plan->series())
      for (const unsigned cpu : planned.cpus)
        BOOST_TEST(topology.usable().contains(cpu), planned.name);
  }
}

BOOST_AUTO_TEST_CASE(processes_are_costlier_where_most_mechanisms_say_so) {
  const auto twelve = [](double pipe, double futex_ratio, double unix) {
    std::vector<Series> all;
    const auto add = [&](const std::string& mechanism, double ratio) {
      all.push_back(series("same-pu/" + mechanism + "/threads", metric("switch", about(1000))));
      all.push_back(
          series("same-pu/" + mechanism + "/processes", metric("switch", about(1000 * ratio))));
    };
    add("pipe", pipe);
    add("futex", futex_ratio);
    add("unix", unix);
    return verdict("C12", all);
  };
  BOOST_TEST((twelve(1.2, 1.1, 1.0) == confirmed));
  BOOST_TEST((twelve(1.2, 1.0, 0.9) == refuted));
  BOOST_TEST((verdict("C12", {}) == inconclusive));
}

BOOST_AUTO_TEST_CASE(frequent_switching_costs_where_one_every_ten_microseconds_takes_a_hundredth) {
  BOOST_TEST((verdict("C82", {futex(800, 600)}) == confirmed));
  BOOST_TEST((verdict("C82", {futex(60, 40)}) == refuted));
  BOOST_TEST((verdict("C82", {futex(100, 40, 0.3)}) == inconclusive));
  BOOST_TEST((verdict("C82", {}) == inconclusive));
}

BOOST_AUTO_TEST_CASE(a_single_thread_avoids_what_is_more_than_the_calls) {
  BOOST_TEST((verdict("C86", {futex(800, 600)}) == confirmed));
  BOOST_TEST((verdict("C86", {futex(800, 10)}) == refuted));
  BOOST_TEST((verdict("C86", {futex(800, 40, 0.5)}) == inconclusive));
  BOOST_TEST((verdict("C86", {series("same-pu/futex-private/threads",
                                     metric("switch", about(800)))}) == inconclusive));
}

BOOST_AUTO_TEST_CASE(the_answer_names_what_was_measured_and_nothing_else) {
  LabResult result;
  const auto answer = [&] { return labs::switch_cost.answer(Findings(result)); };
  BOOST_TEST(answer().find("costs") == std::string::npos);
  result.series = {futex(800, 600)};
  BOOST_TEST(answer().find("800 ns") != std::string::npos);
  result.series.push_back(series("same-pu/pipe/threads", metric("switch", about(900), "ns")));
  BOOST_TEST(answer().find("900 ns") != std::string::npos);
  BOOST_TEST(answer().find("Waking") == std::string::npos);
  result.series.push_back(series("l3/futex/threads", metric("wakeup", about(9000), "ns")));
  BOOST_TEST(answer().find("Waking a thread on another CPU (l3)") != std::string::npos);
}
