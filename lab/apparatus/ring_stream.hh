#pragma once
// Words of 8 bytes through a ring of one producer and one consumer, as many as go through.

#include "lab/apparatus/team.hh"
#include "lab/harness/sample.hh"

#include <memory>
#include <optional>

namespace schedlab::apparatus {

struct RingStreamOptions {
  TaskKind kind = TaskKind::threads;
  unsigned first = 0;   // the consumer's CPU, the caller's
  unsigned second = 0;  // the producer's, another one: both spin
  affinity::CpuSet usable;
  std::size_t items = 1024;  // the ring's capacity, a power of two
  std::size_t batch = 1;     // words at once
  bool sleeps = false;       // a ring whose sides might sleep, and therefore ring each time
  std::size_t rate_metric = 0;
};

// A subject whose operation is 1024 words. The clock runs from the producer's first word until the
// consumer has the last.
std::unique_ptr<harness::Subject> make_ring_stream(const RingStreamOptions& options);

}  // namespace schedlab::apparatus
