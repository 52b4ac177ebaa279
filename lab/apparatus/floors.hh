#pragma once
// Floors that every lab of system calls and switches shows beside its numbers: what the smallest
// steps of it cost when nothing is switched and nobody is woken.

#include "affinity/cpu_set.hh"
#include "lab/harness/plan.hh"

#include <string>
#include <vector>

namespace schedlab::apparatus {

// A floor on one CPU, in the group of all floors; `make` is left to the caller.
harness::SeriesPlan floor_series(const std::string& name, unsigned cpu);

// clock pair, null syscall, futex wake with nobody waiting; `metric` is in nanoseconds.
std::vector<harness::SeriesPlan> common_floors(unsigned cpu, const affinity::CpuSet& usable,
                                               std::size_t metric);

}  // namespace schedlab::apparatus
