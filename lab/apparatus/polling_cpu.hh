#pragma once
// Where the kernel's polling thread of a ring (SQPOLL) goes beside a task on a CPU.

#include "affinity/topology.hh"

#include <optional>

namespace schedlab::apparatus {

// The usable CPU that is closest to `cpu` without sharing its core; one of its core if there is no
// other; nothing if it is the only one.
std::optional<unsigned> polling_cpu_for(const affinity::Topology& topology, unsigned cpu);

}  // namespace schedlab::apparatus
