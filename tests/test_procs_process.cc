#include "procs/process.hh"

#include "affinity/pin.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"
#include "procs/enter.hh"
#include "procs/fork_server.hh"
#include "tests/deny_syscall.hh"
#include "tests/fake_root.hh"
#include "tests/left_behind.hh"
#include "tests/sanitized.hh"
#include "tests/waits.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <set>
#include <stdexcept>
#include <thread>

using namespace schedlab;
using namespace std::string_literals;
using procs::Ending;
using procs::ForkServer;
using procs::Process;
using procs::ProcessOptions;
using procs::StartMethod;
using testing::belongings;
namespace bdata = boost::unit_test::data;

namespace {

using Bytes = std::span<const std::byte>;

Bytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}
std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct Method {
  StartMethod start;
  StartMethod server = StartMethod::exec;
  friend std::ostream& operator<<(std::ostream& out, const Method& method) {
    out << to_text(method.start);
    return method.start == StartMethod::forkserver ? out << " by " << to_text(method.server) : out;
  }
};
constexpr std::array methods = {Method{StartMethod::fork}, Method{StartMethod::exec},
                                Method{StartMethod::forkserver},
                                Method{StartMethod::forkserver, StartMethod::fork}};

// ThreadSanitizer has a thread of its own, which a fork may leave behind.
constexpr bool has_threads = testing::thread_sanitizer;

// Processes by one method.
class Starter {
public:
  explicit Starter(const Method& method) : method_(method) {
    if (method.start == StartMethod::forkserver)
      server_.emplace(has_threads ? StartMethod::exec : method.server);
  }
  template <auto F>
  Process start(std::string_view argument = "", ProcessOptions options = {}) {
    options.method = method_.start;
    options.server = server_ ? &*server_ : nullptr;
    options.despite_threads = has_threads;
    return Process::start<F>(options, bytes_of(argument));
  }

private:
  Method method_;
  std::optional<ForkServer> server_;
};

int give_length(Bytes argument) {
  return static_cast<int>(argument.size() % 100);
}
int sleep_for_ever(Bytes) {
  for (;;)
    ::pause();
}
int crash(Bytes argument) {
  const int number = text_of(argument) == "SEGV" ? SIGSEGV : SIGKILL;
  std::signal(number, SIG_DFL);  // a fork has the test framework's handler
  return std::raise(number);
}
int fail(Bytes argument) {
  throw std::runtime_error(std::string(text_of(argument)));
}
int write_to_five(Bytes argument) {
  write_all(5, text_of(argument), "five");
  return 0;
}
// CPUs, name and number of descriptors.
int tell_state(Bytes) {
  std::size_t open = 0;
  for (int fd = 0; fd < 1024; ++fd)
    open += ::fcntl(fd, F_GETFD) >= 0;
  write_all(5,
            affinity::thread_affinity().list() + " " + read_text("/proc/self/comm").value_or("") +
                " " + std::to_string(open),
            "five");
  return 0;
}
int start_a_grandchild(Bytes) {
  Process grandchild =
      Process::start<give_length>({.despite_threads = has_threads}, bytes_of("ab"));
  return grandchild.wait().cause.value;
}

