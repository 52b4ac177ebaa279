#include "lab/apparatus/sleep_overlap.hh"
#include "lab/apparatus/sleep_verdicts.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "tests/metric_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>

namespace schedlab::labs {

extern const harness::Lab io_timers;

}  // namespace schedlab::labs

using namespace schedlab;
using namespace schedlab::harness;
using namespace schedlab::apparatus;

namespace {

const Lab& lab = labs::io_timers;

Settings settings(Preset preset, std::map<std::string, std::string> values = {},
                  const std::string& driver = "auto") {
  return {.preset = preset, .placement = "all", .values = std::move(values), .driver = driver};
}

Series program(const std::string& name, double total, std::vector<Check> checks = {}) {
  Series series;
  series.name = name;
  series.params = {{"step_us", "500"}};
  series.driver = name.ends_with("/epoll") ? "epoll" : "";
  series.metrics = {metric("total", total)};
  series.checks = std::move(checks);
  return series;
}

Check check_of(std::string_view name, double seen, bool ok) {
  return {std::string(name), Value("something"), Value(seen), ok};
}

LabResult result_of(std::vector<Series> series) {
  LabResult result;
  result.series = std::move(series);
  return result;
}

Verdict verdict(Judgement (*judge)(const Findings&), std::vector<Series> series) {
  const LabResult result = result_of(std::move(series));
  const Judgement judgement = judge(Findings(result));
  BOOST_TEST((judgement.verdict == Verdict::inconclusive) == (judgement.needs != ""));
  return judgement.verdict;
}

Series crowd(double cpu_ns, double p99_ns) {
  Series series;
  series.name = "10000/epoll";
  series.driver = "epoll";
  series.params = {{"sleepers", "10000"}, {"period_us", "10000"}};
  series.metrics = {metric("cpu", cpu_ns, "ns"), metric("p99", p99_ns, "ns")};
  return series;
}

Series alone(double late_ns, bool early) {
  Series series;
  series.name = "1/epoll";
  series.driver = "epoll";
  series.params = {{"sleepers", "1"}, {"period_us", "1000"}};
  series.metrics = {metric("late", late_ns, "ns")};
  series.checks = {check_of("sleepers that went on before they were due", early, !early)};
  return series;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_number_of_sleepers_has_every_arm_and_too_many_say_why_not) {
  const auto outcome = plan_lab(lab, synthetic("core:2 pu:1"), settings(Preset::full));
  BOOST_TEST_REQUIRE(outcome.plan);
  for (const auto* name :
       {"1/epoll", "10000/epoll", "1/threads", "100/timerfd", "1/epoll/no-slack",
        "1/threads/no-slack", "threads", "processes-started", "coroutines/epoll"}) {
    const auto* series = outcome.plan->find(name);
    BOOST_TEST_REQUIRE(series, name);
    BOOST_TEST(series->skip == "", name);
    BOOST_TEST(series->cpus.size() == 1u);
  }
  BOOST_TEST(outcome.plan->find("10000/threads")->skip == "at most 1000 threads are measured");
  BOOST_TEST(outcome.plan->find("100000/timerfd")->skip == "at most 10000 timerfds are measured");
}

BOOST_AUTO_TEST_CASE(a_driver_that_was_not_asked_for_is_skipped) {
  const auto outcome = plan_lab(lab, fixture("one_cpu"), settings(Preset::quick, {}, "epoll"));
  BOOST_TEST_REQUIRE(outcome.plan);
  BOOST_TEST(outcome.plan->find("1/io_uring")->skip == "--driver epoll");
  BOOST_TEST(outcome.plan->find("coroutines/io_uring")->skip == "--driver epoll");
  BOOST_TEST(outcome.plan->find("sequential/epoll")->skip == "");
  BOOST_TEST(!outcome.plan->find("sequential/io_uring"));
  BOOST_TEST(outcome.plan->find("1/epoll")->skip == "");
  BOOST_TEST(outcome.plan->find("1/epoll")->driver == "epoll");
  BOOST_TEST(outcome.plan->find("1/threads")->driver == "");
}

BOOST_AUTO_TEST_CASE(odd_machines_plan) {
  for (const auto* name : {"cpuless_node", "nodeless_cpus", "cgroup", "hybrid", "offline"}) {
    const auto outcome = plan_lab(lab, fixture(name), settings(Preset::quick));
    BOOST_TEST_REQUIRE(outcome.plan, name);
    BOOST_TEST(outcome.plan->runnable() > 15u, name);
  }
}

BOOST_AUTO_TEST_CASE(programs_of_the_parameter_are_those_of_the_apparatus) {
  const auto param = std::ranges::find(lab.params, "program", &Param::name);
  BOOST_TEST(param->words.size() == overlap_programs().size());
  for (const auto name : overlap_programs())
    BOOST_TEST((std::ranges::find(param->words, name) != param->words.end()), name);
}

BOOST_AUTO_TEST_CASE(sleepers_that_take_the_time_of_one_confirm_and_of_two_refute) {
  const auto turns = [](double seen) { return check_of(turns_check, seen, seen > 1); };
  const auto both = [&](double total, double seen) {
    BOOST_TEST(
        (verdict(judge_two_threads, {program("threads", total, {turns(seen)})}) ==
         verdict(judge_two_coroutines, {program("coroutines/epoll", total, {turns(seen)})})));
    BOOST_TEST((verdict(judge_two_threads, {program("threads", total, {turns(seen)})}) ==
                verdict(judge_two_processes, {program("processes", total, {turns(seen)})})));
    return verdict(judge_two_threads, {program("threads", total, {turns(seen)})});
  };
  BOOST_TEST((both(1.1, 15) == Verdict::confirmed));
  BOOST_TEST((both(2.0, 15) == Verdict::refuted));
  BOOST_TEST((both(1.1, 1) == Verdict::refuted));  // one after the other
  BOOST_TEST((both(1.5, 15) == Verdict::inconclusive));
  Series moved = program("threads", 1.1, {turns(15), check_of("CPUs", 2, false)});
  moved.status = Status::invalid;
  BOOST_TEST((verdict(judge_two_threads, {moved}) == Verdict::inconclusive));
  BOOST_TEST((verdict(judge_two_threads, {}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(starting_processes_is_told_beside_their_overlap) {
  const auto turns = check_of(turns_check, 19, true);
  const auto result =
      result_of({program("processes", 1.1, {turns}), program("processes-started", 1.5, {turns})});
  const auto judgement = judge_two_processes(Findings(result));
  // 0.4 of ten steps of 500 us
  BOOST_TEST(judgement.evidence.find("adds 2.00 ms") != std::string::npos, judgement.evidence);
}

BOOST_AUTO_TEST_CASE(computing_that_holds_up_timers_confirms_and_timers_that_go_on_refute) {
  const auto of = [](double pair, double brief, double lasting) {
    return verdict(judge_computing_in_a_loop,
                   {program("compute-pair/epoll", pair), program("slice-short/epoll", brief),
                    program("slice-long/epoll", lasting)});
  };
  BOOST_TEST((of(2.0, 1.01, 1.0) == Verdict::confirmed));
  BOOST_TEST((of(1.0, 1.01, 1.0) == Verdict::refuted));
  BOOST_TEST((of(2.0, 0.1, 1.0) == Verdict::refuted));
  BOOST_TEST((of(2.0, 1.0, 1.3) == Verdict::inconclusive));
  BOOST_TEST((verdict(judge_computing_in_a_loop, {}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(a_sleep_that_ends_early_or_much_too_late_refutes) {
  BOOST_TEST((verdict(judge_sleep, {alone(60e3, false)}) == Verdict::confirmed));
  BOOST_TEST((verdict(judge_sleep, {alone(60e3, true)}) == Verdict::refuted));
  BOOST_TEST((verdict(judge_sleep, {alone(60e6, false)}) == Verdict::refuted));
  BOOST_TEST((verdict(judge_sleep, {alone(10e6, false)}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(ticks_during_a_wait_decide_whether_it_blocks_the_thread) {
  const auto of = [](double total, double ticks) {
    return program("sequential/epoll", total, {check_of(ticks_check, ticks, ticks > 0)});
  };
  BOOST_TEST((verdict(judge_await_blocks_no_thread, {of(2, 9)}) == Verdict::confirmed));
  BOOST_TEST((verdict(judge_await_blocks_no_thread, {of(2, 0)}) == Verdict::refuted));
  BOOST_TEST((verdict(judge_await_blocks_no_thread, {}) == Verdict::inconclusive));
  BOOST_TEST((verdict(judge_awaits_in_sequence, {of(2.05, 9)}) == Verdict::confirmed));
  BOOST_TEST((verdict(judge_awaits_in_sequence, {of(2.05, 0)}) == Verdict::refuted));
  BOOST_TEST((verdict(judge_awaits_in_sequence, {of(1.02, 9)}) == Verdict::refuted));
  BOOST_TEST((verdict(judge_awaits_in_sequence, {of(1.7, 9)}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(
    a_started_task_takes_no_time_of_its_own_no_thread_and_does_not_wait_for_await) {
  const auto of = [](double total, bool began, double threads) {
    return verdict(judge_create_task, {program("create_task/epoll", total,
                                               {check_of(began_check, 4, began),
                                                check_of(threads_check, threads, threads == 1)})});
  };
  BOOST_TEST((of(1.02, true, 1) == Verdict::confirmed));
  BOOST_TEST((of(1.5, true, 1) == Verdict::refuted));
  BOOST_TEST((of(1.02, false, 1) == Verdict::refuted));
  BOOST_TEST((of(1.02, true, 2) == Verdict::refuted));
  BOOST_TEST((of(1.25, true, 1) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(many_waits_are_served_while_few_of_them_are_late) {
  BOOST_TEST((verdict(judge_many_waits, {crowd(300, 80e3)}) == Verdict::confirmed));
  BOOST_TEST((verdict(judge_many_waits, {crowd(300, 20e6)}) == Verdict::refuted));
  BOOST_TEST((verdict(judge_many_waits, {crowd(300, 5e6)}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(every_claim_is_judged_without_series_as_what_it_needs) {
  BOOST_TEST(lab.claims.size() == 9u);
  for (const auto& claim : lab.claims) {
    const LabResult nothing;
    const auto judgement = claim.judge(Findings(nothing));
    BOOST_TEST((judgement.verdict == Verdict::inconclusive), claim.id);
    BOOST_TEST(judgement.needs != "", claim.id);
  }
  BOOST_TEST(lab.answer(Findings(LabResult{})) == "No sleeper could be measured.");
}
