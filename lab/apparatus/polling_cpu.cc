#include "lab/apparatus/polling_cpu.hh"

namespace schedlab::apparatus {

using affinity::Relation;

std::optional<unsigned> polling_cpu_for(const affinity::Topology& topology, unsigned cpu) {
  const auto distance = [&](unsigned other) {
    const Relation relation = topology.relation(cpu, other);
    return relation == Relation::smt ? Relation::unpinned : relation;  // behind all others
  };
  std::optional<unsigned> best;
  for (const unsigned other : topology.usable().cpus())
    if (other != cpu && topology.find(other) && (!best || distance(other) < distance(*best)))
      best = other;
  return best;
}

}  // namespace schedlab::apparatus
