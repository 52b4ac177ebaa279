#include "affinity/reasons.hh"

namespace schedlab::affinity {

std::string cpus_text(const CpuSet& cpus) {
  if (cpus.empty())
    return "no CPU";
  return (cpus.count() == 1 ? "CPU " : "CPUs ") + cpus.list();
}

std::string restriction(const Topology& topology) {
  const CpuSet allowed = topology.allowed() & topology.online();
  std::string text;
  if (allowed != topology.online())
    text = "the cgroup allows only " + cpus_text(allowed);
  if (topology.usable() != allowed)
    text += (text.empty() ? "" : " and ") +
            std::string("the affinity of this process allows only ") +
            cpus_text(topology.affinity() & topology.online());
  return text;
}

}  // namespace schedlab::affinity
