#pragma once
// Why a CPU cannot be used, in words.

#include "affinity/topology.hh"

namespace schedlab::affinity {

// "CPU 1", "CPUs 0-3", "no CPU".
std::string cpus_text(const CpuSet& cpus);

// "the cgroup allows only CPUs 0-3 and the affinity of this process allows only CPU 1"; empty if
// every CPU of the tree may be used.
std::string restriction(const Topology& topology);

}  // namespace schedlab::affinity
