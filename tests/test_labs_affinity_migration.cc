#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/validity.hh"
#include "tests/metric_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>

namespace schedlab::labs {

extern const harness::Lab affinity_migration;

}  // namespace schedlab::labs

using namespace schedlab;
using namespace schedlab::harness;

namespace {

const Lab& lab = labs::affinity_migration;

Settings settings(Preset preset, const std::string& placement = "all",
                  std::map<std::string, std::string> values = {}) {
  return {.preset = preset, .placement = placement, .values = std::move(values), .driver = "auto"};
}

// The names of the series that would run.
std::vector<std::string> names(const Plan& plan) {
  std::vector<std::string> result;
  for (const auto& series : plan.series())
    if (series.skip.empty())
      result.push_back(series.name);
  return result;
}

std::vector<std::string> planned(const affinity::Topology& machine, const Settings& how) {
  const auto outcome = plan_lab(lab, machine, how);
  BOOST_TEST(outcome.unsupported == "");
  return names(*outcome.plan);
}

bool has(const std::vector<std::string>& list, const std::string& name) {
  return std::ranges::find(list, name) != list.end();
}

// The series that the claim looks at: four processes, on so many CPUs, so many at once.
LabResult four_processes(double cpus, const std::vector<double>& running) {
  Series series;
  series.name = "workers/processes/pinned";
  series.params = {{"workers", "4"}};
  series.metrics = {metric("cpus", {cpus, cpus, cpus, cpus, cpus, cpus}),
                    metric("running", running)};
  LabResult result;
  result.series = {series};
  return result;
}

Judgement judged(const LabResult& result) {
  return lab.claims[0].judge(Findings(result));
}

}  // namespace

BOOST_AUTO_TEST_CASE(one_cpu_is_no_place_to_migrate_to) {
  const auto machine = synthetic("pu:1");
  BOOST_TEST(plan_lab(lab, machine, settings(Preset::quick)).unsupported ==
             "a migration needs two CPUs; 'all' gives one of the 1 usable here");
  const auto two = synthetic("core:2 pu:1");
  BOOST_TEST(plan_lab(lab, two, settings(Preset::quick, "core:1")).unsupported ==
             "a migration needs two CPUs; 'core:1' gives one of the 2 usable here");
}

BOOST_AUTO_TEST_CASE(every_relation_is_moved_over_and_each_set_has_one_control) {
  const auto machine = fixture("two_sockets");
  const auto outcome = plan_lab(lab, machine, settings(Preset::quick));
  const auto list = names(*outcome.plan);
  for (const auto* relation : {"smt/cpu0-cpu4", "l3/cpu0-cpu1", "remote/cpu0-cpu2"})
    for (const auto* size : {"0", "16K", "128K"})
      BOOST_TEST(has(list, std::string(relation) + "/" + size + "/write"), relation << " " << size);
  const auto controls =
      std::ranges::count_if(list, [](const auto& name) { return name.starts_with("stay/"); });
  BOOST_TEST(controls == 4);  // 0, 16K, 128K and the L2
  const auto* remote = outcome.plan->find("remote/cpu0-cpu2/16K/write");
  BOOST_TEST_REQUIRE(remote);
  BOOST_TEST(remote->cpus == (std::vector<unsigned>{0, 2}), boost::test_tools::per_element());
  BOOST_TEST(remote->group == outcome.plan->find("stay/cpu0/16K/write")->group);
}

BOOST_AUTO_TEST_CASE(the_cost_is_what_is_left_over_the_control_and_the_refill_over_no_set) {
  const auto machine = synthetic("core:2 pu:1");
  const auto outcome = plan_lab(lab, machine, settings(Preset::smoke));
  const auto* with = outcome.plan->find("remote/cpu0-cpu1/16K/write");
  if (!with)
    with = outcome.plan->find("numa/cpu0-cpu1/16K/write");
  BOOST_TEST_REQUIRE(with);
  const Derivation& cost = with->derive.at(0);
  BOOST_TEST(lab.metrics[cost.metric].name == "migration");
  BOOST_TEST(cost.value.at(0).series == with->name);
  BOOST_TEST(cost.value.at(1).series == "stay/cpu0/16K/write");
  BOOST_TEST(cost.value.at(1).factor == -1);
  BOOST_TEST(cost.floors.at(0).term.series.find("/0/write") != std::string::npos);
  BOOST_TEST_REQUIRE(outcome.plan->find(cost.floors.at(0).term.series));
  BOOST_TEST(outcome.plan->find(cost.floors.at(0).term.series)->derive.at(0).floors.empty());
}

