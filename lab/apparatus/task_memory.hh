#pragma once
// How much memory a task takes that waits, and a thread that does.

#include "affinity/cpu_set.hh"
#include "iouring/driver.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <span>

namespace schedlab::apparatus {

struct TaskMemoryOptions {
  unsigned cpu = 0;  // kernel number
  affinity::CpuSet usable;
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;  // of tasks
  std::uint64_t most = 20'000;                                      // that wait at the end
  std::size_t frame_metric = 0;     // bytes asked of the frame pool, a task; not of threads
  std::size_t resident_metric = 1;  // bytes of memory
  std::size_t reserved_metric = 2;  // bytes of address space
};

// Subjects whose operation lets `most` of them wait, in eight steps, and reads after each what the
// process then holds; a value is the slope of the line through the nine points. What the pool of
// frames and the heap hold free is first given back to the kernel.
std::unique_ptr<harness::Subject> make_waiting_tasks(const TaskMemoryOptions& options);
std::unique_ptr<harness::Subject> make_waiting_threads(const TaskMemoryOptions& options);

// What this process holds, in bytes.
struct Footprint {
  double resident = 0;  // counted page by page where the kernel can (smaps_rollup)
  double reserved = 0;
};
Footprint footprint();

struct Point {
  double x = 0;
  double y = 0;
};
// Of the line of least squares. Two points of different x at least.
double slope(std::span<const Point> points) noexcept;

}  // namespace schedlab::apparatus
