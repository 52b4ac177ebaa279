#include "lab/harness/environment.hh"

#include "lab/base/text.hh"
#include "lab/harness/environment_parts.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <span>

namespace schedlab::harness {

namespace {

using nlohmann::ordered_json;

// FNV-1a, 64 bits, as 16 hexadecimal digits (Fowler, Noll, Vo). The same on every machine.
std::string key_of(const ordered_json& facts) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : facts.dump()) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 0x100000001b3;
  }
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4)
    text += digits[hash >> shift & 15];
  return text;
}

// What a kernel keeps for itself differs between boots of one machine: the size in GiB, to the
// nearest power of two or one and a half of it.
std::uint64_t memory_class(const ordered_json& total) {
  if (!total.is_number_unsigned())
    return 0;
  const auto gib = std::max<std::uint64_t>((total.get<std::uint64_t>() + (1u << 29)) >> 30, 1);
  const auto power = std::bit_floor(gib);
  if (4 * gib >= 7 * power)
    return 2 * power;
  return 4 * gib >= 5 * power ? power + power / 2 : power;
}

std::string machine_key_of(const ordered_json& env) {
  const auto& cpu = env["cpu"];
  return key_of({cpu["architecture"], cpu["vendor"], cpu["family"], cpu["model"], cpu["model_name"],
                 cpu["stepping"], env["topology"]["shape"], memory_class(env["memory"]["total"])});
}

std::string config_key(const ordered_json& env) {
  const auto& kernel = env["kernel"];
  const auto& power = env["power"];
  const std::string command_line =
      kernel["command_line"].is_string() ? kernel["command_line"].get<std::string>() : "";
  return key_of({kernel["release"], kernel["version"], kernel["preempt_mode"], kernel["hz"],
                 kernel["mitigations"], kernel["transparent_hugepage"], kernel["numa_balancing"],
                 scheduling_words(command_line), env["cpu"]["microcode"], env["cpu"]["smt_control"],
                 power["drivers"], power["governors"], power["preferences"], power["boost"],
                 power["cpuidle_driver"], power["cpuidle_governor"], env["clock"]["source"],
                 env["virt"]["hypervisor"]});
}

// Words whose name begins like this; "processor." and the like are prefixes of module parameters.
constexpr std::string_view scheduling_names[] = {"isolcpus",
                                                 "nohz",
                                                 "rcu_nocb",
                                                 "mitigations",
                                                 "preempt",
                                                 "idle",
                                                 "processor.",
                                                 "intel_idle.",
                                                 "cpuidle.",
                                                 "intel_pstate",
                                                 "amd_pstate",
                                                 "transparent_hugepage",
                                                 "numa_balancing",
                                                 "haltpoll",
                                                 "nosmt",
                                                 "maxcpus",
                                                 "nr_cpus",
                                                 "clocksource",
                                                 "tsc",
                                                 "skew_tick",
                                                 "threadirqs",
                                                 "hugepages",
                                                 "hugepagesz",
                                                 "default_hugepagesz",
                                                 "irqaffinity",
                                                 "sched_",
                                                 "nopti",
                                                 "pti",
                                                 "spectre_v2",
                                                 "nospectre",
                                                 "retbleed",
                                                 "cpufreq.",
                                                 "psi",
                                                 "kthread_cpus"};

bool bears_on_scheduling(std::string_view word) {
  return std::ranges::any_of(scheduling_names,
                             [&](std::string_view name) { return word.starts_with(name); });
}

// The last part of each path in an argument such as "/srv/ann/run.json" or "--out=/tmp/x".
std::string without_folders(const std::string& argument) {
  const auto slash = argument.rfind('/');
  if (slash == std::string::npos)
    return argument;
  const auto equals = argument.find('=');
  const bool option = equals != std::string::npos && equals < slash;
  return (option ? argument.substr(0, equals + 1) : "") + argument.substr(slash + 1);
}

}  // namespace

Section::Section(Environment& environment, const System& system, std::string name)
    : environment_(environment), system_(system), name_(std::move(name)) {
  environment_.env.get()[name_] = ordered_json::object();
}

void Section::set(const std::string& key, ordered_json value) {
  environment_.env.get()[name_][key] = std::move(value);
}

void Section::missing(const std::string& key, std::string reason) {
  set(key, nullptr);
  environment_.unavailable["env." + name_ + "." + key] = std::move(reason);
}

void Section::text(const std::string& key, std::string_view path) {
  set_or(key, system_.text(path), system_.objection(path));
}

void Section::number(const std::string& key, std::string_view path) {
  set_or(key, system_.number(path), system_.objection(path));
}

void Section::choice(const std::string& key, std::string_view path) {
  const auto whole = system_.text(path);
  set_or(key, whole ? std::optional(chosen(*whole)) : std::nullopt, system_.objection(path));
}

Environment capture_environment(const affinity::Topology& topology,
                                const clock::Calibration& calibration, const System& system) {
  Environment environment;
  const auto section = [&](const char* name) { return Section(environment, system, name); };
  environment.env.get() = {{"machine_key", nullptr}, {"config_key", nullptr}};
  add_cpu(section("cpu"), topology);
  add_topology(section("topology"), topology);
  add_kernel(section("kernel"));
  add_power(section("power"), topology);
  add_clock(section("clock"), calibration);
  add_limits(section("limits"), topology);
  add_virt(section("virt"));
  add_memory(section("memory"));
  add_io_uring(section("io_uring"));
  auto& env = environment.env.get();
  env["machine_key"] = machine_key_of(env);
  env["config_key"] = config_key(env);
  return environment;
}

std::string machine_key(const affinity::Topology& topology, const System& system) {
  Environment environment;
  add_cpu(Section(environment, system, "cpu"), topology);
  add_topology(Section(environment, system, "topology"), topology);
  add_memory(Section(environment, system, "memory"));
  return machine_key_of(environment.env.get());
}

void redact(Environment& environment) {
  auto& env = environment.env.get();
  auto& command_line = env["kernel"]["command_line"];
  if (command_line.is_string())
    command_line = scheduling_words(command_line.get<std::string>());
  env["limits"]["cgroup_path"] = nullptr;
  environment.unavailable["env.limits.cgroup_path"] = "redacted";
}

void redact(RunInfo& run) {
  run.redacted = true;
  run.host = "";
  run.cwd = "";
  run.boot_id = "";
  for (auto& argument : run.argv)
    argument = without_folders(argument);
}

std::string scheduling_words(const std::string& command_line) {
  std::vector<std::string> kept;
  for (const auto& word : words_of(command_line))
    if (bears_on_scheduling(word))
      kept.emplace_back(word);
  return join(kept, " ");
}

}  // namespace schedlab::harness
