#include "lab/harness/findings.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/validity.hh"
#include "tests/plan_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <map>
#include <set>
#include <string>

// What cache_bandwidth and cache_loaded plan on machines that are not there, and what they make of
// results.

using namespace schedlab;
using namespace schedlab::harness;

namespace {

struct Planned {
  affinity::Topology topology;
  PlanOutcome outcome;

  Planned(std::string_view lab, const std::string& machine, Preset preset,
          std::map<std::string, std::string> values = {}, std::string placement = "all")
      : topology(synthetic(machine)), outcome(plan_lab(*find_lab(lab), topology,
                                                       {.preset = preset,
                                                        .placement = std::move(placement),
                                                        .values = std::move(values),
                                                        .driver = "auto"})) {}

  [[nodiscard]] const std::vector<SeriesPlan>& series() const { return outcome.plan->series(); }
  [[nodiscard]] const SeriesPlan* find(std::string_view name) const {
    return outcome.plan->find(name);
  }
  [[nodiscard]] std::set<std::size_t> widths() const {
    std::set<std::size_t> widths;
    for (const auto& each : series())
      if (each.skip.empty())
        widths.insert(each.cpus.size());
    return widths;
  }
};

const std::string one_cpu = "pack:1 [numa] l3:1(size=8MiB) l2:1(size=1MiB) l1:1(size=32KiB) pu:1";
const std::string small = "pack:1 [numa] l3:1(size=4MiB) l2:2(size=512KiB) l1:1(size=32KiB) pu:1";
const std::string one_socket =
    "pack:1 [numa] l3:8(size=4MiB) l2:16(size=1MiB) l1:1(size=32KiB) core:1 pu:1";
const std::string two_sockets =
    "pack:2 [numa] l3:12(size=32MiB) l2:8(size=1MiB) l1:1(size=32KiB) core:1 pu:2";
const std::string siblings = "pack:1 [numa] l2:1(size=1MiB) l1:1(size=32KiB) core:1 pu:2";

}  // namespace

BOOST_AUTO_TEST_CASE(one_cpu_is_measured_alone) {
  const Planned plan("cache_bandwidth", one_cpu, Preset::quick);
  BOOST_TEST(plan.widths() == std::set<std::size_t>{1}, boost::test_tools::per_element());
  BOOST_TEST(plan.find("memory/triad/nontemporal/1/base"));
  BOOST_TEST(plan.find("memory/read/1/base"));
  BOOST_TEST(plan.find("l1/add/ordinary/1/base"));
  BOOST_TEST(!plan.find("l1/add/nontemporal/1/base"));
}

BOOST_AUTO_TEST_CASE(full_goes_by_powers_of_two_to_all) {
  for (const auto& [machine, widths] :
       {std::pair(one_socket, std::set<std::size_t>{1, 2, 4, 8, 16, 32, 64, 128}),
        std::pair(two_sockets, std::set<std::size_t>{1, 2, 4, 8, 16, 32, 64, 128, 256, 384})}) {
    const Planned plan("cache_bandwidth", machine, Preset::full,
                       {{"size", "1M"}, {"level", "memory"}});
    BOOST_TEST(plan.widths() == widths, boost::test_tools::per_element());
    for (const auto& series : plan.series())
      BOOST_TEST(std::set(series.cpus.begin(), series.cpus.end()).size() == series.cpus.size());
  }
}

