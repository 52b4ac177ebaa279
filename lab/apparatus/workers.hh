#pragma once
// N tasks that do the same fixed amount of work at the same time, each on a CPU of its own or
// wherever the scheduler puts it.

#include "lab/apparatus/team.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace schedlab::apparatus {

struct WorkersOptions {
  TaskOptions tasks;
  std::vector<std::optional<unsigned>> places;  // of each worker; all nothing: anywhere
  affinity::CpuSet usable;
  std::uint64_t size = 0;  // bytes of each worker's set
  // Indexes of the metrics that a sample fills in.
  std::size_t step = 0;  // nanoseconds for one step of all workers, from first start to last end
  std::size_t migrations =
      1;                    // migrations of one worker in a second; not measured without a counter
  std::size_t running = 2;  // workers that ran at the same time, on average
  std::size_t cpus = 3;     // CPUs that were seen in use
};

// A step is one writing walk of the set and a chain of arithmetic of about the same length. An
// operation is `steps_per_operation` of them by each worker. The workers neither wait nor sleep
// between their steps. Each first touches its own set, where it then stands.
inline constexpr std::uint64_t steps_per_operation = 64;
std::unique_ptr<harness::Subject> make_workers(const WorkersOptions& options);

}  // namespace schedlab::apparatus
