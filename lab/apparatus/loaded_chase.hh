#pragma once
// A chase through memory while threads load it.

#include "lab/apparatus/area.hh"
#include "lab/apparatus/chase.hh"
#include "lab/apparatus/memory_load.hh"
#include "lab/apparatus/witness.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace schedlab::apparatus {

struct LoadedChaseOptions {
  unsigned chaser = 0;  // CPU, kernel number; none of the load threads'
  affinity::CpuSet usable;
  std::uint64_t size = 0;  // bytes that are chased, on pages as those of the load
  MemoryLoadOptions load;
  // Indexes of the metrics that a sample fills in.
  std::size_t latency_metric = 0;    // nanoseconds of a load of the chase
  std::size_t bandwidth_metric = 1;  // bytes a second of all load threads meanwhile
};

// For one thread, which it moves to the chaser's CPU.
class LoadedChase {
public:
  // Throws what its memory and its threads throw.
  explicit LoadedChase(const LoadedChaseOptions& options);

  // Chases so many loads while the threads pause for `delay_ns` between blocks, or sleep.
  harness::Sample sample(std::optional<std::uint64_t> delay_ns, std::uint64_t loads);
  const std::vector<harness::Check>& checks();

private:
  LoadedChaseOptions options_;
  Area area_;
  MemoryLoad load_;
  const Link* at_;
  Witness witness_;
  std::vector<harness::Check> checks_;  // empty: not asked for yet
};

// A subject whose operation is a load of the chase; several share chase and threads, in turns.
std::unique_ptr<harness::Subject> make_loaded_chase(std::shared_ptr<LoadedChase> chase,
                                                    std::optional<std::uint64_t> delay_ns);

}  // namespace schedlab::apparatus
