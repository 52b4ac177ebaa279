#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

using namespace schedlab;
using namespace schedlab::harness;

namespace {

using Values = std::map<std::string, std::string>;

const Lab& lab() {
  return *find_lab("core_to_core");
}

// A plan on a machine that is not there, and what comes of replies made up for it.
struct World {
  affinity::Topology topology;
  PlanOutcome outcome;

  explicit World(const std::string& shape, const Values& values = {}, Preset preset = Preset::quick,
                 const std::string& place = "all")
      : World(synthetic(shape), values, preset, place) {}
  World(affinity::Topology machine, const Values& values, Preset preset, const std::string& place)
      : topology(std::move(machine)),
        outcome(
            plan_lab(lab(), topology,
                     {.preset = preset, .placement = place, .values = values, .processes = 6})) {}

  [[nodiscard]] const Plan& plan() const { return *outcome.plan; }
  [[nodiscard]] std::size_t count(std::string_view prefix) const {
    return static_cast<std::size_t>(std::ranges::count_if(plan().series(), [&](const auto& series) {
      return series.skip.empty() && series.name.starts_with(prefix);
    }));
  }

  // `ns` says what a transfer of a series takes.
  using Cost = std::function<double(const SeriesPlan&)>;
  [[nodiscard]] LabResult measured(const Cost& ns) const {
    std::vector<Reply> replies(6);
    for (unsigned process = 0; process < replies.size(); ++process)
      for (const auto& series : plan().series()) {
        RawSeries raw{
            .name = series.name, .operations = 0, .samples = {}, .checks = {}, .failure = {}};
        if (series.skip.empty() && process % series.parts == series.part) {
          Sample sample;
          sample.operations = raw.operations = 1000;
          sample.elapsed_ns = 1e6;
          sample.proof.wall_ns = 1e6;
          sample.proof.cpus = series.cpus;
          sample.values[0] = ns(series) + 0.01 * process;
          raw.samples = {sample, sample};
        }
        replies[process].series.push_back(std::move(raw));
      }
    LabResult result = blank_result(lab());
    result.series = merge(plan(), replies);
    lab().conclude(plan(), result);
    return result;
  }
};

double by_relation(const SeriesPlan& series) {
  const std::map<std::string, double> costs = {
      {"smt", 8}, {"l3", 22}, {"numa", 90}, {"remote", 130}};
  return costs.at(series.relation) + (series.name.starts_with("pair/") ? 1 : 0);
}

const Series& find(const LabResult& result, std::string_view name) {
  const auto found = std::ranges::find(result.series, name, &Series::name);
  BOOST_TEST_REQUIRE((found != result.series.end()), "no series " << name);
  return *found;
}

std::string refusal(const std::string& shape, const Values& values) {
  try {
    const World world(shape, values);
  } catch (const BadInput& error) {
    return error.what();
  }
  return "";
}

const std::string cpus_16 = "pack:2 numa:1 l3:1(size=32MiB) core:4 pu:2";

}  // namespace

BOOST_AUTO_TEST_CASE(every_class_is_measured_by_every_kernel) {
  const World world(cpus_16);
  for (const auto* relation : {"smt", "l3", "remote"})
    for (const auto* kernel : {"cas", "two-lines", "message"})
      for (const auto* tasks : {"threads", "processes"}) {
        const auto* series = world.plan().find(std::string(relation) + "/" + kernel + "/" + tasks);
        BOOST_TEST_REQUIRE(series);
        BOOST_TEST(series->parts == 1u);
        BOOST_TEST(series->cpus.size() == 2u);
        BOOST_TEST(series->cpus[0] != series->cpus[1]);
      }
  BOOST_TEST(world.plan().find("l3/two-lines/threads/16"));
  BOOST_TEST(world.plan().find("l3/message/threads/16"));
  BOOST_TEST(!world.plan().find("l3/cas/threads/16"));
  BOOST_TEST(!world.plan().find("l3/two-lines/processes/16"));
}

