#include "lab/apparatus/lateness.hh"
#include "lab/apparatus/task_rules.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"
#include "tests/metric_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>

using namespace schedlab;
using namespace schedlab::harness;

namespace {

const Lab& lab() {
  return **std::ranges::find(all_labs(), "io_tasks", &Lab::name);
}

using Values = std::map<std::string, std::string>;

PlanOutcome plan_on(const affinity::Topology& topology, const Values& values = {},
                    const std::string& place = "all") {
  return plan_lab(lab(), topology,
                  {.preset = Preset::quick,
                   .placement = place,
                   .values = values,
                   .driver = "epoll",
                   .processes = 6});
}

// One number of a series: {"gather/100", "each", 70}.
struct Number {
  std::string series;
  std::string metric;
  double value;
};

// A result with these numbers, in six processes that differ by a promille.
LabResult measured(const std::vector<Number>& numbers) {
  LabResult result = blank_result(lab());
  for (const auto& [name, metric_name, value] : numbers) {
    auto series = std::ranges::find(result.series, name, &Series::name);
    if (series == result.series.end()) {
      result.series.emplace_back().name = name;
      series = result.series.end() - 1;
    }
    series->metrics.push_back(metric(metric_name, about(value)));
  }
  return result;
}

Verdict judged(std::string_view id, const LabResult& result) {
  const auto judgement =
      std::ranges::find(lab().claims, id, &ClaimInfo::id)->judge(Findings(result));
  BOOST_TEST(judgement.needs.empty() == (judgement.verdict != Verdict::inconclusive));
  return judgement.verdict;
}
Verdict verdict(std::string_view id, const std::vector<Number>& numbers) {
  return judged(id, measured(numbers));
}

// The same, where a check of one series failed.
Verdict verdict_failing(std::string_view id, const std::vector<Number>& numbers,
                        std::string_view check = "something") {
  LabResult result = measured(numbers);
  result.series.front().checks.push_back({std::string(check), 2, 1, false});
  return judged(id, result);
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_part_is_planned_on_machines_of_any_size) {
  for (const auto* machine : {"pu:1", "core:2 pu:1", "pack:2 numa:1 core:96 pu:2"}) {
    const auto outcome = plan_on(synthetic(machine));
    BOOST_TEST(outcome.unsupported == "");
    for (const auto* name : {"await", "gather/100000", "waiting/tasks", "waiting/threads",
                             "length/100/tasks", "length/10000000/threads", "rules/order",
                             "late/to-thread", "to-thread/same-pu", "thread", "process"}) {
      const auto* series = outcome.plan->find(name);
      BOOST_TEST_REQUIRE(series, name);
      BOOST_TEST(series->skip == "", name);
    }
    BOOST_TEST(outcome.plan->find("await")->driver == "epoll");
    BOOST_TEST(outcome.plan->find("thread")->driver == "");
  }
}

BOOST_AUTO_TEST_CASE(a_call_goes_to_a_thread_on_every_relation) {
  const auto topology = synthetic("pack:2 numa:1 l3:1(size=32MiB) core:4 pu:2");
  const auto outcome = plan_on(topology);
  for (const auto* relation : {"same-pu", "smt", "l3", "remote"})
    BOOST_TEST(outcome.plan->find(std::string("to-thread/") + relation)->skip == "");
  BOOST_TEST(outcome.plan->find("to-thread/unpinned")->skip != "");
}

BOOST_AUTO_TEST_CASE(only_the_part_asked_for_is_planned_and_nonsense_is_refused) {
  const auto topology = synthetic("core:2 pu:1");
  const auto outcome = plan_on(topology, {{"part", "gather"}, {"gather", "7"}});
  BOOST_TEST(outcome.plan->find("gather/7"));
  BOOST_TEST(!outcome.plan->find("gather/10"));
  BOOST_TEST(!outcome.plan->find("await"));
  BOOST_CHECK_EXCEPTION(check_value(lab(), "part", "all"), BadInput, says("all"));
  BOOST_CHECK_THROW(check_value(lab(), "gather", "0"), BadInput);
  BOOST_CHECK_THROW(check_value(lab(), "threads", "1"), BadInput);
}

BOOST_AUTO_TEST_CASE(threads_win_from_where_their_time_for_a_piece_falls_below_that_of_tasks) {
  const auto outcome = plan_on(synthetic("core:2 pu:1"), {{"length", "1000,100,10000"}});
  const auto result = [&](double at_10000) {
    LabResult made = measured({{"length/100/calls", "each", 100},
                               {"length/100/tasks", "each", 200},
                               {"length/100/threads", "each", 20'000},
                               {"length/1000/tasks", "each", 1100},
                               {"length/1000/threads", "each", 11'000},
                               {"length/10000/tasks", "each", 10'000},
                               {"length/10000/threads", "each", at_10000}});
    lab().conclude(*outcome.plan, made);
    return made;
  };
  const LabResult crossing = result(1000);
  const Findings found(crossing);
  // Ten times slower at 1000 and ten times faster at 10000: half way on a scale of logarithms.
  BOOST_TEST(*found.metric("length/crossover", "each")->median == 1000 * std::sqrt(10.0),
             boost::test_tools::tolerance(0.001));
  BOOST_TEST(*found.metric("length/100/tasks", "speedup")->median == 0.5,
             boost::test_tools::tolerance(0.001));
  BOOST_TEST(!found.metric("length/100/calls", "speedup"));
  const LabResult never = result(10'100);
  BOOST_TEST(!Findings(never).series("length/crossover"));
}

BOOST_AUTO_TEST_CASE(one_thread_that_sleeps_once_a_wait_confirms_the_single_thread) {
  BOOST_TEST((verdict("C22", {{"rules/waits", "switches", 1}}) == Verdict::confirmed));
  BOOST_TEST((verdict("C22", {{"rules/waits", "switches", 3}}) == Verdict::refuted));
  BOOST_TEST((verdict_failing("C22", {{"rules/waits", "switches", 1}},
                              apparatus::waiting_thread_check) == Verdict::refuted));
  BOOST_TEST((verdict_failing("C22", {{"rules/waits", "switches", 1}}) == Verdict::inconclusive));
  BOOST_TEST((verdict("C22", {}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(order_and_sum_confirm_that_tasks_run_one_after_the_other) {
  BOOST_TEST((verdict("C23", {{"rules/order", "speedup", 0.99}}) == Verdict::confirmed));
  BOOST_TEST((verdict("C23", {{"rules/order", "speedup", 1.9}}) == Verdict::refuted));
  BOOST_TEST((verdict_failing("C23", {{"rules/order", "speedup", 0.99}},
                              apparatus::in_order_check) == Verdict::refuted));
  BOOST_TEST((verdict_failing("C23", {{"rules/order", "speedup", 0.99}}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(far_more_tasks_than_threads_fit_into_memory_or_not) {
  const auto held = [](double task, double thread) {
    return verdict("C26", {{"waiting/tasks", "resident", task},
                           {"waiting/threads", "resident", thread},
                           {"waiting/threads", "reserved", 8e6}});
  };
  BOOST_TEST((held(250, 8000) == Verdict::confirmed));
  BOOST_TEST((held(4000, 8000) == Verdict::refuted));
  BOOST_TEST((verdict("C26", {{"waiting/tasks", "resident", 250}}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(the_ranks_hold_only_in_their_order) {
  const auto rank = [](double task, double thread, double process) {
    return verdict(
        "C72", {{"start", "each", task}, {"thread", "each", thread}, {"process", "each", process}});
  };
  BOOST_TEST((rank(100, 10'000, 100'000) == Verdict::confirmed));
  BOOST_TEST((rank(100, 100'000, 10'000) == Verdict::refuted));
  BOOST_TEST((rank(20'000, 10'000, 100'000) == Verdict::refuted));
  BOOST_TEST((verdict("C72", {{"start", "each", 100}}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(lost_updates_refute_that_tasks_share_nothing) {
  const auto lost = [](double with_wait) {
    return std::vector<Number>{{"rules/update-yields", "lost", with_wait},
                               {"rules/update", "lost", 0}};
  };
  BOOST_TEST((verdict("C74", lost(0.5)) == Verdict::refuted));
  BOOST_TEST((verdict("C74", lost(0)) == Verdict::confirmed));
  BOOST_TEST((verdict_failing("C74", lost(0.5)) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(tasks_are_best_when_light_if_threads_catch_up_with_length) {
  const auto times = [](double threads_short, double threads_long) {
    return verdict("C75", {{"length/100/tasks", "each", 100},
                           {"length/100/threads", "each", threads_short},
                           {"length/1000000/tasks", "each", 1e6},
                           {"length/1000000/threads", "each", threads_long}});
  };
  BOOST_TEST((times(10'000, 1e6) == Verdict::confirmed));
  BOOST_TEST((times(150, 1e6) == Verdict::refuted));
  BOOST_TEST((times(10'000, 2e6) == Verdict::refuted));
}

BOOST_AUTO_TEST_CASE(a_call_in_a_thread_leaves_the_loop_free_or_not) {
  const auto late = [](double with_call) {
    return std::vector<Number>{{"late/to-thread", "late", with_call},
                               {"late/alone", "late", 60e3},
                               {"late/blocked", "late", 4.9e6},
                               {"to-thread/same-pu", "each", 5e3}};
  };
  BOOST_TEST((verdict("C89", late(90e3)) == Verdict::confirmed));
  BOOST_TEST((verdict("C89", late(4.9e6)) == Verdict::refuted));
  BOOST_TEST((verdict_failing("C89", late(90e3), apparatus::elsewhere_check) == Verdict::refuted));
  BOOST_TEST((verdict_failing("C89", late(90e3)) == Verdict::inconclusive));
}
