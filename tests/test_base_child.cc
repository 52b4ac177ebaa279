#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>

using namespace schedlab;
using namespace std::string_literals;
namespace bdata = boost::unit_test::data;

namespace {

Fd file_with(std::string_view text) {
  Fd file(check(::memfd_create("text", MFD_CLOEXEC), "memfd_create"));
  write_all(file.get(), text, "memfd");
  return file;
}

std::size_t open_fds() {
  const std::filesystem::directory_iterator fds("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(fds), end(fds)));
}

std::string shell(const std::string& command, const SpawnOptions& options = {}) {
  const Output output = capture({"sh", "-c", command}, options);
  BOOST_TEST_REQUIRE(output.cause.success(), command << ": " << output.err);
  return output.out;
}

// A process that need not be ours: has it ended within the time?
class Watched {
public:
  explicit Watched(pid_t pid) : pid_(pid), pidfd_(open_pidfd(pid)) { check(pidfd_.get(), "pidfd"); }
  bool ends_within(int ms) const {
    pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&ended, 1, ms) == 1;
  }
  // For orphans that have become children of this process.
  int reap_signal() const {
    int status = 0;
    return ::waitpid(pid_, &status, 0) == pid_ && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }

private:
  pid_t pid_;
  Fd pidfd_;
};

// Orphans of this process's descendants come to it while this exists, instead of to init.
struct Subreaper {
  Subreaper() { check(::prctl(PR_SET_CHILD_SUBREAPER, 1), "prctl"); }
  ~Subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 0); }
};

int sleep_for_ever() {
  for (;;)
    ::pause();
}

bool gone(pid_t pid) {
  return ::kill(pid, 0) < 0 && errno == ESRCH;
}

// A child that starts descendants, tells their process numbers through `told` and waits to be
// killed; `start` gives each number to its argument.
template <typename Start>
Child ancestor(const Pipe& told, Start start) {
  return Child::fork([&] {
    start([&](pid_t pid) { static_cast<void>(!::write(told.write.get(), &pid, sizeof pid)); });
    return sleep_for_ever();
  });
}

pid_t hear(const Pipe& told) {
  pid_t pid = -1;
  BOOST_REQUIRE_EQUAL(::read(told.read.get(), &pid, sizeof pid), ssize_t{sizeof pid});
  return pid;
}

}  // namespace

BOOST_AUTO_TEST_CASE(descriptors_get_their_numbers_also_when_two_change_places) {
  const Fd a = file_with("first");
  const Fd b = file_with("second");
  const std::string reader =
      "cat /proc/self/fd/" + std::to_string(a.get()) + " /proc/self/fd/" + std::to_string(b.get());
  BOOST_TEST(shell(reader, {.fds = {{a.get(), a.get()}, {b.get(), b.get()}}}) == "firstsecond");
  BOOST_TEST(shell(reader, {.fds = {{a.get(), b.get()}, {b.get(), a.get()}}}) == "secondfirst");
  BOOST_TEST(shell(reader, {.fds = {{a.get(), b.get()}, {a.get(), a.get()}}}) == "firstfirst");
}

BOOST_AUTO_TEST_CASE(descriptors_may_take_the_numbers_that_starting_a_child_uses_itself) {
  const Fd text = file_with("text");
  SpawnOptions options;
  for (int number = 3; number < 64; ++number)
    options.fds.emplace_back(text.get(), number);
  BOOST_TEST(shell("cat /proc/self/fd/3 /proc/self/fd/63", options) == "texttext");
  BOOST_CHECK_THROW(Child::exec({"/no/such/program"}, options), std::system_error);
}

BOOST_AUTO_TEST_CASE(a_descriptor_that_is_not_open_cannot_be_mapped) {
  const int closed = 500;
  BOOST_CHECK_EXCEPTION(Child::exec({"true"}, {.fds = {{closed, 3}}}), std::system_error,
                        [](const auto& error) { return error.code().value() == EBADF; });
}

BOOST_AUTO_TEST_CASE(what_is_not_mapped_is_closed_but_for_the_lifeline) {
  const Fd first = file_with("1"), second = file_with("2");
  std::size_t inherited = 0;  // that whoever started this test left open for everybody
  for (int number = 3; number < 1024; ++number)
    inherited += ::fcntl(number, F_GETFD) == 0;
  const auto listed = shell("ls /proc/self/fd");
  // 0, 1, 2, the lifeline, and the directory that ls reads.
  BOOST_TEST(split(trim(listed), '\n').size() == inherited + 5, listed);
}

