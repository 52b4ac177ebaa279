#include "lab/apparatus/harm.hh"
#include "lab/apparatus/inheritance.hh"
#include "lab/apparatus/standstill.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"
#include "tests/plan_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <set>

using namespace schedlab;
using namespace schedlab::harness;

namespace {

const Lab& lab(std::string_view name) {
  return *find_lab(name);
}

PlanOutcome plan_on(std::string_view name, const affinity::Topology& topology,
                    const std::string& place = "all",
                    const std::map<std::string, std::string>& values = {}) {
  return plan_lab(lab(name), topology,
                  {.preset = Preset::quick,
                   .placement = place,
                   .values = values,
                   .driver = "epoll",
                   .processes = 6});
}

// A result that a test fills in.
struct Result {
  explicit Result(std::string_view name) : info(lab(name)), result(blank_result(info)) {}

  Series& series(std::string_view name, std::string_view relation = "l3") {
    const auto known = std::ranges::find(result.series, name, &Series::name);
    if (known != result.series.end())
      return *known;
    Series made;
    made.name = name;
    made.placement.relation = relation;
    result.series.push_back(made);
    return result.series.back();
  }
  // In six processes; a spread of 0 gives the same value in each.
  Result& with(std::string_view name, std::string_view metric, double value,
               std::string_view relation = "l3", double spread = 0.001) {
    const auto described = std::ranges::find(info.metrics, metric, &MetricInfo::name);
    std::vector<std::vector<double>> runs;
    for (int process = 0; process < 6; ++process)
      runs.push_back({value * (1 + spread * process)});
    series(name, relation).metrics.push_back(make_metric(*described, runs));
    return *this;
  }
  // Only some processes saw it.
  Result& with_some(std::string_view name, std::string_view metric) {
    const auto described = std::ranges::find(info.metrics, metric, &MetricInfo::name);
    const std::vector<std::vector<double>> runs = {{0}, {0}, {0.1}, {0}, {0.2}, {0}};
    series(name).metrics.push_back(make_metric(*described, runs));
    return *this;
  }
  Result& param(std::string_view name, std::string_view key, std::string_view value) {
    series(name).params.emplace_back(key, value);
    return *this;
  }
  Result& check(std::string_view name, std::string_view text, Value seen, bool ok) {
    series(name).checks.push_back({std::string(text), "", std::move(seen), ok});
    return *this;
  }

  [[nodiscard]] Judgement judgement(std::string_view id) const {
    return std::ranges::find(info.claims, id, &ClaimInfo::id)->judge(Findings(result));
  }
  [[nodiscard]] Verdict verdict(std::string_view id) const {
    const Judgement judged = judgement(id);
    // Whoever does not decide says what it would take, and whoever does says why.
    BOOST_TEST((judged.verdict == Verdict::inconclusive) == !judged.needs.empty());
    BOOST_TEST((judged.verdict == Verdict::inconclusive || !judged.evidence.empty()));
    return judged.verdict;
  }
  [[nodiscard]] std::string answer() const { return info.answer(Findings(result)); }

  const Lab& info;
  LabResult result;
};

bool in(std::string_view part, const std::string& text) {
  return text.find(part) != std::string::npos;
}

constexpr std::string_view labs_here[] = {"race_updates", "race_deadlock", "isolation"};

}  // namespace

BOOST_AUTO_TEST_CASE(every_machine_has_a_plan_and_no_two_spinners_share_a_cpu) {
  for (const auto* machine :
       {"pu:1", "core:2 pu:1", "core:1 pu:2", "pack:2 numa:1 l3:1 core:4 pu:2",
        "pack:2 core:32 pu:2", "pack:4 numa:1 core:48 pu:2"}) {
    const auto topology = synthetic(machine);
    for (const auto name : labs_here) {
      const auto outcome = plan_on(name, topology);
      BOOST_TEST_REQUIRE(outcome.plan, name << " on " << machine);
      BOOST_TEST(outcome.plan->runnable() > 0u, name << " on " << machine);
      for (const auto& series : outcome.plan->series())
        if (series.skip.empty() && series.relation != "same-pu" && series.cpus.size() > 1)
          BOOST_TEST(std::set(series.cpus.begin(), series.cpus.end()).size() == series.cpus.size());
    }
  }
}