// What whoever started this test left open for everybody is not for our children.
struct OthersClosed {
  OthersClosed() {
    for (int fd = 3; fd < 1024; ++fd)
      ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
};
BOOST_TEST_GLOBAL_FIXTURE(OthersClosed);

struct Memfd {
  Fd fd{check(::memfd_create("test", MFD_CLOEXEC), "memfd_create")};
  std::string text() const { return read_input("/proc/self/fd/" + std::to_string(fd.get()), 4096); }
};

bool says(const std::exception& error, std::string_view words) {
  return std::string_view(error.what()).find(words) != std::string_view::npos;
}

struct Subreaper {
  Subreaper() { check(::prctl(PR_SET_CHILD_SUBREAPER, 1), "prctl"); }
  ~Subreaper() { ::prctl(PR_SET_CHILD_SUBREAPER, 0); }
};

std::string helper() {
  const char* path = std::getenv("WITHOUT_ENTER");
  return path ? path : "";
}
Output run_helper(const std::string& rule, const std::string& word, const std::string& path) {
  return capture({path, word}, {.environment = {{"RULE", rule}}}, 20'000);
}

}  // namespace

BOOST_DATA_TEST_CASE(a_process_runs_a_function_with_its_argument_and_gives_its_status,
                     bdata::make(methods), method) {
  const auto before = belongings();
  {
    Starter starter(method);
    BOOST_TEST(starter.start<give_length>().wait().cause.value == 0);
    Process process = starter.start<give_length>(std::string(37, 'x'));
    BOOST_TEST(process.pid() > 0);
    const Ending ending = process.wait();
    BOOST_TEST(ending.text() == "exit status 37");
    BOOST_TEST(!ending.success());
    BOOST_TEST(process.pidfd() == -1);
    // More than any pipe holds.
    BOOST_TEST(starter.start<give_length>(std::string(1'000'042, 'x')).wait().cause.value == 42);
    Process lambda = starter.start<[](Bytes) { return 3; }>();
    BOOST_TEST(lambda.wait().cause.value == 3);
  }
  BOOST_TEST(belongings() == before);
}

BOOST_DATA_TEST_CASE(the_cause_of_an_end_is_told_apart, bdata::make(methods), method) {
  Starter starter(method);
  const Ending crashed = starter.start<crash>("SEGV").wait();
  if (!testing::sanitized) {  // a sanitizer handles the signal, and exits
    BOOST_TEST((crashed.why == Ending::Why::signalled));
    BOOST_TEST(crashed.text().starts_with("killed by SIGSEGV"));
  }
  const Ending killed = starter.start<crash>("KILL").wait();
  BOOST_TEST((killed.why == Ending::Why::signalled));
  BOOST_TEST(killed.text().starts_with("killed by SIGKILL; "), killed.text());
  const Ending thrown = starter.start<fail>("no such picture").wait();
  BOOST_TEST((thrown.why == Ending::Why::threw));
  BOOST_TEST(thrown.text() == "an exception: no such picture");
  BOOST_TEST(thrown.cause.value == 1);
  BOOST_TEST(starter.start<fail>(std::string(100'000, 'e')).wait().detail.size() > 4000u);
  Process slow = starter.start<sleep_for_ever>();
  BOOST_TEST(!slow.wait_for(10));
  const Ending late = slow.end_within(10);
  BOOST_TEST((late.why == Ending::Why::timed_out));
  BOOST_TEST(late.text() == "took longer than allowed: killed by us");
  Process told = starter.start<sleep_for_ever>();
  told.signal(SIGTERM);
  BOOST_TEST(told.wait().text() == "killed by SIGTERM");
}

BOOST_DATA_TEST_CASE(a_process_gets_the_descriptors_of_the_list_its_cpus_and_its_name,
                     bdata::make(methods), method) {
  Starter starter(method);
  const Memfd text, other;
  starter.start<write_to_five>("handed over", {.fds = {{text.fd.get(), 5}}}).wait();
  BOOST_TEST(text.text() == "handed over");
  for (const unsigned cpu : affinity::thread_affinity().cpus()) {
    const Memfd state;
    const Ending ending = starter
                              .start<tell_state>("", {.name = "placed",
                                                      .cpus = affinity::CpuSet{cpu},
                                                      .fds = {{state.fd.get(), 5}, {0, 9}}})
                              .wait();
    BOOST_TEST(ending.success(), ending.text());
    // 0, 1, 2, the two of the list, the lifeline and the pipe on which it tells.
    BOOST_TEST(state.text() == std::to_string(cpu) + " placed 7");
  }
}

BOOST_DATA_TEST_CASE(what_cannot_be_had_is_thrown_and_nothing_is_left, bdata::make(methods),
                     method) {
  Starter starter(method);
  const auto before = belongings();
  BOOST_CHECK_THROW(starter.start<give_length>("", {.cpus = affinity::CpuSet{4000}}),
                    std::exception);
  BOOST_CHECK_THROW(starter.start<give_length>("", {.cpus = affinity::CpuSet{}}), BadInput);
  BOOST_CHECK_EXCEPTION(starter.start<give_length>("", {.fds = {{999, 5}}}), std::system_error,
                        [](const auto& error) { return error.code().value() == EBADF; });
  BOOST_TEST(belongings() == before);
  BOOST_TEST(starter.start<give_length>("a").wait().cause.value == 1);
}

BOOST_DATA_TEST_CASE(a_process_that_nobody_waits_for_is_killed_and_reaped, bdata::make(methods),
                     method) {
  Starter starter(method);
  const auto before = belongings();
  pid_t first = -1;
  {
    Process process = starter.start<sleep_for_ever>();
    first = process.pid();
    process = starter.start<sleep_for_ever>();
    const Process moved = std::move(process);
    BOOST_TEST(::kill(moved.pid(), 0) == 0);
  }
  BOOST_TEST(belongings() == before);
  if (method.start != StartMethod::forkserver)
    BOOST_TEST((::kill(first, 0) < 0 && errno == ESRCH));
}

BOOST_AUTO_TEST_CASE(many_processes_of_a_forkserver_end_in_any_order) {
  Starter starter({StartMethod::forkserver});
  std::vector<Process> processes;
  for (unsigned i = 0; i < 40; ++i)
    processes.push_back(i % 2 == 0 ? starter.start<give_length>(std::string(i, 'x'))
                                   : starter.start<sleep_for_ever>());
  for (std::size_t i = processes.size(); i-- > 0;) {
    if (i % 2 == 0)
      BOOST_TEST(processes[i].wait().cause.value == static_cast<int>(i));
    else
      BOOST_TEST((processes[i].end_within(0).why == Ending::Why::timed_out));
  }
}

BOOST_AUTO_TEST_CASE(a_forkserver_serves_threads_at_once) {
  Starter starter({StartMethod::forkserver});
  std::atomic<int> right{0};
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < 4; ++i)
      threads.emplace_back([&, i] {
        for (unsigned length = 10 * i; length < 10 * i + 5; ++length) {
          Process process = starter.start<give_length>(std::string(length, 'x'));
          right += process.wait().cause.value == static_cast<int>(length);
        }
      });
  }
  BOOST_TEST(right == 20);
}

BOOST_AUTO_TEST_CASE(a_forkserver_that_is_killed_takes_its_children_with_it_and_says_so) {
  ForkServer server;
  const ProcessOptions options{.method = StartMethod::forkserver, .server = &server};
  Process child = Process::start<sleep_for_ever>(options);
  BOOST_TEST(server.running());
  ::kill(server.pid(), SIGKILL);
  const Ending ending = child.wait();
  BOOST_TEST((ending.why == Ending::Why::unknown));
  BOOST_TEST(says(std::runtime_error(ending.text()), "its forkserver ended first"));
  BOOST_CHECK_EXCEPTION(Process::start<give_length>(options), std::system_error,
                        [](const auto& error) { return error.code().value() == EPIPE; });
  // Its descriptors are closed before its end is told.
  BOOST_TEST_REQUIRE(testing::comes_true([&] { return !server.running(); }));
  server = ForkServer();
  BOOST_TEST(Process::start<give_length>(options).wait().success());
}

BOOST_AUTO_TEST_CASE(a_forkserver_stays_as_long_as_one_of_its_processes_is_held) {
  Process child;
  {
    const ForkServer server;
    child = Process::start<give_length>({.method = StartMethod::forkserver, .server = &server},
                                        bytes_of("four"));
  }
  BOOST_TEST(child.wait().cause.value == 4);
  child = Process();
  BOOST_TEST(::waitpid(-1, nullptr, WNOHANG) == -1);
}

BOOST_AUTO_TEST_CASE(nothing_outlives_a_parent_that_is_killed_whatever_the_method) {
  const Subreaper subreaper;
  for (int i = 0; i < 3; ++i) {
    Pipe told = make_pipe();
    Child program = Child::exec(
        {helper(), "live"}, {.fds = {{told.write.get(), 3}}, .environment = {{"RULE", "kept"}}});
    told.write = Fd();
    std::set<pid_t> pids;
    while (pids.size() < 9) {  // server, and four processes with a child each
      pid_t pid = -1;
      BOOST_TEST_REQUIRE(::read(told.read.get(), &pid, sizeof pid) == ssize_t{sizeof pid});
      pids.insert(pid);
    }
    program.signal(SIGKILL);
    program.wait();
    // They hold the pipe until they are gone.
    pollfd end{.fd = told.read.get(), .events = POLLIN, .revents = 0};
    BOOST_TEST(::poll(&end, 1, 20'000) == 1);
    pid_t none = -1;
    BOOST_TEST(::read(told.read.get(), &none, sizeof none) == 0);
    std::size_t reaped = 0;
    while (::waitpid(-1, nullptr, 0) > 0)
      ++reaped;
    BOOST_TEST(reaped == 9u);
  }
}

BOOST_AUTO_TEST_CASE(a_fork_is_refused_where_other_threads_would_be_left_behind) {
  std::jthread thread([](const std::stop_token& stop) {
    while (!stop.stop_requested())
      std::this_thread::yield();
  });
  BOOST_CHECK_EXCEPTION(
      Process::start<give_length>({.method = StartMethod::fork}), Unsupported,
      [](const auto& error) { return says(error, "threads: a fork copies only the caller"); });
  BOOST_TEST(Process::start<give_length>({.method = StartMethod::exec}).wait().success());
  if (!testing::thread_sanitizer)
    BOOST_TEST(Process::start<give_length>({.method = StartMethod::fork, .despite_threads = true})
                   .wait()
                   .success());
}

BOOST_DATA_TEST_CASE(a_process_can_start_processes, bdata::make(methods), method) {
  BOOST_TEST(Starter(method).start<start_a_grandchild>().wait().cause.value == 2);
}

// The counterpart of Python's guard, claim 17.
BOOST_DATA_TEST_CASE(without_enter_first_a_program_fails_clearly_and_does_not_start_itself_for_ever,
                     bdata::make({"never", "late", "branch"}), rule) {
  const auto before = belongings();
  const Output output = run_helper(rule, "start", helper());
  BOOST_TEST(output.cause.text() == "exit status 1");
  const auto lines = split(trim(output.out), '\n');
  // With a branch the child comes to the same main, where it is refused in its turn, and no other.
  BOOST_TEST(lines.size() == (rule == "branch"s ? 2u : 1u), output.out);
  for (const auto line : lines)
    BOOST_TEST((line.find("procs::enter(argc, argv)") != std::string_view::npos), line);
  BOOST_TEST(belongings() == before);
}

BOOST_AUTO_TEST_CASE(with_enter_first_the_same_program_runs) {
  BOOST_TEST(run_helper("kept", "start", helper()).out == "ran: exit status 7\n");
}

BOOST_AUTO_TEST_CASE(a_program_whose_file_is_gone_still_executes_itself) {
  const testing::TemporaryFolder folder;
  const std::string copy = folder.path() + "/copy";
  std::filesystem::copy_file(helper(), copy);
  const Output output = run_helper("kept", "deleted", copy);
  BOOST_TEST(output.out == "ran: exit status 7\n");
  BOOST_TEST(!std::filesystem::exists(copy));
}

BOOST_AUTO_TEST_CASE(without_proc_an_exec_fails_clearly) {
  const Output output = run_helper("kept", "no-proc", helper());
  if (output.cause.value == 77 || testing::address_sanitizer) {
    BOOST_TEST_MESSAGE("skipped: may not unmount /proc here, or a sanitizer needs it");
    return;
  }
  BOOST_TEST(output.out.starts_with("exec '/proc/self/exe': "), output.out);
}

BOOST_AUTO_TEST_CASE(a_user_who_types_the_word_of_children_is_told) {
  for (const auto& words : {std::vector<std::string>{"77", "78"}, {"0", "1"}, {"x", "y"}}) {
    const Output output = capture({self_exe, "procs-child", words[0], words[1]});
    BOOST_TEST(output.cause.value == 2);
    BOOST_TEST(output.err == "this command line is for processes that procs starts\n");
  }
}
