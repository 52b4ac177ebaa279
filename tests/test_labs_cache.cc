// What cache_latency and cache_tlb plan on machines that are not here, and what they conclude from
// curves that nobody measured.

#include "lab/apparatus/area.hh"
#include "lab/base/error.hh"
#include "lab/base/text.hh"
#include "lab/harness/engine.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/plan.hh"
#include "tests/plan_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/data/test_case.hpp>

#include <algorithm>
#include <cmath>
#include <set>

using namespace schedlab;
using namespace schedlab::harness;
namespace bdata = boost::unit_test::data;

namespace {

constexpr double mib = 1 << 20;

Settings settings(Preset preset, std::map<std::string, std::string> values = {}) {
  return {.preset = preset, .placement = "all", .values = std::move(values), .driver = "auto"};
}

// A plan and the machine it is for.
struct Planned {
  affinity::Topology topology;
  std::unique_ptr<Plan> plan;
};

Planned plan_for(std::string_view lab, const std::string& machine, const Settings& chosen) {
  Planned planned{synthetic(machine), nullptr};
  auto outcome = plan_lab(*find_lab(lab), planned.topology, chosen);
  BOOST_TEST_REQUIRE(outcome.unsupported == "");
  planned.plan = std::move(outcome.plan);
  return planned;
}

// The sizes of a pattern on base pages, in the plan's order.
std::vector<double> sizes_of(const Plan& plan, std::string_view pattern = "random") {
  std::vector<double> sizes;
  for (const auto& series : plan.series())
    if (param_text(series, "pages") == "base" && param_text(series, "pattern") == pattern)
      sizes.push_back(static_cast<double>(*to_size(param_text(series, "size"))));
  return sizes;
}

bool holds(const std::vector<double>& sizes, double size) {
  return std::ranges::find(sizes, size) != sizes.end();
}

constexpr const char* server = "pack:1 l3:1(size=32MiB) l2:4(size=1MiB) l1d:1(size=32KiB) pu:1";
constexpr const char* machines[] = {
    server,
    "pu:1",
    "core:2 pu:1",
    "pack:1 l2:2(size=512KiB) l1d:1(size=32KiB) pu:1",
    "pack:2 [numa(memory=16GiB)] l3:8(size=32MiB) l2:12(size=1MiB) l1d:1(size=32KiB) pu:2",
    "pack:2 [numa(memory=16GiB)] l3:1(size=260MiB) l2:32(size=2MiB) l1d:1(size=48KiB) pu:2",
};

}  // namespace

BOOST_DATA_TEST_CASE(sizes_ascend_and_go_past_every_cache, bdata::make(machines), machine) {
  for (const auto preset : {Preset::quick, Preset::full}) {
    const auto planned = plan_for("cache_latency", machine, settings(preset));
    const auto sizes = sizes_of(*planned.plan);
    BOOST_TEST_REQUIRE(sizes.size() > 10u);
    BOOST_TEST(std::ranges::is_sorted(sizes));
    BOOST_TEST(std::set<double>(sizes.begin(), sizes.end()).size() == sizes.size());
    BOOST_TEST(sizes.front() <= 16 * 1024.0);
    const double top = preset == Preset::full ? INFINITY : 256 * mib;
    const unsigned cpu = planned.topology.usable().first();
    for (int level = 1; level <= 3; ++level)
      if (const auto size = static_cast<double>(planned.topology.cache_size(cpu, level)); size > 0)
        BOOST_TEST(sizes.back() >= std::min(4 * size, top));
    for (std::size_t i = 1; i < sizes.size(); ++i)
      BOOST_TEST(sizes[i] <= 4.01 * sizes[i - 1]);
  }
}

BOOST_AUTO_TEST_CASE(sizes_stand_around_each_cache_in_eighths) {
  const auto planned = plan_for("cache_latency", server, settings(Preset::quick));
  const auto sizes = sizes_of(*planned.plan);
  for (const double cache : {32 * 1024.0, mib, 32 * mib})
    for (const int eighths : {4, 6, 7, 8, 9, 10, 12, 16})
      BOOST_TEST(holds(sizes, cache * eighths / 8), cache << " " << eighths);
  BOOST_TEST(sizes.back() == 128 * mib);
}

