// What goes wrong when a process is started, and how one ends that the kernel kills.
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "procs/callable.hh"
#include "procs/fork_server.hh"
#include "procs/oom.hh"
#include "procs/process.hh"
#include "tests/deny_syscall.hh"
#include "tests/fake_root.hh"
#include "tests/left_behind.hh"
#include "tests/memory_case.hh"
#include "tests/sanitized.hh"
#include "tests/thrown.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <numa.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>

using namespace schedlab;
using procs::CallableId;
using procs::Ending;
using procs::ForkServer;
using procs::Process;
using procs::StartMethod;
using testing::belongings;
using testing::thrown;
namespace bdata = boost::unit_test::data;

namespace schedlab::procs {
static std::ostream& operator<<(std::ostream& out, StartMethod method) {
  return out << to_text(method);
}
}  // namespace schedlab::procs

namespace {

using Bytes = std::span<const std::byte>;

int succeed(Bytes) {
  return 0;
}

void start(StartMethod method, const ForkServer* server) {
  Process process = Process::start<succeed>(
      {.method = method, .server = server, .despite_threads = testing::thread_sanitizer});
  process.wait();
}

void limit(__rlimit_resource resource, rlim_t value) {
  rlimit limits{};
  check(::getrlimit(resource, &limits), "getrlimit");
  limits.rlim_cur = value;
  check(::setrlimit(resource, &limits), "setrlimit");
}
void lift_limit_of_descriptors() {
  rlimit limits{};
  check(::getrlimit(RLIMIT_NOFILE, &limits), "getrlimit");
  limit(RLIMIT_NOFILE, limits.rlim_max);
}

// In a forked child: that starting by a method fails with these words, and leaves nothing.
template <typename Restrict>
bool fails_with(StartMethod method, std::string_view words, Restrict restrict) {
  std::fflush(stdout);  // a child that forks writes out what it has a copy of
  const auto own = belongings();
  Child world = Child::fork([&] {
    std::optional<ForkServer> server;
    if (method == StartMethod::forkserver)
      server.emplace();
    const auto before = belongings();
    restrict();
    const std::string text = thrown([&] { start(method, server ? &*server : nullptr); });
    lift_limit_of_descriptors();
    if (text.find(words) == std::string::npos && text != "nothing")
      std::fprintf(stderr, "not '%s' but '%s'\n", std::string(words).c_str(), text.c_str());
    if (belongings() != before)
      return 2;
    return text.find(words) != std::string::npos ? 0 : text == "nothing" ? 3 : 1;
  });
  const int status = world.wait().value;
  BOOST_TEST((status == 0 || status == 3), "exit status " << status);
  BOOST_TEST(belongings() == own);
  return status == 0;
}

// Any number, so that the limit is not that of the tests around.
constexpr unsigned other_user = 54'321;

int outgrow_the_cage(Bytes) {
  apparatus::use_up_memory(4 * testing::little_memory);
  return 3;
}

}  // namespace

BOOST_DATA_TEST_CASE(where_no_more_processes_may_be_made_starting_says_so,
                     bdata::make({StartMethod::fork, StartMethod::exec}), method) {
  BOOST_TEST(fails_with(method, "Resource temporarily unavailable", [] {
    limit(RLIMIT_NPROC, 0);
    if (::getuid() == 0)  // whom the limit does not bind
      check(::setresuid(other_user, other_user, other_user), "setresuid");
  }));
}

BOOST_DATA_TEST_CASE(where_no_more_descriptors_are_to_be_had_starting_says_so,
                     bdata::make({StartMethod::fork, StartMethod::exec, StartMethod::forkserver}),
                     method) {
  if (testing::address_sanitizer)
    return;  // UndefinedBehaviorSanitizer, beside it, needs descriptors of its own
  // However many are left, it works or says why, and leaves nothing.
  unsigned failed = 0;
  for (rlim_t spare = 0; spare < 14; ++spare)
    failed += fails_with(method, "Too many open files", [spare] {
      limit(RLIMIT_NOFILE, rlim_t(testing::entries("/proc/self/fd")) - 1 + spare);
    });
  BOOST_TEST(failed > 0u);
  BOOST_TEST(failed < 14u);
}

