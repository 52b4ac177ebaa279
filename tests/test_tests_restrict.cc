#include "lab/base/child.hh"
#include "lab/base/text.hh"

#include <boost/test/unit_test.hpp>

#include <cstdlib>
#include <map>

using namespace schedlab;

namespace {

using World = std::map<std::string, std::string>;

std::string restrict_program() {
  const char* path = std::getenv("RESTRICT");
  BOOST_REQUIRE_MESSAGE(path != nullptr, "RESTRICT names the program under test");
  return path;
}

// What a command sees under these options, as restrict itself tells it.
World world_under(std::vector<std::string> options) {
  std::vector<std::string> argv = {restrict_program()};
  if (!options.empty()) {
    argv.insert(argv.end(), options.begin(), options.end());
    argv.insert(argv.end(), {"--", restrict_program()});
  }
  argv.push_back("--show");
  const Output output = capture(argv);
  World world = {{"status", std::to_string(output.cause.value)}};
  for (const std::string_view line : split(trim(output.out), '\n'))
    if (const auto space = line.find(' '); space != line.npos)
      world.emplace(line.substr(0, space), line.substr(space + 1));
  return world;
}

ExitCause cause_of(std::vector<std::string> argv) {
  argv.insert(argv.begin(), restrict_program());
  return capture(argv).cause;
}

}  // namespace

BOOST_AUTO_TEST_CASE(each_restriction_changes_what_it_names_and_nothing_else) {
  const World plain = world_under({});
  World expected = plain;
  expected["cpus"] = "1";
  BOOST_CHECK(world_under({"--one-cpu"}) == expected);
  expected = plain;
  expected["memlock"] = "65536";
  BOOST_CHECK(world_under({"--memlock=64K"}) == expected);
  expected = plain;
  expected["nofile"] = "77";
  BOOST_CHECK(world_under({"--nofile=77"}) == expected);
}

BOOST_AUTO_TEST_CASE(io_uring_is_refused_with_the_errno_asked_for) {
  BOOST_TEST(world_under({"--no-io-uring=ENOSYS"}).at("io_uring") == "ENOSYS");
  BOOST_TEST(world_under({"--no-io-uring=ENOMEM"}).at("io_uring") == "ENOMEM");
}

BOOST_AUTO_TEST_CASE(what_only_root_may_do_is_done_or_skipped_and_never_left_out) {
  for (const auto& [option, key, value] : {std::array{"--user=nobody", "uid", "65534"},
                                           std::array{"--read-only-sys", "sys", "read-only"}}) {
    const World world = world_under({option});
    if (world.at("status") == "77")
      BOOST_TEST_MESSAGE(option << " is skipped by this user");
    else
      BOOST_TEST(world.at(key) == value);
  }
}

BOOST_AUTO_TEST_CASE(restrictions_add_up_in_any_order) {
  const World world = world_under({"--no-io-uring=EPERM", "--nofile=77", "--one-cpu"});
  BOOST_TEST(world.at("io_uring") == "EPERM");
  BOOST_TEST(world.at("nofile") == "77");
  BOOST_TEST(world.at("cpus") == "1");
}

BOOST_AUTO_TEST_CASE(the_command_keeps_its_exit_status) {
  BOOST_TEST(cause_of({"--one-cpu", "--", "sh", "-c", "exit 42"}).value == 42);
}

BOOST_AUTO_TEST_CASE(a_mistake_in_the_options_is_a_usage_error) {
  BOOST_TEST(cause_of({"--no-such-thing", "--", "true"}).value == 2);
  BOOST_TEST(cause_of({"--no-io-uring=EVERYTHING", "--", "true"}).value == 2);
  BOOST_TEST(cause_of({"--nofile=many", "--", "true"}).value == 2);
  BOOST_TEST(cause_of({"--one-cpu"}).value == 2);
}
