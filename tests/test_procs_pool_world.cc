// What a pool does in the world it is in: its parent dies, memory runs out, half a CPU must do,
// processes are refused, it has nothing to do.

#include "procs/process_pool.hh"

#include "affinity/limits.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/file.hh"
#include "lab/base/keep.hh"
#include "procs/thread_pool.hh"
#include "tests/left_behind.hh"
#include "tests/memory_case.hh"
#include "tests/pool_cases.hh"
#include "tests/thrown.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <thread>

using namespace schedlab;
using namespace schedlab::procs;
using namespace std::chrono_literals;
using testing::add;
using testing::await_start;
using testing::holds;
using testing::Journal;
using testing::methods;
using testing::options;
using testing::stay;
namespace data = boost::unit_test::data;

// --- the parent dies

namespace {

// A program with a pool: dies at a step of its own, or waits for the kill.
int program(std::span<const std::byte> argument) {
  const auto step = static_cast<Step>(argument[0]);
  const auto method = static_cast<StartMethod>(argument[1]);
  ProcessPool pool(options(method));
  if (of_worker(step)) {
    const Journal journal(pool, 2);
    auto first = pool.submit<stay>(journal.bytes(), 0u);
    auto second = pool.submit<stay>(journal.bytes(), 1u);
    await_start(journal, 0);
    await_start(journal, 1);
    ::kill(::getpid(), SIGKILL);
  }
  pool.parent_fault().arm(step, 5);
  for (int i = 0;; ++i) {
    auto futures = std::vector<ProcessFuture<int>>();
    for (int k = 0; k < 4; ++k)
      futures.push_back(pool.submit_with<add>({.attempts = 9}, i, 1));
    if (i % 2 == 0)
      pool.kill_worker(0);
    for (auto& future : futures)
      future.get();
  }
}

}  // namespace