BOOST_AUTO_TEST_CASE(the_environment_is_ours_with_what_was_given_instead_or_besides) {
  ::setenv("SCHEDLAB_KEPT", "kept", 1);
  ::setenv("SCHEDLAB_OLD", "old", 1);
  ::setenv("SCHEDLAB_OLDER", "older", 1);
  const SpawnOptions options{.environment = {{"SCHEDLAB_OLD", "new"}, {"SCHEDLAB_ADDED", "a=b"}}};
  BOOST_TEST(shell("env | grep ^SCHEDLAB_ | sort", options) ==
             "SCHEDLAB_ADDED=a=b\nSCHEDLAB_KEPT=kept\nSCHEDLAB_OLD=new\nSCHEDLAB_OLDER=older\n");
  BOOST_TEST(std::getenv("SCHEDLAB_OLD") == "old"s);
}

BOOST_AUTO_TEST_CASE(a_program_that_cannot_be_started_throws_errno_and_path_and_leaves_nothing) {
  const std::size_t before = open_fds();
  for (const auto& [path, error] : {std::pair("/no/such/program", ENOENT),
                                    std::pair("/etc/passwd", EACCES), std::pair("/", EACCES)}) {
    BOOST_CHECK_EXCEPTION(Child::exec({path}), std::system_error, [&](const auto& thrown) {
      return thrown.code().value() == error &&
             thrown.what() == "exec '" + std::string(path) + "': " + errno_text(error);
    });
  }
  BOOST_TEST(open_fds() == before);
  BOOST_TEST(::waitpid(-1, nullptr, WNOHANG) == -1);
}

BOOST_AUTO_TEST_CASE(the_end_of_a_child_is_told_as_it_was) {
  const ExitCause exited = Child::fork([] { return 3; }).wait();
  BOOST_TEST((exited.kind == ExitCause::Kind::exited));
  BOOST_TEST(exited.text() == "exit status 3");
  BOOST_TEST(!exited.success());
  BOOST_TEST(Child::fork([] { return 0; }).wait().success());

  Child child = Child::fork(sleep_for_ever);
  child.signal(SIGTERM);
  const ExitCause killed = child.wait();
  BOOST_TEST((killed.kind == ExitCause::Kind::signalled));
  BOOST_TEST(killed.text() == "killed by SIGTERM");
  BOOST_TEST((ExitCause{ExitCause::Kind::signalled, SIGSEGV, true}.text()) ==
             "killed by SIGSEGV (core dumped)");
}

BOOST_AUTO_TEST_CASE(a_forked_child_changes_nothing_of_ours) {
  int value = 1;
  BOOST_TEST(Child::fork([&] { return value = 7; }).wait().value == 7);
  BOOST_TEST(value == 1);
}

