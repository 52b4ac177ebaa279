#include "lab/harness/environment.hh"

#include "lab/harness/launcher.hh"
#include "lab/harness/tool_info.hh"
#include "tests/fake_root.hh"
#include "tests/topology_fixtures.hh"

#include <nlohmann/json.hpp>

#include <map>

using namespace schedlab;
using namespace schedlab::harness;
using testing::FakeRoot;

namespace {

const std::string cpuinfo =
    "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\n"
    "model name\t: AMD EPYC 9575F\nstepping\t: 1\nmicrocode\t: 0xb00211\n"
    "flags\t\t: fpu tsc constant_tsc nonstop_tsc hypervisor pcid\nbogomips\t: 6600.00\n";

// A server of which everything is known.
class Server : public FakeRoot {
public:
  Server() {
    put("/proc/cpuinfo", cpuinfo);
    put("/proc/cmdline", "root=UUID=12-34 ro isolcpus=2,3 password=x mitigations=off quiet");
    put("/proc/meminfo", "MemTotal:       65812345 kB\nSwapTotal: 0 kB\nHugePages_Total: 4");
    put("/proc/stat", "cpu  1 2 3 4 5 6 7 26 0 0");
    put("/proc/sys/kernel/osrelease", "6.18.1");
    put("/proc/sys/kernel/version", "#1 SMP PREEMPT_DYNAMIC Thu");
    put("/proc/sys/kernel/numa_balancing", "1");
    put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
    put("/sys/devices/system/cpu/vulnerabilities/meltdown", "Not affected");
    put("/sys/devices/system/cpu/isolated", "2-3");
    put("/sys/devices/system/cpu/nohz_full", "  (null)");
    put("/sys/devices/system/cpu/cpufreq/boost", "1");
    for (const unsigned cpu : {0u, 1u, 2u, 3u})
      put(cpu_file(cpu, "cpufreq/scaling_governor"), cpu == 3 ? "powersave" : "performance");
    put("/sys/devices/system/cpu/cpu0/cpuidle/state1/name", "C1");
    put("/sys/devices/system/cpu/cpu0/cpuidle/state1/latency", "2");
    put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc");
    put("/sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet");
  }
};

Environment capture(const FakeRoot& root, const std::string& shape = "core:4 pu:1") {
  return capture_environment(synthetic(shape), clock::Calibration(), System(root.path()));
}

std::string key(const FakeRoot& root, const char* which, const std::string& shape = "core:4 pu:1") {
  return capture(root, shape).env.get()[which].get<std::string>();
}

Lookup variables(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) {
    const auto found = values.find(name);
    return found == values.end() ? nullptr : found->second.c_str();
  };
}

std::string field(const Fields& fields, const std::string& name) {
  for (const auto& [key, value] : fields)
    if (key == name)
      return *value.text();
  return "(none)";
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_facts_of_a_server_are_read_from_its_files) {
  const Server server;
  const auto environment = capture(server);
  const auto& env = environment.env.get();
  BOOST_TEST(env["cpu"]["vendor"] == "AuthenticAMD");
  BOOST_TEST(env["cpu"]["model_name"] == "AMD EPYC 9575F");
  BOOST_TEST(env["cpu"]["model"] == "2");
  BOOST_TEST(env["cpu"]["threads"] == 4);
  BOOST_TEST(env["topology"]["isolated"] == "2-3");
  BOOST_TEST(env["topology"]["nohz_full"] == "");
  BOOST_TEST(env["kernel"]["transparent_hugepage"] == "madvise");
  BOOST_TEST(env["kernel"]["preempt"] == "PREEMPT_DYNAMIC");
  BOOST_TEST(env["kernel"]["mitigations"]["meltdown"] == "Not affected");
  BOOST_TEST(env["power"]["governors"]["performance"] == "0-2");
  BOOST_TEST(env["power"]["governors"]["powersave"] == "3");
  BOOST_TEST(env["power"]["boost"] == true);
  BOOST_TEST(env["power"]["cpuidle_states"][0]["latency_us"] == 2);
  BOOST_TEST(env["clock"]["available"].size() == 2u);
  BOOST_TEST(env["virt"]["hypervisor"] == "unnamed");
  BOOST_TEST(env["virt"]["steal_ticks"] == 26);
  BOOST_TEST(env["memory"]["total"] == std::uint64_t{65812345} * 1024);
}

