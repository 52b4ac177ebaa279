#pragma once
// Two tasks that hand a turn to and fro. The calling thread is task 0; its partner is a thread of
// this process or a process of its own.

#include "lab/apparatus/team.hh"
#include "lab/harness/sample.hh"

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

struct PingPongOptions {
  TaskOptions tasks;
  std::optional<unsigned> first;   // the caller's CPU; nothing: unpinned
  std::optional<unsigned> second;  // the partner's
  affinity::CpuSet usable;
  bool dirty_vector = false;  // write the vector registers before each hand-over
  // Indexes of the metrics that a sample fills in.
  std::size_t round_trip_metric = 0;
  std::size_t one_way_metric = 1;
};

// The mechanisms by name: "pipe", "eventfd", "futex-private", "futex", "condvar", "unix", "mq",
// "yield".
const std::vector<std::string_view>& handover_mechanisms();

// A mechanism that cannot cross processes, or needs both tasks on one CPU.
bool threads_only(std::string_view mechanism) noexcept;
bool one_cpu_only(std::string_view mechanism) noexcept;

// A subject whose operation is a round trip. Fills in the time of a round trip and of half of it,
// and for "yield" only the latter: its time divided by the switches counted.
std::unique_ptr<harness::Subject> make_ping_pong(std::string_view mechanism,
                                                 const PingPongOptions& options);

// A subject whose operation is the mechanism's calls by one task alone, without a switch: give to
// itself, then take. Fills in metric `metric`, in nanoseconds.
std::unique_ptr<harness::Subject>
make_self_handover(std::string_view mechanism, const PingPongOptions& options, std::size_t metric);

}  // namespace schedlab::apparatus
