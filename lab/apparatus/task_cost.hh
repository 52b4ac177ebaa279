#pragma once
// What it costs to make a task and to end it, or to do to it what one does to tasks; and the same
// for a thread and a process.

#include "affinity/cpu_set.hh"
#include "iouring/driver.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

struct TaskCostOptions {
  unsigned cpu = 0;  // kernel number
  affinity::CpuSet usable;
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;
  std::uint64_t tasks = 1000;              // together, in an operation
  std::optional<unsigned> thread_on = {};  // to-thread: where the thread stands; nothing: `cpu`
  std::size_t time_metric = 0;             // ns a task
  // Bytes of coroutine frames and started tasks, a task; nothing: not told.
  std::optional<std::size_t> frame_metric = 1;
};

// By name; each for a task:
//
//   create      a coroutine is made and destroyed, and never runs
//   await       a child is called, awaited and returns
//   resume      one task yields and goes on in the loop's next turn
//   start       create_task, its end, and the wait for it
//   gather      made, gathered, its value taken
//   group       started in a TaskGroup, and its end
//   cancel      a task that waits is cancelled, throws Cancelled and has ended; made before
//   to-thread   a function is run by a blocking thread, which is asleep; its value comes back
//   run-in      run_in with an executor that does the work at once: what the loop adds to a pool
//   thread      pthread_create and pthread_join of a thread that ends at once
//   process     fork and waitpid of a process that ends at once
const std::vector<std::string_view>& task_costs();

// Those of tasks, which have a loop with a driver; the others are the kernel's.
bool is_of_tasks(std::string_view what) noexcept;

// A subject whose operation is `tasks` of them (one thread, one process).
std::unique_ptr<harness::Subject> make_task_cost(std::string_view what,
                                                 const TaskCostOptions& options);

}  // namespace schedlab::apparatus
