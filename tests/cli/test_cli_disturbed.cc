// What happens around a run must be seen in its result: interruption, a neighbour, a migration, a
// quota. And nothing may be left behind.

#include "tests/cli/support.hh"

#include "affinity/pin.hh"
#include "affinity/topology.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/keep.hh"
#include "lab/harness/document_json.hh"
#include "tests/temporary_folder.hh"

#include <boost/test/unit_test.hpp>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

namespace ut = boost::unit_test;
using namespace schedlab;
using namespace schedlab::tests;
using testing::TemporaryFolder;

namespace {

constexpr const char* mark = "SCHEDLAB_TEST_MARK";

SpawnOptions marked(const std::string& value) {
  SpawnOptions options;
  options.environment = {{mark, value}};
  return options;
}

std::string fresh_mark() {
  return std::to_string(::getpid()) + "-" + std::to_string(clock::now_ns());
}

std::vector<std::string> long_run(const std::string& path) {
  return {program(), "run",     "null",          "switch_cost", "--full",
          "--place", "same-pu", "--no-progress", "-o",          path};
}

// How many labs the file holds; none if there is no such file yet.
std::size_t labs_in(const std::string& path) {
  return read_text(path) ? harness::read_document(path).labs.size() : 0;
}

// Moves all threads of a process to a CPU; none while it has but one, because it is then still
// looking at the machine, and would take the move for its limit.
void push_threads(pid_t pid, unsigned cpu) {
  std::error_code ended;
  std::vector<pid_t> threads;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task", ended))
    threads.push_back(std::stoi(task.path().filename()));
  if (threads.size() < 2)
    return;
  for (const pid_t thread : threads) {
    try {
      affinity::bind_thread(thread, affinity::CpuSet{cpu});
    } catch (const std::exception&) {
      continue;  // the thread has ended
    }
  }
}

std::string first_cpu() {
  return "cpus:" + std::to_string(affinity::Topology::machine().usable().first());
}

boost::test_tools::assertion_result two_cpus(ut::test_unit_id) {
  boost::test_tools::assertion_result enough(affinity::Topology::machine().usable().count() >= 2);
  enough.message() << "needs two CPUs";
  return enough;
}

// The cgroup v1 cpu controller, in which a group with a quota can be made. With v2 the guests of
// suite vm have quotas.
std::string cpu_controller() {
  for (const std::string path : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"})
    if (std::filesystem::exists(path + "/cpu.cfs_quota_us"))
      return path;
  return "";
}

boost::test_tools::assertion_result cgroup_writable(ut::test_unit_id) {
  const std::string root = cpu_controller();
  boost::test_tools::assertion_result writable(!root.empty() && ::access(root.c_str(), W_OK) == 0);
  writable.message() << "needs the right to make a cgroup (v1 cpu controller)";
  return writable;
}

// A cgroup with half a CPU, removed at the end.
class HalfCpu {
public:
  HalfCpu() : path_(cpu_controller() + "/schedlab-test-" + std::to_string(::getpid())) {
    check(::mkdir(path_.c_str(), 0755), "mkdir", path_);
    put("cpu.cfs_period_us", "20000");
    put("cpu.cfs_quota_us", "10000");
  }
  ~HalfCpu() { ::rmdir(path_.c_str()); }
  [[nodiscard]] std::string tasks() const { return path_ + "/tasks"; }

private:
  void put(const std::string& name, std::string_view value) const {
    const Fd file(check(::open((path_ + "/" + name).c_str(), O_WRONLY | O_CLOEXEC), "open", name));
    write_all(file.get(), value, name);
  }
  std::string path_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(an_interrupted_run_keeps_what_was_finished_and_leaves_nobody_behind) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const TemporaryFolder folder;
    const std::string path = folder.path("result.json");
    const std::string value = fresh_mark();
    Child run = Child::exec(long_run(path), marked(value));
    // Until the first lab's result is in the file, and the second is being measured.
    for (int i = 0; i < 600 && labs_in(path) == 0; ++i)
      BOOST_TEST_REQUIRE(!run.wait_for(100).has_value());
    BOOST_TEST_REQUIRE(wait_for_processes(mark, value, 2, 99, 10));
    run.signal(signal);
    const auto cause = run.wait_for(10'000);
    BOOST_TEST_REQUIRE(cause.has_value());
    BOOST_TEST(cause->text() == "exit status 130");
    BOOST_TEST(wait_for_processes(mark, value, 0, 0, 5));

    const auto document = harness::read_document(path);
    BOOST_TEST(!document.complete);
    BOOST_TEST(document.labs.at(0).name == "null");
    BOOST_TEST(!document.labs.at(0).series.at(0).metrics.empty());
    const Output shown = run_program({"show", path});
    BOOST_TEST(shown.cause.success());
    BOOST_TEST(shown.out.find("not finished") != std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(a_killed_run_takes_all_its_processes_along_and_leaves_a_valid_file) {
  const TemporaryFolder folder;
  const std::string path = folder.path("result.json");
  const std::string value = fresh_mark();
  Child run = Child::exec(long_run(path), marked(value));
  BOOST_TEST_REQUIRE(wait_for_processes(mark, value, 3, 99, 60));  // parent, replicate, partners
  run.signal(SIGKILL);
  BOOST_TEST(run.wait().text() == "killed by SIGKILL");
  BOOST_TEST(wait_for_processes(mark, value, 0, 0, 5));
  BOOST_TEST(!harness::read_document(path).complete);
}

BOOST_AUTO_TEST_CASE(a_neighbour_on_the_measured_cpu_is_noticed) {
  const unsigned cpu = affinity::Topology::machine().usable().first();
  Child spinner = Child::fork([cpu] {
    affinity::bind_thread(0, affinity::CpuSet{cpu});
    for (;;)
      pause_cpu();
    return 0;
  });
  const TemporaryFolder folder;
  const std::string path = folder.path("result.json");
  const Output output =
      run_program({"run", "switch_cost", "--place", first_cpu(), "--set",
                   "switch_cost.mechanism=pipe,futex", "--processes", "2", "-o", path});
  BOOST_TEST_REQUIRE(output.cause.success(), output.err);
  const auto document = harness::read_document(path);
  BOOST_TEST((has_warning(document, "BUSY") || has_warning(document, "PREEMPTED")));
  BOOST_TEST((document.labs.at(0).status != harness::Status::ok));
}

BOOST_AUTO_TEST_CASE(a_forced_migration_is_noticed, *ut::precondition(two_cpus)) {
  const auto cpus = affinity::Topology::machine().usable().cpus();
  const TemporaryFolder folder;
  const std::string path = folder.path("result.json");
  const std::string value = fresh_mark();
  Child run = Child::exec({program(), "run", "switch_cost", "--full", "--processes", "2", "--place",
                           first_cpu(), "--set", "switch_cost.tasks=threads", "--no-progress", "-o",
                           path, "--color", "never"},
                          marked(value));
  // Pushes every thread of the replicate to the other CPU, again and again.
  std::optional<ExitCause> cause;
  for (int i = 0; i < 4000 && !cause; ++i) {
    for (const pid_t pid : processes_with(mark, value))
      if (pid != run.pid())
        push_threads(pid, cpus[1]);
    cause = run.wait_for(15);
  }
  BOOST_TEST_REQUIRE(cause.has_value());
  const auto document = harness::read_document(path);
  // A replicate that is pushed before it has looked round finds other CPUs than were planned.
  const auto& lab = document.labs.at(0);
  const bool refused = lab.status == harness::Status::failed &&
                       lab.reason.find("usable CPUs changed") != std::string::npos;
  BOOST_TEST((has_warning(document, "MIGRATED") || refused));
  BOOST_TEST((lab.status == harness::Status::invalid || refused), lab.reason);
}

BOOST_AUTO_TEST_CASE(a_cpu_quota_is_noticed, *ut::precondition(cgroup_writable)) {
  const HalfCpu group;
  const Output output =
      capture({"/bin/sh", "-c",
               "echo $$ > " + group.tasks() + " && exec " + program() +
                   " run switch_cost --place same-pu --processes 2 --json --no-progress"});
  BOOST_TEST_REQUIRE(output.cause.success(), output.err);
  BOOST_TEST(has_warning(harness::parse_document(output.out, "standard output"), "QUOTA"));
}
