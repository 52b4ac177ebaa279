#include "lab/cli/doctor.hh"

#include "lab/base/error.hh"
#include "lab/base/text.hh"
#include "lab/cli/doctor_checks.hh"
#include "lab/harness/preflight.hh"
#include "lab/harness/validity.hh"
#include "tests/fake_root.hh"
#include "tests/topology_fixtures.hh"

#include <nlohmann/json.hpp>

#include <algorithm>

using namespace schedlab;
using namespace schedlab::cli;
using testing::FakeRoot;

namespace {

const std::string cpu_folder = "/sys/devices/system/cpu/";

// A machine on which nothing disturbs.
class QuietServer : public FakeRoot {
public:
  QuietServer() {
    put("/proc/cpuinfo", "flags : fpu tsc\nmodel name : A CPU");
    put("/proc/stat", "cpu  1 2 3 4 5 6 7 0 0 0");
    put("/proc/self/cgroup", "0::/");
    put("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw");
    put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu");
    put("/proc/sys/kernel/osrelease", "6.12.1");
    put("/proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC");
    put("/proc/sys/kernel/numa_balancing", "0");
    put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
    put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc");
    put("/sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet");
    put(cpu_folder + "cpufreq/boost", "0");
    put(cpu_folder + "isolated", "");
    put(cpu_folder + "vulnerabilities/meltdown", "Not affected");
    put(cpu_folder + "cpuidle/current_driver", "intel_idle");
    put(cpu_folder + "cpuidle/current_governor_ro", "menu");
    put(cpu_folder + "cpu0/cpuidle/state0/name", "POLL");
    put(cpu_folder + "cpu0/cpuidle/state0/latency", "0");
    for (unsigned cpu = 0; cpu < 2; ++cpu)
      put(harness::cpu_file(cpu, "cpufreq/scaling_governor"), "performance");
  }