BOOST_AUTO_TEST_CASE(a_full_run_has_four_sizes_to_the_octave_until_they_are_dear) {
  const auto full = plan_for("cache_latency", machines[5], settings(Preset::full));
  const auto sizes = sizes_of(*full.plan);
  BOOST_TEST(sizes.back() == 1040 * mib);
  for (std::size_t i = 1; i < sizes.size(); ++i)
    BOOST_TEST(sizes[i] <= (sizes[i] < 80 * mib ? 1.34 : 2.1) * sizes[i - 1]);
  const auto quick = plan_for("cache_latency", machines[5], settings(Preset::quick));
  double written = 0;
  for (const double size : sizes_of(*quick.plan))
    written += size;
  BOOST_TEST(written <= 640 * mib);
  BOOST_TEST(quick.plan->series().size() < 90u);
}

BOOST_AUTO_TEST_CASE(the_other_patterns_take_one_size_of_each_level) {
  const auto planned = plan_for("cache_latency", server, settings(Preset::full));
  const auto sizes = sizes_of(*planned.plan, "page-local");
  BOOST_TEST(sizes == sizes_of(*planned.plan, "long"), boost::test_tools::per_element());
  BOOST_TEST_REQUIRE(sizes.size() == 4u);
  BOOST_TEST(sizes[0] == 16 * 1024.0);
  BOOST_TEST((sizes[1] > 64 * 1024.0 && sizes[1] < 0.5 * mib));
  BOOST_TEST((sizes[2] > 2 * mib && sizes[2] < 16 * mib));
  BOOST_TEST(sizes[3] == 128 * mib);
  BOOST_TEST(sizes_of(*planned.plan, "flushed").size() == 1u);
}

BOOST_AUTO_TEST_CASE(sizes_that_are_given_are_those_that_are_taken) {
  const auto planned = plan_for(
      "cache_latency", server,
      settings(Preset::quick,
               {{"size", "1M,16K,5000"}, {"pattern", "random,page-local"}, {"pages", "base"}}));
  for (const auto* pattern : {"random", "page-local"})
    BOOST_TEST(sizes_of(*planned.plan, pattern) == (std::vector<double>{5000, 16384, mib}),
               boost::test_tools::per_element());
  BOOST_TEST(planned.plan->series().size() == 6u);
}

BOOST_AUTO_TEST_CASE(sizes_above_the_memory_are_skipped_with_the_limit) {
  const auto planned =
      plan_for("cache_latency", server, settings(Preset::quick, {{"size", "16K,1024G"}}));
  for (const auto& series : planned.plan->series()) {
    if (param_text(series, "pattern") == "flushed" && param_text(series, "size") == "16K")
      BOOST_TEST(series.skip.starts_with("flushed needs"), series.skip);
    else if (param_text(series, "size") == "16K")
      BOOST_TEST(series.skip == "");
    else
      BOOST_TEST(series.skip.find("is more than half of the memory left here") != std::string::npos,
                 series.skip);
  }
}

BOOST_AUTO_TEST_CASE(sizes_and_strides_that_make_no_chase_are_refused) {
  const auto plan = [](std::map<std::string, std::string> values) {
    return plan_for("cache_latency", server, settings(Preset::quick, std::move(values)));
  };
  BOOST_CHECK_EXCEPTION(plan({{"size", "100"}}), BadInput, says("less than two strides of 64"));
  BOOST_CHECK_EXCEPTION(plan({{"size", "16K"}, {"stride", "192"}}), BadInput,
                        says("stride: a power of two"));
  for (const auto& [name, value] :
       {std::pair("pages", "large"), std::pair("pattern", "shuffled"), std::pair("size", "-1"),
        std::pair("stride", "32"), std::pair("stride", "2M")})
    BOOST_CHECK_THROW(check_value(*find_lab("cache_latency"), name, value), BadInput);
}

BOOST_AUTO_TEST_CASE(a_hybrid_machine_is_measured_on_each_kind_of_core) {
  const auto topology = fixture("hybrid");
  const auto outcome = plan_lab(*find_lab("cache_latency"), topology,
                                settings(Preset::quick, {{"size", "16K"}, {"pages", "base"}}));
  std::set<unsigned> cpus;
  for (const auto& series : outcome.plan->series())
    cpus.insert(series.cpus.at(0));
  BOOST_TEST(cpus.size() == topology.kinds().size());
}