BOOST_AUTO_TEST_CASE(the_size_of_a_cache_is_added_once_and_zero_always) {
  const auto machine = synthetic("l2:2(size=1MiB) core:1 pu:1");
  const auto add = [&](const std::string& sizes, const std::string& cache) {
    return planned(machine, settings(Preset::quick, "all", {{"size", sizes}, {"cache", cache}}));
  };
  const auto both = add("16K,1M", "l2,l3");
  BOOST_TEST(
      std::ranges::count_if(both, [](const auto& name) { return name.starts_with("stay/"); }) == 3);
  BOOST_TEST(has(both, "stay/cpu0/1M/write"));
  BOOST_TEST(has(add("16K", "none"), "stay/cpu0/0/write"));
  BOOST_TEST(!has(add("16K", "none"), "stay/cpu0/1M/write"));
}

BOOST_AUTO_TEST_CASE(workers_are_one_for_each_cpu_or_as_many_as_asked_for) {
  const auto machine = fixture("two_sockets");
  const auto cpus_of = [&](const Settings& how) {
    const auto outcome = plan_lab(lab, machine, how);
    const auto* series = outcome.plan->find("workers/threads/pinned");
    BOOST_TEST_REQUIRE(series);
    BOOST_TEST(outcome.plan->find("workers/processes/unpinned")->cpus.empty());
    return series->cpus;
  };
  BOOST_TEST(cpus_of(settings(Preset::quick)).size() == 8u);
  BOOST_TEST(cpus_of(settings(Preset::quick, "unpinned")).size() == 8u);
  BOOST_TEST(cpus_of(settings(Preset::quick, "cpus:1,3,5")).size() == 3u);
  BOOST_TEST(cpus_of(settings(Preset::quick, "all", {{"workers", "2"}})).size() == 2u);
  // A relation is asked for a pair; workers are not.
  BOOST_TEST(!has(planned(machine, settings(Preset::quick, "smt")), "workers/threads/pinned"));
}

BOOST_AUTO_TEST_CASE(unpinned_alone_plans_no_pairs) {
  const auto list = planned(fixture("two_sockets"), settings(Preset::quick, "unpinned"));
  BOOST_TEST(list.size() == 4u);
  for (const auto& name : list)
    BOOST_TEST(name.starts_with("workers/"), name);
}

BOOST_AUTO_TEST_CASE(large_machines_plan_one_pair_for_each_relation) {
  for (const auto* machine : {"pack:2 l3:8 core:8 pu:1", "pack:2 l3:12 core:8 pu:2"}) {
    const auto list = planned(synthetic(machine), settings(Preset::quick));
    BOOST_TEST(list.size() < 40u, machine);
    BOOST_TEST(has(list, "workers/processes/pinned"));
  }
}

BOOST_AUTO_TEST_CASE(odd_machines_plan) {
  for (const auto* name : {"cpuless_node", "nodeless_cpus", "cgroup", "hybrid", "offline"})
    BOOST_TEST(!planned(fixture(name), settings(Preset::quick)).empty(), name);
  BOOST_TEST(plan_lab(lab, fixture("one_cpu"), settings(Preset::quick)).unsupported != "");
}

BOOST_AUTO_TEST_CASE(a_stride_that_is_no_multiple_of_an_access_is_refused) {
  BOOST_CHECK_EXCEPTION(
      plan_lab(lab, synthetic("core:2 pu:1"), settings(Preset::quick, "all", {{"stride", "12"}})),
      BadInput, says("affinity_migration.stride: a multiple of 8"));
}

