// The CPUs this process may use, and how fast they run.
#include "lab/base/text.hh"
#include "lab/cli/facts.hh"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace schedlab::cli {

namespace {

using nlohmann::ordered_json;

// A governor's CPUs: {"performance": "0-2", "powersave": "3"} as text.
std::string listing(const ordered_json& by_value) {
  std::vector<std::string> parts;
  for (const auto& [value, cpus] : by_value.items())
    parts.push_back(value + " on CPUs " + cpus.get<std::string>());
  return join(parts, ", ");
}

Finding cpus(const Facts& facts) {
  const auto usable = number_fact(facts, "/limits/usable_cpus").value_or(0);
  const auto threads = number_fact(facts, "/cpu/threads").value_or(0);
  Finding result = {"",
                    "cpus",
                    Health::ok,
                    fmt::format("{} of {} online CPUs are usable ({})", usable, threads,
                                text_fact(facts, "/topology/usable")),
                    {{"online", text_fact(facts, "/topology/online")},
                     {"cgroup", text_fact(facts, "/topology/allowed")},
                     {"affinity", text_fact(facts, "/topology/affinity")}},
                    ""};
  if (usable == threads)
    return result;
  result.state = Health::note;
  result.finding += ": " + facts.restriction;
  result.fix = "start it without taskset, a cpuset or a launcher's binding";
  return result;
}

Finding quota(const Facts& facts) {
  if (const auto* found = warning(facts, harness::Code::quota))
    return from_warning("quota", *found);
  const auto& limit = fact(facts, "/limits/quota_cpus");
  if (!limit.is_number())
    return {"", "quota", Health::ok, "no CPU quota", {}, ""};
  Finding result = {
      "",
      "quota",
      Health::ok,
      fmt::format("a quota of {:.3g} CPUs, no less than those usable", limit.get<double>()),
      {{"quota_cpus", limit.get<double>()}},
      ""};
  if (facts.throttled)
    result.evidence.emplace_back("throttled_periods", *facts.throttled);
  return result;
}

Finding cgroup(const Facts& facts) {
  const auto version = number_fact(facts, "/limits/cgroup_version").value_or(0);
  const std::string text = version ? fmt::format("version {} holds the CPU controller", version)
                                   : "no CPU controller is mounted: limits cannot be seen";
  return {"",
          "cgroup",
          version ? Health::ok : Health::note,
          text,
          {{"version", version}, {"path", text_fact(facts, "/limits/cgroup_path")}},
          ""};
}

Finding smt(const Facts& facts) {
  const auto& siblings = fact(facts, "/topology/smt_siblings");
  if (siblings.empty())
    return {"", "smt", Health::ok, "no two CPUs share a core", {}, ""};
  return {"",
          "smt",
          Health::note,
          fmt::format("{} cores have several CPUs ({}, ...): siblings share execution units and "
                      "caches",
                      siblings.size(), siblings[0].get<std::string>()),
          {{"cores", siblings.size()}, {"control", text_fact(facts, "/cpu/smt_control")}},
          "schedlab run --place per-core"};
}

Finding kinds(const Facts& facts) {
  const auto& kinds = fact(facts, "/cpu/kinds");
  if (kinds.size() < 2)
    return {"", "core kinds", Health::ok, "all cores are alike", {}, ""};
  std::vector<std::string> lists;
  for (const auto& kind : kinds)
    lists.push_back(kind["cpus"].get<std::string>());
  return {"",
          "core kinds",
          Health::note,
          fmt::format("{} kinds of cores: CPUs {}", kinds.size(), join(lists, "; ")),
          {{"kinds", kinds.size()}},
          "compare within one kind: schedlab run --place cpus:" + lists.back()};
}

Finding isolated(const Facts& facts) {
  if (const auto* found = warning(facts, harness::Code::isolcpus)) {
    Finding result = from_warning("isolated", *found);
    result.finding = "CPUs " + text_fact(facts, "/topology/isolated") +
                     " are isolated: good for pinned threads, unpinned ones pile up";
    result.fix = "pin every series, or boot without isolcpus";
    return result;
  }
  return {"", "isolated", Health::ok, "no usable CPU is isolated", {}, ""};
}

Finding governor(const Facts& facts) {
  const auto& governors = fact(facts, "/power/governors");
  if (!governors.is_object())
    return {"",
            "governor",
            Health::note,
            "not exposed: the host or the firmware decides the frequency",
            {{"reason", reason(facts, "/power/governors")}},
            ""};
  if (const auto* found = warning(facts, harness::Code::governor)) {
    Finding result = from_warning("governor", *found);
    result.finding = listing(governors) + ": the frequency follows the load";
    result.fix = "sudo cpupower frequency-set -g performance";
    return result;
  }
  return {"", "governor", Health::ok, listing(governors), {}, ""};
}

Finding preference(const Facts& facts) {
  const auto& preferences = fact(facts, "/power/preferences");
  if (!preferences.is_object())
    return {"",
            "preference",
            Health::ok,
            "no energy preference is exposed",
            {{"reason", reason(facts, "/power/preferences")}},
            ""};
  const bool fast = preferences.size() == 1 && preferences.contains("performance");
  return {"",
          "preference",
          fast ? Health::ok : Health::note,
          listing(preferences),
          {},
          fast ? ""
               : "echo performance | sudo tee "
                 "/sys/devices/system/cpu/cpu*/cpufreq/energy_performance_preference"};
}

Finding boost(const Facts& facts) {
  const auto& on = fact(facts, "/power/boost");
  if (!on.is_boolean())
    return {"",
            "boost",
            Health::note,
            "not exposed: whether cores exceed their base is unknown",
            {{"reason", reason(facts, "/power/boost")}},
            ""};
  if (!on.get<bool>())
    return {"", "boost", Health::ok, "off", {}, ""};
  const auto& drivers = fact(facts, "/power/drivers");
  const bool intel = drivers.is_object() && drivers.contains("intel_pstate");
  return {"",
          "boost",
          Health::note,
          "on: speed depends on heat and on busy neighbours",
          {},
          intel ? "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"
                : "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"};
}

Finding frequency(const Facts& facts) {
  if (const auto* found = warning(facts, harness::Code::freq)) {
    Finding result = from_warning("frequency", *found);
    if (!fact(facts, "/power/governors").is_object())
      result.fix = "none from inside: the host decides the frequency; repeat, and compare in pairs";
    return result;
  }
  const auto& mhz = fact(facts, "/cpu/measured_mhz");
  if (!mhz.is_number())
    return {"", "frequency", Health::note, "not measured", {}, ""};
  return {"",
          "frequency",
          Health::ok,
          fmt::format("{:.0f} MHz, steady", mhz.get<double>()),
          {{"measured_mhz", mhz.get<double>()}},
          ""};
}

Finding heat(const Facts& facts) {
  if (const auto* found = warning(facts, harness::Code::throttle))
    return from_warning("heat", *found);
  if (!facts.hot_events)
    return {"", "heat", Health::ok, "throttling is not exposed", {}, ""};
  if (*facts.hot_events == 0)
    return {"", "heat", Health::ok, "never throttled since boot", {}, ""};
  return {"",
          "heat",
          Health::note,
          fmt::format("throttled {} times since boot", *facts.hot_events),
          {{"events", *facts.hot_events}},
          "check fans and power limits"};
}

// Above this a wake-up's cost is that of leaving the idle state.
constexpr std::int64_t deep_us = 10;

Finding idle(const Facts& facts) {
  const std::string driver = text_fact(facts, "/power/cpuidle_driver");
  const auto& states = fact(facts, "/power/cpuidle_states");
  Finding result = {"",
                    "idle states",
                    Health::note,
                    "",
                    {{"driver", driver}, {"governor", text_fact(facts, "/power/cpuidle_governor")}},
                    ""};
  if (!states.is_array()) {
    const bool guest = text_fact(facts, "/virt/hypervisor") != "none";
    result.finding = guest ? "none: an idle CPU halts into the hypervisor, which wake-ups pay for"
                           : "none exposed";
    return result;
  }
  std::int64_t slowest = 0;
  std::vector<std::string> names;
  for (const auto& state : states) {
    if (state["disabled"].get<bool>())
      continue;
    names.push_back(state["name"].get<std::string>());
    slowest = std::max(slowest, state["latency_us"].get<std::int64_t>());
  }
  result.finding =
      fmt::format("{}: {}; the deepest takes {} us to leave", driver, join(names, " "), slowest);
  result.evidence.emplace_back("slowest_us", slowest);
  if (slowest > deep_us)
    result.fix = fmt::format("sudo cpupower idle-set -D {}", deep_us);
  else
    result.state = Health::ok;
  return result;
}

}  // namespace

std::vector<Finding> judge_cpus(const Facts& facts) {
  return {cpus(facts), quota(facts), cgroup(facts), smt(facts), kinds(facts), isolated(facts)};
}

std::vector<Finding> judge_speed(const Facts& facts) {
  return {governor(facts),  preference(facts), boost(facts),
          frequency(facts), heat(facts),       idle(facts)};
}

}  // namespace schedlab::cli
