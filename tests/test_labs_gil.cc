#include "lab/apparatus/convoy.hh"
#include "lab/apparatus/convoy_verdicts.hh"
#include "lab/apparatus/counting.hh"
#include "lab/apparatus/gil_verdicts.hh"
#include "lab/apparatus/interpreted.hh"
#include "lab/apparatus/started_loops.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "tests/metric_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>

namespace schedlab::labs {

extern const harness::Lab gil_threads;
extern const harness::Lab gil_convoy;
extern const harness::Lab gil_refcount;
extern const harness::Lab speedup_cpu;

}  // namespace schedlab::labs

using namespace schedlab;
using namespace schedlab::apparatus;
using namespace schedlab::harness;
using procs::LockRule;

namespace {

const Lab* const all[] = {&labs::gil_threads, &labs::gil_convoy, &labs::gil_refcount,
                          &labs::speedup_cpu};

Settings settings(Preset preset, std::map<std::string, std::string> values = {}) {
  return {.preset = preset, .placement = "all", .values = std::move(values), .driver = "auto"};
}

Series series(const std::string& name, Fields params, std::vector<Metric> metrics,
              std::vector<unsigned> cpus = {0, 1}) {
  Series made;
  made.name = name;
  made.params = std::move(params);
  made.placement.cpus = std::move(cpus);
  made.metrics = std::move(metrics);
  return made;
}

// One way to run tasks, by the cores that it used.
Series way(unsigned tasks, const std::string& word, double cores,
           std::vector<unsigned> cpus = {0, 1}) {
  return series(tasks_name(tasks, word), {{"tasks", tasks}, {"loop", "1000"}},
                {metric("time", 1e8 / cores), metric("cores", cores), metric("held", 0.99),
                 metric("turns", 0.9), metric("waits", word == "processes" ? 0 : 20)},
                std::move(cpus));
}

Series hashing(std::uint64_t block, const std::string& word, double cores) {
  return series(hash_name(block, word), {{"block", block}},
                {metric("time", 1e7 / cores), metric("cores", cores)});
}

Verdict verdict(Judgement (*judge)(const Findings&), std::vector<Series> all_series) {
  LabResult result;
  result.series = std::move(all_series);
  const Judgement judgement = judge(Findings(result));
  BOOST_TEST((judgement.verdict == Verdict::inconclusive) == !judgement.needs.empty());
  return judgement.verdict;
}

Judgement (*judge_of(const Lab& lab, std::string_view id))(const Findings&) {
  const auto found = std::ranges::find(lab.claims, id, &ClaimInfo::id);
  BOOST_TEST_REQUIRE((found != lab.claims.end()));
  return found->judge;
}

using enum Verdict;

}  // namespace

BOOST_AUTO_TEST_CASE(the_labs_plan_on_machines_of_any_shape) {
  for (const Lab* lab : all)
    for (const auto* machine :
         {"pu:1", "core:2 pu:1", "pack:2 core:32 pu:2", "pack:4 core:48 pu:2"}) {
      const auto topology = synthetic(machine);
      const auto outcome = plan_lab(*lab, topology, settings(Preset::quick));
      BOOST_TEST_REQUIRE(outcome.plan, lab->name << " on " << machine << outcome.unsupported);
      BOOST_TEST(outcome.plan->runnable() > 5u, lab->name << " on " << machine);
    }
  for (const Lab* lab : all)
    for (const auto* name : {"one_cpu", "cpuless_node", "nodeless_cpus", "cgroup", "offline"}) {
      const auto topology = fixture(name);
      const auto outcome = plan_lab(*lab, topology, settings(Preset::full));
      BOOST_TEST_REQUIRE(outcome.plan, lab->name << " on " << name);
      for (const auto& planned : outcome.plan->series())
        for (const unsigned cpu : planned.cpus)
          BOOST_TEST(topology.usable().contains(cpu), planned.name);
    }
}