BOOST_AUTO_TEST_CASE(the_slowdown_is_taken_process_by_process) {
  LabResult result;
  for (const auto* tasks : {"threads", "processes"})
    for (const bool pinned : {true, false}) {
      Series series;
      series.name = std::string("workers/") + tasks + (pinned ? "/pinned" : "/unpinned");
      const double share = pinned ? 1 : 1.5;
      std::vector<double> medians;
      for (const double pace : {10, 20, 30, 40, 50, 60})
        medians.push_back(pace * share);
      series.metrics = {metric("step", medians)};
      result.series.push_back(series);
    }
  const auto outcome = plan_lab(lab, synthetic("core:2 pu:1"), settings(Preset::quick));
  lab.conclude(*outcome.plan, result);
  for (const auto& series : result.series) {
    const Metric* slowdown = find_metric(series, "slowdown");
    BOOST_TEST((slowdown != nullptr) == series.name.ends_with("unpinned"), series.name);
    if (!slowdown)
      continue;
    BOOST_TEST(slowdown->median.value() == 1.5, boost::test_tools::tolerance(1e-12));
    BOOST_TEST(slowdown->ci.value().low == 1.5, boost::test_tools::tolerance(1e-12));
    BOOST_TEST(slowdown->ci.value().high == 1.5, boost::test_tools::tolerance(1e-12));
  }
}

BOOST_AUTO_TEST_CASE(processes_on_cpus_of_their_own_that_ran_at_once_confirm_the_claim) {
  const auto judgement = judged(four_processes(4, {3.9, 3.95, 3.9, 3.99, 3.97, 3.9}));
  BOOST_TEST((judgement.verdict == Verdict::confirmed));
  BOOST_TEST(judgement.evidence.find("4 processes were seen on 4 CPUs") != std::string::npos);
  BOOST_TEST(judgement.needs == "");
}

BOOST_AUTO_TEST_CASE(processes_that_ran_one_after_another_refute_the_claim) {
  for (const double cpus : {1.0, 4.0})
    BOOST_TEST(
        (judged(four_processes(cpus, {1, 1, 0.99, 1, 1.01, 0.98})).verdict == Verdict::refuted));
}

BOOST_AUTO_TEST_CASE(processes_that_waited_for_somebody_elses_work_refute_nothing) {
  auto result = four_processes(4, {1, 1, 0.99, 1, 1.01, 0.98});
  result.warnings = {make_warning(Code::busy)};
  BOOST_TEST((judged(result).verdict == Verdict::inconclusive));
  BOOST_TEST(judged(result).needs == "a quieter machine");
}

BOOST_AUTO_TEST_CASE(more_processes_than_cpus_decide_nothing_and_say_what_would) {
  const auto judgement = judged(four_processes(2, {2, 2, 2, 2, 2, 2}));
  BOOST_TEST((judgement.verdict == Verdict::inconclusive));
  BOOST_TEST(judgement.needs == "a CPU for each process");
}

BOOST_AUTO_TEST_CASE(processes_that_were_disturbed_or_moved_decide_nothing) {
  BOOST_TEST(
      (judged(four_processes(4, {2.5, 3.9, 3.9, 3.9, 3.9, 3.9})).verdict == Verdict::inconclusive));
  BOOST_TEST(
      (judged(four_processes(3, {3.9, 3.9, 3.9, 3.9, 3.9, 3.9})).verdict == Verdict::inconclusive));
  auto moved = four_processes(4, {3.9, 3.9, 3.9, 3.9, 3.9, 3.9});
  moved.series[0].status = Status::invalid;
  BOOST_TEST((judged(moved).verdict == Verdict::inconclusive));
  BOOST_TEST(judged(moved).needs != "");
}

BOOST_AUTO_TEST_CASE(too_few_processes_or_no_second_cpu_decide_nothing_and_say_what_would) {
  for (const auto& result : {four_processes(4, {3.9}), LabResult{}}) {
    const auto judgement = judged(result);
    BOOST_TEST((judgement.verdict == Verdict::inconclusive));
    BOOST_TEST(judgement.needs == "affinity_migration with 6 processes or more, on 2 CPUs or more");
  }
}