BOOST_AUTO_TEST_CASE(the_other_pairs_follow_one_in_each_group) {
  const World world(cpus_16);
  BOOST_TEST(world.count("pair/") == 16u * 15u / 2u - 3u);
  std::set<std::string> groups;
  for (const auto& series : world.plan().series())
    if (series.name.starts_with("pair/")) {
      groups.insert(series.group);
      BOOST_TEST(series.part < series.parts);
      BOOST_TEST(series.parts <= 6u);
    }
  BOOST_TEST(groups.size() == world.count("pair/"));
}

BOOST_AUTO_TEST_CASE(the_budget_is_that_of_the_parameter) {
  BOOST_TEST(budget_of(World(cpus_16).plan()) == 4.0);
  BOOST_TEST(budget_of(World(cpus_16, {{"budget_s", "90"}}).plan()) == 90.0);
  BOOST_TEST(budget_of(World(cpus_16, {}, Preset::full).plan()) == 60.0);
  BOOST_TEST(budget_of(World(cpus_16, {}, Preset::smoke).plan()) == 0.4);
}

BOOST_AUTO_TEST_CASE(a_budget_of_nothing_is_one_pair_of_each_class) {
  const World world(cpus_16, {{"budget_s", "0"}});
  BOOST_TEST(world.count("pair/") == 0u);
  BOOST_TEST(world.count("remote/") > 0u);
  BOOST_TEST(World(cpus_16, {}, Preset::smoke).count("pair/") == 0u);
}

BOOST_AUTO_TEST_CASE(hundreds_of_cpus_are_planned_within_the_budget_and_say_what_is_cut) {
  for (const auto* shape : {"pack:2 numa:1 l3:8(size=32MiB) core:4 pu:2",
                            "pack:2 numa:1 l3:12(size=32MiB) core:8 pu:2"}) {
    const World world(shape);
    BOOST_TEST(world.count("pair/") > 500u);
    BOOST_TEST(world.count("pair/") < 5000u);
    const LabResult result = world.measured(by_relation);
    const auto cut = std::ranges::find(result.warnings, "CUT", &Warning::code);
    BOOST_TEST_REQUIRE((cut != result.warnings.end()));
    const double seen = *cut->evidence.at(1).second.number();
    BOOST_TEST(seen == static_cast<double>(world.count("pair/") + 4));
  }
}

