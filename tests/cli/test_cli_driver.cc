// A driver that was asked for and cannot run here: the cause and the fix on standard error, status
// 77; the other one, and auto, work all the same.

#include "tests/cli/support.hh"

#include "lab/harness/document_json.hh"

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <unistd.h>

#include <cstdlib>
#include <ostream>
#include <set>

using namespace schedlab;
using namespace schedlab::tests;

namespace {

// A world in which io_uring is refused, and what is said about it.
struct World {
  std::vector<std::string> options;  // of restrict
  std::string cause;
  std::string fix;
};

std::ostream& operator<<(std::ostream& out, const World& world) {
  for (const auto& option : world.options)
    out << option << ' ';
  return out;
}

const std::string profile = "io_uring_setup, io_uring_enter and io_uring_register";
const std::vector<World> worlds = {
    {{"--no-io-uring=EPERM"}, "seccomp filter", "SystemCallFilter"},
    {{"--no-io-uring=ENOSYS"},
     "a seccomp filter hides io_uring (Function not implemented)",
     profile},
    {{"--no-io-uring=EOPNOTSUPP"},
     "a seccomp filter hides io_uring (Operation not supported)",
     profile},
    {{"--no-io-uring=EMFILE"}, "no descriptor left: RLIMIT_NOFILE is", "ulimit -n"},
    {{"--user=nobody", "--memlock=0"}, "RLIMIT_MEMLOCK is 0 KiB", "ulimit -l unlimited"},
};

std::string restrict_program() {
  const char* path = std::getenv("RESTRICT");
  BOOST_REQUIRE_MESSAGE(path != nullptr, "RESTRICT names the program that makes a smaller world");
  return path;
}

std::vector<std::string> in_world(const World& world, std::vector<std::string> command) {
  std::vector<std::string> argv = {restrict_program()};
  argv.insert(argv.end(), world.options.begin(), world.options.end());
  argv.emplace_back("--");
  argv.insert(argv.end(), command.begin(), command.end());
  return argv;
}

// A lab whose series are driven by a loop.
std::vector<std::string> run_with(const std::string& driver) {
  return {program(), "run", "io_tasks", "--smoke", "--no-progress", "--json", "--driver", driver};
}
Output run_in(const World& world, const std::string& driver) {
  return capture(in_world(world, run_with(driver)), {}, 120'000);
}

// The drivers that measured series name.
std::set<std::string> drivers_of(const harness::Document& document) {
  std::set<std::string> drivers;
  for (const auto& lab : document.labs)
    for (const auto& series : lab.series)
      if (!series.metrics.empty() && !series.driver.empty())
        drivers.insert(series.driver);
  return drivers;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Can this user make such a world, and is io_uring refused there? A kernel between Linux 5.12 and
// the return of the charge lets anybody have a ring.
bool is_refused_in(const World& world) {
  const Output shown = capture(in_world(world, {restrict_program(), "--show"}));
  return shown.cause.value == 0 && !has(shown.out, "io_uring works");
}

}  // namespace

BOOST_DATA_TEST_CASE(a_forced_driver_that_cannot_run_is_77_with_cause_and_fix,
                     boost::unit_test::data::make(worlds), world) {
  if (!is_refused_in(world)) {
    BOOST_TEST_MESSAGE("skipped: this user cannot make that world, or io_uring works in it");
    return;
  }
  const Output output = run_in(world, "io_uring");
  BOOST_TEST(output.cause.value == 77);
  BOOST_TEST(output.out.empty());
  BOOST_TEST(lines(output.err) == 1u, output.err);
  BOOST_TEST(output.err.starts_with("schedlab: io_uring: "), output.err);
  const bool container = ::access("/.dockerenv", F_OK) == 0;
  BOOST_TEST(has(output.err, world.cause), output.err);
  BOOST_TEST((container || has(output.err, world.fix)), output.err);
}

BOOST_DATA_TEST_CASE(where_io_uring_is_refused_epoll_and_auto_run,
                     boost::unit_test::data::make(worlds), world) {
  if (!is_refused_in(world)) {
    BOOST_TEST_MESSAGE("skipped: this user cannot make that world, or io_uring works in it");
    return;
  }
  for (const std::string driver : {"epoll", "auto"}) {
    const Output output = run_in(world, driver);
    BOOST_TEST(output.cause.value == 0, output.err);
    BOOST_TEST_REQUIRE(!output.out.empty());
    const auto document = harness::parse_document(output.out, "standard output");
    BOOST_TEST(document.run.driver == driver);
    BOOST_TEST((drivers_of(document) == std::set<std::string>{"epoll"}));
  }
}

BOOST_AUTO_TEST_CASE(where_io_uring_works_it_can_be_forced_and_auto_takes_it) {
  const bool works = has(capture({restrict_program(), "--show"}).out, "io_uring works");
  for (const std::string driver : {"io_uring", "auto"}) {
    const Output output = capture(run_with(driver), {}, 120'000);
    BOOST_TEST(output.cause.value == (works || driver == "auto" ? 0 : 77), output.err);
    if (output.cause.value == 0)
      BOOST_TEST((drivers_of(harness::parse_document(output.out, "standard output")) ==
                  std::set<std::string>{works ? "io_uring" : "epoll"}));
  }
}

BOOST_AUTO_TEST_CASE(a_plan_needs_no_driver) {
  const Output output = capture(
      in_world(worlds.front(), {program(), "run", "null", "--plan", "--driver", "io_uring"}));
  BOOST_TEST(output.cause.value == 0, output.err);
}
