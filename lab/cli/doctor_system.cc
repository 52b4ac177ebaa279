// What else runs, how the kernel is set up, and what this user may do.
#include "lab/base/text.hh"
#include "lab/cli/facts.hh"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace schedlab::cli {

namespace {

Finding hypervisor(const Facts& facts) {
  const std::string name = text_fact(facts, "/virt/hypervisor");
  const std::string where = text_fact(facts, "/virt/container");
  Finding result = {
      "", "machine", Health::ok, "no hypervisor", {{"hypervisor", name}, {"container", where}}, ""};
  if (name != "none") {
    result.state = Health::note;
    result.finding = "a virtual machine (" + name + "): exits and neighbours are in the numbers";
  }
  if (where != "none" && !where.empty())
    result.finding += ", in a container (" + where + ")";
  return result;
}

Finding steal(const Facts& facts) {
  if (const auto* found = warning(facts, harness::Code::steal))
    return from_warning("steal", *found);
  const auto ticks = number_fact(facts, "/virt/steal_ticks");
  if (!ticks)
    return {"", "steal", Health::ok, "the kernel does not tell", {}, ""};
  return {"",
          "steal",
          *ticks ? Health::note : Health::ok,
          *ticks ? fmt::format("none just now, {} ticks of 10 ms since boot", *ticks)
                 : "none since boot",
          {{"ticks_since_boot", *ticks}},
          ""};
}

Finding load(const Facts& facts) {
  if (const auto* found = warning(facts, harness::Code::busy)) {
    Finding result = from_warning("load", *found);
    result.fix = "stop it (see top -H), or wait until the load is below 0.1";
    return result;
  }
  if (!facts.load1)
    return {"", "load", Health::note, "/proc/loadavg cannot be read", {}, ""};
  return {"",
          "load",
          Health::ok,
          fmt::format("idle (load {:.2f})", *facts.load1),
          {{"load1", *facts.load1}},
          ""};
}

// Above these a comparison needs far more than the usual number of processes, and a mean or a high
// percentile is made of disturbances.
constexpr double loud = 0.02;
constexpr double long_tail = 2;

Finding noise(const Facts& facts) {
  const auto& floor = facts.noise;
  const auto& interval = floor.ratio.interval;
  if (!interval)
    return {"",
            "noise floor",
            Health::warn,
            "too few pairs for an interval",
            {{"pairs", floor.pairs}},
            "run doctor again when the machine is quieter"};
  Finding result = {
      "",
      "noise floor",
      Health::ok,
      fmt::format("the same work twice differs by {} at most ({:.5f} .. {:.5f} with 95 % "
                  "confidence, {} pairs on CPU {}); the slowest 1 % took {:.2g} times the median",
                  percent(floor.smallest_difference), interval->low, interval->high, floor.pairs,
                  floor.cpu, floor.tail),
      {{"ratio", floor.ratio.value},
       {"low", interval->low},
       {"high", interval->high},
       {"pairs", floor.pairs},
       {"p99_over_median", floor.tail}},
      ""};
  if (floor.smallest_difference > loud || floor.tail > long_tail) {
    result.state = floor.smallest_difference > loud ? Health::warn : Health::note;
    result.fix = "quiet the machine: the findings above name what runs";
  }
  return result;
}

Finding clock(const Facts& facts) {
  if (const auto* found = warning(facts, harness::Code::clock)) {
    Finding result = from_warning("clock", *found);
    const auto& available = fact(facts, "/clock/available");
    for (const auto& source : available)
      if (source == "tsc")
        result.fix = "echo tsc | sudo tee "
                     "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    return result;
  }
  const std::string with = text_fact(facts, "/clock/measured_with");
  const bool counter = with != "CLOCK_MONOTONIC_RAW";
  return {"",
          "clock",
          counter ? Health::ok : Health::note,
          fmt::format("source {}, measured with {} ({})", text_fact(facts, "/clock/source"), with,
                      text_fact(facts, "/clock/reason")),
          {},
          ""};
}

Finding balancing(const Facts& facts) {
  const auto nodes = fact(facts, "/topology/nodes").size();
  const auto on = number_fact(facts, "/kernel/numa_balancing").value_or(0);
  if (on == 0 || nodes < 2)
    return {"",         "numa balancing",
            Health::ok, on == 0 ? "off" : "on, without effect on a single node",
            {},         ""};
  return {"",
          "numa balancing",
          Health::note,
          "on: pages move and fault while they are measured",
          {{"nodes", nodes}},
          "sudo sysctl kernel.numa_balancing=0"};
}

Finding huge_pages(const Facts& facts) {
  const std::string mode = text_fact(facts, "/kernel/transparent_hugepage");
  const std::string file = "/sys/kernel/mm/transparent_hugepage/enabled";
  if (mode == "madvise")
    return {"", "huge pages", Health::ok, "transparent where a program asks (madvise)", {}, ""};
  if (mode == "always")
    return {
        "",           "huge pages",
        Health::note, "transparent everywhere (always): page sizes may change under a measurement",
        {},           "echo madvise | sudo tee " + file};
  if (mode == "never")
    return {"",           "huge pages",
            Health::note, "switched off: series with huge pages are skipped",
            {},           "echo madvise | sudo tee " + file};
  return {"",
          "huge pages",
          Health::note,
          "not exposed",
          {{"reason", reason(facts, "/kernel/transparent_hugepage")}},
          ""};
}

Finding mitigations(const Facts& facts) {
  std::vector<std::string> in_force;
  harness::Fields evidence;
  for (const auto& [name, text] : fact(facts, "/kernel/mitigations").items()) {
    const auto state = text.get<std::string>();
    if (state == "Not affected")
      continue;
    evidence.emplace_back(name, state);
    if (state.starts_with("Mitigation"))
      in_force.push_back(name);
  }
  if (in_force.empty())
    return {"", "mitigations", Health::ok, "none in force", std::move(evidence), ""};
  return {"",
          "mitigations",
          Health::note,
          fmt::format("{} in force, part of every system call and switch: {}", in_force.size(),
                      join(in_force, ", ")),
          std::move(evidence),
          ""};
}

Finding preemption(const Facts& facts) {
  const auto hz = number_fact(facts, "/kernel/hz");
  const std::string mode = text_fact(facts, "/kernel/preempt_mode");
  const std::string ext = text_fact(facts, "/kernel/sched_ext");
  Finding result = {"",
                    "scheduler",
                    Health::ok,
                    "Linux " + text_fact(facts, "/kernel/release") + ", " +
                        text_fact(facts, "/kernel/preempt") + (mode.empty() ? "" : " " + mode) +
                        (hz ? fmt::format(", {} ticks a second", *hz) : ""),
                    {{"sched_ext", ext.empty() ? "absent" : ext}},
                    ""};
  if (ext == "enabled") {
    result.state = Health::note;
    result.finding += ", replaced by a sched_ext scheduler";
    result.fix = "stop the program that loaded the sched_ext scheduler";
  }
  return result;
}

Finding counters(const Facts& facts) {
  if (facts.hardware_counters.empty())
    return {"", "counters", Health::ok, "hardware counters work", {}, ""};
  const auto level = number_fact(facts, "/kernel/perf_event_paranoid").value_or(0);
  Finding result = {"",
                    "counters",
                    Health::note,
                    "no hardware counters: " + facts.hardware_counters,
                    {{"perf_event_paranoid", level}},
                    ""};
  if (facts.hardware_counters.find("ermi") != std::string::npos)
    result.fix = "sudo sysctl kernel.perf_event_paranoid=1 (in a container also "
                 "--cap-add=PERFMON)";
  return result;
}

Finding io_uring(const Facts& facts) {
  const auto& probe = facts.io_uring;
  if (!probe.usable)
    return {"",
            "io_uring",
            Health::warn,
            "refused, epoll is used: " + probe.cause,
            {{"errno", probe.error}},
            probe.fix};
  return {"",
          "io_uring",
          Health::ok,
          fmt::format("works, {} operations, rings up to {} entries", probe.opcodes.size(),
                      probe.largest_ring),
          {{"setup", iouring::setup_names(probe.setup_flags)},
           {"features", iouring::feature_names(probe.features)},
           {"largest_ring", probe.largest_ring}},
          ""};
}

// What the I/O labs register and lock under the quick preset.
constexpr std::int64_t enough_memlock = std::int64_t{8} << 20;

Finding memlock(const Facts& facts) {
  const auto limit = number_fact(facts, "/limits/rlimits/memlock");
  if (!limit)
    return {"", "memlock", Health::ok, "unlimited", {}, ""};
  const bool enough = *limit >= enough_memlock;
  return {"",
          "memlock",
          enough ? Health::ok : Health::note,
          fmt::format("{} KiB may be locked{}", *limit / 1024,
                      enough ? "" : ": too little for registered buffers and large rings"),
          {{"bytes", *limit}},
          enough ? "" : "ulimit -l unlimited"};
}

Finding policies(const Facts& facts) {
  std::vector<std::string> permitted;
  std::vector<std::string> refused;
  std::string why;
  for (const auto& [policy, objection] : facts.policies) {
    (objection.empty() ? permitted : refused).emplace_back(procs::name(policy));
    if (why.empty())
      why = objection;
  }
  if (refused.empty())
    return {"", "policies", Health::ok, "all permitted: " + join(permitted, " "), {}, ""};
  return {"",
          "policies",
          Health::note,
          "not permitted: " + join(refused, " "),
          {{"permitted", join(permitted, " ")}, {"reason", why}},
          "sudo, or in a container --cap-add=SYS_NICE; else those series are skipped"};
}

Finding build(const Facts& facts) {
  for (const auto code : {harness::Code::debug_build, harness::Code::sanitizer})
    if (const auto* found = warning(facts, code))
      return from_warning("build", *found);
  return {"", "build", Health::ok, "optimised, without sanitizers", {}, ""};
}

}  // namespace

std::vector<Finding> judge_noise(const Facts& facts) {
  return {hypervisor(facts), steal(facts), load(facts), noise(facts)};
}

std::vector<Finding> judge_kernel(const Facts& facts) {
  return {preemption(facts), clock(facts), balancing(facts), huge_pages(facts), mitigations(facts)};
}

std::vector<Finding> judge_rights(const Facts& facts) {
  return {io_uring(facts), memlock(facts), policies(facts), counters(facts), build(facts)};
}

}  // namespace schedlab::cli
