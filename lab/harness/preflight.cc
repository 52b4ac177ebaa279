#include "lab/harness/preflight.hh"

#include "lab/base/clock.hh"
#include "lab/harness/core_speed.hh"
#include "lab/harness/disturbance.hh"
#include "lab/harness/launcher.hh"
#include "lab/harness/tool_info.hh"
#include "lab/harness/validity.hh"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <thread>

namespace schedlab::harness {

namespace {

constexpr double idle_load = 0.1;
constexpr double idle_share = 0.025;
constexpr double speed_drift_noisy = 0.02;
constexpr double speed_drift_invalid = 0.09;

void check_affinity(const affinity::Topology& topology, const System& system,
                    std::vector<Warning>& warnings) {
  if (topology.usable() == topology.online())
    return;
  warnings.push_back(make_warning(
      Code::affinity_shrunk,
      {{"online", topology.online().list()},
       {"cgroup", topology.allowed().list()},
       {"affinity", topology.affinity().list()},
       {"usable", topology.usable().list()}},
      std::nullopt, "CPUs " + topology.usable().list() + " of " + topology.online().list()));
  Fields by = launcher(system);
  if (by[0].second != Value("none"))
    warnings.push_back(make_warning(Code::launcher, std::move(by)));
}

void check_quota(const affinity::Topology& topology, const System& system,
                 std::vector<Warning>& warnings) {
  const auto limits = affinity::cgroup_limits(system.root());
  if (!limits.quota_cpus || *limits.quota_cpus >= topology.usable().count())
    return;
  warnings.push_back(make_warning(
      Code::quota, {{"quota_cpus", *limits.quota_cpus}, {"usable", topology.usable().count()}},
      Severity::noisy, "less time than the usable CPUs have"));
}

void check_governor(const affinity::Topology& topology, const System& system,
                    std::vector<Warning>& warnings) {
  const auto slow = slow_governed(topology.usable(), system);
  if (!slow.empty())
    warnings.push_back(make_warning(
        Code::governor,
        {{"cpus", slow.list()},
         {"governor", system.text(cpu_file(slow.first(), "cpufreq/scaling_governor")).value()}}));
}

void check_isolation(const affinity::Topology& topology, const System& system,
                     std::vector<Warning>& warnings) {
  const auto isolated = system.cpus("/sys/devices/system/cpu/isolated");
  if (isolated && isolated->intersects(topology.usable()))
    warnings.push_back(make_warning(Code::isolcpus, {{"isolated", isolated->list()}},
                                    Severity::note,
                                    "pinned threads do well there, unpinned ones pile up"));
}

void check_clock(const System& system, std::vector<Warning>& warnings) {
  const auto source =
      system.text("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  if (source && !trusted_clock(*source))
    warnings.push_back(
        make_warning(Code::clock, {{"source", *source}}, std::nullopt, "it is " + *source));
}

void check_build(std::vector<Warning>& warnings) {
  const ToolInfo tool = tool_info();
  if (!optimised())
    warnings.push_back(make_warning(Code::debug_build, {{"build_type", tool.build_type}}));
  if (tool.sanitizers != "none")
    warnings.push_back(make_warning(Code::sanitizer, {{"sanitizers", tool.sanitizers}}));
}

// The share of the busiest CPU, and which that is.
struct Busiest {
  unsigned cpu = 0;
  double share = 0;
};

Busiest busiest_cpu(const SystemCounters& before, const SystemCounters& after) {
  Busiest result;
  for (const auto& [cpu, ticks] : after.ticks) {
    const auto first = before.ticks.find(cpu);
    if (first == before.ticks.end() || ticks.busy < first->second.busy ||
        ticks.idle < first->second.idle)
      continue;
    const auto busy = static_cast<double>(ticks.busy - first->second.busy);
    const auto idle = static_cast<double>(ticks.idle - first->second.idle);
    if (busy > 0 && busy / (busy + idle) > result.share)
      result = {cpu, busy / (busy + idle)};
  }
  return result;
}

void check_idleness(const affinity::Topology& topology, std::int64_t look_ns,
                    std::vector<Warning>& warnings) {
  const auto before = read_counters(topology.usable());
  std::this_thread::sleep_for(std::chrono::nanoseconds(look_ns));
  const auto after = read_counters(topology.usable());
  const Busiest busiest = busiest_cpu(before, after);
  const double load = after.load1.value_or(1);
  if (load <= idle_load || busiest.share <= idle_share)
    return;
  warnings.push_back(make_warning(Code::busy,
                                  {{"load1", load},
                                   {"busiest_cpu", busiest.cpu},
                                   {"busiest_share", busiest.share},
                                   {"look_s", static_cast<double>(look_ns) * 1e-9}},
                                  std::nullopt,
                                  "CPU " + std::to_string(busiest.cpu) + " was busy " +
                                      std::to_string(std::lround(busiest.share * 100)) + " %"));
}

// The first look only wakes the core up.
void check_speed(std::vector<Warning>& warnings) {
  core_mhz();
  std::array<double, 5> mhz{};
  for (auto& one : mhz)
    one = core_mhz();
  const auto [least, most] = std::minmax_element(mhz.begin(), mhz.end());
  if (*least <= 0 || *most / *least - 1 <= speed_drift_noisy)
    return;
  const double drift = *most / *least - 1;
  warnings.push_back(make_warning(Code::freq, {{"least_mhz", *least}, {"most_mhz", *most}},
                                  drift > speed_drift_invalid ? Severity::invalid : Severity::noisy,
                                  std::to_string(std::lround(*least)) + " to " +
                                      std::to_string(std::lround(*most)) + " MHz"));
}

}  // namespace

std::vector<Warning> standing_conditions(const affinity::Topology& topology, const System& system) {
  std::vector<Warning> warnings;
  if (!topology.foreign() || !system.live()) {
    check_affinity(topology, system, warnings);
    check_quota(topology, system, warnings);
    check_governor(topology, system, warnings);
    check_isolation(topology, system, warnings);
    check_clock(system, warnings);
  }
  check_build(warnings);
  return warnings;
}

std::vector<Warning> passing_conditions(const affinity::Topology& topology, std::int64_t look_ns) {
  std::vector<Warning> warnings;
  if (topology.foreign())
    return warnings;
  check_idleness(topology, look_ns, warnings);
  check_speed(warnings);
  return warnings;
}

std::vector<Warning> preflight(const affinity::Topology& topology) {
  auto warnings = standing_conditions(topology);
  for (auto& warning : passing_conditions(topology))
    warnings.push_back(std::move(warning));
  return warnings;
}

affinity::CpuSet slow_governed(const affinity::CpuSet& cpus, const System& system) {
  affinity::CpuSet slow;
  for (const unsigned cpu : cpus.cpus()) {
    const auto governor = system.text(cpu_file(cpu, "cpufreq/scaling_governor"));
    if (governor && *governor != "performance")
      slow.add(cpu);
  }
  return slow;
}

bool trusted_clock(std::string_view source) noexcept {
  return source == "tsc" || source == "kvm-clock" || source == "hyperv_clocksource_tsc_page" ||
         source == "arch_sys_counter";
}

}  // namespace schedlab::harness
