#include "lab/harness/sample.hh"

#include "lab/harness/validity.hh"

#include <algorithm>

namespace schedlab::harness {

namespace {

// Somebody else's time on our CPU: interrupts and the clock reads of the proof itself stay below.
constexpr double foreign_share = 0.03;
constexpr double foreign_floor_ns = 25'000;
// Waiting behind our own partner is part of a switch; waiting longer than this is a neighbour.
constexpr double waited_share = 1.10;

}  // namespace

unsigned faults(const Proof& proof) noexcept {
  unsigned found = 0;
  if (!proof.on_cpu)
    found |= fault_migrated;
  if (proof.expected_switches > 0) {
    const auto counted = static_cast<double>(proof.counted_switches);
    if (counted < enough_events(proof.expected_switches))
      found |= fault_count;
    const std::uint64_t most = std::max(proof.expected_switches, proof.most_switches);
    if (counted > 1.02 * static_cast<double>(most) + blurred_events)
      found |= fault_preempted;
  }
  // A comparison with not_measured is false.
  if (proof.foreign_ns > std::max(foreign_share * proof.wall_ns, foreign_floor_ns))
    found |= fault_busy;
  if (proof.waited_ns > waited_share * proof.wall_ns)
    found |= fault_busy;
  if (proof.steal_ticks > 0)
    found |= fault_steal;
  return found;
}

}  // namespace schedlab::harness
