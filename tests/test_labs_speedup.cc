// What speedup_scaling and speedup_images plan on machines of all kinds, what they conclude of
// numbers, and what their claims make of them.

#include "lab/apparatus/image_verdicts.hh"
#include "lab/apparatus/scaling_curves.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/scaling.hh"
#include "tests/metric_fixtures.hh"
#include "tests/plan_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

namespace schedlab::labs {

extern const harness::Lab speedup_scaling;
extern const harness::Lab speedup_images;

}  // namespace schedlab::labs

using namespace schedlab;
using namespace schedlab::harness;
using apparatus::Curve;
namespace tt = boost::test_tools;

namespace {

std::unique_ptr<Plan> planned(const Lab& lab, const affinity::Topology& machine, Preset preset,
                              std::map<std::string, std::string> values = {},
                              const std::string& place = "all") {
  auto outcome = plan_lab(
      lab, machine,
      {.preset = preset, .placement = place, .values = std::move(values), .driver = "epoll"});
  BOOST_TEST(outcome.unsupported == "");
  return std::move(outcome.plan);
}

std::vector<int> workers_of(const Plan& plan, const std::string& curve) {
  std::vector<int> workers;
  for (const auto& series : plan.series())
    if (series.name.starts_with(curve + "/"))
      workers.push_back(std::stoi(param_text(series, "workers")));
  return workers;
}

// A result as the lab leaves it before it concludes.
struct Measured {
  LabResult result;

  Measured& curve(const Curve& curve, const std::vector<double>& workers,
                  const std::function<double(double)>& speedup, double scatter = 0.002) {
    for (const double n : workers) {
      Series series;
      series.name = curve.series(n);
      series.params = {{"growth", curve.growth},
                       {"work", curve.work},
                       {"tasks", curve.tasks},
                       {"place", curve.place},
                       {"workers", n}};
      series.metrics = {metric("rate", about(1000 * speedup(n), n == 1 ? 0 : scatter))};
      result.series.push_back(std::move(series));
    }
    return *this;
  }
  LabResult concluded() {
    const auto machine = synthetic("core:2 pu:1");
    const auto plan = planned(labs::speedup_scaling, machine, Preset::quick);
    labs::speedup_scaling.conclude(*plan, result);
    return std::move(result);
  }
};

Curve strong(const std::string& work, const std::string& tasks = "threads") {
  return {"strong", work, tasks, "per-core"};
}
double evenly(double n) {
  return n;
}

Judgement judged(const Lab& lab, const std::string& id, const LabResult& result) {
  const auto claim = std::ranges::find(lab.claims, id, &ClaimInfo::id);
  BOOST_REQUIRE((claim != lab.claims.end()));
  return claim->judge(Findings(result));
}

Series pictures(const std::string& stage, const std::string& way, int workers,
                std::vector<Metric> metrics) {
  Series series;
  series.name = apparatus::image_series(stage, way);
  series.params = {{"stage", stage}, {"way", way}, {"workers", workers}, {"pictures", 8}};
  series.metrics = std::move(metrics);
  return series;
}

// One series with one metric.
LabResult images(const std::string& stage, const std::string& way, const std::string& name,
                 double value, double scatter = 0.002, int workers = 2) {
  LabResult result;
  result.series.push_back(pictures(stage, way, workers, {metric(name, about(value, scatter))}));
  return result;
}

}  // namespace

BOOST_AUTO_TEST_CASE(two_cpus_have_two_points_and_a_crowd) {
  const auto machine = synthetic("core:2 pu:1");
  const auto plan = planned(labs::speedup_scaling, machine, Preset::quick);
  BOOST_TEST(workers_of(*plan, "strong/chain/threads/per-core") == (std::vector{1, 2}),
             tt::per_element());
  BOOST_TEST(workers_of(*plan, "weak/serial/processes/per-core") == (std::vector{1, 2}),
             tt::per_element());
  BOOST_TEST(workers_of(*plan, "strong/shared/threads/crowded") == (std::vector{4}),
             tt::per_element());
  for (const char* strategy : {"compact", "scatter"}) {
    BOOST_REQUIRE(plan->find(strategy));
    BOOST_TEST(plan->find(strategy)->skip == "takes the same CPUs as per-core here");
  }
}

