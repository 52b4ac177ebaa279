#include "lab/harness/environment_parts.hh"

#include "lab/base/text.hh"
#include "lab/harness/core_speed.hh"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>

namespace schedlab::harness {

namespace {

using nlohmann::ordered_json;

// Flags that decide what the clock, the caches and the switches cost.
constexpr std::string_view flags_of_interest[] = {
    "aperfmperf",    "arat",     "avx2",     "avx512f",     "clwb",       "constant_tsc",
    "erms",          "fsgsbase", "ht",       "hwp",         "hypervisor", "ibpb",
    "ibrs_enhanced", "invpcid",  "md_clear", "nonstop_tsc", "pcid",       "pdpe1gb",
    "pti",           "rdpid",    "rdtscp",   "rtm",         "stibp",      "tsc_known_freq",
    "umwait",        "waitpkg",  "xsaves",   "atomics",     "sve"};

ordered_json interesting(const std::string& flags) {
  const auto words = words_of(flags);
  ordered_json found = ordered_json::array();
  for (const auto flag : flags_of_interest)
    if (std::ranges::find(words, flag) != words.end())
      found.push_back(flag);
  return found;
}

// "Intel(R) Xeon(R) CPU E5-2690 @ 2.90GHz"
std::optional<double> mhz_in_name(const std::string& model) {
  const auto at = model.rfind("@ ");
  const auto end = model.rfind("GHz");
  if (at == std::string::npos || end == std::string::npos || end < at)
    return std::nullopt;
  const auto digits = split(std::string_view(model).substr(at + 2, end - at - 2), '.');
  const auto whole = to_number(digits[0]);
  const auto hundredths =
      digits.size() == 2 && digits[1].size() == 2 ? to_number(digits[1]) : std::nullopt;
  if (!whole || !hundredths)
    return std::nullopt;
  return static_cast<double>(*whole * 1000 + *hundredths * 10);
}

std::optional<double> advertised_mhz(const System& system, const std::string& model) {
  for (const auto* file : {"cpufreq/base_frequency", "cpufreq/cpuinfo_max_freq"})
    if (const auto khz = system.number(cpu_file(0, file)))
      return static_cast<double>(*khz) / 1000;
  return mhz_in_name(model);
}

void add_counts(Section& section, const affinity::Topology& topology) {
  int cores = 0;
  int packages = 0;
  unsigned most_threads = 0;
  for (const auto& cpu : topology.cpus()) {
    cores = std::max(cores, cpu.core + 1);
    packages = std::max(packages, cpu.package + 1);
    most_threads = std::max(most_threads, cpu.smt + 1);
  }
  section.set("packages", packages);
  section.set("cores", cores);
  section.set("threads", topology.cpus().size());
  section.set("threads_per_core", most_threads);
}

ordered_json kinds_json(const affinity::Topology& topology) {
  ordered_json kinds = ordered_json::array();
  for (const auto& kind : topology.kinds())
    kinds.push_back(
        {{"name", kind.name}, {"efficiency", kind.efficiency}, {"cpus", kind.cpus.list()}});
  return kinds;
}

ordered_json caches_json(const affinity::Topology& topology) {
  ordered_json caches = ordered_json::array();
  for (const auto& cache : topology.caches())
    caches.push_back({{"level", cache.level},
                      {"type", std::string(1, cache.type)},
                      {"size", cache.size},
                      {"line", cache.line},
                      {"ways", cache.ways},
                      {"cpus", cache.cpus.list()}});
  return caches;
}

ordered_json nodes_json(const affinity::Topology& topology) {
  ordered_json nodes = ordered_json::array();
  for (const auto& node : topology.nodes())
    nodes.push_back({{"node", node.os}, {"memory", node.memory}, {"cpus", node.cpus.list()}});
  return nodes;
}

ordered_json cores_with_siblings(const affinity::Topology& topology) {
  std::map<int, affinity::CpuSet> cores;
  for (const auto& cpu : topology.cpus())
    cores[cpu.core].add(cpu.os);
  ordered_json siblings = ordered_json::array();
  for (const auto& [core, cpus] : cores)
    if (core >= 0 && cpus.count() > 1)
      siblings.push_back(cpus.list());
  return siblings;
}

// What a file below each CPU's folder says, as {"performance": "0-3"}.
void by_value(Section& section, const affinity::Topology& topology, const std::string& key,
              const std::string& file) {
  std::map<std::string, affinity::CpuSet> values;
  for (const auto& cpu : topology.cpus())
    if (const auto value = section.files().text(cpu_file(cpu.os, file)))
      values[*value].add(cpu.os);
  if (values.empty()) {
    section.missing(key, section.files().objection(cpu_file(0, file)));
    return;
  }
  ordered_json json = ordered_json::object();
  for (const auto& [value, cpus] : values)
    json[value] = cpus.list();
  section.set(key, json);
}

// boost (acpi-cpufreq, amd-pstate) says yes where no_turbo (intel_pstate) says no.
void add_boost(Section& section) {
  const auto& system = section.files();
  const std::string_view boost = "/sys/devices/system/cpu/cpufreq/boost";
  if (const auto no_turbo = system.number("/sys/devices/system/cpu/intel_pstate/no_turbo"))
    section.set("boost", *no_turbo == 0);
  else if (const auto on = system.number(boost))
    section.set("boost", *on != 0);
  else
    section.missing("boost", system.objection(boost));
}

void add_idle_states(Section& section) {
  const std::string folder = "/sys/devices/system/cpu/cpu0/cpuidle";
  section.text("cpuidle_driver", "/sys/devices/system/cpu/cpuidle/current_driver");
  section.text("cpuidle_governor", "/sys/devices/system/cpu/cpuidle/current_governor_ro");
  ordered_json states = ordered_json::array();
  for (const auto& state : section.files().names(folder)) {
    const std::string path = folder + "/" + state + "/";
    const auto name = section.files().text(path + "name");
    if (!name)
      continue;
    states.push_back({{"name", *name},
                      {"latency_us", section.files().number(path + "latency").value_or(0)},
                      {"disabled", section.files().number(path + "disable").value_or(0) != 0}});
  }
  if (states.empty())
    section.missing("cpuidle_states", section.files().objection(folder + "/state0/name"));
  else
    section.set("cpuidle_states", states);
}

void add_mains(Section& section) {
  const std::string folder = "/sys/class/power_supply/";
  for (const auto& supply : section.files().names(folder))
    if (section.files().text(folder + supply + "/type") == "Mains")
      return section.number("mains_online", folder + supply + "/online");
  section.missing("mains_online", folder + ": no supply of type Mains");
}

}  // namespace

void add_cpu(Section section, const affinity::Topology& topology) {
  const auto info = section.files().text("/proc/cpuinfo").value_or("");
  const std::string none = "/proc/cpuinfo has no such line";
  section.set("architecture",
#if defined(__x86_64__)
              "x86_64"
#elif defined(__aarch64__)
              "aarch64"
#else
              "other"
#endif
  );
  const auto vendor = value_of(info, "vendor_id");
  section.set_or("vendor", vendor ? vendor : value_of(info, "CPU implementer"), none);
  const auto model_name = value_of(info, "model name");
  section.set_or("model_name", model_name, none);
  const auto family = value_of(info, "cpu family");
  section.set_or("family", family ? family : value_of(info, "CPU architecture"), none);
  const auto model = value_of(info, "model");
  section.set_or("model", model ? model : value_of(info, "CPU part"), none);
  const auto stepping = value_of(info, "stepping");
  section.set_or("stepping", stepping ? stepping : value_of(info, "CPU revision"), none);
  section.set_or("microcode", value_of(info, "microcode"), none);
  const auto flags = value_of(info, "flags");
  section.set("flags", interesting(flags ? *flags : value_of(info, "Features").value_or("")));
  add_counts(section, topology);
  section.text("smt_control", "/sys/devices/system/cpu/smt/control");
  section.set("kinds", kinds_json(topology));
  section.set_or("advertised_mhz", advertised_mhz(section.files(), model_name.value_or("")),
                 "neither cpufreq nor the model's name tells");
  const double mhz = section.files().live() ? core_mhz() : 0;
  section.set_or("measured_mhz", mhz > 0 ? std::optional(mhz) : std::nullopt, "not measured");
}

void add_topology(Section section, const affinity::Topology& topology) {
  section.set("shape", topology.shape());
  section.set("foreign", topology.foreign());
  section.set("online", topology.online().list());
  section.set("allowed", topology.allowed().list());
  section.set("affinity", topology.affinity().list());
  section.set("usable", topology.usable().list());
  section.set("offline", topology.offline().list());
  for (const auto* key : {"isolated", "nohz_full"}) {
    const std::string path = std::string("/sys/devices/system/cpu/") + key;
    const auto cpus = section.files().cpus(path);
    cpus ? section.set(key, cpus->list()) : section.missing(key, section.files().objection(path));
  }
  section.set("smt_siblings", cores_with_siblings(topology));
  section.set("caches", caches_json(topology));
  section.set("nodes", nodes_json(topology));
  section.set("node_distances", topology.node_distances());
}

void add_power(Section section, const affinity::Topology& topology) {
  by_value(section, topology, "drivers", "cpufreq/scaling_driver");
  by_value(section, topology, "governors", "cpufreq/scaling_governor");
  by_value(section, topology, "preferences", "cpufreq/energy_performance_preference");
  section.number("min_khz", cpu_file(0, "cpufreq/scaling_min_freq"));
  section.number("max_khz", cpu_file(0, "cpufreq/scaling_max_freq"));
  add_boost(section);
  add_idle_states(section);
  add_mains(section);
}

}  // namespace schedlab::harness