BOOST_AUTO_TEST_CASE(every_section_of_the_contract_is_there_in_its_order) {
  const FakeRoot nothing;
  const auto environment = capture(nothing);
  std::vector<std::string> keys;
  for (const auto& item : environment.env.get().items())
    keys.push_back(item.key());
  const std::vector<std::string> expected = {"machine_key", "config_key", "cpu",     "topology",
                                             "kernel",      "power",      "clock",   "limits",
                                             "virt",        "memory",     "io_uring"};
  BOOST_TEST(keys == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(what_is_missing_is_null_and_has_its_reason_under_its_path) {
  const FakeRoot nothing;
  for (const auto& environment :
       {capture(nothing),
        capture_environment(affinity::Topology::machine(), clock::Calibration())}) {
    for (const auto& [name, section] : environment.env.get().items()) {
      if (!section.is_object())
        continue;
      for (const auto& [key, value] : section.items()) {
        const bool explained = environment.unavailable.contains("env." + name + "." + key);
        BOOST_TEST(value.is_null() == explained, "env." << name << "." << key);
      }
    }
  }
  BOOST_TEST(capture(nothing).unavailable.at("env.power.governors") ==
             "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor: No such file or directory");
}

BOOST_AUTO_TEST_CASE(readings_that_drift_change_no_key) {
  Server server;
  const auto machine = key(server, "machine_key");
  const auto config = key(server, "config_key");
  server.put("/proc/stat", "cpu  1 2 3 4 5 6 7 9999 0 0")
      .put("/proc/meminfo", "MemTotal:       65712345 kB\nSwapTotal: 0 kB\nHugePages_Total: 9")
      .put("/proc/cpuinfo", cpuinfo + "cpu MHz\t\t: 4999.001\nbogomips\t: 6601.12");
  BOOST_TEST(key(server, "machine_key") == machine);
  BOOST_TEST(key(server, "config_key") == config);
}

BOOST_AUTO_TEST_CASE(other_hardware_changes_the_machine_key_alone) {
  Server server;
  const auto machine = key(server, "machine_key");
  BOOST_TEST(machine_key(synthetic("core:4 pu:1"), System(server.path())) == machine);
  const auto config = key(server, "config_key");
  BOOST_TEST(key(server, "machine_key", "core:8 pu:1") != machine);
  server.put("/proc/meminfo", "MemTotal:       132812345 kB");
  BOOST_TEST(key(server, "machine_key") != machine);
  BOOST_TEST(key(server, "config_key") == config);
}

BOOST_AUTO_TEST_CASE(another_kernel_mitigation_or_governor_changes_the_config_key_alone) {
  const Server plain;
  for (const auto& [file, text] :
       {std::pair<std::string, std::string>{"/proc/sys/kernel/osrelease", "6.18.2"},
        {"/sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI"},
        {cpu_file(0, "cpufreq/scaling_governor"), "schedutil"},
        {"/proc/cmdline", "isolcpus=2 mitigations=off"}}) {
    Server changed;
    changed.put(file, text);
    BOOST_TEST(key(changed, "config_key") != key(plain, "config_key"), file);
    BOOST_TEST(key(changed, "machine_key") == key(plain, "machine_key"), file);
  }
}

BOOST_AUTO_TEST_CASE(redaction_keeps_what_bears_on_scheduling_and_nothing_else) {
  const Server server;
  auto environment = capture(server);
  redact(environment);
  BOOST_TEST(environment.env.get()["kernel"]["command_line"] == "isolcpus=2,3 mitigations=off");
  BOOST_TEST(environment.env.get()["limits"]["cgroup_path"].is_null());
  const std::string all = environment.env.get().dump();
  for (const auto* secret : {"UUID", "password", "root="})
    BOOST_TEST(all.find(secret) == std::string::npos, secret);
}

BOOST_AUTO_TEST_CASE(a_redacted_run_names_neither_host_nor_folder) {
  RunInfo run;
  run.host = "db7.example.org";
  run.cwd = "/srv/ann";
  run.boot_id = "0f0f";
  run.argv = {
      "/opt/ann/bin/schedlab", "run", "-o", "/srv/ann/a.json", "--input=/srv/x.xml", "--set",
      "switch_cost.size=4"};
  redact(run);
  BOOST_TEST(run.redacted);
  BOOST_TEST(run.host + run.cwd + run.boot_id == "");
  const std::vector<std::string> expected = {
      "schedlab", "run", "-o", "a.json", "--input=x.xml", "--set", "switch_cost.size=4"};
  BOOST_TEST(run.argv == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_launcher_is_known_by_what_it_sets) {
  const FakeRoot plain;
  const System files{plain.path()};
  BOOST_TEST(field(launcher(files, variables({})), "kind") == "none");
  const auto slurm = launcher(
      files, variables({{"SLURM_JOB_ID", "42"}, {"SLURM_PROCID", "3"}, {"PMI_RANK", "3"}}));
  BOOST_TEST(field(slurm, "kind") == "slurm");
  BOOST_TEST(field(slurm, "job") == "42");
  BOOST_TEST(field(slurm, "rank") == "3");
  BOOST_TEST(field(launcher(files, variables({{"OMPI_COMM_WORLD_RANK", "0"}})), "kind") ==
             "openmpi");
  BOOST_TEST(field(launcher(files, variables({{"PMI_RANK", "0"}})), "kind") == "mpich");
  BOOST_TEST(field(launcher(files, variables({{"SSH_CONNECTION", "a b"}})), "kind") == "ssh");
}

BOOST_AUTO_TEST_CASE(a_container_and_a_transient_unit_are_known_by_their_files) {
  FakeRoot root;
  const System files{root.path()};
  root.put("/proc/self/cgroup", "0::/system.slice/run-r1f.scope");
  BOOST_TEST(field(launcher(files, variables({})), "kind") == "systemd-run");
  root.put("/proc/self/cgroup", "0::/kubepods/burstable/pod1");
  BOOST_TEST(container(files, variables({})) == "kubernetes");
  root.put("/.dockerenv", "");
  BOOST_TEST(container(files, variables({})) == "docker");
  BOOST_TEST(field(launcher(files, variables({{"SLURM_JOB_ID", "1"}})), "container") == "docker");
}

BOOST_AUTO_TEST_CASE(values_are_found_by_their_whole_key) {
  const std::string text = "model name\t: EPYC\nmodel\t\t: 2\nCapEff:\t00ff\nempty :";
  BOOST_TEST(value_of(text, "model").value() == "2");
  BOOST_TEST(value_of(text, "model name").value() == "EPYC");
  BOOST_TEST(value_of(text, "CapEff").value() == "00ff");
  BOOST_TEST(value_of(text, "empty").value() == "");
  BOOST_TEST(!value_of(text, "mod"));
  BOOST_TEST(number_of("MemTotal:  12 kB", "MemTotal").value() == 12);
  BOOST_TEST(chosen("always [madvise] never") == "madvise");
  BOOST_TEST(chosen("plain") == "plain");
}

BOOST_AUTO_TEST_CASE(the_program_knows_how_it_was_built) {
  const ToolInfo tool = tool_info();
  for (const auto& text : {tool.name, tool.version, tool.git, tool.compiler, tool.flags,
                           tool.build_type, tool.sanitizers, tool.libraries.at("glibc")})
    BOOST_TEST(!text.empty());
  // The library that runs, alone or behind the one it was built with.
  BOOST_TEST(tool.libraries.at("hwloc").find(affinity::hwloc_version()) != std::string::npos);
}
