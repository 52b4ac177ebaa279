#pragma once
// What is wrong with the machine before a run begins.

#include "affinity/topology.hh"
#include "lab/harness/document.hh"
#include "lab/harness/system.hh"

#include <cstdint>
#include <vector>

namespace schedlab::harness {

// AFFINITY_SHRUNK, LAUNCHER, QUOTA, GOVERNOR, ISOLCPUS, CLOCK, DEBUG_BUILD and SANITIZER: what can
// be said without waiting. Nothing for a foreign topology but the last two.
std::vector<Warning> standing_conditions(const affinity::Topology& topology,
                                         const System& system = System());

// BUSY and FREQ: looks at the usable CPUs for `look_ns`, asleep, then runs this thread's core for
// some milliseconds to see whether it keeps its speed.
std::vector<Warning> passing_conditions(const affinity::Topology& topology,
                                        std::int64_t look_ns = 200'000'000);

// Both.
std::vector<Warning> preflight(const affinity::Topology& topology);

// The CPUs of a set whose governor is known and is not "performance".
affinity::CpuSet slow_governed(const affinity::CpuSet& cpus, const System& system = System());

// Is this one of the clock sources that user space reads without a system call and that keep time
// in virtual machines?
bool trusted_clock(std::string_view source) noexcept;

}  // namespace schedlab::harness
