// What a user gets wrong: one clear line on standard error, nothing on standard output, status 2;
// and what the machine refuses: the path and the reason, status 1.

#include "tests/cli/support.hh"

#include "lab/base/file.hh"
#include "lab/base/random.hh"
#include "tests/temporary_folder.hh"

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include <ostream>
#include <regex>

namespace ut = boost::unit_test;
using namespace schedlab;
using namespace schedlab::tests;
using testing::TemporaryFolder;

namespace {

struct Row {
  std::vector<std::string> arguments;
  std::string says;  // a regular expression that the message holds
};

std::ostream& operator<<(std::ostream& out, const Row& row) {
  for (const auto& argument : row.arguments)
    out << argument << ' ';
  return out;
}

const std::vector<Row> wrong = {
    {{"run", "swich_cost"}, "no lab or family 'swich_cost'; did you mean switch_cost\\?"},
    {{"run", "bandwith9"}, "no lab or family 'bandwith9'"},
    {{"run", "null", "--place", "foo:9"}, "foo:9"},
    {{"run", "null", "--place", "core:999"}, "core:999.*core"},
    {{"run", "null", "--place", ""}, "place"},
    {{"run", "null", "--place", "cpus:"}, "cpus:"},
    {{"run", "null", "--place", "same-pu,,l3"}, "item 2 is empty"},
    {{"run", "--set", "switch_cost.nope=1"}, "switch_cost has no parameter 'nope'; it has mechan"},
    {{"run", "--set", "switch_cost.slack=-1"}, "switch_cost.slack: '-1' is not a number from 0"},
    {{"run", "--set", "switch_cost.mechanism=pigeon"}, "'pigeon' is not some of pipe"},
    {{"run", "--set", "switch_cost.mechanism=pipe,pipe"}, "'pipe' is given twice"},
    {{"run", "--set", "switch_footprint.ring=1"}, "'1' is not a number from 2 to 512"},
    {{"run", "--set", "null"}, "'null' is not of the form LAB.PARAM=VALUE"},
    {{"run", "--set", "nul.x=1"}, "no lab 'nul'; did you mean null\\?"},
    {{"run", "--predict", "switch_cost.swich=1us"}, "no metric 'swich'"},
    {{"run", "--predict", "switch_cost.switch=fast"}, "'fast' is not a prediction"},
    {{"run", "--processes", "0"}, "processes"},
    {{"run", "--processes", "many"}, "processes"},
    {{"run", "--seed", "-1"}, "seed"},
    {{"run", "--smoke", "--full"}, "--smoke"},
    {{"run", "--driver", "kqueue"}, "driver"},
    {{"run", "--quik"}, "no option '--quik'; did you mean --quick\\?"},
    {{"rnu"}, "no command 'rnu'; did you mean run\\?"},
    {{"explain"}, "lab"},
    {{"explain", "switch"}, "stands for \\d labs"},
    {{"show", "/nonexistent.json"}, "/nonexistent.json: No such file"},
    {{"show", "/"}, "/: is a directory"},
    {{"show", "/dev/zero"}, "/dev/zero: is longer than 256 MiB"},
    {{"topology", "--input", "pack:nonsense"}, "pack:nonsense"},
    {{"topology", "--input", "pu:999999999"}, "'pu:999999999': .* more than 16384 PUs"},
    {{"topology", "--export", "svg"}, "svg"},
    {{"topology", "--measured", "a.json"}, "--measured requires --export"},
    {{"topology", "--export", "xml", "--measured", "/none.json"}, "/none.json: No such file"},
};

struct BadFile {
  std::string name;
  std::string content;
  std::string says;
};

std::ostream& operator<<(std::ostream& out, const BadFile& file) {
  return out << file.name;
}

std::string noise() {
  Random random(1);
  std::string text(4096, '\0');
  for (auto& byte : text)
    byte = static_cast<char>(random());
  return text;
}

const std::vector<BadFile> bad_files = {
    {"empty", "", "empty"},
    {"truncated", R"({"schema": "schedlab.result/1", "complete": tr)", ":1:"},
    {"not_json", "context switch: 1.4 us\n", ":1:"},
    {"noise", noise(), "noise"},
    {"foreign", R"({"context": {}, "benchmarks": []})", "schedlab.result/1"},
    {"newer", R"({"schema": "schedlab.result/2"})", "schedlab.result/2"},
    {"mistyped", R"({"schema": "schedlab.result/1", "complete": 3})", "complete"},
    {"deep", std::string(100'000, '['), "deep"},
};

}  // namespace

BOOST_DATA_TEST_CASE(wrong_usage_is_one_line_and_status_2, ut::data::make(wrong), row) {
  const Output output = run_program(row.arguments);
  BOOST_TEST(output.cause.text() == "exit status 2");
  BOOST_TEST(output.out == "");
  BOOST_TEST(lines(output.err) == 1u);
  BOOST_TEST(output.err.starts_with("schedlab: "));
  BOOST_TEST(std::regex_search(output.err, std::regex(row.says)), output.err);
}

BOOST_DATA_TEST_CASE(a_bad_file_is_one_line_with_its_path_and_status_2, ut::data::make(bad_files),
                     file) {
  const TemporaryFolder folder;
  const std::string path = folder.path(file.name);
  write_output(path, file.content);
  const Output output = run_program({"show", path});
  BOOST_TEST(output.cause.text() == "exit status 2");
  BOOST_TEST(output.out == "");
  BOOST_TEST(lines(output.err) == 1u);
  BOOST_TEST(output.err.find(path) != std::string::npos, output.err);
  BOOST_TEST(output.err.find(file.says) != std::string::npos, output.err);
}

BOOST_AUTO_TEST_CASE(a_file_of_three_gigabytes_is_refused_by_its_size) {
  const TemporaryFolder folder;
  const std::string path = folder.path("huge.json");
  write_output(path, "");
  BOOST_TEST_REQUIRE(::truncate(path.c_str(), off_t{3} << 30) == 0);
  const Output output = run_program({"show", path});
  BOOST_TEST(output.cause.text() == "exit status 2");
  BOOST_TEST(output.err == "schedlab: " + path + ": is 3072 MiB; at most 256 MiB are read\n");
}

BOOST_AUTO_TEST_CASE(no_command_prints_the_help_and_fails) {
  const Output output = run_program({});
  BOOST_TEST(output.cause.text() == "exit status 2");
  BOOST_TEST(output.err.find("doctor") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_full_device_is_status_1_with_path_and_reason_and_stays_a_device) {
  const Output output = run_program({"run", "null", "--smoke", "-o", "/dev/full"});
  BOOST_TEST(output.cause.text() == "exit status 1");
  BOOST_TEST(output.err.find("write '/dev/full': No space left on device") != std::string::npos,
             output.err);
  struct stat info {};
  BOOST_TEST_REQUIRE(::stat("/dev/full", &info) == 0);
  BOOST_TEST(S_ISCHR(info.st_mode));
}

BOOST_AUTO_TEST_CASE(a_run_on_a_topology_of_elsewhere_is_status_77_and_pins_nothing) {
  SpawnOptions elsewhere;
  elsewhere.environment = {{"HWLOC_SYNTHETIC", "pack:1 core:1 pu:1"}};
  const Output output = run_program({"run", "null", "--smoke", "--json"}, elsewhere);
  BOOST_TEST(output.cause.text() == "exit status 77");
  BOOST_TEST(output.err.find("another machine") != std::string::npos, output.err);
  BOOST_TEST(output.out == "");
}

BOOST_AUTO_TEST_CASE(a_full_standard_output_is_status_1) {
  const Output output = capture({"/bin/sh", "-c", program() + " list > /dev/full"});
  BOOST_TEST(output.cause.text() == "exit status 1");
  BOOST_TEST(output.err.find("standard output") != std::string::npos, output.err);
}

BOOST_AUTO_TEST_CASE(a_path_that_cannot_be_written_is_found_before_anything_is_measured) {
  const Output output = run_program({"run", "switch_cost", "--full", "-o", "/nonexistent/x.json"});
  BOOST_TEST(output.cause.text() == "exit status 1");
  BOOST_TEST(output.err.find("/nonexistent/x.json") != std::string::npos, output.err);
  BOOST_TEST(output.out == "");
}
