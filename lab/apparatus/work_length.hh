#pragma once
// Pieces of work of a given length, run one after the other, as tasks, or as threads.

#include "affinity/cpu_set.hh"
#include "iouring/driver.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>

namespace schedlab::apparatus {

// Computes for that many steps, a chain of additions: one of them is about a cycle.
void compute(std::uint64_t steps) noexcept;

// How many steps take so long here. Found once for each process, so that all that ask for a length
// do the same work.
std::uint64_t steps_for(double length_ns);

enum class RunAs : std::uint8_t {
  calls,    // one after the other, by the caller
  tasks,    // gathered, in one loop
  threads,  // each started for its piece and joined, as many at a time as there are usable CPUs
};

struct WorkOptions {
  unsigned cpu = 0;  // of calls and tasks, kernel number; threads run on all of `usable`
  affinity::CpuSet usable;
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;
  double length_ns = 1000;
  std::size_t metric = 0;  // ns for a piece of work
};

// A subject whose operation is a batch of pieces: a millisecond of them, at most a thousand.
std::unique_ptr<harness::Subject> make_work(RunAs how, const WorkOptions& options);

}  // namespace schedlab::apparatus