  [[nodiscard]] Facts facts(const std::string& shape = "core:2 pu:1") const {
    const harness::System files{path()};
    const auto topology = synthetic(shape);
    Facts facts;
    facts.environment =
        harness::capture_environment(topology, {clock::Source::tsc, 0.5, "invariant"}, files);
    facts.environment.env.get()["cpu"]["measured_mhz"] = 3000.0;
    for (const auto& warning : harness::standing_conditions(topology, files))
      if (warning.code != "SANITIZER" && warning.code != "DEBUG_BUILD")
        facts.warnings.push_back(warning);
    facts.load1 = 0.02;
    facts.hot_events = 0;
    facts.io_uring.usable = true;
    facts.policies = {{procs::SchedPolicy::other, ""}, {procs::SchedPolicy::fifo, ""}};
    const std::vector<double> same(40, 100.0);
    facts.noise = noise_floor(same, same);
    return facts;
  }
};

Finding find(const Facts& facts, const std::string& name) {
  const auto all = judge(facts);
  const auto found = std::ranges::find(all, name, &Finding::name);
  BOOST_TEST_REQUIRE((found != all.end()), name);
  return *found;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// What a file with this text makes of one finding.
Finding with_file(const std::string& file, const std::string& text, const std::string& name,
                  const std::string& shape = "core:2 pu:1") {
  QuietServer server;
  server.put(file, text);
  return find(server.facts(shape), name);
}

}  // namespace

BOOST_AUTO_TEST_CASE(on_a_quiet_machine_all_is_well_and_nothing_needs_a_fix) {
  const QuietServer server;
  for (const auto& finding : judge(server.facts())) {
    BOOST_TEST(name(finding.state) == "ok", finding.name << ": " << finding.finding);
    BOOST_TEST(finding.fix == "", finding.name);
    BOOST_TEST(!finding.finding.empty(), finding.name);
    BOOST_TEST(!finding.group.empty(), finding.name);
  }
}

BOOST_AUTO_TEST_CASE(each_setting_that_disturbs_is_found_with_the_command_that_helps) {
  struct Row {
    std::string file;
    std::string text;
    const char* finding;
    const char* fix;
  };
  const Row rows[] = {
      {harness::cpu_file(1, "cpufreq/scaling_governor"), "powersave", "governor",
       "cpupower frequency-set -g performance"},
      {harness::cpu_file(0, "cpufreq/energy_performance_preference"), "balance_power", "preference",
       "energy_performance_preference"},
      {cpu_folder + "cpufreq/boost", "1", "boost", "echo 0 | sudo tee"},
      {cpu_folder + "intel_pstate/no_turbo", "0", "boost", "tee"},
      {cpu_folder + "cpu0/cpuidle/state0/latency", "133", "idle states", "idle-set -D 10"},
      {cpu_folder + "isolated", "1", "isolated", "isolcpus"},
      {"/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never", "huge pages",
       "echo madvise | sudo tee"},
      {"/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet", "clock",
       "echo tsc | sudo tee"},
      {"/sys/kernel/sched_ext/state", "enabled", "scheduler", "sched_ext"},
  };
  for (const auto& row : rows) {
    const Finding finding = with_file(row.file, row.text, row.finding);
    BOOST_TEST(name(finding.state) != "ok", row.finding);
    BOOST_TEST(has(finding.fix, row.fix), row.finding << ": " << finding.fix);
  }
}

BOOST_AUTO_TEST_CASE(numa_balancing_matters_only_where_there_are_nodes) {
  const std::string file = "/proc/sys/kernel/numa_balancing";
  BOOST_TEST(name(with_file(file, "1", "numa balancing").state) == "ok");
  const Finding finding = with_file(file, "1", "numa balancing", "numa:2 core:2 pu:1");
  BOOST_TEST(name(finding.state) == "note");
  BOOST_TEST(has(finding.fix, "sysctl kernel.numa_balancing=0"));
}

BOOST_AUTO_TEST_CASE(siblings_are_named_and_mitigations_listed) {
  const QuietServer server;
  const Finding smt = find(server.facts("core:2 pu:2"), "smt");
  BOOST_TEST(name(smt.state) == "note");
  BOOST_TEST(has(smt.finding, "0-1"));
  const Finding mitigations =
      with_file(cpu_folder + "vulnerabilities/meltdown", "Mitigation: PTI", "mitigations");
  BOOST_TEST(has(mitigations.finding, "meltdown"));
  BOOST_TEST(mitigations.fix == "");
}

BOOST_AUTO_TEST_CASE(a_machine_that_exposes_nothing_is_noted_and_never_accused) {
  const FakeRoot nothing;
  Facts facts = QuietServer().facts();
  facts.environment = harness::capture_environment(synthetic("core:2 pu:1"), clock::Calibration(),
                                                   harness::System(nothing.path()));
  facts.hot_events.reset();
  facts.load1.reset();
  for (const auto& finding : judge(facts))
    BOOST_TEST(name(finding.state) != "warn", finding.name << ": " << finding.finding);
  BOOST_TEST(has(find(facts, "governor").finding, "not exposed"));
}

BOOST_AUTO_TEST_CASE(warnings_from_before_and_during_the_test_become_findings) {
  Facts facts = QuietServer().facts();
  facts.warnings = {harness::make_warning(harness::Code::steal),
                    harness::make_warning(harness::Code::busy),
                    harness::make_warning(harness::Code::quota),
                    harness::make_warning(harness::Code::throttle),
                    harness::make_warning(harness::Code::freq),
                    harness::make_warning(harness::Code::debug_build)};
  for (const auto* finding : {"steal", "load", "quota", "heat", "frequency", "build"}) {
    BOOST_TEST(name(find(facts, finding).state) == "warn", finding);
    BOOST_TEST(find(facts, finding).fix != "", finding);
  }
}

BOOST_AUTO_TEST_CASE(a_blocked_io_uring_gives_its_cause_and_fix) {
  Facts facts = QuietServer().facts();
  facts.io_uring = {};
  facts.io_uring.cause = "a seccomp filter refuses io_uring";
  facts.io_uring.fix = "allow it";
  const Finding finding = find(facts, "io_uring");
  BOOST_TEST(name(finding.state) == "warn");
  BOOST_TEST(has(finding.finding, "a seccomp filter"));
  BOOST_TEST(finding.fix == "allow it");
}

BOOST_AUTO_TEST_CASE(refused_policies_counters_and_cpus_are_told_with_their_reasons) {
  Facts facts = QuietServer().facts();
  facts.policies[1].second = "needs CAP_SYS_NICE";
  facts.hardware_counters = "Permission denied";
  facts.restriction = "the affinity of this process allows only CPU 1";
  facts.environment.env.get()["limits"]["usable_cpus"] = 1;
  BOOST_TEST(has(find(facts, "policies").finding, "not permitted: fifo"));
  BOOST_TEST(has(find(facts, "policies").fix, "--cap-add=SYS_NICE"));
  BOOST_TEST(has(find(facts, "counters").fix, "perf_event_paranoid"));
  BOOST_TEST(has(find(facts, "cpus").finding, "allows only CPU 1"));
  BOOST_TEST(name(find(facts, "cpus").state) == "note");
}

BOOST_AUTO_TEST_CASE(two_series_of_the_same_thing_have_a_ratio_of_one) {
  std::vector<double> first;
  std::vector<double> second;
  for (int i = 0; i < 400; ++i) {
    first.push_back(100 + i % 7);
    second.push_back(100 + (i + 3) % 7);
  }
  const NoiseFloor floor = noise_floor(first, second);
  BOOST_TEST(floor.pairs == 400u);
  BOOST_TEST_REQUIRE(floor.ratio.interval.has_value());
  BOOST_TEST(floor.ratio.interval->low <= 1);
  BOOST_TEST(floor.ratio.interval->high >= 1);
  BOOST_TEST(floor.smallest_difference < 0.02);
}

BOOST_AUTO_TEST_CASE(a_series_that_is_slower_by_a_tenth_is_not_taken_for_noise_below_a_tenth) {
  const std::vector<double> first(100, 110);
  const std::vector<double> second(100, 100);
  const NoiseFloor floor = noise_floor(first, second);
  BOOST_TEST(floor.smallest_difference == 0.1, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(floor.tail == 110.0 / 105, boost::test_tools::tolerance(1e-6));
}

BOOST_AUTO_TEST_CASE(too_few_pairs_show_nothing_and_say_so) {
  const std::vector<double> three(3, 100.0);
  Facts facts = QuietServer().facts();
  facts.noise = noise_floor(three, three);
  BOOST_TEST(facts.noise.smallest_difference == 1.0);
  BOOST_TEST(name(find(facts, "noise floor").state) == "warn");
}

BOOST_AUTO_TEST_CASE(the_measured_floor_of_this_machine_comes_from_pairs_on_the_chosen_cpu) {
  clock::select();
  const unsigned cpu = affinity::Topology::machine().usable().first();
  const NoiseFloor floor = measure_noise_floor(cpu, 100'000'000);
  BOOST_TEST(floor.cpu == cpu);
  BOOST_TEST(floor.pairs >= 1u);
  BOOST_TEST(floor.sample_ns > 0);
  BOOST_TEST(floor.tail >= 1);
}

BOOST_AUTO_TEST_CASE(the_text_keeps_to_its_width_and_reads_without_colour) {
  const QuietServer server;
  Facts facts = server.facts("numa:2 core:4 pu:2");
  facts.warnings = {harness::make_warning(harness::Code::steal),
                    harness::make_warning(harness::Code::freq)};
  const Diagnosis diagnosis{judge(facts), facts.noise};
  const std::string plain = doctor_text(diagnosis, 80, false);
  for (const auto line : split(plain, '\n'))
    BOOST_TEST(display_width(line) <= 80u, line);
  BOOST_TEST(has(plain, "warn  steal"));
  BOOST_TEST(has(plain, "fix: "));
  BOOST_TEST(!has(plain, "\x1b"));
  BOOST_TEST(has(doctor_text(diagnosis, 80, true), "\x1b[1;31mwarn"));
}

BOOST_AUTO_TEST_CASE(the_json_has_every_finding_and_null_where_nothing_helps) {
  const QuietServer server;
  const Facts facts = server.facts();
  const Diagnosis diagnosis{judge(facts), facts.noise};
  const auto json = doctor_json(diagnosis);
  BOOST_TEST(json["schema"] == "schedlab.doctor/1");
  BOOST_TEST(json["findings"].size() == diagnosis.findings.size());
  for (const auto& finding : json["findings"]) {
    BOOST_TEST(finding["state"] == "ok");
    BOOST_TEST(finding["fix"].is_null());
    BOOST_TEST(finding["evidence"].is_object());
  }
  BOOST_TEST(json["noise_floor"]["ci"]["level"].get<double>() >= 0.95);
}

BOOST_AUTO_TEST_CASE(another_machine_cannot_be_diagnosed_from_here) {
  BOOST_CHECK_THROW(diagnose(synthetic("core:2 pu:1")), Unsupported);
}