BOOST_AUTO_TEST_CASE(on_one_cpu_races_are_asked_by_yields_and_what_is_missing_says_why) {
  const auto topology = synthetic("pu:1");
  const auto outcome = plan_on("race_updates", topology);
  BOOST_TEST(outcome.plan->find("plain/same-pu/threads"));
  BOOST_TEST(outcome.plan->find("yield/10"));
  BOOST_TEST(outcome.plan->find("seeded"));
  BOOST_TEST(!outcome.plan->find("plain/l3/threads/0"));
  const auto* absent = outcome.plan->find("smt");
  BOOST_TEST_REQUIRE(absent);
  BOOST_TEST(absent->skip != "");
}

BOOST_AUTO_TEST_CASE(a_placement_moves_the_tasks_and_a_part_leaves_the_others_out) {
  const auto topology = synthetic("core:8 pu:1");
  const auto outcome = plan_on("race_updates", topology, "cpus:5,7", {{"part", "plain"}});
  bool any = false;
  for (const auto& series : outcome.plan->series()) {
    BOOST_TEST(!series.name.starts_with("torn/"));
    if (series.name.starts_with("plain/")) {
      any = true;
      BOOST_TEST(series.cpus == (std::vector<unsigned>{5, 7}), boost::test_tools::per_element());
    }
  }
  BOOST_TEST(any);
  const auto alone = plan_on("isolation", topology, "cpus:3", {{"part", "copies"}});
  BOOST_TEST(alone.plan->series().size() == 2u);
  BOOST_TEST(alone.plan->find("copy/read")->cpus.front() == 3u);
}

BOOST_AUTO_TEST_CASE(a_value_out_of_range_is_refused_with_what_is_allowed) {
  BOOST_CHECK_EXCEPTION(check_value(lab("race_updates"), "part", "plane"), BadInput, says("plane"));
  BOOST_CHECK_THROW(check_value(lab("race_updates"), "run", "0"), BadInput);
  BOOST_CHECK_THROW(check_value(lab("race_updates"), "crowd", "1"), BadInput);
  BOOST_CHECK_THROW(check_value(lab("race_updates"), "window", "-1"), BadInput);
  BOOST_CHECK_THROW(check_value(lab("race_deadlock"), "skew_ns", "0"), BadInput);
  BOOST_CHECK_THROW(check_value(lab("race_deadlock"), "table", "2"), BadInput);
  BOOST_CHECK_THROW(check_value(lab("isolation"), "part", "harm,all"), BadInput);
}

