#include "lab/harness/disturbance.hh"

#include "lab/base/clock.hh"
#include "lab/base/keep.hh"
#include "lab/harness/preflight.hh"
#include "lab/harness/validity.hh"
#include "tests/fake_root.hh"
#include "tests/topology_fixtures.hh"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <thread>

using namespace schedlab;
using namespace schedlab::harness;
using affinity::CpuSet;
using testing::FakeRoot;

namespace {

constexpr std::int64_t second = 1'000'000'000;

// Two idle CPUs seen over ten seconds, with 100 ticks to the second.
SystemCounters quiet_before() {
  SystemCounters counters;
  counters.taken_ns = 5 * second;
  counters.ticks = {{0, {.busy = 100, .idle = 1000, .steal = 7}},
                    {1, {.busy = 200, .idle = 1000, .steal = 9}}};
  counters.throttling = affinity::Throttling{3, 1000};
  counters.hot_events = 4;
  counters.swapped_pages = 50;
  counters.oom_kills = 1;
  return counters;
}

SystemCounters quiet_after() {
  SystemCounters counters = quiet_before();
  counters.taken_ns += 10 * second;
  for (auto& [cpu, ticks] : counters.ticks)
    ticks.idle += 1000;
  return counters;
}

const Warning* find(const std::vector<Warning>& warnings, Code code) {
  const auto found =
      std::ranges::find_if(warnings, [&](const auto& one) { return one.code == info(code).name; });
  return found == warnings.end() ? nullptr : &*found;
}

double evidence(const Warning& warning, const std::string& name) {
  for (const auto& [key, value] : warning.evidence)
    if (key == name)
      return *value.number();
  return -1;
}

// The one warning that a change of the second reading causes.
template <typename Change>
Warning only_warning(Change change) {
  SystemCounters after = quiet_after();
  change(after);
  const auto warnings = disturbances(quiet_before(), after);
  BOOST_TEST_REQUIRE(warnings.size() == 1u);
  return warnings[0];
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_quiet_window_raises_nothing) {
  BOOST_TEST(disturbances(quiet_before(), quiet_after()).empty());
  BOOST_TEST(disturbances(quiet_after(), quiet_after()).empty());
}

BOOST_AUTO_TEST_CASE(one_stolen_tick_is_noise_and_more_than_a_hundredth_invalid) {
  const auto noisy = only_warning([](auto& after) { after.ticks[1].steal += 1; });
  BOOST_TEST(noisy.code == "STEAL");
  BOOST_TEST((noisy.severity == Severity::noisy));
  BOOST_TEST(evidence(noisy, "ticks") == 1);
  BOOST_TEST(evidence(noisy, "worst_cpu") == 1);
  const auto invalid = only_warning([](auto& after) { after.ticks[0].steal += 21; });
  BOOST_TEST((invalid.severity == Severity::invalid));
}

BOOST_AUTO_TEST_CASE(steal_that_falls_or_exceeds_the_window_is_the_kernels_mistake) {
  SystemCounters after = quiet_after();
  after.ticks[0].steal -= 3;
  after.ticks[1].steal += 800'000'000;
  BOOST_TEST(disturbances(quiet_before(), after).empty());
  BOOST_TEST(!ticks_between(10, 9, second));
  BOOST_TEST(!ticks_between(0, 113, second));
  BOOST_TEST(ticks_between(10, 110, second).value() == 100);
}

BOOST_AUTO_TEST_CASE(being_stopped_by_the_quota_makes_the_window_invalid) {
  const auto warning = only_warning([](auto& after) { after.throttling = {5, 9000}; });
  BOOST_TEST(warning.code == "QUOTA");
  BOOST_TEST((warning.severity == Severity::invalid));
  BOOST_TEST(evidence(warning, "periods") == 2);
  BOOST_TEST(evidence(warning, "throttled_ns") == 8000);
}

BOOST_AUTO_TEST_CASE(heat_swapping_and_a_killed_process_are_seen) {
  BOOST_TEST(only_warning([](auto& after) { after.hot_events = 5; }).code == "THROTTLE");
  const auto swap = only_warning([](auto& after) { after.swapped_pages = 51; });
  BOOST_TEST(swap.code == "SWAP");
  BOOST_TEST(evidence(swap, "pages") == 1);
  const auto kill = only_warning([](auto& after) { after.oom_kills = 2; });
  BOOST_TEST(kill.message.find("killed") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_counter_that_is_missing_on_either_side_raises_nothing) {
  SystemCounters after = quiet_after();
  after.throttling.reset();
  after.hot_events.reset();
  after.swapped_pages.reset();
  after.oom_kills.reset();
  after.ticks.clear();
  BOOST_TEST(disturbances(quiet_before(), after).empty());
  BOOST_TEST(disturbances(SystemCounters(), quiet_after()).empty());
}

BOOST_AUTO_TEST_CASE(foreign_work_counts_and_our_own_does_not) {
  const auto foreign = only_warning([](auto& after) { after.ticks[0].busy += 100; });
  BOOST_TEST(foreign.code == "BUSY");
  BOOST_TEST(evidence(foreign, "foreign_share") == 0.05, boost::test_tools::tolerance(1e-9));
  SystemCounters after = quiet_after();
  after.ticks[0].busy += 100;
  after.own_ns += second;
  BOOST_TEST(disturbances(quiet_before(), after).empty());
}

BOOST_AUTO_TEST_CASE(counters_come_from_the_files_of_the_root) {
  FakeRoot root;
  root.put("/proc/stat", "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"
                         "cpu1 10 0 0 0 0 0 0 0 0 0\ncpu3 1 1 1 1 1 1 1 -5 0 0\nintr 1")
      .put("/proc/vmstat", "pswpin 3\npswpout 4\noom_kill 2")
      .put("/proc/loadavg", "1.25 0.5 0.1 1/200 300")
      .put("/proc/pressure/cpu", "some avg10=4.8 avg60=1.2 avg300=0.3 total=4110281");
  const auto counters = read_counters(CpuSet{0, 3}, System(root.path()));
  BOOST_TEST(counters.ticks.size() == 2u);
  BOOST_TEST(counters.ticks.at(0).busy == 6u);
  BOOST_TEST(counters.ticks.at(0).idle == 9u);
  BOOST_TEST(counters.ticks.at(0).steal == 8u);
  BOOST_TEST(counters.ticks.at(3).steal == 0u);
  BOOST_TEST(counters.swapped_pages.value() == 7u);
  BOOST_TEST(counters.oom_kills.value() == 2u);
  BOOST_TEST(counters.load1.value() == 1.25);
  BOOST_TEST(counters.waiting_us.value() == 4110281u);
  BOOST_TEST(!counters.hot_events);
}

BOOST_AUTO_TEST_CASE(a_core_and_a_package_are_counted_once_for_all_their_threads) {
  FakeRoot root;
  for (const std::string cpu : {"0", "1"}) {
    const std::string folder = "/sys/devices/system/cpu/cpu" + cpu + "/";
    root.put(folder + "topology/core_cpus_list", "0-1")
        .put(folder + "topology/physical_package_id", "0")
        .put(folder + "thermal_throttle/core_throttle_count", "3")
        .put(folder + "thermal_throttle/package_throttle_count", "10");
  }
  const auto counters = read_counters(CpuSet{0, 1}, System(root.path()));
  BOOST_TEST(counters.hot_events.value() == 13u);
}

BOOST_AUTO_TEST_CASE(an_empty_root_gives_no_counters_and_throws_nothing) {
  const FakeRoot root;
  const auto counters = read_counters(CpuSet{0}, System(root.path()));
  BOOST_TEST(counters.ticks.empty());
  BOOST_TEST(!counters.load1);
  BOOST_TEST(!counters.swapped_pages);
}

BOOST_AUTO_TEST_CASE(this_machines_own_counters_advance_while_it_works) {
  const auto topology = affinity::Topology::machine();
  const auto before = read_counters(topology.usable());
  const auto until = clock::now_ns() + 100'000'000;
  while (clock::now_ns() < until)
    keep(until);
  const auto after = read_counters(topology.usable());
  BOOST_TEST(after.own_ns > before.own_ns);
  BOOST_TEST(after.taken_ns > before.taken_ns);
  BOOST_TEST(after.ticks.size() == topology.usable().count());
}

BOOST_AUTO_TEST_CASE(a_governor_other_than_performance_is_noted_with_its_cpus) {
  FakeRoot root;
  root.put(cpu_file(0, "cpufreq/scaling_governor"), "performance")
      .put(cpu_file(1, "cpufreq/scaling_governor"), "powersave");
  const auto warnings = standing_conditions(synthetic("core:3 pu:1"), System(root.path()));
  const Warning* governor = find(warnings, Code::governor);
  BOOST_TEST_REQUIRE(governor != nullptr);
  BOOST_TEST(*governor->evidence.at(0).second.text() == "1");
  BOOST_TEST(*governor->evidence.at(1).second.text() == "powersave");
}

BOOST_AUTO_TEST_CASE(isolated_cpus_a_slow_clock_and_a_small_quota_are_found_before_a_run) {
  FakeRoot root;
  root.put("/sys/devices/system/cpu/isolated", "1-2")
      .put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet")
      .put("/proc/self/cgroup", "0::/")
      .put("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw")
      .put("/sys/fs/cgroup/cgroup.controllers", "cpu")
      .put("/sys/fs/cgroup/cpu.max", "150000 100000");
  const auto warnings = standing_conditions(synthetic("core:2 pu:1"), System(root.path()));
  BOOST_TEST_REQUIRE(find(warnings, Code::isolcpus) != nullptr);
  BOOST_TEST_REQUIRE(find(warnings, Code::clock) != nullptr);
  BOOST_TEST_REQUIRE(find(warnings, Code::quota) != nullptr);
  BOOST_TEST((find(warnings, Code::clock)->severity == Severity::invalid));
  BOOST_TEST(evidence(*find(warnings, Code::quota), "quota_cpus") == 1.5);
}

BOOST_AUTO_TEST_CASE(a_machine_without_such_files_is_not_blamed_for_them) {
  const FakeRoot root;
  const auto warnings = standing_conditions(synthetic("core:2 pu:1"), System(root.path()));
  for (const Code code : {Code::governor, Code::isolcpus, Code::clock, Code::quota,
                          Code::affinity_shrunk, Code::launcher})
    BOOST_TEST(find(warnings, code) == nullptr);
}

BOOST_AUTO_TEST_CASE(clocks_that_user_space_reads_are_trusted_and_others_not) {
  BOOST_TEST(trusted_clock("tsc"));
  BOOST_TEST(trusted_clock("kvm-clock"));
  BOOST_TEST(!trusted_clock("hpet"));
  BOOST_TEST(!trusted_clock("acpi_pm"));
}