namespace {

// A latency by the share of lines that each cache has room for, of a machine without noise.
double staircase(double size) {
  return size <= 32 * 1024 ? 1 : size <= mib ? 4 : size <= 32 * mib ? 20 : 100;
}

using Latency = double (*)(double);

Reply reply_of(const Plan& plan, Latency latency) {
  Reply reply;
  for (const auto& series : plan.series()) {
    RawSeries raw{.name = series.name, .operations = 1, .samples = {}, .checks = {}, .failure = {}};
    if (series.skip.empty()) {
      Sample sample;
      sample.values[0] = latency(static_cast<double>(*to_size(param_text(series, "size"))));
      raw.samples.assign(3, sample);
    }
    reply.series.push_back(std::move(raw));
  }
  return reply;
}

LabResult concluded(const Plan& plan, Latency latency) {
  const std::vector<Reply> replies(6, reply_of(plan, latency));
  LabResult result;
  result.series = merge(plan, replies);
  plan.lab().conclude(plan, result);
  return result;
}

bool warns(const Series& series, std::string_view code) {
  return std::ranges::find(series.warnings, code, &Warning::code) != series.warnings.end();
}

}  // namespace

BOOST_AUTO_TEST_CASE(sizes_are_added_where_the_curve_is_steep_and_nowhere_else) {
  const auto planned = plan_for("cache_latency", server, settings(Preset::quick));
  const auto values = planned.plan->lab().refine(*planned.plan, reply_of(*planned.plan, staircase));
  const auto refined =
      plan_for("cache_latency", server, settings(Preset::quick, {{"size", values.at("size")}}));
  const auto before = sizes_of(*planned.plan), after = sizes_of(*refined.plan);
  BOOST_TEST(after.size() > before.size());
  for (const double size : before)
    BOOST_TEST(holds(after, size));
  for (const double size : after)
    if (!holds(before, size))
      BOOST_TEST(((size > 32 * 1024 && size < 36 * 1024) || (size > mib && size < 1.125 * mib) ||
                  (size > 32 * mib && size < 36 * mib)),
                 size);
  const auto flat = planned.plan->lab().refine(*planned.plan,
                                               reply_of(*planned.plan, [](double) { return 1.0; }));
  BOOST_TEST(flat.at("size") == "0");
}

