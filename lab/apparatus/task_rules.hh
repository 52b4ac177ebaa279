#pragma once
// What is said of tasks and can be counted: that they share one thread, run in order, and do not
// disturb each other's data.

#include "affinity/cpu_set.hh"
#include "iouring/driver.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <string_view>

namespace schedlab::apparatus {

// Names of the checks, for those who judge by them.
inline constexpr std::string_view waiting_thread_check =
    "threads of the process while the tasks waited";
inline constexpr std::string_view in_order_check =
    "gathers whose first task ran to its end before the second";

struct TaskRuleOptions {
  unsigned cpu = 0;  // kernel number
  affinity::CpuSet usable;
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;
  std::size_t time_metric = 0;   // ns a task, a wait or an update
  std::size_t ratio_metric = 1;  // as said below
};

// An operation is a wait of 100 us by each of a hundred tasks at once. The ratio is voluntary
// switches of the thread to waits of the loop in the kernel; a check says how many threads the
// process had meanwhile.
std::unique_ptr<harness::Subject> make_waits_in_one_thread(const TaskRuleOptions& options);

// An operation is a gather of two tasks that compute for 20 us and never wait. The ratio is the
// sum of both, each clocked by itself, to the time of the gather; a check says how often the first
// ran first and to its end.
std::unique_ptr<harness::Subject> make_gather_in_order(const TaskRuleOptions& options);

// An operation is an update of a counter by one of two tasks that read it, yield or not, and write
// back one more. The ratio is the share of updates that were lost.
std::unique_ptr<harness::Subject> make_updates(bool yields, const TaskRuleOptions& options);

}  // namespace schedlab::apparatus
