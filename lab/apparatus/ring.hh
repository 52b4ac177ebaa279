#pragma once
// N tasks on one CPU pass a token around a ring of pipes; each walks its working set before it
// passes on. The calling thread is task 0.
//
// A task that is woken may preempt its waker, which then has to be switched in once more only to
// fall asleep: a hop of a ring of three or more is one switch or two, as the scheduler likes. Under
// SCHED_BATCH, whose tasks do not preempt on wake-up, it is nearly always one.

#include "lab/apparatus/team.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>

namespace schedlab::apparatus {

enum class Access : std::uint8_t { read, write };

struct RingOptions {
  TaskOptions tasks;
  unsigned count = 2;         // tasks, 2 or more
  std::uint64_t size = 0;     // bytes of each task's working set
  std::uint64_t stride = 64;  // bytes between two accesses
  Access access = Access::write;
  bool shared_pages = false;  // all tasks walk the same pages, else each its own
  unsigned cpu = 0;
  affinity::CpuSet usable;
  std::size_t metric = 0;           // gets nanoseconds for one hop: take, walk, give
  std::size_t switches_metric = 1;  // gets the switches counted for one hop
};

// An operation is a lap of the ring, `count` hops.
std::unique_ptr<harness::Subject> make_ring(const RingOptions& options);

// The control: one task alone does the same calls and walks one working set, which stays in its
// cache. An operation is a hop.
std::unique_ptr<harness::Subject> make_lone_walker(const RingOptions& options);

// Touches `size` bytes every `stride`: reads, or reads and writes, eight bytes each time. Gives
// the sum of what it read.
std::uint64_t walk(std::byte* area, std::uint64_t size, std::uint64_t stride,
                   Access access) noexcept;

}  // namespace schedlab::apparatus
