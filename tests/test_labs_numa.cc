#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/validity.hh"
#include "tests/metric_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>
#include <cmath>

namespace schedlab::labs {

extern const harness::Lab numa_matrix;
extern const harness::Lab numa_placement;

}  // namespace schedlab::labs

using namespace schedlab;
using namespace schedlab::harness;
using labs::numa_matrix;
using labs::numa_placement;

namespace {

PlanOutcome plan(const Lab& lab, const affinity::Topology& machine,
                 std::map<std::string, std::string> values = {},
                 const std::string& placement = "all") {
  return plan_lab(lab, machine,
                  {.preset = Preset::smoke,
                   .placement = placement,
                   .values = std::move(values),
                   .driver = "auto"});
}

// The names of the series that would run, joined.
std::string names(const PlanOutcome& outcome, const std::string& head = "") {
  BOOST_TEST(outcome.unsupported == "");
  std::string text;
  for (const auto& series : outcome.plan->series())
    if (series.skip.empty() && series.name.starts_with(head))
      text += (text.empty() ? "" : " ") + series.name;
  return text;
}

std::string skip_of(const PlanOutcome& outcome, const std::string& name) {
  const auto* series = outcome.plan->find(name);
  BOOST_TEST_REQUIRE(series, name);
  return series->skip;
}

std::vector<unsigned> cpus_of(const PlanOutcome& outcome, const std::string& name) {
  const auto* series = outcome.plan->find(name);
  BOOST_TEST_REQUIRE(series, name);
  return series->cpus;
}

// A cell of the matrix as it is merged.
Series cell(const std::string& name, const std::string& metric_name,
            const std::vector<double>& medians) {
  Series series;
  series.name = name;
  series.metrics = {metric(metric_name, medians)};
  series.checks = {{"pages on node P#0", 4, 4, true}};
  return series;
}

std::vector<double> about(double value) {
  return {value, value + 1, value + 2, value + 3, value + 4, value + 5};
}

// Latencies of two_sockets, and one cell of the bandwidths.
LabResult measured(double near_0, double far_0, double far_1, double near_1) {
  LabResult result;
  result.series = {cell("latency/P#0/P#0", "latency", about(near_0)),
                   cell("latency/P#0/P#1", "latency", about(far_0)),
                   cell("latency/P#1/P#0", "latency", about(far_1)),
                   cell("latency/P#1/P#1", "latency", about(near_1)),
                   cell("read-one/P#0/P#1", "bandwidth", about(1e9))};
  return result;
}

LabResult concluded(LabResult result) {
  const auto machine = fixture("two_sockets");
  numa_matrix.conclude(*plan(numa_matrix, machine).plan, result);
  return result;
}

}  // namespace

BOOST_AUTO_TEST_CASE(on_one_node_both_labs_say_what_they_need) {
  for (const auto* machine : {"pu:1", "core:2 pu:1", "pack:2 core:64 pu:2"})
    for (const Lab* lab : {&numa_matrix, &numa_placement})
      BOOST_TEST(plan(*lab, synthetic(machine)).unsupported ==
                 "needs 2 NUMA nodes; this machine has one");
}

