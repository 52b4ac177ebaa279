#include "lab/cli/measured.hh"

#include "lab/base/error.hh"
#include "tests/topology_fixtures.hh"

#include <nlohmann/json.hpp>

#include <cmath>

using namespace schedlab;
using affinity::Quantity;
using boost::test_tools::per_element;
using cli::Measured;
using cli::ResultFile;
using harness::Matrix;

namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();
const std::string key = "a1b2";

harness::Series series(const std::string& name, const std::string& unit, const Matrix& matrix) {
  harness::Series made;
  made.name = name;
  auto& metric = made.metrics.emplace_back();
  metric.name = unit == "ns" ? "latency" : "bandwidth";
  metric.unit = unit;
  metric.kind = harness::Kind::matrix;
  metric.matrix = matrix;
  return made;
}

ResultFile result(const affinity::Topology& machine, const std::string& lab,
                  std::vector<harness::Series> all, const std::string& path = "a.json") {
  ResultFile file{path, {}};
  file.document.env.get()["machine_key"] = key;
  file.document.env.get()["topology"]["shape"] = machine.shape();
  auto& made = file.document.labs.emplace_back();
  made.name = lab;
  made.series = std::move(all);
  return file;
}

Measured measure(const affinity::Topology& machine, const std::vector<ResultFile>& files) {
  return measured_on(machine, files, key);
}

void refused(const affinity::Topology& machine, const ResultFile& file, const std::string& text) {
  BOOST_CHECK_EXCEPTION(measure(machine, {file}), BadInput, says(text));
}

// Of the fixture two_sockets: cores 0 and 1 with their siblings 4 and 5, and two of the other.
const std::vector<std::string> cpus = {"L#0(P#0)", "L#1(P#4)", "L#2(P#1)"};
const Matrix transfers = {
    cpus, cpus, {{none, 6.3504, 21.5}, {6.4, none, 21.7}, {21.25, none, none}}, {}};
const std::vector<std::string> nodes = {"node L#0(P#0)", "node L#1(P#1)"};

}  // namespace

BOOST_AUTO_TEST_CASE(transfers_become_distances_in_picoseconds) {
  const auto machine = fixture("two_sockets");
  const Measured measured =
      measure(machine, {result(machine, "core_to_core", {series("matrix/cas", "ns", transfers)})});
  BOOST_TEST(measured.notes.empty());
  BOOST_TEST(measured.annotations.memory.empty());
  BOOST_REQUIRE(measured.annotations.distances.size() == 1u);
  const auto& distances = measured.annotations.distances[0];
  BOOST_TEST(distances.name == "schedlab:core_to_core/cas:ps");
  BOOST_TEST(!distances.of_nodes);
  const std::vector<unsigned> objects = {0, 4, 1};
  BOOST_TEST(distances.objects == objects, per_element());
  // What was measured one way only stands for both.
  const std::vector<std::uint64_t> values = {0, 6350, 21500, 6400, 0, 21700, 21250, 21700, 0};
  BOOST_TEST(distances.values == values, per_element());
}

BOOST_AUTO_TEST_CASE(cpus_with_gaps_are_left_out_and_the_fewest_of_them) {
  const auto machine = synthetic("pack:2 core:3 pu:1");
  Matrix matrix;
  for (unsigned cpu = 0; cpu < 6; ++cpu) {
    matrix.rows.push_back(machine.label(cpu));
    matrix.values.emplace_back(6, 50);
    matrix.values.back()[cpu] = none;
  }
  matrix.columns = matrix.rows;
  for (const unsigned other : {0u, 2u, 4u})
    matrix.values[3][other] = matrix.values[other][3] = none;
  matrix.values[1][5] = none;  // the other direction is there
  const Measured measured =
      measure(machine, {result(machine, "core_to_core", {series("cas", "ns", matrix)})});
  const std::vector<unsigned> kept = {0, 1, 2, 4, 5};
  BOOST_TEST(measured.annotations.distances.at(0).objects == kept, per_element());
  BOOST_REQUIRE(measured.notes.size() == 1u);
  BOOST_TEST(measured.notes[0] ==
             "a.json: core_to_core/cas: distances between 5 of 6 CPUs; hwloc takes no gaps");
}

