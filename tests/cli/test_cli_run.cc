// A run as a user sees it: what is printed where, and what is in the file.

#include "tests/cli/support.hh"

#include "affinity/topology.hh"
#include "lab/base/file.hh"
#include "lab/harness/document_json.hh"
#include "lab/harness/engine.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/tool_info.hh"
#include "lab/harness/wire.hh"
#include "procs/fault.hh"
#include "tests/temporary_folder.hh"

#include <boost/test/unit_test.hpp>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <set>

using namespace schedlab;
using namespace schedlab::tests;
using testing::TemporaryFolder;

namespace {

// One replicate of the null lab, planned for these CPUs.
Output run_replicate(const std::string& usable, const Fd& reply) {
  const Fd request(::memfd_create("request", MFD_CLOEXEC));
  const Fd progress(::memfd_create("progress", MFD_CLOEXEC));
  BOOST_TEST_REQUIRE(::ftruncate(progress.get(), sizeof(harness::Progress)) == 0);
  harness::Request wanted;
  wanted.lab = "null";
  wanted.settings.preset = harness::Preset::smoke;
  wanted.usable = usable;
  wanted.budget_s = 0.01;
  write_all(request.get(), encode(wanted, clock::Calibration{}), "request");
  return capture({program(), std::string(harness::replicate_word)},
                 {.fds = {{request.get(), harness::request_fd},
                          {reply.get(), harness::reply_fd},
                          {progress.get(), harness::progress_fd}},
                  .environment = {}});
}

harness::Document run_to_document(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "run");
  arguments.push_back("--json");
  const Output output = run_program(arguments);
  BOOST_TEST_REQUIRE(output.cause.text() == "exit status 0", output.err);
  return harness::parse_document(output.out, "standard output");
}

boost::test_tools::assertion_result addresses_are_drawn(boost::unit_test::test_unit_id) {
  boost::test_tools::assertion_result drawn(harness::tool_info().sanitizers == "none");
  drawn.message() << "sanitizers put the heap at fixed addresses";
  return drawn;
}

}  // namespace

BOOST_AUTO_TEST_CASE(json_output_is_the_document_and_nothing_else) {
  const auto document = run_to_document({"null", "--smoke", "--seed", "7", "--label", "here"});
  BOOST_TEST(document.complete);
  BOOST_TEST(document.run.seed == 7u);
  BOOST_TEST(document.run.label == "here");
  BOOST_TEST_REQUIRE(document.labs.size() == 1u);
  BOOST_TEST(document.labs[0].name == "null");
}

BOOST_AUTO_TEST_CASE(the_file_of_a_run_shows_the_same_tables_again) {
  const TemporaryFolder folder;
  const std::string path = folder.path("result.json");
  const Output ran = run_program({"run", "null", "clock", "--smoke", "--no-progress", "-o", path});
  BOOST_TEST_REQUIRE(ran.cause.success(), ran.err);
  const Output shown = run_program({"show", path});
  BOOST_TEST_REQUIRE(shown.cause.success());
  const auto tables = [](const std::string& text) { return text.substr(text.find("\nnull ")); };
  BOOST_TEST(tables(ran.out) == tables(shown.out));
}

BOOST_AUTO_TEST_CASE(no_line_is_wider_than_80_columns_without_a_terminal_and_none_is_coloured) {
  for (const auto& arguments :
       {std::vector<std::string>{"run", "--smoke", "-o", "/dev/null"}, {"list"}}) {
    const Output output = run_program(arguments);
    BOOST_TEST_REQUIRE(output.cause.success(), output.err);
    std::size_t widest = 0;
    for (std::size_t at = 0; at < output.out.size();) {
      const auto end = output.out.find('\n', at);
      widest = std::max(widest, end - at);
      at = end + 1;
    }
    BOOST_TEST(widest <= 80u);
    BOOST_TEST(output.out.find('\033') == std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(colour_can_be_forced_and_forbidden) {
  const auto coloured = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"run", "null", "--smoke", "-o", "/dev/null"});
    return run_program(arguments).out.find('\033') != std::string::npos;
  };
  BOOST_TEST(coloured({"--color", "always"}));
  BOOST_TEST(!coloured({"--color", "never"}));
  BOOST_TEST(!coloured({}));
}

BOOST_AUTO_TEST_CASE(a_device_is_written_in_place_and_a_link_keeps_its_target_replaced) {
  const Output device = run_program({"run", "null", "--smoke", "-o", "/dev/null"});
  BOOST_TEST(device.cause.success(), device.err);
  struct stat info {};
  BOOST_TEST_REQUIRE(::stat("/dev/null", &info) == 0);
  BOOST_TEST(S_ISCHR(info.st_mode));

  const TemporaryFolder folder;
  write_output(folder.path("target"), "old");
  std::filesystem::create_symlink("target", folder.path("link"));
  BOOST_TEST(run_program({"run", "null", "--smoke", "-o", folder.path("link")}).cause.success());
  BOOST_TEST(std::filesystem::is_symlink(folder.path("link")));
  BOOST_TEST(harness::read_document(folder.path("target")).complete);
  BOOST_TEST(folder.files() == 2u);
}

