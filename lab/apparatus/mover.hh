#pragma once
// One task that is moved between two CPUs by its affinity mask and walks its working set wherever
// it arrives.

#include "lab/apparatus/chase.hh"
#include "lab/apparatus/ring.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>

namespace schedlab::apparatus {

struct MoverOptions {
  unsigned first = 0;   // where it begins and ends
  unsigned second = 0;  // where it goes; the same as `first`: the calls without a move, the control
  affinity::CpuSet usable;
  std::shared_ptr<SharedArea> area;  // the working set lies at its beginning
  std::uint64_t size = 0;            // bytes of the working set
  std::uint64_t stride = 64;         // bytes between two accesses
  Access access = Access::write;
  std::size_t metric = 0;  // gets nanoseconds for one call of sched_setaffinity and one walk
};

// An operation is there and back: two calls, two walks. After each call the CPU is read back; a
// sample in which the task was elsewhere is a migrated one. The memory is made on the first CPU, by
// the first of its subjects. checks() says how many calls arrived,
// how many migrations the kernel counted, and on what pages the set lies.
std::unique_ptr<harness::Subject> make_mover(const MoverOptions& options);

}  // namespace schedlab::apparatus
