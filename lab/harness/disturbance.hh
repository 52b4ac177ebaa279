#pragma once
// What happened to the machine while something was measured: counters before and after, and what
// their differences say. Every counter is optional, because containers and virtual machines lack
// some; what is absent raises no warning.

#include "affinity/cpu_set.hh"
#include "affinity/limits.hh"
#include "lab/harness/document.hh"
#include "lab/harness/system.hh"

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace schedlab::harness {

// Ticks since boot, in units of 1/USER_HZ (10 ms). Busy is user, nice and system time, without
// interrupts; steal is what the hypervisor gave to others.
struct CpuTicks {
  std::uint64_t busy = 0;
  std::uint64_t idle = 0;
  std::uint64_t steal = 0;
};

struct SystemCounters {
  std::int64_t taken_ns = 0;           // CLOCK_MONOTONIC
  std::int64_t own_ns = 0;             // CPU time of this process and its reaped children
  std::map<unsigned, CpuTicks> ticks;  // by kernel number, for the CPUs asked for
  std::optional<affinity::Throttling> throttling;  // by the cgroup's quota
  std::optional<std::uint64_t> hot_events;         // throttled because of heat, those CPUs
  std::optional<std::uint64_t> swapped_pages;      // in and out
  std::optional<std::uint64_t> oom_kills;
  std::optional<double> load1;
  std::optional<std::uint64_t> waiting_us;  // PSI: some task waited for a CPU
};

// Takes well below a millisecond on small machines. Never throws for what is missing.
SystemCounters read_counters(const affinity::CpuSet& cpus, const System& system = System());

// How many ticks of a column fell into a window, or nothing where the kernel's numbers are
// impossible: falling, or more than the window has room for.
std::optional<std::uint64_t> ticks_between(std::uint64_t before, std::uint64_t after,
                                           std::int64_t window_ns);

// STEAL, QUOTA, THROTTLE, SWAP and BUSY for the time between. BUSY is CPU time that neither this
// process nor its children used; children that were not reaped in between count as others.
std::vector<Warning> disturbances(const SystemCounters& before, const SystemCounters& after);

}  // namespace schedlab::harness
