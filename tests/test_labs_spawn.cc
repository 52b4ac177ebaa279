// The labs spawn_cost and spawn_memory, and their instruments.
#include "lab/apparatus/ballast.hh"
#include "lab/apparatus/first_write.hh"
#include "lab/apparatus/idle_tasks.hh"
#include "lab/apparatus/smallest_program.hh"
#include "lab/apparatus/spawn.hh"
#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"
#include "procs/process.hh"
#include "tests/left_behind.hh"
#include "tests/sanitized.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cmath>

using namespace schedlab;
using namespace schedlab::harness;
using apparatus::BallastPages;
using apparatus::Writer;
using testing::belongings;
namespace bdata = boost::unit_test::data;

namespace {

using Values = std::map<std::string, std::string>;
using Medians = std::map<std::string, std::map<std::string, double>>;  // series -> metric

PlanOutcome plan_on(std::string_view lab, const affinity::Topology& topology,
                    const Values& values = {}, const std::string& place = "all") {
  return plan_lab(*find_lab(lab), topology,
                  {.preset = Preset::quick,
                   .placement = place,
                   .values = values,
                   .driver = "epoll",
                   .processes = 6});
}

// A result with these medians in six processes that differ by a promille of `spread`.
LabResult measured(std::string_view lab, const Medians& found, double spread) {
  LabResult result = blank_result(*find_lab(lab));
  for (const auto& [name, metrics] : found) {
    Series series;
    series.name = name;
    for (const auto& [metric_name, value] : metrics) {
      std::vector<std::vector<double>> runs;
      for (int process = 0; process < 6; ++process)
        runs.push_back({value * (1 + 0.001 * spread * (process - 2.5))});
      const auto* info =
          &*std::ranges::find(find_lab(lab)->metrics, metric_name, &MetricInfo::name);
      series.metrics.push_back(make_metric(*info, runs));
    }
    result.series.push_back(series);
  }
  return result;
}

Verdict judged(const LabResult& result, std::string_view id) {
  return std::ranges::find(find_lab(result.name)->claims, id, &ClaimInfo::id)
      ->judge(Findings(result))
      .verdict;
}
Verdict verdict(std::string_view lab, std::string_view id, const Medians& found,
                double spread = 1) {
  return judged(measured(lab, found, spread), id);
}

const affinity::Topology& machine() {
  static const auto here = affinity::Topology::machine();
  return here;
}

enum : std::size_t { whole, blocked, begun, join, page_faults, right };

apparatus::SpawnCostOptions cost_options() {
  return {.cpu = machine().usable().first(),
          .usable = machine().usable(),
          .ballast = {},
          .metrics = {whole, blocked, begun, join, page_faults, right}};
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_smallest_program_runs_and_is_static_and_the_usual_one_is_dynamic) {
  const apparatus::SmallestProgram program;
  BOOST_TEST(Child::exec({program.path()}).wait().value == apparatus::smallest_program_status);
  BOOST_TEST(!apparatus::is_dynamic(program.path()));
  BOOST_TEST(apparatus::is_dynamic("/bin/true"));
  BOOST_TEST(!apparatus::is_dynamic("/etc/passwd"));
  BOOST_TEST(!apparatus::is_dynamic("/no/such/file"));
}

constexpr std::array ways = {"thread",
                             "fork",
                             "pidfd",
                             "clone3",
                             "vfork",
                             "spawn",
                             "fork-exec",
                             "vfork-exec",
                             "clone/none",
                             "clone/files",
                             "procs/exec",
                             "procs/fork",
                             "procs/forkserver",
                             "vfork-exec-dynamic"};

BOOST_DATA_TEST_CASE(every_way_starts_children_that_end_as_they_should, bdata::make(ways), way) {
  const auto before = belongings();
  {
    const auto subject = apparatus::make_spawn(way, cost_options());
    const Sample sample = subject->sample(5);
    BOOST_TEST(sample.operations == 5u);
    BOOST_TEST(sample.values[right] == 1.0);
    for (const Check& check : subject->checks())
      BOOST_TEST(check.ok, check.name);
    const bool stamps = std::string_view(way).find("exec") == std::string_view::npos ||
                        std::string_view(way) == "procs/exec";
    const bool clone = std::string_view(way).starts_with("clone/");
    BOOST_TEST(std::isnan(sample.values[begun]) ==
               (clone || !stamps || way == std::string("spawn")));
    const bool own_memory = std::string_view(way) != "thread" && std::string_view(way) != "vfork";
    if (own_memory)
      BOOST_TEST(sample.values[page_faults] >= 1.0);
  }
  BOOST_TEST(belongings() == before);
}

BOOST_AUTO_TEST_CASE(every_set_of_flags_makes_children) {
  if (testing::sanitized)
    return;  // a child on its parent's memory confuses it
  for (const auto flags : apparatus::clone_flag_sets()) {
    const auto subject = apparatus::make_spawn("clone/" + std::string(flags), cost_options());
    subject->sample(20);
    BOOST_TEST(subject->checks().front().ok, flags);
  }
  BOOST_CHECK_THROW(apparatus::make_spawn("clone/vm+nothing", cost_options()),
                    std::invalid_argument);
  BOOST_CHECK_THROW(apparatus::make_spawn("telepathy", cost_options()), std::invalid_argument);
}

// The control of "the wait returned after the child's end".
BOOST_AUTO_TEST_CASE(without_a_join_a_thread_of_the_same_cpu_has_often_not_ended) {
  const auto before = belongings();
  {
    const auto subject = apparatus::make_spawn("detached", cost_options());
    BOOST_TEST(subject->sample(50).values[right] < 1.0);
  }
  BOOST_TEST(belongings() == before);
}

BOOST_AUTO_TEST_CASE(a_ballast_is_shared_by_those_that_hold_it_and_then_gone) {
  const apparatus::Ballast some{1 << 20, BallastPages::base};
  auto one = apparatus::load(some);
  const auto two = apparatus::load(some);
  const auto other = apparatus::load({1 << 20, BallastPages::shared});
  BOOST_TEST(one.get() == two.get());
  BOOST_TEST(one.get() != other.get());
  BOOST_TEST(apparatus::load({}) == nullptr);
}

struct Written {
  Writer writer;
  BallastPages pages;
  double faults;  // for a page
  friend std::ostream& operator<<(std::ostream& out, const Written& written) {
    return out << to_text(written.writer) << " on " << to_text(written.pages);
  }
};
// What is private is copied on the first write, whoever writes; what is shared has no entry in the
// child, and keeps the parent's.
constexpr std::array written = {Written{Writer::nobody_forked, BallastPages::base, 0},
                                Written{Writer::child, BallastPages::base, 1},
                                Written{Writer::parent, BallastPages::base, 1},
                                Written{Writer::parent_alone, BallastPages::base, 1},
                                Written{Writer::nobody_forked, BallastPages::shared, 0},
                                Written{Writer::child, BallastPages::shared, 1},
                                Written{Writer::parent, BallastPages::shared, 0}};

BOOST_DATA_TEST_CASE(a_first_write_takes_one_fault_for_each_page_that_it_should,
                     bdata::make(written), expected) {
  const auto before = belongings();
  {
    const auto subject =
        apparatus::make_first_write(expected.writer, {.cpu = machine().usable().first(),
                                                      .usable = machine().usable(),
                                                      .ballast = {4 << 20, expected.pages},
                                                      .write_metric = 0,
                                                      .faults_metric = 1});
    const Sample sample = subject->sample(2);
    BOOST_TEST(std::abs(sample.values[1] - expected.faults) < (testing::sanitized ? 0.1 : 0.02),
               sample.values[1]);
    for (const Check& check : subject->checks())
      BOOST_TEST(check.ok, check.name);
  }
  BOOST_TEST(belongings() == before);
}

BOOST_AUTO_TEST_CASE(idle_tasks_are_counted_and_leave_nothing) {
  const auto before = belongings();
  for (const auto* kind : {"threads", "fork", "forkserver", "exec"}) {
    const auto subject = apparatus::make_idle_tasks(
        kind, {.cpu = machine().usable().first(), .usable = machine().usable(), .most = 4});
    const Sample sample = subject->sample(1);
    BOOST_TEST(sample.values[4] == 1.0, kind << ": threads " << sample.values[4]);
    BOOST_TEST(sample.values[0] > 0.0);
    for (const Check& check : subject->checks())
      BOOST_TEST(check.ok, kind << ": " << check.name);
    if (std::string_view(kind) != "threads" && !testing::sanitized) {
      BOOST_TEST(sample.values[3] >= 4096.0);           // a page of page tables at least
      BOOST_TEST(sample.values[0] > sample.values[1]);  // some of it is shared
    }
  }
  BOOST_CHECK_THROW(apparatus::make_idle_tasks("elves", {}), std::invalid_argument);
  BOOST_TEST(belongings() == before);
}

BOOST_AUTO_TEST_CASE(what_a_process_holds_is_read_from_proc) {
  const auto use = apparatus::memory_use(::getpid());
  BOOST_TEST_REQUIRE(use.has_value());
  BOOST_TEST(use->resident >= use->proportional);
  BOOST_TEST(use->proportional >= use->own);
  BOOST_TEST(use->threads >= 1.0);
  Child ended = Child::fork([] { return 0; });
  const pid_t pid = ended.pid();
  ended.wait();
  BOOST_TEST(!apparatus::memory_use(pid).has_value());
}

BOOST_DATA_TEST_CASE(both_labs_plan_on_machines_of_one_cpu_and_of_hundreds,
                     bdata::make({"spawn_cost", "spawn_memory"}), lab) {
  for (const auto* shape : {"pu:1", "core:2 pu:1", "pack:2 numa:1 core:96 pu:2"}) {
    const auto topology = synthetic(shape);
    const auto outcome = plan_on(lab, topology);
    BOOST_TEST(outcome.unsupported == "");
    BOOST_TEST(outcome.plan->runnable() > 4u);
    for (const auto& series : outcome.plan->series())
      BOOST_TEST(series.cpus == std::vector<unsigned>{0}, boost::test_tools::per_element());
  }
  const auto four = synthetic("core:4 pu:1");
  BOOST_TEST(plan_on(lab, four, {}, "cpus:3").plan->series().front().cpus.front() == 3u);
}

BOOST_AUTO_TEST_CASE(only_the_parts_asked_for_are_planned) {
  const auto topology = synthetic("core:2 pu:1");
  const auto flags = plan_on("spawn_cost", topology, {{"part", "flags"}});
  BOOST_TEST(flags.plan->find("clone/vm+files"));
  BOOST_TEST(!flags.plan->find("fork"));
  const auto sizes = plan_on("spawn_cost", topology, {{"part", "size"}, {"size", "16M,4M"}});
  BOOST_TEST(sizes.plan->find("fork/4.00 MiB/base"));
  BOOST_TEST(sizes.plan->find("vfork/16.0 MiB/base"));
  BOOST_TEST(!sizes.plan->find("vfork/4.00 MiB/base"));
  const auto huge = plan_on("spawn_cost", topology, {{"part", "size"}, {"size", "1024G"}});
  BOOST_TEST_REQUIRE(huge.plan->find("fork/1024 GiB/base"));
  BOOST_TEST(huge.plan->find("fork/1024 GiB/base")->skip != "");
  const auto threads = plan_on("spawn_memory", topology, {{"kind", "threads"}});
  BOOST_TEST(threads.plan->find("threads"));
  BOOST_TEST(!threads.plan->find("fork"));
  for (const auto& [param, value] : {std::pair("part", "dance"), std::pair("size", "1K"),
                                     std::pair("pages", "yellow"), std::pair("written", "none")})
    BOOST_CHECK_THROW(check_value(*find_lab("spawn_cost"), param, value), BadInput);
}

BOOST_AUTO_TEST_CASE(threads_are_cheaper_if_a_fork_takes_longer) {
  const auto judge = [](double fork, double spread) {
    return verdict("spawn_cost", "C55",
                   {{"fork", {{"whole", fork}}}, {"thread", {{"whole", 10e3}}}}, spread);
  };
  BOOST_TEST((judge(60e3, 1) == Verdict::confirmed));
  BOOST_TEST((judge(5e3, 1) == Verdict::refuted));
  BOOST_TEST((verdict("spawn_cost", "C55", {{"fork", {{"whole", 1}}}}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(threads_are_light_if_sharing_nothing_costs_more) {
  const auto judge = [](double none) {
    return verdict("spawn_cost", "C31",
                   {{"clone/none", {{"whole", none}}}, {"clone/thread", {{"whole", 10e3}}}});
  };
  BOOST_TEST((judge(60e3) == Verdict::confirmed));
  BOOST_TEST((judge(5e3) == Verdict::refuted));
  BOOST_TEST((verdict("spawn_cost", "C31", {}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(a_join_waits_if_it_never_returned_early_and_doing_without_did) {
  const auto judge = [](double joined, double detached) {
    const std::map<std::string, double> wait = {{"right", joined}, {"join", 5e3}};
    return verdict(
        "spawn_cost", "C9",
        {{"thread", wait}, {"fork", wait}, {"pidfd", wait}, {"detached", {{"right", detached}}}},
        0);
  };
  BOOST_TEST((judge(1, 0.1) == Verdict::confirmed));
  BOOST_TEST((judge(0.99, 0.1) == Verdict::refuted));
  BOOST_TEST((judge(1, 1) == Verdict::inconclusive));  // the control shows nothing
  BOOST_TEST((verdict("spawn_cost", "C9", {}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(start_methods_are_alike_if_all_answers_were_right) {
  const auto judge = [](double exec) {
    return verdict("spawn_cost", "C17",
                   {{"procs/fork", {{"right", 1}}},
                    {"procs/exec", {{"right", exec}}},
                    {"procs/forkserver", {{"right", 1}}}},
                   0);
  };
  BOOST_TEST((judge(1) == Verdict::confirmed));
  BOOST_TEST((judge(0.9) == Verdict::refuted));
  BOOST_TEST(
      (verdict("spawn_cost", "C17", {{"procs/fork", {{"right", 1}}}}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(a_program_is_loaded_by_faults_if_a_larger_one_takes_more) {
  const auto judge = [](double dynamic) {
    return verdict(
        "spawn_cost", "C96",
        {{"vfork-exec-dynamic", {{"faults", dynamic}}}, {"vfork-exec", {{"faults", 4}}}});
  };
  BOOST_TEST((judge(50) == Verdict::confirmed));
  BOOST_TEST((judge(2) == Verdict::refuted));
  BOOST_TEST((verdict("spawn_cost", "C96", {}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(processes_hold_more_and_coroutines_less_by_their_fair_share) {
  const auto judge = [](std::string_view id, double fork, double thread, double coroutine) {
    return verdict("spawn_memory", id,
                   {{"fork", {{"pss", fork}, {"tables", 9e4}}},
                    {"threads", {{"pss", thread}}},
                    {"coroutines", {{"pss", coroutine}}}});
  };
  BOOST_TEST((judge("C20", 160e3, 8e3, 270) == Verdict::confirmed));
  BOOST_TEST((judge("C20", 4e3, 8e3, 270) == Verdict::refuted));
  BOOST_TEST((judge("C20", 8e3, 8e3, 270) == Verdict::inconclusive));
  BOOST_TEST((judge("C65", 160e3, 8e3, 270) == Verdict::confirmed));
  BOOST_TEST((judge("C65", 160e3, 8e3, 9e3) == Verdict::refuted));
  BOOST_TEST((verdict("spawn_memory", "C65", {}) == Verdict::inconclusive));
  BOOST_TEST((verdict("spawn_memory", "C20", {}) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(a_process_has_a_thread_if_the_kernel_counts_one_for_each) {
  const auto judge = [](double process, double thread, bool gone = true) {
    LabResult result = measured(
        "spawn_memory", {{"fork", {{"threads", process}}}, {"threads", {{"threads", thread}}}}, 0);
    for (auto& series : result.series)
      series.checks = {{std::string(apparatus::gone_check), 1, gone ? 1 : 2, gone}};
    return judged(result, "C84");
  };
  BOOST_TEST((judge(1, 1) == Verdict::confirmed));
  BOOST_TEST((judge(1 + 1e-9, 1 - 1e-9) == Verdict::confirmed));  // slopes
  BOOST_TEST((judge(0, 1) == Verdict::refuted));
  BOOST_TEST((judge(1, 0.5) == Verdict::refuted));
  BOOST_TEST((judge(1, 1, false) == Verdict::inconclusive));
  BOOST_TEST((verdict("spawn_memory", "C84", {}) == Verdict::inconclusive));
}
