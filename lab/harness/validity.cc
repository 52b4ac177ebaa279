#include "lab/harness/validity.hh"

#include <algorithm>

namespace schedlab::harness {

constexpr std::array<CodeInfo, code_count> codes = {{
    {Code::affinity_shrunk, "AFFINITY_SHRUNK", Severity::note,
     "The process may use fewer CPUs than are online.",
     "Run without taskset or a narrower cpuset, or read the result as one of these CPUs."},
    {Code::quota, "QUOTA", Severity::invalid,
     "The cgroup's CPU quota stopped or could stop the threads while they were measured.",
     "Run in a cgroup without cpu.max (docker: no --cpus; Kubernetes: no CPU limit)."},
    {Code::steal, "STEAL", Severity::noisy,
     "The hypervisor ran something else on the measured CPUs.",
     "Repeat at a quieter time, or on a dedicated or bare-metal host."},
    {Code::migrated, "MIGRATED", Severity::noisy,
     "Samples ended on another CPU than they began on.",
     "Pin the series with --place, or take its clean estimate."},
    {Code::preempted, "PREEMPTED", Severity::noisy,
     "More than 1 % of the samples were interrupted by another thread.",
     "Stop other work on the measured CPUs, or take the clean estimate."},
    {Code::busy, "BUSY", Severity::noisy, "Other work ran on the machine.",
     "Stop it, or wait until the load is below 0.1."},
    {Code::freq, "FREQ", Severity::noisy, "The CPU frequency changed during the measurement.",
     "Set the performance governor and turn boost off while measuring."},
    {Code::governor, "GOVERNOR", Severity::note,
     "The CPU frequency governor is not \"performance\".",
     "sudo cpupower frequency-set -g performance, and set it back afterwards."},
    {Code::throttle, "THROTTLE", Severity::invalid,
     "The CPU was throttled because of heat or power.",
     "Let it cool, check fans and power limits, and repeat."},
    {Code::swap, "SWAP", Severity::invalid, "The machine swapped during the measurement.",
     "Free memory or run with a smaller preset, and repeat."},
    {Code::clock, "CLOCK", Severity::invalid, "The clock is slow, coarse or went backward.",
     "Use a machine whose kernel keeps clocksource tsc, kvm-clock or arch_sys_counter."},
    {Code::debug_build, "DEBUG_BUILD", Severity::invalid,
     "The program was built without optimisation.",
     "Build with -Dbuildtype=debugoptimized or release."},
    {Code::sanitizer, "SANITIZER", Severity::invalid, "The program was built with a sanitizer.",
     "Build with -Db_sanitize=none for measuring."},
    {Code::drift, "DRIFT", Severity::noisy,
     "The processes' medians rose or fell from first to last by more than 2 %.",
     "Let the machine settle and repeat; look at the run sequence in the report."},
    {Code::bimodal, "BIMODAL", Severity::noisy,
     "The samples form two groups, which one median does not describe.",
     "Pin the series with --place, and look at the run sequence in the report."},
    {Code::first_slow, "FIRST_SLOW", Severity::note,
     "The first sample is far slower than the others.",
     "Compare the median, which it hardly moves; a cold start is a measurement of its own."},
    {Code::few, "FEW", Severity::note, "There are too few processes for a 95 % interval.",
     "Use --quick, --full or --processes 6 or more."},
    {Code::resolution, "RESOLUTION", Severity::noisy,
     "Reading the clock takes more than 1 % of a sample.",
     "Use a larger preset, so that a sample holds more work."},
    {Code::isolcpus, "ISOLCPUS", Severity::invalid,
     "Unpinned threads ran on isolated CPUs, which the kernel does not balance.",
     "Pin the series with --place, or boot without isolcpus."},
    {Code::launcher, "LAUNCHER", Severity::note,
     "A job launcher narrowed the CPUs this process may use.",
     "Use srun --cpu-bind=none or mpirun --bind-to none."},
    {Code::count, "COUNT", Severity::noisy, "Fewer than 99 % of the expected events were counted.",
     "Distrust the cost per event: part of what was to happen did not."},
    {Code::cut, "CUT", Severity::note, "Work was left out to keep within the time budget.",
     "Use --full, or select fewer series."},
    {Code::check, "CHECK", Severity::invalid, "What was measured is not what the series says.",
     "Look at the checks of the series in the result file; they say what was not as expected."},
    {Code::topology, "TOPOLOGY", Severity::note,
     "What was measured contradicts the topology that the kernel reports.",
     "Believe the measurement; a virtual machine need not show its host's cores and caches."},
    {Code::client_bound, "CLIENT_BOUND", Severity::note,
     "The server's CPU was idle for more than 5 % of the time, waiting for its client.",
     "Compare the CPU time of a message, not the throughput; or use more connections."},
}};

namespace {

constexpr bool in_order() {
  for (std::size_t i = 0; i < code_count; ++i)
    if (static_cast<std::size_t>(codes[i].code) != i)
      return false;
  return true;
}
static_assert(in_order());

Status status_of(Severity severity) noexcept {
  switch (severity) {
  case Severity::note:
    return Status::ok;
  case Severity::noisy:
    return Status::noisy;
  case Severity::invalid:
    break;
  }
  return Status::invalid;
}

}  // namespace

double enough_events(std::uint64_t expected) noexcept {
  const auto all = static_cast<double>(expected);
  return std::min(0.99 * all, all - blurred_events);
}

const CodeInfo& info(Code code) noexcept {
  return codes[static_cast<std::size_t>(code)];
}

const CodeInfo* find_code(std::string_view name) noexcept {
  const auto found = std::find_if(codes.begin(), codes.end(),
                                  [&](const CodeInfo& row) { return row.name == name; });
  return found == codes.end() ? nullptr : &*found;
}

Warning make_warning(Code code, Fields evidence, std::optional<Severity> severity,
                     std::string_view detail) {
  const CodeInfo& row = info(code);
  std::string message(row.message);
  if (!detail.empty()) {
    message.back() = ':';
    message.append(" ").append(detail).append(".");
  }
  return {std::string(row.name), severity.value_or(row.severity), std::move(message),
          std::string(row.fix), std::move(evidence)};
}

Status worst(std::span<const Warning> warnings) noexcept {
  Status result = Status::ok;
  for (const Warning& warning : warnings)
    result = std::max(result, status_of(warning.severity));
  return result;
}

Status overall(std::span<const Status> parts) noexcept {
  Status result = Status::skipped;
  for (const Status part : parts) {
    if (part == Status::failed)
      return part;
    if (part != Status::skipped)
      result = result == Status::skipped ? part : std::max(result, part);
  }
  return result;
}

}  // namespace schedlab::harness
