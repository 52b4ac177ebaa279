#pragma once
// What idle threads and processes hold, all together, by their number.

#include "affinity/cpu_set.hh"
#include "lab/apparatus/memory_rollup.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <sys/types.h>

namespace schedlab::apparatus {

// What a process holds, in bytes, as the kernel tells it.
struct MemoryUse : MemoryRollup {
  double page_tables = 0;
  double threads = 0;  // that it has

  MemoryUse& operator+=(const MemoryUse& other) noexcept;
};
// Nothing where /proc does not tell, or the process is gone.
std::optional<MemoryUse> memory_use(pid_t pid);

// The check that as many threads are left as there were before, for those who judge by it.
inline constexpr std::string_view gone_check =
    "threads that were there before and are left afterwards";

struct IdleOptions {
  unsigned cpu = 0;  // kernel number, of all
  affinity::CpuSet usable;
  std::uint64_t most = 16;  // tasks at the end
  std::size_t resident_metric = 0;
  std::size_t proportional_metric = 1;
  std::size_t own_metric = 2;
  std::size_t page_tables_metric = 3;
  std::size_t threads_metric = 4;
};

// "threads", or processes by procs::Process: "fork", "exec", "forkserver". An operation lets `most`
// of them sleep, in up to eight steps, and reads after each what they and this process hold; a
// value is the slope of the line of least squares. Throws Unsupported where /proc does not tell.
std::unique_ptr<harness::Subject> make_idle_tasks(std::string_view kind,
                                                  const IdleOptions& options);

}  // namespace schedlab::apparatus