BOOST_AUTO_TEST_CASE(counting_threads_have_a_cpu_each_and_one_cpu_says_what_it_lacks) {
  const auto single = fixture("one_cpu"), wide = synthetic("pack:4 core:48 pu:2");
  const auto outcome = plan_lab(labs::gil_refcount, single, settings(Preset::quick));
  BOOST_TEST(outcome.plan->find("plain/unlocked")->skip.starts_with("needs 2 usable CPUs"));
  const auto large = plan_lab(labs::gil_refcount, wide, settings(Preset::quick));
  BOOST_TEST(large.plan->find("shared/biased/16"));
  BOOST_TEST(!large.plan->find("shared/biased/32"));
  for (const auto& planned : large.plan->series()) {
    auto cpus = planned.cpus;
    std::ranges::sort(cpus);
    BOOST_TEST((std::ranges::adjacent_find(cpus) == cpus.end()), planned.name);
  }
}

BOOST_AUTO_TEST_CASE(locations_say_where_the_tasks_run) {
  auto chosen = settings(Preset::quick);
  chosen.placement = "cpus:1,3";
  const auto topology = synthetic("core:4 pu:1");
  const auto outcome = plan_lab(labs::gil_threads, topology, chosen);
  BOOST_TEST(outcome.plan->find("10/processes")->cpus == (std::vector<unsigned>{1, 3}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(every_claim_needs_something_where_nothing_was_measured) {
  const LabResult nothing;
  for (const Lab* lab : all) {
    for (const auto& claim : lab->claims) {
      const auto judgement = claim.judge(Findings(nothing));
      const bool open = judgement.verdict == inconclusive && !judgement.needs.empty();
      BOOST_TEST((open || judgement.verdict == untestable), claim.id);
    }
    BOOST_TEST(lab->answer(Findings(nothing)).find(" could be ") != std::string::npos, lab->name);
  }
}

BOOST_AUTO_TEST_CASE(the_lock_costs_parallelism_where_threads_without_it_gain) {
  const auto of = [](double with, double without, std::vector<unsigned> cpus = {0, 1}) {
    return verdict(judge_parallelism_lost,
                   {way(10, "interval", with, cpus), way(10, "none", without, cpus)});
  };
  BOOST_TEST((of(0.98, 1.8) == confirmed));
  BOOST_TEST((of(1.8, 1.8) == refuted));
  BOOST_TEST((of(0.98, 1.02) == inconclusive));
  BOOST_TEST((of(0.98, 1.02, {0}) == inconclusive));
  BOOST_TEST((verdict(judge_threads_for_computing,
                      {way(10, "interval", 0.98), way(10, "none", 1.8)}) == refuted));
  BOOST_TEST((verdict(judge_threads_for_computing,
                      {way(10, "interval", 1.8), way(10, "none", 1.8)}) == confirmed));
  BOOST_TEST(
      (verdict(judge_loops_in_threads, {way(2, "interval", 1), way(2, "none", 1.9)}) == refuted));
  BOOST_TEST((verdict(judge_loops_in_threads, {way(2, "interval", 1.9), way(2, "none", 1.9)}) ==
              confirmed));
  BOOST_TEST((verdict(judge_loops_in_threads, {way(2, "interval", 1), way(2, "none", 1)}) ==
              inconclusive));
}

BOOST_AUTO_TEST_CASE(holders_that_overlap_refute_the_mutex) {
  const auto of = [](double overlaps, double held) {
    auto made = way(10, "interval", 1);
    made.metrics[2] = metric("held", held);
    made.checks = {{std::string(overlaps_check), Value(0), Value(overlaps), overlaps == 0}};
    return verdict(judge_one_at_a_time, {made});
  };
  BOOST_TEST((of(0, 0.99) == confirmed));
  BOOST_TEST((of(3, 0.99) == refuted));
  BOOST_TEST((of(0, 1.7) == refuted));
}

BOOST_AUTO_TEST_CASE(hashing_without_the_lock_decides_what_extensions_gain) {
  const auto of = [](double released) {
    return std::vector<Series>{hashing(64, "serial", 1),
                               hashing(64, "released", 0.3),
                               hashing(65536, "serial", 1),
                               hashing(65536, "held", 1),
                               hashing(65536, "released", released),
                               way(10, "none", 1.0)};
  };
  BOOST_TEST((verdict(judge_released_hashing, of(1.9)) == confirmed));
  BOOST_TEST((verdict(judge_released_hashing, of(1.0)) == refuted));
  BOOST_TEST((verdict(judge_released_hashing, of(1.12)) == inconclusive));
  BOOST_TEST((verdict(judge_limited_to_io, of(1.9)) == refuted));
  BOOST_TEST((verdict(judge_limited_to_io, of(1.0)) == confirmed));
  BOOST_TEST((verdict(judge_limited_to_io, of(1.12)) == inconclusive));
  LabResult result;
  result.series = of(1.9);
  const auto even = break_even(Findings(result));
  BOOST_TEST_REQUIRE(even.has_value());
  BOOST_TEST((even->from.value > 64 && even->from.value < 65536));
  BOOST_TEST(text_of_bytes(*even).starts_with("from blocks of "));
}

BOOST_AUTO_TEST_CASE(processes_escape_and_have_locks_of_their_own) {
  BOOST_TEST((verdict(judge_processes_escape, {way(10, "processes", 1.9), way(10, "none", 1.8)}) ==
              confirmed));
  BOOST_TEST((verdict(judge_processes_escape, {way(10, "processes", 1.0)}) == refuted));
  BOOST_TEST((verdict(judge_processes_escape, {way(10, "processes", 1.9, {0})}) == inconclusive));
  auto meeting = way(10, "processes", 1.9);
  BOOST_TEST((verdict(judge_own_locks, {meeting, way(10, "interval", 1)}) == confirmed));
  meeting.metrics[4] = metric("waits", 3);
  BOOST_TEST((verdict(judge_own_locks, {meeting, way(10, "interval", 1)}) == refuted));
  auto apart = way(10, "interval", 1);
  apart.metrics[4] = metric("waits", 0);
  BOOST_TEST((verdict(judge_own_locks, {way(10, "processes", 1.9), apart}) == inconclusive));
}

BOOST_AUTO_TEST_CASE(the_articles_numbers_are_judged_by_their_shape) {
  const auto two = [](double cores) {
    return verdict(judge_two_counting_threads, {way(2, "serial", 1), way(2, "interval", cores)});
  };
  BOOST_TEST((two(0.95) == confirmed));
  BOOST_TEST((two(0.5) == refuted));
  BOOST_TEST((two(1.8) == refuted));
  auto scattered = way(2, "interval", 1);
  for (std::size_t i = 0; i < scattered.metrics[0].per_run.size(); ++i)
    *scattered.metrics[0].per_run[i].median *= i % 2 == 0 ? 0.85 : 1.05;
  BOOST_TEST(
      (verdict(judge_two_counting_threads, {way(2, "serial", 1), scattered}) == inconclusive));
  const auto ten = [](double cores) {
    return verdict(judge_ten_threads, {way(10, "interval", cores)});
  };
  BOOST_TEST((ten(0.97) == confirmed));
  BOOST_TEST((ten(1.5) == refuted));
  BOOST_TEST((ten(0.5) == refuted));
  BOOST_TEST((ten(0.8) == inconclusive));
  const auto third = [](double cores, std::vector<unsigned> cpus) {
    return verdict(judge_less_than_a_third,
                   {way(10, "interval", 1, cpus), way(10, "processes", cores, cpus)});
  };
  BOOST_TEST((third(3.5, {0, 1, 2, 3}) == confirmed));
  BOOST_TEST((third(2.5, {0, 1, 2, 3}) == refuted));
  BOOST_TEST((third(1.9, {0, 1}) == inconclusive));
  auto right = way(10, "interval", 1);
  right.checks = {{std::string(results_check), Value(0), Value(0), true}};
  BOOST_TEST((verdict(judge_results, {right}) == confirmed));
  right.checks[0].ok = false;
  BOOST_TEST((verdict(judge_results, {right}) == refuted));
}

BOOST_AUTO_TEST_CASE(the_convoy_is_judged_by_waits_in_intervals) {
  const auto of = [](double alone, double wait_ns) {
    return verdict(judge_convoy,
                   {series("alone/interval", {}, {metric("turn", alone)}),
                    series("alone/none", {}, {metric("turn", 10)}),
                    series(convoy_name("echo", 1, LockRule::interval, 5000),
                           {{"rule", "interval"}, {"interval_us", 5000}, {"computing", 1}},
                           {metric("wait", wait_ns)})});
  };
  BOOST_TEST((of(10.1, 5.1e6) == confirmed));
  BOOST_TEST((of(13, 5.1e6) == refuted));
  BOOST_TEST((of(10.1, 1e4) == refuted));
  BOOST_TEST((of(10.1, 1.5e6) == inconclusive));
  const auto sleepers = [](double released) {
    return verdict(judge_release_for_io,
                   {series("sleepers/released", {}, {metric("rate", released)}),
                    series("sleepers/held", {}, {metric("rate", 100)})});
  };
  BOOST_TEST((sleepers(200) == confirmed));
  BOOST_TEST((sleepers(100) == refuted));
  BOOST_TEST((sleepers(140) == inconclusive));
  const auto crowd = [](double with) {
    return verdict(judge_io_under_the_lock,
                   {series(crowd_of_io(LockRule::interval, 0), {}, {metric("rate", with)}),
                    series(crowd_of_io(LockRule::none, 0), {}, {metric("rate", 100)}),
                    series(crowd_of_io(LockRule::interval, 1), {}, {metric("rate", 10)}),
                    series(crowd_of_io(LockRule::none, 1), {}, {metric("rate", 100)})});
  };
  BOOST_TEST((crowd(98) == confirmed));
  BOOST_TEST((crowd(40) == refuted));
  BOOST_TEST((crowd(70) == inconclusive));
  const auto one_cpu = [](double most, unsigned threads = 16) {
    return verdict(judge_one_core,
                   {series(one_cpu_name(1), {{"io", 1}}, {metric("running", 0.1)}),
                    series(one_cpu_name(threads), {{"io", threads}}, {metric("running", most)})});
  };
  BOOST_TEST((one_cpu(0.4, 4) == inconclusive));
  BOOST_TEST((one_cpu(0.97) == confirmed));
  BOOST_TEST((one_cpu(0.4) == refuted));
  BOOST_TEST((one_cpu(0.7) == inconclusive));
}

BOOST_AUTO_TEST_CASE(reference_counts_are_judged_by_what_is_lost_and_what_it_costs) {
  const auto single = [](double biased) {
    return verdict(judge_of(labs::gil_refcount, "C6"),
                   {series("machine/plain", {}, {metric("turn", 10)}),
                    series("machine/atomic", {}, {metric("turn", 30)}),
                    series("machine/biased", {}, {metric("turn", biased)})});
  };
  BOOST_TEST((single(13) == confirmed));
  BOOST_TEST((single(9) == refuted));
  const auto counts = [](double locked, double unlocked) {
    return verdict(judge_of(labs::gil_refcount, "C45"),
                   {series("plain/locked", {}, {metric("lost", locked)}),
                    series("plain/unlocked", {}, {metric("lost", unlocked)})});
  };
  BOOST_TEST((counts(0, 500) == confirmed));
  BOOST_TEST((counts(3, 500) == refuted));
  BOOST_TEST((counts(0, 0) == inconclusive));
  const auto failing = [](std::string_view check) {
    Series locked = series("plain/locked", {}, {metric("lost", 0)});
    locked.checks = {{std::string(check), 0, 1, false}};
    locked.status = Status::invalid;
    return verdict(judge_of(labs::gil_refcount, "C45"),
                   {locked, series("plain/unlocked", {}, {metric("lost", 500)})});
  };
  BOOST_TEST((failing(apparatus::references_check) == refuted));
  BOOST_TEST((failing("samples that stayed on their CPUs") == inconclusive));
}

BOOST_AUTO_TEST_CASE(started_processes_are_judged_by_their_speedup) {
  const auto ten = [](double speedup, std::vector<unsigned> cpus,
                      const std::string& loop = "10000000") {
    return std::vector<Series>{
        series(loop + "/fork", {{"way", "fork"}, {"loop", loop}, {"tasks", "10"}},
               {metric("time", 1e7), metric("speedup", speedup)}, cpus),
        series("fit/fork", {}, {metric("each", 1e5), metric("cores", speedup)}, cpus)};
  };
  const auto c59 = judge_of(labs::speedup_cpu, "C59"), c67 = judge_of(labs::speedup_cpu, "C67");
  BOOST_TEST((verdict(c59, ten(3.4, {0, 1, 2, 3})) == confirmed));
  BOOST_TEST((verdict(c59, ten(2.1, {0, 1, 2, 3})) == refuted));
  BOOST_TEST((verdict(c59, ten(1.9, {0, 1})) == inconclusive));
  BOOST_TEST((verdict(c59, ten(2.1, {0, 1, 2, 3}, "1000")) == inconclusive));
  BOOST_TEST((verdict(c67, ten(0.5, {0, 1}, "1000")) == inconclusive));
  BOOST_TEST((verdict(c67, ten(1.9, {0, 1})) == confirmed));
  BOOST_TEST((verdict(c67, ten(0.5, {0, 1})) == refuted));
  BOOST_TEST((verdict(c67, ten(1.9, {0})) == inconclusive));
  // Of the longest loop alone, also where only a shorter one counted right.
  auto wrong = ten(1.9, {0, 1}, "1000");
  wrong.push_back(wrong.front());
  wrong.back().name = "10000000/fork";
  wrong.back().params[1].second = "10000000";
  wrong.back().status = Status::invalid;
  BOOST_TEST((verdict(c67, wrong) == inconclusive));
  const auto habit = [](double error, bool complete = true) {
    std::vector<Series> habits = {series("habit/process", {}, {metric("error", error)})};
    for (const auto* other : {"habit/start-up", "habit/print", "habit/rounding"})
      if (complete)
        habits.push_back(series(other, {}, {metric("error", 0.001)}));
    return verdict(judge_of(labs::speedup_cpu, "C48"), habits);
  };
  BOOST_TEST((habit(0.001) == confirmed));
  BOOST_TEST((habit(0.4) == refuted));
  BOOST_TEST((habit(0.01) == inconclusive));
  BOOST_TEST((habit(0.001, false) == inconclusive));
}

BOOST_AUTO_TEST_CASE(a_line_through_the_times_gives_back_start_and_cores) {
  LabResult result;
  for (const double loops : {1e3, 1e5, 1e7}) {
    const auto text = std::to_string(static_cast<std::int64_t>(loops));
    const auto add = [&](const std::string& word, double time_ns) {
      result.series.push_back(series(text + "/" + word,
                                     {{"way", word}, {"loop", text}, {"tasks", "10"}},
                                     {metric("time", time_ns)}));
    };
    add("serial", 10 * loops);
    add("exec", 10 * 15e6 + 10 * loops / 3.24);
  }
  const auto topology = synthetic("core:4 pu:1");
  const auto outcome = plan_lab(labs::speedup_cpu, topology, settings(Preset::quick));
  labs::speedup_cpu.conclude(*outcome.plan, result);
  const Findings findings(result);
  const Metric* each = findings.metric("fit/exec", "each");
  const Metric* cores = findings.metric("fit/exec", "cores");
  BOOST_TEST_REQUIRE((each && cores));
  BOOST_TEST(*each->median == 15e6, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(*cores->median == 3.24, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(*findings.metric("1000/exec", "speedup")->median == 1e4 / (150e6 + 1e4 / 3.24),
             boost::test_tools::tolerance(1e-6));
}
