#include "affinity/pin.hh"
#include "lab/apparatus/pool_kills.hh"
#include "lab/apparatus/pool_loop.hh"
#include "lab/apparatus/survival_verdicts.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"
#include "tests/memory_case.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <deque>

using namespace schedlab;
using namespace schedlab::harness;
using apparatus::step_series;
using procs::Step;

namespace {

const Lab& lab() {
  return **std::ranges::find(all_labs(), "pool_survival", &Lab::name);
}

PlanOutcome plan_on(const char* machine, const std::map<std::string, std::string>& values = {}) {
  // A plan refers to its machine.
  static std::deque<affinity::Topology> machines;
  machines.push_back(synthetic(machine));
  return plan_lab(lab(), machines.back(),
                  {.preset = Preset::quick, .values = values, .processes = 6});
}

Metric of_runs(std::string_view name, const std::vector<double>& values) {
  Metric metric;
  metric.name = name;
  for (std::uint32_t process = 0; process < values.size(); ++process)
    metric.per_run.push_back({process, {}, 1, values[process], {values[process]}, {}});
  metric.median = median(values);
  metric.ci = median_interval(values);
  return metric;
}

// Every step with so many kills.
LabResult killed(double kills) {
  LabResult result = blank_result(lab());
  for (std::size_t i = 0; i < procs::step_count; ++i) {
    Series series;
    series.name = step_series(static_cast<Step>(i));
    series.metrics = {of_runs("kills", {kills})};
    series.checks = {{"kills landed", 1.0, 1.0, true}};
    result.series.push_back(series);
  }
  return result;
}

// A loop's sleeper, late by so much beside work here and in a pool.
LabResult looped(double here, double there, bool survived) {
  LabResult result = blank_result(lab());
  const std::pair<const char*, double> arms[] = {
      {"loop/here", here}, {"loop/in-pool", there}, {"loop/crash", there}};
  for (const auto& [name, value] : arms) {
    Series series;
    series.name = name;
    std::vector<double> values;
    for (int process = 0; process < 6; ++process)
      values.push_back(value * (1 + 0.001 * process));
    series.metrics = {of_runs("late", values)};
    series.checks = {
        {std::string(apparatus::pieces_check), 1.0, 1.0, series.name != "loop/crash" || survived}};
    result.series.push_back(series);
  }
  return result;
}

Judgement survival(const LabResult& result) {
  return apparatus::judge_survival(Findings(result));
}
Judgement offload(const LabResult& result) {
  return apparatus::judge_offload(Findings(result));
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_step_of_the_protocol_is_a_series_on_every_machine) {
  for (const char* machine : {"pu:1", "pu:2", "node:2 core:64 pu:3"}) {
    const auto outcome = plan_on(machine);
    BOOST_TEST_REQUIRE(outcome.unsupported == "");
    for (std::size_t i = 0; i < procs::step_count; ++i) {
      const auto* series = outcome.plan->find(step_series(static_cast<Step>(i)));
      BOOST_TEST_REQUIRE(series != nullptr);
      BOOST_TEST(series->skip == "");
    }
    for (const char* name : {"parent/outside", "outside", "poison", "timeout", "memory",
                             "loop/here", "loop/in-pool", "loop/crash"})
      BOOST_TEST(outcome.plan->find(name) != nullptr);
    BOOST_TEST(outcome.plan->find("outside/python") == nullptr);
  }
}

BOOST_AUTO_TEST_CASE(the_parts_that_are_asked_for_are_planned) {
  const auto outcome = plan_on("pu:2", {{"part", "poison,loop"}});
  BOOST_TEST(outcome.plan->find("poison") != nullptr);
  BOOST_TEST(outcome.plan->find("outside") == nullptr);
  BOOST_TEST(outcome.plan->find("worker/done") == nullptr);
  const auto python = plan_on("pu:2", {{"python", "/nowhere/python3"}});
  BOOST_TEST_REQUIRE(python.plan->find("outside/python") != nullptr);
  BOOST_TEST(python.plan->find("outside/python")->skip != "");
}

BOOST_AUTO_TEST_CASE(a_task_that_outgrows_its_cgroup_dies_as_often_as_it_may_and_nobody_else_does,
                     *boost::unit_test::precondition(testing::a_cage_may_be_made)) {
  apparatus::PoolKillOptions options;
  options.usable = affinity::thread_affinity();
  options.how = apparatus::PoolKill::memory;
  options.metrics = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto subject = apparatus::make_pool_kills(options);
  const Sample sample = subject->sample(2);
  BOOST_TEST(sample.values[options.metrics.kills] == 4);
  for (const auto index : {options.metrics.lost, options.metrics.doubled, options.metrics.hurt,
                           options.metrics.unnamed})
    BOOST_TEST(sample.values[index] == 0);
  for (const auto& check : subject->checks())
    BOOST_TEST(check.ok, check.name);
}

BOOST_AUTO_TEST_CASE(survival_is_confirmed_by_enough_kills_that_cost_nobody_anything) {
  BOOST_TEST((survival(killed(20)).verdict == Verdict::confirmed));
  const Judgement few = survival(killed(19));
  BOOST_TEST((few.verdict == Verdict::inconclusive));
  BOOST_TEST(few.needs != "");
  LabResult missing = killed(20);
  missing.series.pop_back();
  BOOST_TEST((survival(missing).verdict == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(survival_is_refuted_by_one_task_that_is_lost) {
  for (const char* name : {"lost", "doubled", "hurt", "unnamed", "left"}) {
    LabResult result = killed(1000);
    result.series[5].metrics.push_back(of_runs(name, {0, 1}));
    BOOST_TEST((survival(result).verdict == Verdict::refuted));
  }
  for (const auto check : {apparatus::harmless_check, apparatus::nobody_left_check}) {
    LabResult failed = killed(1000);
    failed.series[5].checks.push_back({std::string(check), 0.0, 1.0, false});
    failed.series[5].status = Status::invalid;
    BOOST_TEST((survival(failed).verdict == Verdict::refuted));
  }
  // That too few kills landed, or somebody migrated, hurt no task.
  LabResult missed = killed(1000);
  missed.series[5].checks.front().ok = false;
  missed.series[5].status = Status::invalid;
  BOOST_TEST((survival(missed).verdict == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(what_another_pool_loses_says_nothing_of_ours) {
  LabResult result = killed(20);
  Series python;
  python.name = "outside/python";
  python.metrics = {of_runs("kills", {1}), of_runs("lost", {6})};
  result.series.push_back(python);
  BOOST_TEST((survival(result).verdict == Verdict::confirmed));
}

BOOST_AUTO_TEST_CASE(offloading_is_judged_by_lateness_and_by_the_crash) {
  BOOST_TEST((offload(looped(5e6, 2e5, true)).verdict == Verdict::confirmed));
  BOOST_TEST((offload(looped(5e6, 4e6, true)).verdict == Verdict::refuted));
  BOOST_TEST((offload(looped(5e6, 2e5, false)).verdict == Verdict::refuted));
  BOOST_TEST((offload(looped(5e6, 2.5e6, true)).verdict == Verdict::inconclusive));
  BOOST_TEST((offload(killed(20)).verdict == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(counts_are_summed_over_samples_and_processes) {
  LabResult result = killed(1);
  auto& series = result.series.front();
  series.metrics = {of_runs("kills", {4, 8, 12})};
  series.metrics.front().per_run[1].values = {4, 4, 4};
  const auto outcome = plan_on("pu:2");
  lab().conclude(*outcome.plan, result);
  BOOST_TEST(apparatus::total_of(result.series.front(), "kills") == 28);
  BOOST_TEST(*result.series.front().metrics.front().median == 28);
  BOOST_TEST(lab().answer(Findings(result)).find("kills lost") != std::string::npos);
}