BOOST_AUTO_TEST_CASE(races_occur_if_an_update_was_lost_in_every_process) {
  const auto lost = [](double share, std::string_view relation) {
    return Result("race_updates").with("plain/x/threads/0", "lost", share, relation);
  };
  BOOST_TEST((lost(0.4, "l3").verdict("C13") == Verdict::confirmed));
  BOOST_TEST(in("lost 40 %", lost(0.4, "l3").judgement("C13").evidence));
  BOOST_TEST((lost(0, "l3").verdict("C13") == Verdict::refuted));
  // On one CPU nothing lost means that nobody was preempted in the window.
  BOOST_TEST((lost(0, "same-pu").verdict("C13") == Verdict::inconclusive));
  BOOST_TEST((lost(0.1, "same-pu").verdict("C13") == Verdict::confirmed));
  BOOST_TEST((Result("race_updates").with_some("plain/l3/threads/0", "lost").verdict("C13") ==
              Verdict::inconclusive));
  BOOST_TEST((Result("race_updates").verdict("C13") == Verdict::inconclusive));
  // A mend that loses is no evidence for races.
  BOOST_TEST((Result("race_updates").with("atomic/l3/threads", "lost", 0.4).verdict("C13") ==
              Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(processes_have_no_races_only_if_neither_memory_nor_records_suffer) {
  const auto measured = [](double lost, double torn) {
    Result result("race_updates");
    result.with("plain/l3/processes/0", "lost", lost)
        .param("plain/l3/processes/0", "tasks", "processes");
    result.with("file/l3/processes", "lost", 0).param("file/l3/processes", "tasks", "processes");
    result.with("torn/memory", "torn", torn).with("torn/published", "torn", 0);
    return result;
  };
  BOOST_TEST((measured(0.4, 0.5).verdict("C69") == Verdict::refuted));
  BOOST_TEST((measured(0, 0.5).verdict("C69") == Verdict::refuted));
  BOOST_TEST((measured(0.4, 0).verdict("C69") == Verdict::refuted));
  BOOST_TEST((measured(0, 0).verdict("C69") == Verdict::confirmed));
  BOOST_TEST((Result("race_updates").verdict("C69") == Verdict::inconclusive));
  // What threads lose says nothing of processes.
  Result threads("race_updates");
  threads.with("plain/l3/threads/0", "lost", 0.4).param("plain/l3/threads/0", "tasks", "threads");
  BOOST_TEST((threads.verdict("C69") == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(a_race_hides_if_nineteen_of_twenty_runs_pass_and_not_if_half_show_it) {
  const auto shows = [](double shortest, double longest, std::string_view relation = "l3") {
    Result result("race_updates");
    result.with("run/x/1", "shows", shortest, relation).param("run/x/1", "updates", "1");
    result.with("run/x/1000", "shows", longest, relation).param("run/x/1000", "updates", "1000");
    return result;
  };
  BOOST_TEST((shows(0.01, 0.9).verdict("C94") == Verdict::confirmed));
  BOOST_TEST(in("each of two threads made 1 updates", shows(0.01, 0.9).judgement("C94").evidence));
  BOOST_TEST(in("made 1000 updates", shows(0.01, 0.02).judgement("C94").evidence));
  BOOST_TEST((shows(0.6, 1).verdict("C94") == Verdict::refuted));
  BOOST_TEST((shows(0.2, 1).verdict("C94") == Verdict::inconclusive));
  BOOST_TEST((Result("race_updates").verdict("C94") == Verdict::inconclusive));
  // Where two CPUs were measured one CPU, on which it hides better, does not decide.
  auto both = shows(0.6, 1);
  both.with("run/same-pu/1", "shows", 0, "same-pu").param("run/same-pu/1", "updates", "1");
  BOOST_TEST((both.verdict("C94") == Verdict::refuted));
  BOOST_TEST((shows(0, 0, "same-pu").verdict("C94") == Verdict::confirmed));
}

BOOST_AUTO_TEST_CASE(deadlocks_occur_if_the_watchdog_found_one_and_its_scene_ended_well) {
  const auto scene = [](double found, bool ok) {
    Result result("race_deadlock");
    result.with("scene/deadlock", "found", found)
        .with("scene/deadlock", "seen", 1000)
        .with("scene/deadlock", "reported", 1e6)
        .check("scene/deadlock", apparatus::cycle_check, "thread 0 holds a\nthread 1 holds b", ok)
        .check("scene/deadlock", apparatus::ended_check, 6, true);
    return result;
  };
  BOOST_TEST((scene(1, true).verdict("C14") == Verdict::confirmed));
  BOOST_TEST(in("thread 0 holds a, thread 1 holds b", scene(1, true).judgement("C14").evidence));
  BOOST_TEST((scene(0, true).verdict("C14") == Verdict::refuted));
  // A scene without threads to play it, or that was killed, is none that went on.
  Result given_up = scene(0, true);
  given_up.series("scene/deadlock").checks.back().ok = false;
  given_up.series("scene/deadlock").status = Status::invalid;
  BOOST_TEST((given_up.verdict("C14") == Verdict::inconclusive));
  BOOST_TEST((scene(1, false).verdict("C14") == Verdict::inconclusive));
  BOOST_TEST((Result("race_deadlock").verdict("C14") == Verdict::inconclusive));
  BOOST_TEST(in("thread 0 holds a, thread 1 holds b", scene(1, true).answer()));
}

BOOST_AUTO_TEST_CASE(deadlocks_hide_by_the_same_rule) {
  const auto odds = [](double shortest, double longest) {
    Result result("race_deadlock");
    result.with("odds/l3/0", "odds", shortest).param("odds/l3/0", "hold_ns", "0");
    result.with("odds/l3/9", "odds", longest).param("odds/l3/9", "hold_ns", "9");
    return result;
  };
  BOOST_TEST((odds(0.01, 0.9).verdict("C94") == Verdict::confirmed));
  BOOST_TEST((odds(0.7, 0.9).verdict("C94") == Verdict::refuted));
  BOOST_TEST((odds(0.2, 0.9).verdict("C94") == Verdict::inconclusive));
  BOOST_TEST((Result("race_deadlock").verdict("C94") == Verdict::inconclusive));
}

namespace {

// What isolation finds where all is as the page says.
Result isolated() {
  Result result("isolation");
  for (const auto harm : apparatus::all_harms()) {
    const std::string name(apparatus::to_text(harm));
    const bool deadly = harm != apparatus::Harm::none && harm != apparatus::Harm::leak;
    result.with(name + "/thread", "alive", deadly ? 0 : 1, "same-pu", 0)
        .with(name + "/process", "alive", 1, "same-pu", 0)
        .with(name + "/process", "changed", 0)
        .check(name + "/process", apparatus::cause_check, "killed by SIGTEST", true)
        .check(name + "/thread", apparatus::cause_check, "killed by SIGTEST", true);
  }
  result.with("none/thread", "changed", 1, "same-pu", 0);
  for (const auto* thing : {"global", "private", "shared", "descriptor"})
    result.with(std::string("inherit/") + thing + "/fork", "shared",
                thing == std::string_view("shared") || thing == std::string_view("descriptor"),
                "same-pu", 0);
  return result.with("copy/written", "faults", 1, "same-pu", 0)
      .with("inherit/descriptor/exec", "passed", 1, "same-pu", 0)
      .with("inherit/cloexec/exec", "passed", 0);
}

// The same with one value replaced.
Result isolated_but(std::string_view series, std::string_view metric, double value) {
  Result result = isolated();
  std::erase_if(result.series(series).metrics,
                [&](const Metric& known) { return known.name == metric; });
  return result.with(series, metric, value, "same-pu", 0);
}

}  // namespace

BOOST_AUTO_TEST_CASE(memory_is_separate_if_only_the_shared_mapping_is_and_a_page_faults_once) {
  BOOST_TEST((isolated().verdict("C18") == Verdict::confirmed));
  BOOST_TEST((isolated_but("inherit/global/fork", "shared", 1).verdict("C18") == Verdict::refuted));
  BOOST_TEST(
      (isolated_but("inherit/private/fork", "shared", 0.5).verdict("C18") == Verdict::refuted));
  BOOST_TEST((isolated_but("copy/written", "faults", 2).verdict("C18") == Verdict::inconclusive));
  BOOST_TEST((Result("isolation").verdict("C18") == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(processes_share_nothing_only_if_no_descriptor_passes) {
  BOOST_TEST((isolated().verdict("C38") == Verdict::refuted));
  auto nothing = isolated_but("inherit/descriptor/exec", "passed", 0);
  std::erase_if(nothing.result.series,
                [](const Series& series) { return series.name == "inherit/descriptor/fork"; });
  BOOST_TEST((nothing.verdict("C38") == Verdict::inconclusive));
  nothing.with("inherit/descriptor/fork", "shared", 0);
  BOOST_TEST((nothing.verdict("C38") == Verdict::confirmed));
}

BOOST_AUTO_TEST_CASE(processes_reduce_corruption_if_they_change_nothing_and_die_alone) {
  BOOST_TEST((isolated().verdict("C56") == Verdict::confirmed));
  BOOST_TEST((isolated_but("none/process", "changed", 0.5).verdict("C56") == Verdict::refuted));
  BOOST_TEST((isolated_but("write/process", "alive", 0).verdict("C56") == Verdict::refuted));
  BOOST_TEST((isolated_but("write/thread", "alive", 1).verdict("C56") == Verdict::refuted));
  // A starter that could not start its task did not die of it.
  Result unplayed = isolated_but("write/process", "alive", 0);
  unplayed.series("write/process").checks.back().ok = false;
  BOOST_TEST((unplayed.verdict("C56") == Verdict::inconclusive));
  BOOST_TEST((Result("isolation").verdict("C56") == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(processes_are_isolated_if_every_parent_outlived_every_harm) {
  BOOST_TEST((isolated().verdict("C80") == Verdict::confirmed));
  BOOST_TEST((isolated_but("abort/process", "alive", 0).verdict("C80") == Verdict::refuted));
  BOOST_TEST((isolated_but("kill/process", "changed", 0.1).verdict("C80") == Verdict::refuted));
  BOOST_TEST((isolated_but("exit/thread", "alive", 1).verdict("C80") == Verdict::inconclusive));
  BOOST_TEST((Result("isolation").verdict("C80") == Verdict::inconclusive));
  // Without a cgroup the rest decides, and says what is missing.
  Result uncaged = isolated();
  std::erase_if(uncaged.result.series,
                [](const Series& series) { return series.name.starts_with("memory/"); });
  BOOST_TEST((uncaged.verdict("C80") == Verdict::confirmed));
  BOOST_TEST(in("not measured here: memory", uncaged.judgement("C80").evidence));
}

BOOST_AUTO_TEST_CASE(prints_are_in_any_order_if_both_orders_were_seen_and_done_is_last) {
  const auto prints = [](double overtook, bool ok,
                         std::string_view check = apparatus::lines_check) {
    Result result("isolation");
    result.with("order/anywhere", "overtook", overtook).check("order/anywhere", check, 1, ok);
    return result;
  };
  BOOST_TEST((prints(0.1, true).verdict("C8") == Verdict::confirmed));
  BOOST_TEST((prints(0.1, false).verdict("C8") == Verdict::refuted));
  BOOST_TEST((prints(0.1, false, apparatus::done_check).verdict("C8") == Verdict::refuted));
  BOOST_TEST((prints(0.1, false, "CPUs").verdict("C8") == Verdict::inconclusive));
  BOOST_TEST((prints(0, true).verdict("C8") == Verdict::inconclusive));
  BOOST_TEST((Result("isolation").verdict("C8") == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(the_answers_name_what_was_measured_and_nothing_else) {
  for (const auto name : labs_here)
    BOOST_TEST(Result(name).answer() == "Nothing was measured.");
  Result updates("race_updates");
  updates.with("plain/l3/threads/0", "lost", 0.25);
  BOOST_TEST(updates.answer() ==
             "Two threads that add to one counter (l3) lose 25 % [25 25] of their updates.");
  const std::string text = isolated().answer();
  BOOST_TEST(in("abort (killed by SIGTEST)", text), text);
  BOOST_TEST(in("a process 0 %, but 100 % of what both map as shared", text), text);
}

BOOST_AUTO_TEST_CASE(a_share_is_the_mean_of_its_samples_so_that_what_is_rare_is_not_zero) {
  const auto topology = synthetic("core:2 pu:1");
  const auto outcome = plan_on("race_updates", topology);
  Result result("race_updates");
  const auto described = std::ranges::find(result.info.metrics, "shows", &MetricInfo::name);
  const std::vector<std::vector<double>> runs(6, {0, 0, 1, 0});
  result.series("run/l3/1").metrics.push_back(make_metric(*described, runs));
  BOOST_TEST(*result.result.series[0].metrics[0].median == 0.0);
  result.info.conclude(*outcome.plan, result.result);
  const Metric& pooled = result.result.series[0].metrics[0];
  BOOST_TEST(*pooled.median == 0.25);
  BOOST_TEST(pooled.samples == 24u);
  BOOST_TEST(pooled.ci->low == 0.25);
}
