#pragma once
// The tutorial's loop, compiled: tasks that each count to N and are started for it, as threads or
// as processes by any start method, beside the same in the caller.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// Counts to `limit`, one by one: the compiler folds nothing.
std::uint64_t count_up(std::uint64_t limit) noexcept;

enum class StartAs : std::uint8_t { calls, threads, fork, exec, forkserver };
std::string_view to_text(StartAs way) noexcept;
// "serial", "threads", "fork", "exec", "forkserver".
StartAs start_as(std::string_view word);

struct StartedLoopsOptions {
  StartAs way = StartAs::calls;
  unsigned tasks = 1;
  std::uint64_t loops = 0;
  std::vector<unsigned> cpus;  // kernel numbers; the tasks may run on any of them
  affinity::CpuSet usable;
  // Indexes of the metrics that a sample fills in, all in nanoseconds, CLOCK_MONOTONIC.
  std::size_t time = 0;   // from before the first is started until the last has ended and was seen
  std::size_t start = 1;  // until the last one's loop begins
  std::size_t work = 2;   // from the first loop's begin to the last one's end
};

// A subject whose operation is one such run. Checks every result. Throws Unsupported,
// std::system_error. The forkserver of a subject runs before its first sample.
std::unique_ptr<harness::Subject> make_started_loops(const StartedLoopsOptions& options);

}  // namespace schedlab::apparatus
