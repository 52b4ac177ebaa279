// What was measured goes into hwloc's XML, and hwloc's own tools read it.

#include "tests/cli/support.hh"

#include "affinity/topology.hh"
#include "lab/base/file.hh"
#include "lab/harness/document_json.hh"
#include "tests/temporary_folder.hh"

#include <boost/test/unit_test.hpp>
#include <unistd.h>

using namespace schedlab;
using namespace schedlab::tests;
using testing::TemporaryFolder;

namespace {

// A result of this machine, as if numa_matrix had found `latency_ns` between all its nodes.
std::string measured_file(const TemporaryFolder& folder, double latency_ns) {
  const std::string path = folder.path("measured.json");
  const Output ran = run_program({"run", "null", "--smoke", "--no-progress", "-o", path});
  BOOST_TEST_REQUIRE(ran.cause.success(), ran.err);
  harness::Document document = harness::read_document(path);
  const auto machine = affinity::Topology::machine();
  harness::Matrix matrix;
  for (const auto& node : machine.nodes())
    matrix.rows.push_back("node L#" + std::to_string(node.logical) + "(P#" +
                          std::to_string(node.os) + ")");
  matrix.columns = matrix.rows;
  matrix.values.assign(matrix.rows.size(), std::vector<double>(matrix.rows.size(), latency_ns));
  harness::Metric metric;
  metric.name = "latency";
  metric.unit = "ns";
  metric.matrix = std::move(matrix);
  harness::Series series;
  series.name = "matrix";
  series.metrics.push_back(std::move(metric));
  auto& lab = document.labs.at(0);
  lab.name = "numa_matrix";
  lab.series = {std::move(series)};
  write_output(path, harness::to_json(document));
  return path;
}

bool is_installed(const std::string& tool) {
  return ::access(("/usr/bin/" + tool).c_str(), X_OK) == 0;
}

boost::test_tools::assertion_result hwloc_tools(boost::unit_test::test_unit_id) {
  boost::test_tools::assertion_result found(is_installed("lstopo-no-graphics") &&
                                            is_installed("hwloc-bind"));
  found.message() << "needs lstopo and hwloc-bind (package hwloc-nox)";
  return found;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_measured_xml_is_this_machine_with_one_thing_more) {
  const TemporaryFolder folder;
  const std::string file = measured_file(folder, 123.4);
  const Output output = run_program({"topology", "--export", "xml", "--measured", file});
  BOOST_TEST_REQUIRE(output.cause.success(), output.err);
  BOOST_TEST(output.err == "");
  BOOST_TEST(output.out.find("value=\"123\"") != std::string::npos, output.out);
  const std::string xml = folder.path("measured.xml");
  write_output(xml, output.out);
  BOOST_TEST(affinity::Topology::from_xml(xml).shape() == affinity::Topology::machine().shape());
}

BOOST_AUTO_TEST_CASE(hwlocs_tools_print_it_and_choose_memory_by_it,
                     *boost::unit_test::precondition(hwloc_tools)) {
  const TemporaryFolder folder;
  const std::string xml = folder.path("measured.xml");
  const std::string file = measured_file(folder, 123.4);
  write_output(xml, run_program({"topology", "--export", "xml", "--measured", file}).out);
  const Output shown = capture({"/usr/bin/lstopo-no-graphics", "-i", xml, "--memattrs"});
  BOOST_TEST(shown.out.find("= 123 from cpuset") != std::string::npos, shown.out + shown.err);
  const std::vector<std::string> bind = {"/bin/sh", "-c",
                                         "HWLOC_XMLFILE=" + xml +
                                             " hwloc-bind --best-memattr latency --cpubind pu:0 "
                                             "--membind all -- true"};
  const Output bound = capture(bind);
  BOOST_TEST(bound.cause.success(), bound.err);
  // The value was ours.
  write_output(xml, run_program({"topology", "--export", "xml"}).out);
  const Output plain = capture({"/usr/bin/lstopo-no-graphics", "-i", xml, "--memattrs"});
  BOOST_TEST(plain.out.find("= 123 from cpuset") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_file_that_was_not_measured_here_or_holds_nothing_is_refused_by_path) {
  const TemporaryFolder folder;
  const std::string file = measured_file(folder, 100);
  const auto refused = [&](std::vector<std::string> arguments, const std::string& text) {
    const Output output = run_program(std::move(arguments));
    BOOST_TEST(output.cause.text() == "exit status 2");
    BOOST_TEST(output.out == "");
    BOOST_TEST(lines(output.err) == 1u);
    BOOST_TEST(output.err.starts_with("schedlab: " + file + ": " + text), output.err);
  };
  refused({"topology", "--input", "pack:3 core:5 pu:1", "--export", "xml", "--measured", file},
          "was measured on another machine: ");
  const std::string key = "\"machine_key\": \"";
  std::string other = read_input(file, 1 << 20);
  const auto at = other.find(key) + key.size();
  other[at] = other[at] == '0' ? '1' : '0';
  write_output(file, other);
  refused({"topology", "--export", "xml", "--measured", file},
          "was measured on another machine of the same shape");
  run_program({"run", "null", "--smoke", "--no-progress", "-o", file});
  refused({"topology", "--export", "xml", "--measured", file},
          "holds no matrix of core_to_core or numa_matrix; measure them with schedlab run");
}