BOOST_AUTO_TEST_CASE(quick_measures_one_and_all) {
  const Planned plan("cache_bandwidth", two_sockets, Preset::quick);
  BOOST_TEST(plan.widths() == (std::set<std::size_t>{1, 384}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(more_workers_than_cpus_are_skipped_with_the_reason) {
  const Planned plan("cache_bandwidth", small, Preset::quick, {{"workers", "1,2,3,16"}});
  BOOST_TEST(plan.widths() == (std::set<std::size_t>{1, 2}), boost::test_tools::per_element());
  BOOST_TEST_REQUIRE(plan.find("workers/3,16"));
  BOOST_TEST(plan.find("workers/3,16")->skip == "--place all has 2 usable CPUs");
  const Planned none("cache_bandwidth", small, Preset::quick, {{"workers", "3"}});
  BOOST_TEST(none.outcome.plan->runnable() == 0u);
  BOOST_TEST(none.series().size() == 1u);
}

BOOST_AUTO_TEST_CASE(spinning_workers_never_share_a_cpu) {
  const Planned pu("cache_bandwidth", small, Preset::quick, {}, "same-pu");
  BOOST_TEST(pu.widths() == std::set<std::size_t>{1}, boost::test_tools::per_element());
  for (const std::string lab : {"cache_bandwidth", "cache_loaded"})
    BOOST_TEST(Planned(lab, small, Preset::quick, {}, "unpinned")
                   .outcome.unsupported.find("must be pinned") != std::string::npos);
}

// Four times the one cache of 4 MiB, unless the limit of each worker is lower.
BOOST_AUTO_TEST_CASE(arrays_keep_the_rule_where_limit_and_memory_allow) {
  const Planned plan("cache_bandwidth", small, Preset::quick);
  const auto* series = plan.find("memory/copy/ordinary/2/base");
  BOOST_TEST_REQUIRE(series);
  BOOST_TEST(param_text(*series, "array") == "16.0 MiB");
  BOOST_TEST(param_text(*series, "array_to_caches") == "4.00");
  const Planned cut("cache_bandwidth", small, Preset::quick, {{"limit", "3M"}});
  BOOST_TEST(param_text(*cut.find("memory/copy/ordinary/2/base"), "array") == "2.00 MiB");
  BOOST_TEST(param_text(*cut.find("memory/copy/ordinary/2/base"), "array_to_caches") == "0.50");
}

BOOST_AUTO_TEST_CASE(arrays_beyond_memory_are_skipped_with_the_limit) {
  for (const std::string lab : {"cache_bandwidth", "cache_loaded"}) {
    const Planned plan(lab, small, Preset::quick, {{"size", "4096G"}});
    std::size_t refused = 0;
    for (const auto& series : plan.series())
      refused += series.skip.find("more than half of the memory") != std::string::npos ? 1 : 0;
    BOOST_TEST(refused > 0u);
    for (const auto& series : plan.series())
      BOOST_TEST((!series.skip.empty() || series.name.starts_with("l")), series.name);
  }
}

// Where the rule alone asks for more than there is, the arrays shrink instead.
BOOST_AUTO_TEST_CASE(the_rule_gives_way_to_memory) {
  const Planned plan("cache_bandwidth", "pack:1 [numa] l3:1(size=4TiB) core:2 pu:1", Preset::full,
                     {{"level", "memory"}, {"kernel", "copy"}});
  const auto* series = plan.find("memory/copy/ordinary/2/base");
  BOOST_TEST_REQUIRE(series);
  BOOST_TEST(series->skip == "");
  BOOST_TEST((param_text(*series, "array_to_caches") < "1"));
}

// On one node all widths stream over the same arrays, and take turns; on several each width has its
// own, on the nodes of its workers.
BOOST_AUTO_TEST_CASE(widths_share_their_arrays_on_one_node_only) {
  for (const auto& [machine, groups] : {std::pair(small, 1u), std::pair(two_sockets, 2u)}) {
    const Planned plan("cache_bandwidth", machine, Preset::quick, {{"level", "memory"}});
    std::set<std::string> seen;
    for (const auto& series : plan.series())
      seen.insert(series.group);
    BOOST_TEST(seen.size() == groups);
  }
}

BOOST_AUTO_TEST_CASE(a_kernel_takes_half_of_what_a_worker_has_of_a_cache) {
  const Planned plan("cache_bandwidth", two_sockets, Preset::full,
                     {{"level", "l1,l2,l3"}, {"workers", "1,0"}});
  const auto array = [&](const char* name) { return param_text(*plan.find(name), "array"); };
  BOOST_TEST(array("l1/read/1/base") == "16.0 KiB");
  BOOST_TEST(array("l1/read/384/base") == "8.00 KiB");  // siblings share
  BOOST_TEST(array("l1/copy/ordinary/1/base") == "8.00 KiB");
  BOOST_TEST(array("l2/add/ordinary/1/base") == "170 KiB");
  BOOST_TEST(array("l3/read/1/base") == "16.0 MiB");
  BOOST_TEST(plan.find("l3/read/384/base")->skip == "");  // 1 MiB of 32, more than 512 KiB of L2
  BOOST_TEST(array("l3/read/384/base") == "1.00 MiB");
}

BOOST_AUTO_TEST_CASE(a_cache_that_is_not_there_or_too_small_is_skipped_with_the_reason) {
  const Planned without("cache_bandwidth", siblings, Preset::full, {{"level", "l3"}});
  for (const auto& series : without.series())
    BOOST_TEST(!series.skip.empty());
  BOOST_TEST(without.find("l3/read/1/base")->skip == "the topology shows no data cache of level 3");
  const Planned tight("cache_bandwidth",
                      "pack:1 [numa] l3:1(size=2MiB) l2:4(size=512KiB) core:1 pu:1", Preset::full,
                      {{"level", "l3"}, {"workers", "0"}});
  BOOST_TEST(tight.find("l3/read/4/base")->skip ==
             "half of the L3 cache that a worker has here (256 KiB) fits the L2");
}

BOOST_AUTO_TEST_CASE(a_loaded_memory_needs_two_cores) {
  BOOST_TEST(Planned("cache_loaded", one_cpu, Preset::quick).outcome.unsupported ==
             "needs 2 CPUs; 1 usable here");
  BOOST_TEST(Planned("cache_loaded", siblings, Preset::quick).outcome.unsupported ==
             "needs a second core, whose CPU loads the memory");
  BOOST_TEST(Planned("cache_loaded", small, Preset::quick, {}, "cpus:1").outcome.unsupported ==
             "needs a second core, whose CPU loads the memory");
}

BOOST_AUTO_TEST_CASE(all_others_load_the_memory_but_no_sibling_of_the_chaser) {
  for (const auto& [machine, cpus] :
       {std::pair(small, 2u), std::pair(one_socket, 128u), std::pair(two_sockets, 383u)}) {
    const Planned plan("cache_loaded", machine, Preset::quick);
    const auto* point = plan.find("delay/0/base");
    BOOST_TEST_REQUIRE(point);
    BOOST_TEST(point->cpus.size() == cpus);
    const auto* idle = plan.find("idle/base");
    BOOST_TEST_REQUIRE(idle);
    BOOST_TEST(idle->cpus == std::vector{point->cpus.front()}, boost::test_tools::per_element());
    BOOST_TEST(idle->group == point->group);
    for (std::size_t i = 1; i < point->cpus.size(); ++i)
      BOOST_TEST(
          (plan.topology.relation(point->cpus.front(), point->cpus[i]) != affinity::Relation::smt));
  }
}

namespace {

// A result of cache_loaded: (latency, bandwidth) of each point, the same in six processes.
LabResult loaded_result(const Plan& plan, double idle_ns,
                        const std::vector<std::pair<double, double>>& points) {
  const Lab& lab = plan.lab();
  const auto six = [](double value) {
    return std::vector<std::vector<double>>(6, std::vector{value});
  };
  LabResult result;
  result.name = lab.name;
  Series idle;
  idle.name = "idle/base";
  idle.params = {{"delay", Value("none")}, {"pages", Value("base")}};
  idle.metrics = {make_metric(lab.metrics[0], six(idle_ns))};
  result.series.push_back(idle);
  for (std::size_t i = 0; i < points.size(); ++i) {
    Series point;
    point.name = "delay/" + std::to_string(i) + "/base";
    point.params = {{"delay", Value(std::to_string(i))}, {"pages", Value("base")}};
    point.placement.cpus = {0, 1};
    point.metrics = {make_metric(lab.metrics[0], six(points[i].first)),
                     make_metric(lab.metrics[1], six(points[i].second))};
    result.series.push_back(point);
  }
  return result;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_knee_is_the_most_bandwidth_before_the_latency_rises) {
  const Planned planned("cache_loaded", small, Preset::quick);
  const Plan& plan = *planned.outcome.plan;
  auto result =
      loaded_result(plan, 100, {{300, 9e9}, {130, 8e9}, {119, 7e9}, {105, 4e9}, {101, 1e9}});
  plan.lab().conclude(plan, result);
  const Findings findings(result);
  const Metric* knee = findings.metric("knee/base", "bandwidth");
  BOOST_TEST_REQUIRE(knee);
  BOOST_TEST(*knee->median == 7e9);
  BOOST_TEST(*findings.metric("knee/base", "latency")->median == 119);
  BOOST_TEST(*findings.metric("delay/1/base", "slowdown")->median == 1.3);
  BOOST_TEST(plan.lab().answer(findings).find("The knee lies at 7.00 GB/s") != std::string::npos);
}

// Nor has one that was slow once, at little bandwidth.
BOOST_AUTO_TEST_CASE(a_latency_that_does_not_rise_to_the_end_has_no_knee) {
  const Planned planned("cache_loaded", small, Preset::quick);
  const Plan& plan = *planned.outcome.plan;
  for (const double at_little : {101.0, 500.0}) {
    auto result = loaded_result(plan, 100, {{119, 9e9}, {105, 4e9}, {at_little, 1e9}});
    plan.lab().conclude(plan, result);
    const Series& knee = result.series.back();
    BOOST_TEST(knee.name == "knee/base");
    BOOST_TEST((knee.status == Status::skipped));
    BOOST_TEST(knee.reason.find("1 load thread cannot saturate") != std::string::npos);
    BOOST_TEST(knee.metrics.empty());
  }
}

BOOST_AUTO_TEST_CASE(what_is_wrong_with_a_point_is_wrong_with_the_knee) {
  const Planned planned("cache_loaded", small, Preset::quick);
  const Plan& plan = *planned.outcome.plan;
  auto result = loaded_result(plan, 100, {{300, 9e9}, {105, 4e9}});
  result.series[1].warnings = {make_warning(Code::busy)};
  result.series[2].warnings = {make_warning(Code::busy), make_warning(Code::migrated)};
  plan.lab().conclude(plan, result);
  const Series& knee = result.series.back();
  BOOST_TEST(knee.warnings.size() == 2u);
  BOOST_TEST((knee.status == Status::noisy));
}

// Threads of a large machine stream over more than their caches hold, together and each.
BOOST_AUTO_TEST_CASE(the_load_of_many_threads_exceeds_all_their_caches) {
  const Planned plan("cache_loaded", two_sockets, Preset::quick);
  const auto* point = plan.find("delay/0/base");
  BOOST_TEST_REQUIRE(point);
  BOOST_TEST(param_text(*point, "size") == "64.0 MiB");
  BOOST_TEST(param_text(*point, "size_to_caches") == "2.00");
  BOOST_TEST(param_text(*point, "load_size") == "1.50 GiB");  // 2 x 24 x 32 MiB
}

BOOST_AUTO_TEST_CASE(arrays_below_the_rule_are_told) {
  const Planned planned("cache_bandwidth", small, Preset::quick);
  const Plan& plan = *planned.outcome.plan;
  for (const auto& [times, warned] : {std::pair("0.53", true), std::pair("3.99", false)}) {
    LabResult result;
    Series series;
    series.params = {{"array", Value("256 MiB")}, {"array_to_caches", Value(times)}};
    series.metrics.emplace_back();
    result.series = {series};
    plan.lab().conclude(plan, result);
    BOOST_TEST((result.warnings.size() == 1) == warned);
    if (warned)
      BOOST_TEST(result.warnings[0].message.find("each array of 256 MiB is 0.53 x") !=
                 std::string::npos);
  }
}