BOOST_DATA_TEST_CASE(where_a_call_is_refused_starting_names_it,
                     bdata::make({SYS_pidfd_open, SYS_memfd_create}) ^
                         bdata::make({"pidfd_open", "memfd_create"}),
                     number, name) {
  BOOST_TEST(fails_with(StartMethod::exec, name,
                        [number = number] { testing::deny_syscall(number, ENOSYS); }));
}

BOOST_AUTO_TEST_CASE(a_refused_fork_is_told) {
#if defined(__x86_64__)  // aarch64 has no call vfork
  if (!testing::thread_sanitizer)
    BOOST_TEST(fails_with(StartMethod::exec, "vfork: Operation not permitted",
                          [] { testing::deny_syscall(SYS_vfork, EPERM); }));
#endif
  BOOST_TEST(fails_with(StartMethod::fork, "fork: Operation not permitted",
                        [] { testing::deny_syscall(SYS_clone, EPERM); }));
}

BOOST_DATA_TEST_CASE(without_clone3_processes_start_all_the_same,
                     bdata::make({StartMethod::fork, StartMethod::exec, StartMethod::forkserver}),
                     method) {
  Child world = Child::fork([&] {
    testing::deny_syscall(SYS_clone3, ENOSYS);
    return thrown([&] {
             std::optional<ForkServer> server;
             if (method == StartMethod::forkserver)
               server.emplace();
             start(method, server ? &*server : nullptr);
           }) == "nothing"
               ? 0
               : 1;
  });
  BOOST_TEST(world.wait().success());
}

BOOST_TEST_DECORATOR(*boost::unit_test::precondition(testing::a_cage_may_be_made))
BOOST_DATA_TEST_CASE(a_kill_for_want_of_memory_is_proven_by_the_cgroup,
                     bdata::make({StartMethod::fork, StartMethod::exec, StartMethod::forkserver}),
                     method) {
  const apparatus::MemoryCage cage(testing::little_memory);
  const Pipe told = make_pipe();
  Child world = Child::fork([&] {
    if (!cage.enter())
      return 1;
    std::optional<ForkServer> server;
    if (method == StartMethod::forkserver)
      server.emplace();
    Process eater =
        Process::start<outgrow_the_cage>({.method = method, .server = server ? &*server : nullptr});
    const Ending ending = eater.wait();
    write_all(told.write.get(), ending.text(), "pipe");
    // One that is killed otherwise afterwards is not taken for another.
    Process other = Process::start<[](Bytes) { return std::raise(SIGKILL); }>(
        {.method = method, .server = server ? &*server : nullptr});
    const bool apart = other.wait().why == Ending::Why::signalled;
    return ending.why == Ending::Why::out_of_memory && apart ? 0 : 2;
  });
  BOOST_TEST(world.wait().text() == "exit status 0");
  std::array<char, 512> text{};
  BOOST_TEST_REQUIRE(::read(told.read.get(), text.data(), text.size() - 1) > 0);
  BOOST_TEST(std::string_view(text.data()).starts_with("out of memory: killed by SIGKILL; "),
             text.data());
  BOOST_TEST((std::string_view(text.data()).find(" rose from 0 to 1") != std::string_view::npos),
             text.data());
}