BOOST_AUTO_TEST_CASE(one_cpu_has_one_point_and_a_crowd) {
  const auto machine = synthetic("pu:1");
  const auto plan = planned(labs::speedup_scaling, machine, Preset::quick);
  BOOST_TEST(workers_of(*plan, "strong/serial/threads/per-core") == (std::vector{1}),
             tt::per_element());
  BOOST_TEST(workers_of(*plan, "strong/serial/threads/crowded") == (std::vector{2}),
             tt::per_element());
}

BOOST_AUTO_TEST_CASE(many_cpus_have_points_enough_for_a_law) {
  for (const char* description :
       {"core:6 pu:1", "pack:2 core:64 pu:1", "pack:2 core:192 pu:1", "pack:4 core:32 pu:2"}) {
    const auto machine = synthetic(description);
    const auto plan = planned(labs::speedup_scaling, machine, Preset::quick);
    const auto workers = workers_of(*plan, "strong/shared/threads/per-core");
    BOOST_TEST(workers.size() >= usl_points, description);
    BOOST_TEST(workers.size() <= 8u, description);
    BOOST_TEST(workers.front() == 1);
    BOOST_TEST(workers.back() == static_cast<int>(machine.usable().count()));
    BOOST_TEST(plan->series().size() < 130u, description);
  }
}

BOOST_AUTO_TEST_CASE(two_workers_on_a_core_are_no_point_of_a_fit) {
  const auto machine = synthetic("core:4 pu:2");
  const auto plan = planned(labs::speedup_scaling, machine, Preset::quick);
  for (const auto& [workers, siblings] : {std::pair{"1", ""}, {"2", ""}, {"4", ""}, {"8", "yes"}}) {
    const auto* series = plan->find(std::string("strong/chain/threads/per-core/") + workers);
    BOOST_REQUIRE(series);
    BOOST_TEST(param_text(*series, "siblings") == siblings, workers);
  }
  const auto* compact = plan->find("strong/chain/threads/compact/2");
  BOOST_REQUIRE(compact);
  BOOST_TEST(param_text(*compact, "siblings") == "yes");
}

BOOST_AUTO_TEST_CASE(numbers_of_workers_can_be_chosen) {
  const auto machine = synthetic("core:4 pu:1");
  const auto plan = planned(labs::speedup_scaling, machine, Preset::quick,
                            {{"workers", "3,16"}, {"work", "chain"}, {"tasks", "processes"}});
  BOOST_TEST(workers_of(*plan, "strong/chain/processes/per-core") == (std::vector{1, 3}),
             tt::per_element());
  BOOST_TEST(workers_of(*plan, "strong/chain/processes/crowded") == (std::vector{16}),
             tt::per_element());
}