BOOST_AUTO_TEST_CASE(edges_and_levels_of_a_clean_staircase_agree_with_the_topology) {
  const auto planned = plan_for("cache_latency", server, settings(Preset::full));
  const auto result = concluded(*planned.plan, staircase);
  const Findings findings(result);
  for (const auto* pages : {"base", "huge"})
    for (const auto& [level, size, latency] :
         {std::tuple("L1", 32 * 1024.0, 1.0), {"L2", mib, 4.0}, {"L3", 32 * mib, 20.0}}) {
      const std::string name = std::string("edges/") + pages + "/" + level;
      const Metric* edge = findings.metric(name, "edge");
      BOOST_TEST_REQUIRE(edge, name);
      BOOST_TEST(*edge->median == size, boost::test_tools::tolerance(0.13));
      BOOST_TEST(edge->ci.has_value());
      BOOST_TEST(findings.series(name)->checks.at(0).ok);
      BOOST_TEST(findings.series(name)->warnings.empty());
      const Metric* inside =
          findings.metric(std::string("levels/") + pages + "/" + level, "latency");
      BOOST_TEST_REQUIRE(inside);
      BOOST_TEST(*inside->median == latency);
    }
  BOOST_TEST(*findings.metric("levels/huge/memory", "latency")->median == 100);
  BOOST_TEST(planned.plan->lab().answer(findings).find("L2 4.00 ns") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(an_edge_that_is_not_where_the_topology_says_is_kept_and_told) {
  const auto planned = plan_for("cache_latency", server, settings(Preset::full));
  const auto result = concluded(*planned.plan, [](double size) {
    return size <= 32 * 1024 ? 1.0 : size <= 0.6 * mib ? 4.0 : 100.0;
  });
  const Findings findings(result);
  const Metric* edge = findings.metric("edges/huge/L2", "edge");
  BOOST_TEST_REQUIRE(edge);
  BOOST_TEST(*edge->median == 0.6 * mib, boost::test_tools::tolerance(0.13));
  BOOST_TEST(!findings.series("edges/huge/L2")->checks.at(0).ok);
  BOOST_TEST(warns(*findings.series("edges/huge/L2"), "TOPOLOGY"));
  BOOST_TEST(!findings.metric("edges/huge/L3", "edge"));
  BOOST_TEST(warns(*findings.series("edges/huge/L3"), "TOPOLOGY"));
}

BOOST_AUTO_TEST_CASE(an_edge_without_a_cache_is_shown_and_one_that_only_one_process_saw_is_not) {
  const auto planned = plan_for("cache_latency", server, settings(Preset::full));
  const auto others = [](const LabResult& result) {
    return std::ranges::count_if(result.series, [](const Series& series) {
      return series.name.starts_with("edges/huge/other");
    });
  };
  const auto with_tlb = [](double size) { return staircase(size) * (size > 6 * mib ? 1.5 : 1.0); };
  BOOST_TEST(others(concluded(*planned.plan, with_tlb)) == 1);
  std::vector<Reply> replies(6, reply_of(*planned.plan, staircase));
  replies[3] = reply_of(*planned.plan, with_tlb);
  LabResult result;
  result.series = merge(*planned.plan, replies);
  planned.plan->lab().conclude(*planned.plan, result);
  BOOST_TEST(others(result) == 0);
}

BOOST_AUTO_TEST_CASE(a_sweep_that_ends_before_the_edge_says_so) {
  const auto planned = plan_for("cache_latency", machines[5], settings(Preset::quick));
  const auto result = concluded(*planned.plan, staircase);
  const Findings findings(result);
  const Series* edge = findings.series("edges/huge/L3");
  BOOST_TEST_REQUIRE(edge);
  BOOST_TEST((edge->status == Status::skipped));
  BOOST_TEST(edge->reason.find("the sizes end at 256 MiB") != std::string::npos, edge->reason);
  BOOST_TEST(!warns(*edge, "TOPOLOGY"));
}

BOOST_DATA_TEST_CASE(the_tlb_is_asked_with_as_many_lines_packed_as_spread, bdata::make(machines),
                     machine) {
  const auto planned = plan_for("cache_tlb", machine, settings(Preset::quick));
  std::size_t spread = 0;
  for (const auto& series : planned.plan->series()) {
    if (series.floor)
      continue;
    ++spread;
    const auto& floor = series.derive.at(0).floors.at(0);
    const SeriesPlan* packed = planned.plan->find(floor.term.series);
    BOOST_TEST_REQUIRE(packed);
    BOOST_TEST(packed->group == series.group);
    BOOST_TEST(param_text(*packed, "count") == param_text(series, "count"));
  }
  BOOST_TEST(2 * spread == planned.plan->series().size());
  BOOST_TEST(spread > 30u);
}

BOOST_AUTO_TEST_CASE(more_pages_than_there_is_memory_for_are_skipped_with_the_limit) {
  const auto planned = plan_for(
      "cache_tlb", server, settings(Preset::quick, {{"count", "16,16000000"}, {"pages", "huge"}}));
  for (const auto& series : planned.plan->series())
    if (apparatus::size_of(apparatus::Pages::huge) == 0)
      BOOST_TEST(series.skip == "the kernel has no transparent huge pages");
    else
      BOOST_TEST((series.skip.find("more than half of the memory") != std::string::npos) ==
                 (param_text(series, "count") != "16"));
}

BOOST_AUTO_TEST_CASE(the_reach_of_a_tlb_is_where_translation_begins_to_cost) {
  const auto planned = plan_for("cache_tlb", server, settings(Preset::quick, {{"pages", "base"}}));
  Reply reply;
  for (const auto& series : planned.plan->series()) {
    const double count = static_cast<double>(*to_number(param_text(series, "count")));
    Sample sample;
    if (series.floor)
      sample.values[1] = count > 512 ? 4 : 1;
    else
      sample.values[0] = (count > 512 ? 4 : 1) + (count <= 64 ? 0 : count <= 1536 ? 2 : 30);
    RawSeries raw{.name = series.name, .operations = 1, .samples = {}, .checks = {}, .failure = {}};
    raw.samples.assign(3, sample);
    reply.series.push_back(std::move(raw));
  }
  const std::vector<Reply> replies(6, reply);
  LabResult result;
  result.series = merge(*planned.plan, replies);
  planned.plan->lab().conclude(*planned.plan, result);
  const Findings findings(result);
  const Metric* first = findings.metric("reach/base/1st", "reach");
  const Metric* second = findings.metric("reach/base/2nd", "reach");
  BOOST_TEST_REQUIRE((first && second));
  BOOST_TEST(*first->median == 64, boost::test_tools::tolerance(0.2));
  BOOST_TEST(*second->median == 1536, boost::test_tools::tolerance(0.25));
  BOOST_TEST(*findings.metric("reach/base/1st", "translation")->median == 2,
             boost::test_tools::tolerance(1e-6));
  BOOST_TEST(*findings.metric("reach/base/2nd", "translation")->median == 30,
             boost::test_tools::tolerance(1e-6));
  BOOST_TEST(!findings.series("reach/base/3rd"));
}