BOOST_AUTO_TEST_CASE(kills_for_want_of_memory_are_read_from_either_version_of_cgroups) {
  testing::FakeRoot one;
  one.put("/proc/self/cgroup", "4:memory:/m")
      .put("/proc/self/mountinfo",
           "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory")
      .put("/sys/fs/cgroup/memory/m/memory.oom_control",
           "oom_kill_disable 0\nunder_oom 0\noom_kill 3");
  BOOST_TEST(procs::OomKills::of_own_cgroup(one.path()).count().value() == 3u);
  testing::FakeRoot two;
  two.put("/proc/self/cgroup", "0::/a/b")
      .put("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw")
      .put("/sys/fs/cgroup/cgroup.controllers", "cpu memory")
      .put("/sys/fs/cgroup/a/memory.events", "low 0\nhigh 5\nmax 9\noom 4\noom_kill 2");
  BOOST_TEST(procs::OomKills::of_own_cgroup(two.path()).count().value() == 2u);
  const testing::FakeRoot none;
  BOOST_TEST(!procs::OomKills::of_own_cgroup(none.path()).count());
}

BOOST_AUTO_TEST_CASE(the_file_that_counts_is_searched_for_again_only_after_a_move) {
  testing::FakeRoot root;
  const auto kills = [&] { return procs::OomKills::of_own_cgroup(root.path()).count().value(); };
  const std::string memory = "/sys/fs/cgroup/memory";
  root.put("/proc/self/cgroup", "4:memory:/a")
      .put("/proc/self/mountinfo", "35 31 0:32 / " + memory + " rw - cgroup cgroup rw,memory")
      .put(memory + "/a/memory.oom_control", "oom_kill 1")
      .put(memory + "/b/memory.oom_control", "oom_kill 2")
      .put(memory + "/memory.oom_control", "oom_kill 3");
  BOOST_TEST(kills() == 1u);
  root.put("/proc/self/cgroup", "4:memory:/b");
  BOOST_TEST(kills() == 2u);
  // The file has gone with its cgroup: the next one above it counts.
  std::filesystem::remove_all(root.path() + memory + "/b");
  BOOST_TEST(kills() == 3u);
  // Without a move nothing is searched, so nobody sees that the mount is gone; a move asks for it.
  root.put("/proc/self/mountinfo", "");
  BOOST_TEST(kills() == 3u);
  root.put("/proc/self/cgroup", "4:memory:/a");
  BOOST_TEST(!procs::OomKills::of_own_cgroup(root.path()).count());
}

BOOST_AUTO_TEST_CASE(a_callable_is_found_again_and_only_by_its_own_program_and_signature) {
  const CallableId id = procs::callable<Process::Body, succeed>();
  BOOST_TEST((procs::resolve<Process::Body>(id) == &succeed));
  BOOST_TEST((id == procs::callable<Process::Body, succeed>()));
  const CallableId lambda = procs::callable<int(int)>([](int x) { return x + 1; });
  BOOST_TEST(procs::resolve<int(int)>(lambda)(6) == 7);
  BOOST_TEST(!(lambda == id));
  BOOST_CHECK_THROW(procs::resolve<int(int)>(id), Unsupported);
  CallableId other = id;
  other.build.bytes[0] ^= std::byte{1};
  BOOST_CHECK_EXCEPTION(procs::resolve<Process::Body>(other), Unsupported, [](const auto& error) {
    return std::string_view(error.what()).find("another build") != std::string_view::npos;
  });
  CallableId outside = id;
  outside.offset = UINT64_MAX / 2;
  BOOST_CHECK_THROW(procs::resolve<Process::Body>(outside), Unsupported);
  BOOST_CHECK_THROW((procs::callable<int(), ::numa_available>()), Unsupported);
}

BOOST_AUTO_TEST_CASE(a_process_of_another_build_is_refused) {
  CallableId other = procs::callable<Process::Body, succeed>();
  other.build.bytes[3] ^= std::byte{8};
  const auto before = belongings();
  const std::string text =
      thrown([&] { const Process process({.method = StartMethod::exec}, other); });
  BOOST_TEST(text.starts_with("a callable was named by a program of another build"), text);
  BOOST_TEST(belongings() == before);
}
