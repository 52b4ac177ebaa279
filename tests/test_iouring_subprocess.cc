// Programs beside this one, the same on all drivers.

#include "iouring/subprocess.hh"

#include "iouring/gather.hh"
#include "tests/iouring_io.hh"
#include "tests/left_behind.hh"

#include <fcntl.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>

using namespace schedlab;
using namespace schedlab::testing;
using namespace std::chrono_literals;
using iouring::Communicated;
using iouring::Process;
using iouring::ProcessOptions;
using iouring::Stdio;
using iouring::Task;

namespace {

const ProcessOptions all_pipes = {.in = Stdio::pipe, .out = Stdio::pipe, .err = Stdio::pipe};

std::vector<std::string> shell(const std::string& script) {
  return {"/bin/sh", "-c", script};
}

Task<std::string> end_of(const std::string& script) {
  Process process(shell(script));
  const ExitCause cause = co_await process.wait();
  const ExitCause again = co_await process.wait();
  BOOST_TEST(cause.text() == again.text());
  co_return cause.text();
}

Task<> tell_the_causes() {
  std::string text = co_await end_of("exit 0");
  BOOST_TEST(text == "exit status 0");
  text = co_await end_of("exit 3");
  BOOST_TEST(text == "exit status 3");
  text = co_await end_of("kill -KILL $$");
  BOOST_TEST(text == "killed by SIGKILL");
  text = co_await end_of("exit 137");  // as a shell would tell the same
  BOOST_TEST(text == "exit status 137");
}

// 1 MiB in each direction, far more than the pipes hold.
Task<> talk_both_ways() {
  const std::string input = pattern(1024 * 1024);
  Process process(shell("tee /dev/stderr"), all_pipes);
  const Communicated done = co_await process.communicate(input);
  BOOST_TEST(done.cause.success());
  BOOST_TEST((done.out == input));
  BOOST_TEST((done.err == input));
}

Task<> talk_to_the_deaf() {
  Process process(shell("exec 0<&-; echo deaf"), all_pipes);
  const Communicated done = co_await process.communicate(pattern(1024 * 1024));
  BOOST_TEST(done.out == "deaf\n");
  BOOST_TEST(done.cause.success());
}

Task<> place_the_streams() {
  {
    Process process(shell("cat; echo out; echo err >&2"),
                    {.in = Stdio::null, .out = Stdio::pipe, .err = Stdio::out});
    const Communicated done = co_await process.communicate();
    BOOST_TEST(done.out == "out\nerr\n");
    BOOST_TEST(done.err.empty());
  }
  {
    Process process(shell("echo out; echo $GREETING >&2"),
                    {.out = Stdio::null, .err = Stdio::pipe, .environment = {{"GREETING", "hi"}}});
    const Communicated done = co_await process.communicate();
    BOOST_TEST(done.out.empty());
    BOOST_TEST(done.err == "hi\n");
    BOOST_CHECK_THROW(static_cast<void>(process.in()), std::system_error);
    BOOST_CHECK_THROW(static_cast<void>(process.out()), std::system_error);
  }
}

Task<> converse() {
  Process process({"cat"}, all_pipes);
  for (int i = 0; i < 10; ++i) {
    const std::string question = std::to_string(i) + "\n";
    process.in().write(question);
    const std::string answer = co_await process.out().read_line();
    BOOST_TEST(answer == question);
  }
  co_await process.close_in();
  co_await process.close_in();  // nothing happens
  const std::string rest = co_await process.out().read_all(100);
  BOOST_TEST(rest.empty());
  const ExitCause cause = co_await process.wait();
  BOOST_TEST(cause.success());
}

Task<> end_the_stubborn() {
  Process process(shell("trap '' TERM; echo ready; while :; do sleep 1 & wait $!; done"),
                  {.out = Stdio::pipe, .own_group = true});
  const std::string ready = co_await process.out().read_line();
  BOOST_TEST(ready == "ready\n");
  const std::optional<ExitCause> early = co_await process.wait_for(20ms);
  BOOST_TEST(!early);
  const ExitCause cause = co_await process.terminate(100ms);
  BOOST_TEST(cause.text() == "killed by SIGKILL");
  process.signal(SIGTERM);  // nothing happens
}

Task<> end_the_obedient() {
  Process process({"sleep", "1000"});
  const ExitCause cause = co_await process.terminate(10s);
  BOOST_TEST(cause.text() == "killed by SIGTERM");
  const std::optional<ExitCause> again = co_await process.wait_for(1ns);
  BOOST_TEST_REQUIRE(again.has_value());
  BOOST_TEST(again->text() == "killed by SIGTERM");
}

int refusal_of_program(const std::string& path) {
  try {
    const Process process({path}, all_pipes);
    return 0;
  } catch (const std::system_error& error) {
    return error.code().value();
  }
}
Task<> run_what_is_none(const std::string& missing, const std::string& plain) {
  Fd(check(::open(plain.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600), "open"));
  BOOST_TEST(refusal_of_program(missing) == ENOENT);
  BOOST_TEST(refusal_of_program(plain) == EACCES);
  ::setenv("PATH", "/usr/bin:/bin", 1);  // a folder closed to the user would be refused instead
  BOOST_TEST(refusal_of_program("no-such-program-in-the-path") == ENOENT);
  BOOST_TEST(!testing::has_children());
  co_return;
}

Task<> wait_for_ever(pid_t& pid, bool talks) {
  Process process({"sleep", "1000"}, all_pipes);
  pid = process.pid();
  if (talks)
    co_await process.communicate("unheard");
  else
    co_await process.wait();
}
Task<> cancel_with_a_child(bool talks) {
  pid_t pid = 0;
  auto waiting = iouring::create_task(is_cancelled(wait_for_ever(pid, talks)));
  co_await settle();
  BOOST_TEST(testing::has_children());
  waiting.cancel();
  const bool cancelled = co_await waiting;
  BOOST_TEST(cancelled);
  BOOST_TEST(!testing::has_children());
  BOOST_TEST(::kill(pid, 0) == -1);
}

Task<> cancel_only_the_wait() {
  Process process({"cat"}, all_pipes);
  auto waiting = iouring::create_task(is_cancelled(process.wait()));
  co_await settle();
  waiting.cancel();
  const bool cancelled = co_await waiting;
  BOOST_TEST(cancelled);
  const Communicated done = co_await process.communicate("still here");
  BOOST_TEST(done.out == "still here");
  BOOST_TEST(done.cause.success());
}

Task<> print_too_much() {
  Process process(shell("cat /dev/zero"), all_pipes);
  bool overrun = false;
  try {
    co_await process.communicate({}, 100'000);
  } catch (const iouring::LimitOverrun&) {
    overrun = true;
  }
  BOOST_TEST(overrun);
}

Task<> answer_of(int number) {
  Process process(shell("read line; echo \"$line\"; exit " + std::to_string(number)), all_pipes);
  const Communicated done = co_await process.communicate(std::to_string(number) + "\n");
  BOOST_TEST(done.out == std::to_string(number) + "\n");
  BOOST_TEST(done.cause.text() == "exit status " + std::to_string(number));
}
Task<> run_many() {
  std::vector<Task<>> all;
  for (int i = 0; i < 20; ++i)
    all.push_back(answer_of(i));
  co_await iouring::gather(std::move(all));
}

}  // namespace

BOOST_DATA_TEST_CASE(how_a_child_ended_is_told, on_all_drivers, choice) {
  run_io(choice, tell_the_causes);
}

BOOST_DATA_TEST_CASE(a_mebibyte_both_ways_does_not_block, on_all_drivers, choice) {
  run_io(choice, talk_both_ways);
}

BOOST_DATA_TEST_CASE(a_child_that_does_not_read_is_no_error, on_all_drivers, choice) {
  ::signal(SIGPIPE, SIG_DFL);
  run_io(choice, talk_to_the_deaf);
}

BOOST_DATA_TEST_CASE(streams_go_where_they_are_sent, on_all_drivers, choice) {
  run_io(choice, place_the_streams);
}

BOOST_DATA_TEST_CASE(a_child_answers_line_by_line, on_all_drivers, choice) {
  run_io(choice, converse);
}

BOOST_DATA_TEST_CASE(a_child_that_ignores_sigterm_is_killed, on_all_drivers, choice) {
  run_io(choice, end_the_stubborn);
}

BOOST_DATA_TEST_CASE(a_child_that_heeds_sigterm_ends_by_it, on_all_drivers, choice) {
  run_io(choice, end_the_obedient);
}

BOOST_DATA_TEST_CASE(what_is_no_program_is_refused, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, run_what_is_none, folder.path("missing"), folder.path("plain"));
}

BOOST_DATA_TEST_CASE(a_cancelled_task_leaves_no_child, on_all_drivers, choice) {
  run_io(choice, cancel_with_a_child, false);
  run_io(choice, cancel_with_a_child, true);
}

BOOST_DATA_TEST_CASE(a_cancelled_wait_leaves_the_child, on_all_drivers, choice) {
  run_io(choice, cancel_only_the_wait);
}

BOOST_DATA_TEST_CASE(too_much_output_is_refused, on_all_drivers, choice) {
  run_io(choice, print_too_much);
  BOOST_TEST(!testing::has_children());
}

BOOST_DATA_TEST_CASE(many_children_at_once, on_all_drivers, choice) {
  const std::size_t before = open_descriptors();
  run_io(choice, run_many);
  BOOST_TEST(open_descriptors() == before);
}