BOOST_AUTO_TEST_CASE(every_switch_of_a_pinned_pair_is_counted_twice_a_round_trip) {
  const auto document = run_to_document({"switch_cost", "--place", "same-pu", "--processes", "2",
                                         "--set", "switch_cost.mechanism=pipe,futex"});
  int checked = 0;
  for (const auto& series : document.labs.at(0).series)
    for (const auto& check : series.checks) {
      if (check.name != "context switches counted against expected")
        continue;
      ++checked;
      const double ratio = *check.seen.number() / *check.expected.number();
      BOOST_TEST(ratio >= 0.99);
    }
  BOOST_TEST(checked == 4);
}

BOOST_AUTO_TEST_CASE(a_pool_survives_twenty_kills_at_each_step) {
  const auto document =
      run_to_document({"pool_survival", "--smoke", "--set", "pool_survival.kills=20"});
  std::size_t steps = 0;
  for (const auto& series : document.labs.at(0).series) {
    if (!series.name.starts_with("worker/") && !series.name.starts_with("parent/"))
      continue;
    ++steps;
    const auto* landed = harness::find_metric(series, "kills");
    BOOST_TEST_REQUIRE((landed && landed->median), series.name);
    BOOST_TEST(*landed->median >= 20, series.name);
    for (const auto* harm : {"lost", "doubled", "hurt", "unnamed", "left"})
      if (const auto* metric = harness::find_metric(series, harm))
        BOOST_TEST(metric->median.value_or(0) == 0, series.name << ": " << harm);
  }
  BOOST_TEST(steps == procs::step_count + 1);  // and of the parent, while tasks run
}

BOOST_AUTO_TEST_CASE(one_cpu_by_affinity_skips_what_needs_two_and_says_why) {
  const auto topology = affinity::Topology::machine();
  const std::string cpu = std::to_string(topology.usable().first());
  const Output output =
      capture({"taskset", "-c", cpu, program(), "run", "switch_cost", "--smoke", "--json"});
  BOOST_TEST_REQUIRE(output.cause.success(), output.err);
  const auto document = harness::parse_document(output.out, "standard output");
  const auto& lab = document.labs.at(0);
  const harness::Findings findings(lab);
  BOOST_TEST(findings.metric("same-pu/pipe/threads", "switch"));
  for (const auto& series : lab.series) {
    if (series.placement.relation != "same-pu" && series.placement.relation != "unpinned") {
      BOOST_TEST((series.status == harness::Status::skipped), series.name);
      BOOST_TEST(!series.reason.empty(), series.name);
    }
  }
  if (topology.usable().count() > 1)
    BOOST_TEST(has_warning(document, "AFFINITY_SHRUNK"));
}

BOOST_AUTO_TEST_CASE(a_prediction_stands_beside_the_measured_interval) {
  const Output output =
      run_program({"run", "switch_cost", "--smoke", "-o", "/dev/null", "--set",
                   "switch_cost.mechanism=pipe", "--predict", "switch_cost.switch=1s"});
  BOOST_TEST(output.out.find("predicted switch 1.00 s: measured ") != std::string::npos,
             output.out);
}

BOOST_AUTO_TEST_CASE(the_plan_measures_nothing_and_names_what_would_run) {
  const Output output = run_program({"run", "--plan", "--full", "--seed", "3"});
  BOOST_TEST(output.cause.success());
  BOOST_TEST(output.out.find("switch_footprint") != std::string::npos);
  BOOST_TEST(output.out.find("seed 3") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_replicate_that_finds_other_cpus_than_were_planned_for_measures_nothing) {
  const Fd reply(::memfd_create("reply", MFD_CLOEXEC));
  const Output output = run_replicate("4095", reply);
  BOOST_TEST(output.cause.text() == "exit status 1");
  BOOST_TEST(output.err.find("the usable CPUs changed from 4095 to ") != std::string::npos,
             output.err);
  BOOST_TEST(read_input("/proc/self/fd/" + std::to_string(reply.get()), 1 << 20) == "");
}

BOOST_AUTO_TEST_CASE(replicates_differ_in_the_addresses_of_text_heap_and_stack,
                     *boost::unit_test::precondition(addresses_are_drawn)) {
  std::set<std::uint64_t> texts, heaps, stacks;
  const int replicates = 6;
  for (int i = 0; i < replicates; ++i) {
    const Fd reply(::memfd_create("reply", MFD_CLOEXEC));
    const Output output = run_replicate(affinity::Topology::machine().usable().list(), reply);
    BOOST_TEST_REQUIRE(output.cause.success(), output.err);
    const auto layout =
        harness::decode_reply(read_input("/proc/self/fd/" + std::to_string(reply.get()), 1 << 20))
            .layout;
    texts.insert(layout.text);
    heaps.insert(layout.heap);
    stacks.insert(layout.stack);
  }
  // Two of six may fall on one address by chance, more do not.
  BOOST_TEST(texts.size() >= 5u);
  BOOST_TEST(heaps.size() >= 5u);
  BOOST_TEST(stacks.size() >= 5u);
}

BOOST_AUTO_TEST_CASE(the_man_page_and_the_completions_name_every_command) {
  for (const std::string what : {"man", "bash", "zsh", "fish"}) {
    const Output output = run_program({"__generate", what});
    BOOST_TEST_REQUIRE(output.cause.success());
    for (const auto* command : {"run", "list", "explain", "show", "topology", "doctor"})
      BOOST_TEST(output.out.find(command) != std::string::npos, what + " " + command);
  }
  const Output checked =
      capture({"/bin/bash", "-n", "-c", run_program({"__generate", "bash"}).out});
  BOOST_TEST(checked.cause.success(), checked.err);
}