BOOST_AUTO_TEST_CASE(a_placement_that_binds_nobody_cannot_be_measured) {
  const auto machine = synthetic("core:2 pu:1");
  const auto outcome =
      plan_lab(labs::speedup_scaling, machine,
               {.preset = Preset::quick, .placement = "unpinned", .values = {}, .driver = "epoll"});
  BOOST_TEST(outcome.unsupported.find("must be pinned") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(weak_growth_of_other_work_says_what_to_add) {
  const auto machine = synthetic("core:2 pu:1");
  const auto outcome = plan_lab(labs::speedup_scaling, machine,
                                {.preset = Preset::quick,
                                 .placement = "all",
                                 .values = {{"work", "chain,shared"}, {"growth", "weak"}},
                                 .driver = "epoll"});
  BOOST_TEST(outcome.unsupported.find("add serial to work") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(speedups_and_the_serial_share_that_was_put_in_are_found) {
  const auto result = Measured()
                          .curve(
                              strong("serial"), {1, 2, 3, 4},
                              [](double n) { return amdahl_speedup(0.1, n); }, 0.0002)
                          .curve(
                              {"weak", "serial", "threads", "per-core"}, {1, 2, 3, 4},
                              [](double n) { return gustafson_speedup(0.1, n); }, 0.0002)
                          .concluded();
  const Findings findings(result);
  const Metric* speedup = findings.metric("strong/serial/threads/per-core/4", "speedup");
  BOOST_REQUIRE(speedup);
  BOOST_TEST(*speedup->median == amdahl_speedup(0.1, 4), tt::tolerance(1e-3));
  BOOST_TEST(*findings.metric("strong/serial/threads/per-core/4", "efficiency")->median ==
                 amdahl_speedup(0.1, 4) / 4,
             tt::tolerance(1e-3));
  for (const char* name : {"strong/serial/threads/per-core/2", "strong/serial/threads/per-core/4",
                           "fit/amdahl/strong/serial/threads/per-core",
                           "fit/gustafson/weak/serial/threads/per-core"}) {
    const Metric* serial = findings.metric(name, "serial");
    BOOST_REQUIRE(serial);
    BOOST_TEST(*serial->median == 0.1, tt::tolerance(0.01));
    BOOST_TEST(serial->ci.has_value());
  }
  BOOST_TEST(!findings.metric("strong/serial/threads/per-core/1", "serial"));
  BOOST_TEST(!findings.metric("weak/serial/threads/per-core/2", "serial"));
  const auto skipped =
      std::ranges::find(result.series, "fit/usl/strong/serial/threads/per-core", &Series::name);
  BOOST_REQUIRE((skipped != result.series.end()));
  BOOST_TEST(skipped->reason == "needs >= 6 numbers of workers, each with a core; 4 were measured");
}

BOOST_AUTO_TEST_CASE(six_points_make_a_law_with_a_peak) {
  const auto result =
      Measured()
          .curve(
              strong("shared"), {1, 2, 4, 6, 8, 10},
              [](double n) { return n / (1 + 0.02 * (n - 1) + 0.02 * n * (n - 1)); }, 0.0001)
          .concluded();
  const Findings findings(result);
  const std::string name = "fit/usl/strong/shared/threads/per-core";
  BOOST_REQUIRE(findings.series(name));
  BOOST_TEST(*findings.metric(name, "contention")->median == 0.02, tt::tolerance(0.02));
  BOOST_TEST(*findings.metric(name, "crosstalk")->median == 0.02, tt::tolerance(0.02));
  BOOST_TEST(findings.metric(name, "crosstalk")->ci.has_value());
  BOOST_TEST(param_number(*findings.series(name), "peak") == 7.0, tt::tolerance(0.02));
  BOOST_TEST(labs::speedup_scaling.answer(findings).find("Nothing could be done") == 0u);
}

BOOST_AUTO_TEST_CASE(what_was_invalid_or_shared_a_core_is_left_out_of_a_fit) {
  Measured measured;
  measured.curve(strong("serial"), {1, 2, 4, 8},
                 [](double n) { return n < 4 ? amdahl_speedup(0.1, n) : 0.5; });
  measured.result.series[2].status = Status::invalid;
  measured.result.series[3].params.emplace_back(std::string(apparatus::siblings_param), "yes");
  const auto result = measured.concluded();
  const Metric* serial =
      Findings(result).metric("fit/amdahl/strong/serial/threads/per-core", "serial");
  BOOST_REQUIRE(serial);
  BOOST_TEST(*serial->median == 0.1, tt::tolerance(0.02));
}

BOOST_AUTO_TEST_CASE(two_cpus_that_are_one_core_get_no_coefficients) {
  const auto result = Measured()
                          .curve(strong("chain"), {1, 2}, evenly)
                          .curve(strong("wide"), {1, 2}, [](double n) { return 0.9 + 0.1 * n; })
                          .concluded();
  const auto conditions = apparatus::conditions_of(result);
  BOOST_TEST(conditions.one_core());
  BOOST_TEST(conditions.text().find("two of the CPUs are one core") != std::string::npos);
  for (const auto& series : result.series)
    if (series.name.starts_with("fit/")) {
      BOOST_TEST((series.status == Status::skipped));
      BOOST_TEST(series.reason.find("two of the CPUs are one core") == 0u, series.reason);
    }
}

BOOST_AUTO_TEST_CASE(a_lone_worker_that_runs_faster_is_told_with_the_fits) {
  const auto result =
      Measured()
          .curve(strong("chain"), {1, 2}, [](double n) { return n * (n > 1 ? 0.9 : 1); })
          .curve(strong("wide"), {1, 2}, [](double n) { return n * (n > 1 ? 0.9 : 1); })
          .concluded();
  const auto conditions = apparatus::conditions_of(result);
  BOOST_TEST(!conditions.one_core());
  BOOST_TEST(conditions.pace->value == 0.9, tt::tolerance(0.01));
  const Series* fit = Findings(result).series("fit/amdahl/strong/chain/threads/per-core");
  BOOST_REQUIRE(fit);
  BOOST_REQUIRE(fit->warnings.size() == 1u);
  BOOST_TEST(fit->warnings[0].code == "FREQ");
  BOOST_TEST((fit->status == Status::ok));
}

BOOST_AUTO_TEST_CASE(without_one_worker_there_is_nothing_to_compare_with) {
  Measured measured;
  measured.curve(strong("chain"), {2, 4}, evenly);
  const auto result = measured.concluded();
  BOOST_TEST(!Findings(result).metric("strong/chain/threads/per-core/2", "speedup"));
  const auto fit =
      std::ranges::find(result.series, "fit/amdahl/strong/chain/threads/per-core", &Series::name);
  BOOST_REQUIRE((fit != result.series.end()));
  BOOST_TEST(fit->reason == "one worker alone was not measured");
}

BOOST_AUTO_TEST_CASE(processes_that_scale_confirm_and_those_that_do_not_refute) {
  const auto verdict = [](double speedup, double scatter = 0.002) {
    const auto result = Measured()
                            .curve(
                                strong("chain", "processes"), {1, 2},
                                [=](double n) { return n > 1 ? speedup : 1; }, scatter)
                            .concluded();
    return judged(labs::speedup_scaling, "C67", result);
  };
  BOOST_TEST((verdict(1.98).verdict == Verdict::confirmed));
  BOOST_TEST(verdict(1.98).evidence.find("2 processes do the same work 1.98") == 0u);
  BOOST_TEST((verdict(1.02).verdict == Verdict::refuted));
  const auto unsure = verdict(1.5, 0.6);
  BOOST_TEST((unsure.verdict == Verdict::inconclusive));
  BOOST_TEST(unsure.needs != "");
  const auto alone = judged(labs::speedup_scaling, "C67", LabResult{});
  BOOST_TEST((alone.verdict == Verdict::inconclusive));
  BOOST_TEST(alone.needs.find("2 CPUs") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(pictures_are_planned_by_all_ways) {
  const auto machine = synthetic("core:4 pu:1");
  const auto plan = planned(labs::speedup_images, machine, Preset::quick);
  std::set<std::string> names;
  for (const auto& series : plan->series())
    names.insert(series.name);
  BOOST_TEST(names == (std::set<std::string>{"fetch/sequential", "fetch/threads", "fetch/processes",
                                             "fetch/async", "process/sequential", "process/threads",
                                             "process/processes", "pipeline/sequential",
                                             "pipeline/threads", "pipeline/processes",
                                             "pipeline/async", "pipeline/one CPU"}),
             tt::per_element());
  BOOST_TEST(param_text(*plan->find("process/threads"), "workers") == "4");
  BOOST_TEST(param_text(*plan->find("fetch/threads"), "workers") == "8");
  BOOST_TEST(param_text(*plan->find("process/sequential"), "workers") == "1");
  const auto many = synthetic("pack:2 core:192 pu:1");
  const auto large = planned(labs::speedup_images, many, Preset::quick);
  BOOST_TEST(param_text(*large->find("process/processes"), "workers") == "8");
}

BOOST_AUTO_TEST_CASE(pictures_beyond_memory_are_refused_with_the_way_out) {
  const auto machine = synthetic("core:2 pu:1");
  const auto outcome = plan_lab(labs::speedup_images, machine,
                                {.preset = Preset::quick,
                                 .placement = "all",
                                 .values = {{"pictures", "256"}, {"width", "8192"}},
                                 .driver = "epoll"});
  BOOST_TEST(outcome.unsupported.find("take fewer or smaller ones") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(the_speedup_of_pictures_is_that_over_one_thread) {
  LabResult result;
  result.series = {pictures("process", "sequential", 1, {metric("batch", about(8e6))}),
                   pictures("process", "threads", 2, {metric("batch", about(4e6))})};
  const auto machine = synthetic("core:2 pu:1");
  const auto plan = planned(labs::speedup_images, machine, Preset::quick);
  labs::speedup_images.conclude(*plan, result);
  const Metric* gained = Findings(result).metric("process/threads", "speedup");
  BOOST_REQUIRE(gained);
  BOOST_TEST(*gained->median == 2.0, tt::tolerance(0.01));
  BOOST_TEST(gained->ci.has_value());
  BOOST_TEST(labs::speedup_images.answer(Findings(result)).find("Fetching") == std::string::npos);
  BOOST_TEST(labs::speedup_images.answer(Findings(LabResult{})).find("No picture") == 0u);
}

BOOST_AUTO_TEST_CASE(each_claim_about_pictures_comes_out_three_ways) {
  struct Case {
    std::string id, stage, way, metric;
    double confirms, refutes, unsure;
  };
  for (const Case& claim : {Case{"C15", "fetch", "threads", "speedup", 6, 1.0, 1.3},
                            Case{"C16", "process", "processes", "speedup", 1.9, 1.0, 1.3},
                            Case{"C63", "fetch", "sequential", "cores", 0.02, 0.97, 0.7},
                            Case{"C76", "pipeline", "one CPU", "speedup", 1.7, 1.0, 1.07}}) {
    const auto verdict = [&](double value) {
      return judged(labs::speedup_images, claim.id,
                    images(claim.stage, claim.way, claim.metric, value));
    };
    BOOST_TEST((verdict(claim.confirms).verdict == Verdict::confirmed), claim.id);
    BOOST_TEST((verdict(claim.refutes).verdict == Verdict::refuted), claim.id);
    BOOST_TEST((verdict(claim.unsure).verdict == Verdict::inconclusive), claim.id);
    BOOST_TEST(verdict(claim.unsure).needs != "", claim.id);
    const auto nothing = judged(labs::speedup_images, claim.id, LabResult{});
    BOOST_TEST((nothing.verdict == Verdict::inconclusive), claim.id);
    BOOST_TEST(nothing.needs.find("speedup_images") == 0u, claim.id);
    auto broken = images(claim.stage, claim.way, claim.metric, claim.confirms);
    broken.series[0].status = Status::invalid;
    BOOST_TEST((judged(labs::speedup_images, claim.id, broken).verdict == Verdict::inconclusive),
               claim.id);
  }
}

BOOST_AUTO_TEST_CASE(processes_are_for_multimedia_only_if_faster_than_threads) {
  const auto verdict = [](double threads, double processes, double scatter, int workers = 2) {
    LabResult result;
    result.series = {
        pictures("process", "threads", workers, {metric("batch", about(threads, scatter))}),
        pictures("process", "processes", workers, {metric("batch", about(processes, 0))})};
    return judged(labs::speedup_images, "C28", result).verdict;
  };
  BOOST_TEST((verdict(4e6, 3e6, 0.002) == Verdict::confirmed));
  BOOST_TEST((verdict(4e6, 4e6, 0.002) == Verdict::refuted));
  BOOST_TEST((verdict(4e6, 5e6, 0.002) == Verdict::refuted));
  BOOST_TEST((verdict(4e6, 4e6, 0.4) == Verdict::inconclusive));
  BOOST_TEST((verdict(4e6, 3e6, 0.002, 1) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(processes_on_one_cpu_prove_nothing) {
  const auto one = images("process", "processes", "speedup", 1.0, 0.002, 1);
  const auto judgement = judged(labs::speedup_images, "C16", one);
  BOOST_TEST((judgement.verdict == Verdict::inconclusive));
  BOOST_TEST(judgement.needs.find("2 CPUs") != std::string::npos);
}
