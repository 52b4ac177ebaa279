#pragma once
// What a process holds, counted page by page: the counters of statm lag behind by up to 64 pages a
// CPU, more than a small process has.

#include <optional>
#include <sys/types.h>

namespace schedlab::apparatus {

// In bytes.
struct MemoryRollup {
  double resident = 0;      // counted wherever it is mapped
  double proportional = 0;  // a page that n processes map counts one n-th
  double own = 0;           // that nobody else maps: what its end would give back
};
// Nothing where the kernel does not tell (smaps_rollup, Linux 4.14), or the process is gone.
std::optional<MemoryRollup> memory_rollup(pid_t process);

}  // namespace schedlab::apparatus