BOOST_AUTO_TEST_CASE(a_child_and_its_children_die_when_the_parent_is_killed) {
  const Subreaper subreaper;
  const Pipe told = make_pipe();
  Child parent = ancestor(told, [&](auto tell) {
    tell(::getpid());
    static Child child = ancestor(told, [&](auto tell_too) {
      tell_too(::getpid());
      static Child program = Child::exec({"sleep", "100"});
      tell_too(program.pid());
    });
  });
  hear(told);
  const Watched child(hear(told)), program(hear(told));
  BOOST_TEST(!program.ends_within(0));
  parent.signal(SIGKILL);
  parent.wait();
  BOOST_TEST(child.ends_within(10'000));
  BOOST_TEST(program.ends_within(10'000));
  BOOST_TEST(child.reap_signal() == SIGKILL);
  BOOST_TEST(program.reap_signal() == SIGKILL);
}

BOOST_AUTO_TEST_CASE(the_lifeline_holds_when_the_mapped_numbers_cover_it) {
  const Subreaper subreaper;
  const Pipe told = make_pipe();
  const Fd text = file_with("text");
  Child parent = ancestor(told, [&](auto tell) {
    SpawnOptions options;
    for (int number = 3; number < 64; ++number)
      options.fds.emplace_back(text.get(), number);
    static Child program = Child::exec({"sleep", "100"}, options);
    tell(program.pid());
  });
  const Watched program(hear(told));
  parent.signal(SIGKILL);
  parent.wait();
  BOOST_TEST(program.ends_within(10'000));
  BOOST_TEST(program.reap_signal() == SIGKILL);
}

// The control of the two cases above.
BOOST_AUTO_TEST_CASE(a_process_without_a_lifeline_outlives_its_parent) {
  const Subreaper subreaper;
  const Pipe told = make_pipe();
  Child parent = ancestor(told, [](auto tell) {
    const pid_t pid = ::fork();
    if (pid == 0)
      ::execlp("sleep", "sleep", "100", nullptr);
    tell(pid);
  });
  const pid_t pid = hear(told);
  const Watched orphan(pid);
  parent.signal(SIGKILL);
  parent.wait();
  BOOST_TEST(!orphan.ends_within(200));
  ::kill(pid, SIGTERM);
  BOOST_TEST(orphan.reap_signal() == SIGTERM);
}

BOOST_AUTO_TEST_CASE(waiting_with_a_timeout_leaves_a_running_child_alone) {
  Child child = Child::fork(sleep_for_ever);
  BOOST_TEST(!child.wait_for(20));
  BOOST_TEST(!gone(child.pid()));
  child.signal(SIGTERM);
  const auto cause = child.wait_for(10'000);
  BOOST_TEST_REQUIRE(cause.has_value());
  BOOST_TEST(cause->text() == "killed by SIGTERM");
  BOOST_TEST(child.pidfd() == -1);
}

BOOST_AUTO_TEST_CASE(the_destructor_and_an_assignment_kill_and_reap) {
  pid_t first = -1, second = -1;
  {
    Child child = Child::fork(sleep_for_ever);
    first = child.pid();
    child = Child::exec({"sleep", "100"});
    second = child.pid();
    BOOST_TEST(gone(first));
    BOOST_TEST(!gone(second));
  }
  BOOST_TEST(gone(second));
  BOOST_TEST(::waitpid(-1, nullptr, WNOHANG) == -1);
}

BOOST_AUTO_TEST_CASE(no_descriptor_is_left_of_a_child) {
  const std::size_t before = open_fds();
  for (int i = 0; i < 3; ++i) {
    BOOST_TEST(Child::fork([] { return 0; }).wait().success());
    BOOST_TEST(Child::exec({"true"}).wait().success());
    capture({"true"});
    Child moved = Child::fork(sleep_for_ever);
    const Child owner = std::move(moved);
  }
  BOOST_TEST(open_fds() == before);
}

BOOST_DATA_TEST_CASE(a_child_has_a_group_of_its_own_only_if_asked, bdata::make({true, false}),
                     own_group) {
  const Child child = Child::exec({"sleep", "100"}, {.own_group = own_group});
  BOOST_TEST(::getpgid(child.pid()) == (own_group ? child.pid() : ::getpgid(0)));
}

BOOST_AUTO_TEST_CASE(a_program_starts_with_no_signal_blocked) {
  sigset_t some, before;
  sigemptyset(&some);
  sigaddset(&some, SIGTERM);
  sigaddset(&some, SIGUSR1);
  ::sigprocmask(SIG_BLOCK, &some, &before);
  const std::string ours = read_text("/proc/thread-self/status").value();
  const std::string theirs = capture({"cat", "/proc/self/status"}).out;
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  BOOST_TEST(ours.find("SigBlk:\t0000000000000000") == std::string::npos);
  BOOST_TEST(theirs.find("SigBlk:\t0000000000000000") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(capture_reads_both_streams_to_their_ends_and_gives_no_input) {
  const Output output = capture({"sh", "-c",
                                 "cat; head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2;"
                                 "echo out; echo err >&2; exit 4"});
  BOOST_TEST(output.cause.value == 4);
  BOOST_TEST(output.out.size() == 300'004u);
  BOOST_TEST(output.err.size() == 300'004u);
  BOOST_TEST(output.out.ends_with("out\n"));
  BOOST_TEST(output.err.ends_with("err\n"));
}

// Silent, deaf to the end of its streams, and never silent.
constexpr std::array endless = {"sleep 100", "exec >&- 2>&-; exec sleep 100", "exec yes"};

BOOST_DATA_TEST_CASE(capture_kills_a_program_that_takes_too_long, bdata::make(endless), command) {
  const Output output = capture({"sh", "-c", command}, {}, 200);
  BOOST_TEST(output.cause.text() == "killed by SIGKILL");
}

BOOST_AUTO_TEST_CASE(capture_does_not_wait_for_a_grandchild_that_holds_the_streams) {
  const Output output = capture({"sh", "-c", "echo begun; sleep 3 & exit 5"}, {}, 200);
  BOOST_TEST(output.cause.text() == "exit status 5");
  BOOST_TEST(output.out == "begun\n");
}
