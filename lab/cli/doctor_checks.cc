#include "lab/cli/doctor_checks.hh"

#include "affinity/pin.hh"
#include "affinity/reasons.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "lab/harness/disturbance.hh"
#include "lab/harness/preflight.hh"

#include <linux/perf_event.h>
#include <sys/syscall.h>

#include <utility>

namespace schedlab::cli {

namespace {

constexpr std::int64_t noise_budget_ns = 2'000'000'000;

// Opens a counter of cycles of this thread.
Objection hardware_counters() {
  perf_event_attr attributes{};
  attributes.size = sizeof attributes;
  attributes.type = PERF_TYPE_HARDWARE;
  attributes.config = PERF_COUNT_HW_CPU_CYCLES;
  attributes.exclude_kernel = 1;
  attributes.exclude_hv = 1;
  const Fd counter(static_cast<int>(
      ::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)));
  if (counter)
    return "";
  if (errno == ENOENT || errno == EOPNOTSUPP || errno == ENODEV)
    return "this machine does not expose a PMU";
  return errno_text(errno);
}

// The last usable CPU: the first ones serve most interrupts.
unsigned quiet_cpu(const affinity::Topology& topology) {
  return topology.usable().cpus().back();
}

void append(std::vector<harness::Warning>& all, std::vector<harness::Warning> more) {
  for (auto& warning : more)
    all.push_back(std::move(warning));
}

Facts gather(const affinity::Topology& topology) {
  Facts facts;
  facts.environment = harness::capture_environment(topology, clock::current());
  facts.warnings = harness::preflight(topology);
  const auto before = harness::read_counters(topology.usable());
  facts.noise = measure_noise_floor(quiet_cpu(topology), noise_budget_ns);
  const auto after = harness::read_counters(topology.usable());
  append(facts.warnings, harness::disturbances(before, after));
  facts.load1 = before.load1;
  facts.hot_events = after.hot_events;
  if (after.throttling)
    facts.throttled = after.throttling->periods;
  facts.restriction = affinity::restriction(topology);
  facts.io_uring = iouring::probe();
  facts.hardware_counters = hardware_counters();
  for (const auto policy :
       {procs::SchedPolicy::other, procs::SchedPolicy::batch, procs::SchedPolicy::idle,
        procs::SchedPolicy::fifo, procs::SchedPolicy::rr, procs::SchedPolicy::deadline})
    facts.policies.emplace_back(policy, procs::policy_objection(policy));
  return facts;
}

}  // namespace

std::vector<Finding> judge(const Facts& facts) {
  std::vector<Finding> all;
  for (const auto& [group, part] : {std::pair{"CPUs", judge_cpus(facts)},
                                    {"Speed", judge_speed(facts)},
                                    {"Kernel", judge_kernel(facts)},
                                    {"Rights and interfaces", judge_rights(facts)},
                                    {"Noise", judge_noise(facts)}})
    for (auto finding : part) {
      finding.group = group;
      all.push_back(std::move(finding));
    }
  return all;
}

Diagnosis diagnose(const affinity::Topology& topology) {
  affinity::require_this_machine(topology);
  const Facts facts = gather(topology);
  return {judge(facts), facts.noise};
}

}  // namespace schedlab::cli