BOOST_AUTO_TEST_CASE(nodes_get_distances_and_the_attributes_that_choose_memory) {
  const auto machine = fixture("two_sockets");
  auto both = series("matrix", "ns", {nodes, nodes, {{90.26, 140}, {141, 91.6}}, {}});
  both.metrics.push_back(
      series("matrix", "B/s", {nodes, nodes, {{41943040000, 2e10}, {2e10, 4e10}}, {}}).metrics[0]);
  const auto annotations = measure(machine, {result(machine, "numa_matrix", {both})}).annotations;
  BOOST_REQUIRE(annotations.distances.size() == 2u);
  BOOST_TEST(annotations.distances[0].name == "schedlab:numa_matrix/latency:ps");
  BOOST_TEST(annotations.distances[0].of_nodes);
  BOOST_TEST(annotations.distances[0].values[0] == 90260u);
  BOOST_TEST(annotations.distances[1].name == "schedlab:numa_matrix/bandwidth:MiB/s");
  BOOST_TEST(bool(annotations.distances[1].quantity == Quantity::bandwidth));
  BOOST_TEST(annotations.distances[1].values[0] == 40'000u);
  BOOST_REQUIRE(annotations.memory.size() == 8u);
  BOOST_TEST(annotations.memory[1].node == 1u);
  BOOST_TEST(annotations.memory[1].initiator.list() == "0-1,4-5");
  BOOST_TEST(annotations.memory[1].value == 140u);
  BOOST_TEST(annotations.memory[3].value == 92u);
  BOOST_TEST(annotations.memory[4].value == 40'000u);
}

BOOST_AUTO_TEST_CASE(a_node_without_cpus_is_asked_and_never_asks) {
  const auto machine = fixture("cpuless_node");
  const std::vector<std::string> with_cpus = {"node L#0(P#0)", "node L#1(P#1)"};
  auto all = with_cpus;
  all.emplace_back("node L#2(P#3)");
  const auto annotations =
      measure(machine, {result(machine, "numa_matrix",
                               {series("matrix/idle", "ns",
                                       {with_cpus, all, {{80, 130, 250}, {130, 81, none}}, {}})})})
          .annotations;
  const std::vector<unsigned> square = {0, 1};
  BOOST_TEST(annotations.distances.at(0).objects == square, per_element());
  BOOST_REQUIRE(annotations.memory.size() == 5u);
  BOOST_TEST(annotations.memory[2].node == 3u);
  BOOST_TEST(annotations.memory[2].initiator.list() == "0-1");
  BOOST_TEST(annotations.memory[2].value == 250u);
}

BOOST_AUTO_TEST_CASE(the_first_latency_of_several_is_the_attribute) {
  const auto machine = fixture("two_sockets");
  const Matrix idle = {nodes, nodes, {{90, 140}, {141, 91}}, {}};
  const Matrix huge = {nodes, nodes, {{80, 130}, {131, 81}}, {}};
  const auto annotations =
      measure(machine, {result(machine, "numa_matrix",
                               {series("matrix/4K", "ns", idle), series("matrix/2M", "ns", huge)})})
          .annotations;
  BOOST_TEST(annotations.distances.size() == 2u);
  BOOST_REQUIRE(annotations.memory.size() == 4u);
  BOOST_TEST(annotations.memory[0].value == 90u);
}

BOOST_AUTO_TEST_CASE(files_are_taken_together_but_no_matrix_twice) {
  const auto machine = fixture("two_sockets");
  const auto first = result(machine, "core_to_core", {series("matrix/cas", "ns", transfers)});
  const auto other =
      result(machine, "core_to_core", {series("matrix/two-lines", "ns", transfers)}, "b.json");
  BOOST_TEST(measure(machine, {first, other}).annotations.distances.size() == 2u);
  const auto again =
      result(machine, "core_to_core", {series("matrix/cas", "ns", transfers)}, "b.json");
  BOOST_CHECK_EXCEPTION(measure(machine, {first, again}), BadInput,
                        says("b.json: core_to_core/cas: is in a file named before"));
}

BOOST_AUTO_TEST_CASE(an_invalid_series_is_left_out_with_a_note) {
  const auto machine = fixture("two_sockets");
  auto file = result(machine, "core_to_core",
                     {series("matrix/cas", "ns", transfers), series("matrix/x", "ns", transfers)});
  file.document.labs[0].series[0].status = harness::Status::invalid;
  const Measured measured = measure(machine, {file});
  BOOST_TEST(measured.annotations.distances.size() == 1u);
  BOOST_REQUIRE(measured.notes.size() == 1u);
  BOOST_TEST(measured.notes[0] == "a.json: core_to_core/cas: is marked invalid and left out");
  file.document.labs[0].series.pop_back();
  refused(machine, file, "a.json: core_to_core/cas: is marked invalid and left out");
}

BOOST_AUTO_TEST_CASE(a_file_of_another_machine_is_refused) {
  const auto machine = fixture("two_sockets");
  const auto file = result(machine, "core_to_core", {series("matrix/cas", "ns", transfers)});
  BOOST_CHECK_EXCEPTION(measured_on(machine, std::vector{file}, "c3d4"), BadInput,
                        says("a.json: was measured on another machine of the same shape"));
  BOOST_TEST(measured_on(machine, std::vector{file}, "").annotations.distances.size() == 1u);
  const auto small = fixture("one_cpu");
  BOOST_CHECK_EXCEPTION(measured_on(small, std::vector{file}, ""), BadInput,
                        says("a.json: was measured on another machine: 2 packages, 2 nodes, 4 "
                             "cores, 8 PUs, 2 x L3 32 MiB; the topology has 1 package"));
  auto silent = file;
  silent.document.env = {};
  refused(machine, silent, "of no known shape");
}

BOOST_AUTO_TEST_CASE(a_file_without_such_a_matrix_says_how_to_get_one) {
  const auto machine = fixture("two_sockets");
  refused(machine, result(machine, "switch_cost", {series("matrix/cas", "ns", transfers)}),
          "a.json: holds no matrix of core_to_core or numa_matrix; measure them");
  refused(machine, result(machine, "core_to_core", {}), "holds no matrix");
  refused(machine, result(machine, "core_to_core", {series("counts", "", transfers)}),
          "holds no matrix");
}

BOOST_AUTO_TEST_CASE(labels_that_name_nothing_here_are_refused) {
  const auto machine = fixture("two_sockets");
  const auto with = [&](const std::string& lab, const std::vector<std::string>& labels) {
    return result(machine, lab, {series("m", "ns", {labels, labels, {{1, 2}, {3, 4}}, {}})});
  };
  for (const std::string bad : {"", "7", "L#0", "L#0(P#", "L#(P#0)", "L#-1(P#0)", "L#0(P#0) ",
                                "L#99999999999(P#0)", "node L#0(P#0)"})
    refused(machine, with("core_to_core", {"L#0(P#0)", bad}), "'" + bad + "' names no CPU");
  refused(machine, with("numa_matrix", {"L#0(P#0)"}), "'L#0(P#0)' names no node");
  refused(machine, with("core_to_core", {"L#0(P#0)", "L#1(P#1)"}), "'L#1(P#1)' is not in the");
  refused(machine, with("numa_matrix", {"node L#0(P#1)"}), "'node L#0(P#1)' is not in the");
  refused(machine, with("core_to_core", {"L#0(P#0)", "L#0(P#0)"}), "stands there twice");
}

BOOST_AUTO_TEST_CASE(a_matrix_of_one_node_is_no_distance_but_an_attribute) {
  const auto machine = fixture("one_cpu");
  const Measured measured =
      measure(machine, {result(machine, "numa_matrix",
                               {series("matrix", "ns", {{nodes[0]}, {nodes[0]}, {{143.4}}, {}})})});
  BOOST_TEST(measured.notes.empty());
  BOOST_TEST(measured.annotations.distances.empty());
  BOOST_TEST(measured.annotations.memory.at(0).value == 143u);
}

BOOST_AUTO_TEST_CASE(values_that_are_missing_or_below_zero_are_gaps) {
  const auto machine = fixture("two_sockets");
  refused(
      machine,
      result(machine, "core_to_core", {series("cas", "ns", {cpus, cpus, {{none, -3}, {-4}}, {}})}),
      "core_to_core/cas: no two CPUs with all their pairs measured");
}