BOOST_AUTO_TEST_CASE(a_matrix_has_a_cell_for_each_node_with_cpus_and_each_with_memory) {
  const auto machine = fixture("two_sockets");
  const auto outcome = plan(numa_matrix, machine);
  BOOST_TEST(names(outcome, "latency/") ==
             "latency/P#0/P#0 latency/P#0/P#1 latency/P#1/P#0 latency/P#1/P#1");
  BOOST_TEST(cpus_of(outcome, "latency/P#1/P#0") == std::vector<unsigned>{2},
             boost::test_tools::per_element());
  BOOST_TEST(cpus_of(outcome, "read-one/P#1/P#0") == std::vector<unsigned>{2},
             boost::test_tools::per_element());
  BOOST_TEST(cpus_of(outcome, "read-all/P#1/P#0") == (std::vector<unsigned>{2, 6, 3, 7}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_cells_of_a_row_are_interleaved_and_share_no_cpu_with_others) {
  const auto machine = fixture("two_sockets");
  const auto outcome = plan(numa_matrix, machine);
  for (const auto& series : outcome.plan->series()) {
    const bool first = series.name.find("/P#0/") != std::string::npos;
    BOOST_TEST(series.group == (first ? "P#0" : "P#1"), series.name);
  }
}

BOOST_AUTO_TEST_CASE(a_node_without_cpus_is_a_column_and_no_row) {
  const auto machine = fixture("cpuless_node");
  const auto outcome = plan(numa_matrix, machine);
  BOOST_TEST(names(outcome, "latency/") == "latency/P#0/P#0 latency/P#0/P#1 latency/P#0/P#3 "
                                           "latency/P#1/P#0 latency/P#1/P#1 latency/P#1/P#3");
}

BOOST_AUTO_TEST_CASE(a_node_with_one_cpu_needs_no_second_bandwidth) {
  const auto machine = synthetic("numa:2 core:1 pu:1");
  const auto outcome = plan(numa_matrix, machine);
  BOOST_TEST(skip_of(outcome, "read-all/P#0/P#1") == "node L#0(P#0) has one usable CPU");
  BOOST_TEST(skip_of(outcome, "read-one/P#0/P#1") == "");
}

BOOST_AUTO_TEST_CASE(rows_beyond_those_asked_for_are_skipped_with_the_reason) {
  const auto machine = synthetic("numa:8 core:2 pu:1");
  const auto some = plan(numa_matrix, machine);
  BOOST_TEST(skip_of(some, "latency/P#3/P#7") == "");
  BOOST_TEST(skip_of(some, "latency/P#4/P#0") ==
             "only 4 rows are measured; --set numa_matrix.rows=0 takes all");
  BOOST_TEST(plan(numa_matrix, machine, {{"rows", "0"}}).plan->runnable() == 3u * 64);
}

BOOST_AUTO_TEST_CASE(a_placement_says_whose_cpus_read) {
  const auto machine = fixture("two_sockets");
  const auto outcome = plan(numa_matrix, machine, {}, "cpus:3");
  BOOST_TEST(names(outcome, "latency/") == "latency/P#1/P#0 latency/P#1/P#1");
  BOOST_TEST(cpus_of(outcome, "latency/P#1/P#0") == std::vector<unsigned>{3},
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_read_longer_than_the_memory_is_refused) {
  const auto machine = fixture("two_sockets");
  BOOST_CHECK_EXCEPTION(plan(numa_matrix, machine, {{"size", "4M"}, {"read", "8M"}}), BadInput,
                        says("numa_matrix.read: 8M is more than the memory there is to read"));
  BOOST_CHECK_THROW(plan(numa_matrix, machine, {{"size", "1048577"}}), BadInput);
}

BOOST_AUTO_TEST_CASE(memory_that_a_node_has_not_got_is_not_asked_of_it) {
  const auto machine = fixture("two_sockets");  // 16 GiB each
  const auto skip = skip_of(plan(numa_matrix, machine, {{"size", "12G"}}), "latency/P#0/P#1");
  BOOST_TEST(skip.find("is more than half of") != std::string::npos, skip);
}

BOOST_AUTO_TEST_CASE(cells_are_folded_into_matrices_by_node) {
  const auto result = concluded(measured(80, 140, 150, 90));
  const Findings findings(result);
  BOOST_TEST(findings.series("latency/P#0/P#0") == nullptr);
  const Metric* latency = findings.metric("matrix/latency", "latency");
  BOOST_TEST_REQUIRE(latency);
  BOOST_TEST((latency->kind == Kind::matrix));
  BOOST_TEST(latency->unit == "ns");
  const Matrix& matrix = latency->matrix.value();
  BOOST_TEST(matrix.rows == (std::vector<std::string>{"node L#0(P#0)", "node L#1(P#1)"}),
             boost::test_tools::per_element());
  BOOST_TEST(matrix.columns == matrix.rows, boost::test_tools::per_element());
  BOOST_TEST(matrix.values[0][0] == 82.5);
  BOOST_TEST(matrix.values[0][1] == 142.5);
  BOOST_TEST(matrix.values[1][0] == 152.5);
  BOOST_TEST(matrix.borders == std::vector<std::uint32_t>{1}, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(local_and_remote_are_medians_over_the_cells_of_each_process) {
  const auto result = concluded(measured(80, 140, 150, 90));
  const Findings findings(result);
  BOOST_TEST(findings.metric("matrix/latency", "local")->median.value() == 87.5);
  BOOST_TEST(findings.metric("matrix/latency", "remote")->median.value() == 147.5);
  const Metric* factor = findings.metric("matrix/latency", "factor");
  BOOST_TEST_REQUIRE(factor);
  BOOST_TEST(factor->ci.value().low == 150.0 / 90, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(factor->ci.value().high == 145.0 / 85, boost::test_tools::tolerance(1e-12));
}

BOOST_AUTO_TEST_CASE(a_cell_that_was_not_measured_is_a_gap) {
  const auto result = concluded(measured(80, 140, 150, 90));
  const Metric* metric = Findings(result).metric("matrix/read-one", "bandwidth");
  BOOST_TEST_REQUIRE(metric);
  BOOST_TEST_REQUIRE(metric->matrix.value().values.size() == 1u);
  BOOST_TEST(std::isnan(metric->matrix->values[0][0]));
  BOOST_TEST(metric->matrix->values[0][1] > 0);
  BOOST_TEST(Findings(result).series("matrix/read-all") == nullptr);
}

BOOST_AUTO_TEST_CASE(proofs_and_warnings_of_the_cells_stay) {
  auto result = measured(80, 140, 150, 90);
  result.series[1].warnings = {make_warning(Code::check, {}, {}, "pages")};
  result.series[1].checks[0].ok = false;
  result = concluded(std::move(result));
  const Series* latency = Findings(result).series("matrix/latency");
  BOOST_TEST_REQUIRE(latency);
  BOOST_TEST(latency->checks.size() == 4u);
  BOOST_TEST(std::ranges::count(latency->checks, false, &Check::ok) == 1);
  BOOST_TEST((latency->status == Status::invalid));
}

BOOST_AUTO_TEST_CASE(firmware_distances_stand_beside_the_latencies) {
  const auto result = concluded(measured(80, 140, 150, 90));
  const Metric* distance = Findings(result).metric("matrix/firmware", "distance");
  BOOST_TEST_REQUIRE(distance);
  BOOST_TEST(distance->matrix.value().values[0][0] == 10);
  BOOST_TEST(distance->matrix->values[0][1] > 10);
  BOOST_TEST(Findings(result).series("matrix/latency")->warnings.empty());
}

BOOST_AUTO_TEST_CASE(a_node_that_is_nearer_by_the_firmware_but_slower_is_a_contradiction) {
  const auto result = concluded(measured(180, 140, 150, 90));
  const auto& warnings = Findings(result).series("matrix/latency")->warnings;
  BOOST_TEST_REQUIRE(warnings.size() == 1u);
  BOOST_TEST(warnings[0].code == "TOPOLOGY");
  BOOST_TEST(warnings[0].message.find("from node L#0(P#0) the firmware calls node L#0(P#0) nearer "
                                      "than L#1(P#1)") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_difference_within_doubt_is_no_contradiction) {
  BOOST_TEST(
      Findings(concluded(measured(142, 140, 150, 90))).series("matrix/latency")->warnings.empty());
}

BOOST_AUTO_TEST_CASE(memory_is_placed_in_every_way_for_the_first_cpu) {
  const auto machine = fixture("two_sockets");
  const auto outcome = plan(numa_placement, machine);
  BOOST_TEST(names(outcome) == "first-touch bind interleave preferred wrong-node/P#1 "
                               "touched-elsewhere move_pages move_pages/stay migrate_pages "
                               "migrate_pages/stay");
  BOOST_TEST(cpus_of(outcome, "wrong-node/P#1") == std::vector<unsigned>{0},
             boost::test_tools::per_element());
  const auto* moves = outcome.plan->find("move_pages");
  BOOST_TEST(moves->derive.at(0).floors.at(0).term.series == "move_pages/stay");
}

BOOST_AUTO_TEST_CASE(every_distance_has_a_wrong_node_and_memory_nodes_have_their_own) {
  const auto machine = fixture("cpuless_node");  // from node 0: 20 to node 1, 17 to node 3
  const auto outcome = plan(numa_placement, machine);
  BOOST_TEST(names(outcome, "wrong-node/") == "wrong-node/P#3 wrong-node/P#1");
  BOOST_TEST(outcome.plan->find("touched-elsewhere")->skip == "");
  const auto many = synthetic("pack:8 [numa] core:2 pu:1");
  BOOST_TEST(plan(numa_placement, many).unsupported == "");
}

BOOST_AUTO_TEST_CASE(a_cpu_on_another_node_is_chosen_by_placement) {
  const auto machine = fixture("two_sockets");
  const auto outcome = plan(numa_placement, machine, {}, "cpus:3");
  BOOST_TEST(names(outcome, "wrong-node/") == "wrong-node/P#0");
  BOOST_TEST(cpus_of(outcome, "bind") == std::vector<unsigned>{3},
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(half_pages_are_no_size) {
  BOOST_CHECK_EXCEPTION(plan(numa_placement, fixture("two_sockets"), {{"size", "1048577"}}),
                        BadInput, says("numa_placement.size: whole pages are needed"));
}

BOOST_AUTO_TEST_CASE(areas_that_a_node_cannot_hold_are_skipped_with_the_limit) {
  const auto skip = skip_of(plan(numa_placement, fixture("two_sockets"), {{"size", "8G"}}), "bind");
  BOOST_TEST(skip.find("is more than") != std::string::npos, skip);
}