BOOST_DATA_TEST_CASE(nothing_is_left_when_the_parent_is_killed,
                     data::make(methods()) * data::make(std::vector<Step>{
                                                 Step::queued, Step::drained, Step::reaped,
                                                 Step::requeued, Step::respawned, Step::running}),
                     method, step) {
  // Whoever is left behind becomes our child.
  BOOST_TEST_REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
  const std::array argument = {std::byte(step), std::byte(method)};
  auto parent = Process::start<program>({.method = StartMethod::exec}, argument);
  const Ending ending = parent.end_within(60'000);
  BOOST_TEST(ending.text().substr(0, 17) == "killed by SIGKILL");
  int left = 0;
  siginfo_t info{};
  for (int tries = 0; tries < 10'000; ++tries) {
    left = ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG);
    if (left < 0)
      break;
    std::this_thread::sleep_for(1ms);
  }
  BOOST_TEST(left == -1);  // nobody is there, and nobody has to be waited for
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

// --- out of memory

namespace {

constexpr std::uint64_t too_much = 4 * testing::little_memory;

// In a cgroup with little memory: a task that wants more, and what its future says.
int hungry_program(std::span<const std::byte>) {
  ProcessPool pool(options(StartMethod::forkserver));
  auto harmless = pool.submit<add>(1, 1);
  auto future = pool.submit<apparatus::use_up_memory>(too_much);
  try {
    future.get();
  } catch (const WorkerDied& error) {
    const bool oom = error.end.how == Ended::oom && holds(error.what(), "ran out of memory");
    return oom && harmless.get() == 2 && pool.submit<add>(2, 2).get() == 4 ? 0 : 2;
  }
  return 3;
}

// There a stranger dies of it, and then somebody kills a worker that has begun since.
int blameless_program(std::span<const std::byte>) {
  ProcessPool pool(options(StartMethod::forkserver, 1));
  auto stranger = Process::start<[](std::span<const std::byte>) {
    apparatus::use_up_memory(too_much);
    return 0;
  }>({.method = StartMethod::exec});
  if (stranger.wait().why != Ending::Why::out_of_memory)
    return 2;
  auto leaves = pool.submit<[] { ::_exit(0); }>();
  leaves.wait();
  const Journal journal(pool, 1);
  auto future = pool.submit<stay>(journal.bytes(), 0u);
  await_start(journal, 0);
  pool.kill_worker(0);
  try {
    future.get();
  } catch (const WorkerDied& error) {
    return error.end.how == Ended::signalled ? 0 : 4;
  }
  return 5;
}

// How a program ends that is started in a cgroup.
template <auto program>
std::string end_in(const apparatus::Cage& cage) {
  Child world = Child::fork([&] {
    if (!cage.enter())
      return 9;
    auto inside = Process::start<program>({.method = StartMethod::exec});
    const Ending ending = inside.end_within(60'000);
    return ending.cause.kind == ExitCause::Kind::exited ? ending.cause.value : 9;
  });
  return world.wait().text();
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_task_that_takes_too_much_memory_is_told_from_one_that_was_killed,
                     *boost::unit_test::precondition(testing::a_cage_may_be_made)) {
  const apparatus::MemoryCage cage(testing::little_memory);
  BOOST_TEST(end_in<hungry_program>(cage) == "exit status 0");
}

BOOST_AUTO_TEST_CASE(a_stranger_that_ran_out_of_memory_explains_no_later_kill,
                     *boost::unit_test::precondition(testing::a_cage_may_be_made)) {
  const apparatus::MemoryCage cage(testing::little_memory);
  BOOST_TEST(end_in<blameless_program>(cage) == "exit status 0");
}

namespace {

// How often a thread of a process has gone to sleep.
std::uint64_t sleeps(const std::string& thread) {
  const auto status = read_text("/proc/" + thread + "/status");
  BOOST_TEST_REQUIRE(status.has_value());
  const std::string_view key = "voluntary_ctxt_switches:";
  return std::stoull(status->substr(status->find(key) + key.size()));
}

std::uint64_t all_sleeps(const ProcessPool& pool) {
  std::uint64_t count = 0;
  for (const pid_t pid : pool.pids())
    count += sleeps(std::to_string(pid));
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task"))
    if (read_text(entry.path().string() + "/comm") == "process pool")
      count += sleeps("self/task/" + entry.path().filename().string());
  return count;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_pool_without_work_wakes_nobody) {
  ProcessPool pool({.workers = 2});
  for (int i = 0; i < 100; ++i)
    pool.submit<add>(i, i).get();
  std::this_thread::sleep_for(100ms);
  const std::uint64_t before = all_sleeps(pool);
  std::this_thread::sleep_for(1s);
  BOOST_TEST(all_sleeps(pool) == before);
  // The count would tell.
  pool.submit<add>(1, 1).get();
  std::this_thread::sleep_for(100ms);
  BOOST_TEST(all_sleeps(pool) > before);
}

namespace {

// In a user of its own whose processes may be no more than these.
int poor_pool() {
  const rlimit memlock{64 << 10, 64 << 10};
  const rlimit processes{0, 0};
  if (::setrlimit(RLIMIT_MEMLOCK, &memlock) != 0 || ::setrlimit(RLIMIT_NPROC, &processes) != 0)
    return 2;
  if (::geteuid() == 0 && (::setgid(65'534) != 0 || ::setuid(65'534) != 0))
    return 3;
  try {
    ProcessPool pool({.workers = 1, .start = StartMethod::fork});
    return 4;
  } catch (const PoolError& error) {
    const std::string text = error.what();
    return text.find("fork: Resource temporarily unavailable") != text.npos &&
                   text.find("ulimit -u") != text.npos
               ? 0
               : 5;
  }
}

// Without a look for leaks, which the other user may not do.
int poor_program(std::span<const std::byte>) {
  ::_exit(poor_pool());
}

int little_locked_memory(std::span<const std::byte>) {
  const rlimit memlock{64 << 10, 64 << 10};
  if (::setrlimit(RLIMIT_MEMLOCK, &memlock) != 0)
    return 2;
  ProcessPool pool({.workers = 2});
  return pool.submit<add>(1, 1).get() == 2 ? 0 : 3;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_pool_that_may_have_no_process_says_why) {
  auto poor = Process::start<poor_program>({.method = StartMethod::exec});
  BOOST_TEST(poor.end_within(20'000).text() == "exit status 0");
}

BOOST_AUTO_TEST_CASE(a_pool_needs_no_locked_memory) {
  auto program = Process::start<little_locked_memory>({.method = StartMethod::exec});
  BOOST_TEST(program.end_within(20'000).text() == "exit status 0");
}

// --- half a CPU

namespace {

// Computes for a millisecond of CPU time.
int square_slowly(int value) {
  const std::int64_t end_ns = clock::thread_cpu_ns() + 1'000'000;
  while (clock::thread_cpu_ns() < end_ns) {
  }
  return value * value;
}

void spin(const Bytes& journal, std::size_t task) {
  Journal::note(journal, task);
  for (;;)
    pause_cpu();
}

// Whether an attempt ended so, after which the pool goes on with its successor.
bool outlives(ProcessPool& pool, ProcessFuture<void> doomed, Ended how) {
  const auto before = pool.counts().started;
  try {
    doomed.get();
    return false;
  } catch (const WorkerDied& error) {
    return error.end.how == how && pool.submit<add>(2, 3).get() == 5 &&
           pool.counts().started == before + 1;
  }
}

bool both_do_their_work(ProcessPool& processes, ThreadPool& threads) {
  std::vector<ProcessFuture<int>> there;
  std::vector<Future<int>> here;
  for (int i = 0; i < 60; ++i) {
    there.push_back(processes.submit<square_slowly>(i));
    here.push_back(threads.submit([i] { return square_slowly(i); }));
  }
  bool right = true;
  for (int i = 0; i < 60; ++i)
    right = there[std::size_t(i)].get() == i * i && here[std::size_t(i)].get() == i * i && right;
  return right;
}

std::uint64_t periods_stopped() {
  return affinity::cgroup_throttling().value_or(affinity::Throttling{}).periods;
}

// On a machine so busy that it came to no more than half a CPU anyway.
constexpr int never_stopped = 8;

// In a cgroup whose tasks get 50 ms of CPU time in each 100 ms.
int frugal_program(std::span<const std::byte>) {
  const auto limits = affinity::cgroup_limits();
  if (limits.quota_cpus != 0.5)
    return 2;
  const auto stopped = periods_stopped();
  std::thread([] {}).join();  // with the first, a sanitizer starts one of its own
  const auto before = testing::belongings();
  {
    ProcessPool processes;
    ThreadPool threads;
    if (processes.workers() != 1 || threads.workers() != 1)
      return 3;
    for (int rounds = 0; rounds == 0 || (rounds < 20 && periods_stopped() == stopped); ++rounds)
      if (!both_do_their_work(processes, threads))
        return 4;
    const Journal journal(processes, 2);
    auto stays = processes.submit<stay>(journal.bytes(), 0u);
    await_start(journal, 0);
    processes.kill_worker(0);
    if (!outlives(processes, std::move(stays), Ended::signalled))
      return 5;
    auto late = processes.submit_with<spin>({.timeout = 20ms}, journal.bytes(), 1u);
    if (!outlives(processes, std::move(late), Ended::timeout))
      return 6;
  }
  if (testing::belongings() != before)
    return 7;
  return periods_stopped() > stopped ? 0 : never_stopped;
}

// Half a CPU, in the words of either version.
void halve(const apparatus::Cage& cage) {
  if (cage.version() == 2)
    return cage.set("cpu.max", "50000 100000");
  cage.set("cpu.cfs_period_us", "100000");
  cage.set("cpu.cfs_quota_us", "50000");
}

boost::test_tools::assertion_result a_cpu_may_be_halved(boost::unit_test::test_unit_id) {
  const std::string why = testing::thrown([] { halve(apparatus::Cage("cpu")); });
  boost::test_tools::assertion_result result(why == "nothing");
  result.message() << why;
  return result;
}

}  // namespace

BOOST_AUTO_TEST_CASE(pools_with_half_a_cpu_have_one_worker_that_works_dies_and_is_replaced,
                     *boost::unit_test::precondition(a_cpu_may_be_halved)) {
  std::filesystem::path folder;
  {
    const apparatus::Cage cage("cpu");
    folder = cage.folder();
    halve(cage);
    const std::string end = end_in<frugal_program>(cage);
    BOOST_WARN_NE(end, "exit status 8");
    BOOST_TEST((end == "exit status 0" || end == "exit status 8"), end);
    BOOST_TEST(read_text(cage.members()).value_or("?") == "");
  }
  BOOST_TEST(!std::filesystem::exists(folder));
}