BOOST_AUTO_TEST_CASE(one_cpu_or_a_wrong_pair_is_skipped_with_the_reason) {
  BOOST_TEST(World("pu:1").outcome.unsupported == "needs 2 CPUs; 1 usable here");
  const World same(cpus_16, {}, Preset::quick, "same-pu");
  BOOST_TEST(same.plan().runnable() == 0u);
  BOOST_TEST(same.plan().series().at(0).skip.find("spin") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(what_is_not_there_or_cannot_be_is_refused) {
  BOOST_TEST(refusal(cpus_16, {{"node", "2"}}) ==
             "core_to_core.node: there is no node 2 here, or it is not allowed; there is 0, 1");
  BOOST_TEST(refusal(cpus_16, {{"kernel", "cas"}, {"payload", "16"}}) ==
             "core_to_core.payload: cas takes none; add 0, two-lines or message");
  BOOST_TEST(refusal(cpus_16, {{"node", "1"}}) == "");
  BOOST_CHECK_EXCEPTION(check_value(lab(), "budget_s", "-1"), BadInput,
                        says("core_to_core.budget_s: '-1' is not a number from 0"));
}

BOOST_AUTO_TEST_CASE(the_pairs_become_a_matrix_and_one_series_for_each_class) {
  const World world(cpus_16);
  const LabResult result = world.measured(by_relation);
  for (const auto& series : result.series)
    BOOST_TEST(!series.name.starts_with("pair/"));
  const Metric* transfer = find_metric(find(result, "matrix/cas"), "transfer");
  BOOST_TEST_REQUIRE(transfer);
  BOOST_TEST_REQUIRE(transfer->matrix.has_value());
  const Matrix& matrix = *transfer->matrix;
  BOOST_TEST(matrix.rows.size() == 16u);
  std::size_t measured = 0;
  for (const auto& row : matrix.values)
    measured += static_cast<std::size_t>(
        std::ranges::count_if(row, [](double value) { return !std::isnan(value); }));
  BOOST_TEST(measured == 16u * 15u);
  BOOST_TEST(matrix.values[0][1] == 8.0, boost::test_tools::tolerance(0.01));
  BOOST_TEST(matrix.values[3][15] == 131.0, boost::test_tools::tolerance(0.01));
  const std::vector<std::uint32_t> borders = {8};
  BOOST_TEST(matrix.borders == borders, boost::test_tools::per_element());

  const Series& near = find(result, "l3/all pairs/cas");
  BOOST_TEST(near.placement.relation == "l3");
  BOOST_TEST(*find_metric(near, "pairs")->median == 2.0 * (8.0 * 7.0 / 2.0 - 4.0));
  BOOST_TEST(*find_metric(near, "nearest")->median < *find_metric(near, "farthest")->median);
  BOOST_TEST_REQUIRE(find_metric(near, "one_way")->ci.has_value());
  BOOST_TEST(*find_metric(near, "one_way")->median == 23.0, boost::test_tools::tolerance(0.01));
}

BOOST_AUTO_TEST_CASE(two_cpus_have_a_matrix_and_no_class_of_more) {
  const World world("core:2 pu:1");
  const LabResult result = world.measured([](const auto&) { return 65.0; });
  const auto& matrix = *find_metric(find(result, "matrix/cas"), "transfer")->matrix;
  BOOST_TEST(matrix.rows.size() == 2u);
  BOOST_TEST(std::ranges::none_of(result.series, [](const auto& series) {
    return series.name.find("all pairs") != std::string::npos;
  }));
  BOOST_TEST(result.warnings.empty());
}

BOOST_AUTO_TEST_CASE(measured_classes_are_checked_against_the_topology) {
  const World world("pack:1 numa:1 l3:1(size=32MiB) core:8 pu:1");
  const auto codes = [&](const World::Cost& cost) {
    std::size_t found = 0;
    for (const auto& warning : world.measured(cost).warnings)
      found += warning.code == "TOPOLOGY";
    return found;
  };
  BOOST_TEST(codes([](const auto&) { return 22.0; }) == 0u);
  BOOST_TEST(codes([](const SeriesPlan& series) {
               return series.cpus[0] / 2 == series.cpus[1] / 2 ? 7.5 : 22.0;
             }) == 1u);
  BOOST_TEST(codes([](const SeriesPlan& series) {
               return series.cpus[0] / 4 == series.cpus[1] / 4 ? 22.0 : 90.0;
             }) == 1u);
}

BOOST_AUTO_TEST_CASE(the_answer_names_each_class_with_its_usual_range) {
  const LabResult result = World(cpus_16).measured(by_relation);
  const std::string text = lab().answer(Findings(result));
  for (const auto* part : {"8.0", "6 to 10 ns", "22.0", "16 to 25 ns", "130 ns", "108 to 197 ns",
                           "seen by a waiting reader"})
    BOOST_TEST(text.find(part) != std::string::npos, text);
}

BOOST_AUTO_TEST_CASE(shared_memory_is_judged_by_threads_against_processes) {
  const auto verdict = [](double processes) {
    const World world(cpus_16);
    const LabResult result = world.measured([&](const SeriesPlan& series) {
      return series.name.find("processes") == std::string::npos ? 100.0 : processes;
    });
    return lab().claims[0].judge(Findings(result)).verdict;
  };
  BOOST_TEST((verdict(101) == Verdict::confirmed));
  BOOST_TEST((verdict(150) == Verdict::refuted));
  BOOST_TEST((verdict(60) == Verdict::refuted));
  const LabResult nothing = blank_result(lab());
  BOOST_TEST((lab().claims[0].judge(Findings(nothing)).verdict == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(cores_of_two_kinds_are_classes_of_their_own) {
  const World world(fixture("hybrid"), {{"budget_s", "0"}}, Preset::quick, "all");
  std::set<std::string> heads;
  for (const auto& series : world.plan().series())
    if (series.skip.empty())
      heads.insert(series.name.substr(0, series.name.find('/')));
  BOOST_TEST(heads.size() > 2u);
  for (const auto& head : heads)
    BOOST_TEST(head.find('.') != std::string::npos, head);
}
