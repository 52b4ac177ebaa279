#pragma once
// The A/A test: how different do two series come out that measure the same thing?

#include "lab/harness/statistics.hh"

#include <cstdint>
#include <span>

namespace schedlab::cli {

struct NoiseFloor {
  unsigned cpu = 0;         // kernel number
  std::size_t pairs = 0;    // of one sample from each series
  double sample_ns = 0;     // median
  double tail = 0;          // p99 of the samples over their median
  harness::Estimate ratio;  // first over second, from block medians; 1 but for the noise
  // The share by which two things must differ before one process on this host shows it in as much
  // time: the far end of the interval. 1 where there are too few pairs for an interval.
  double smallest_difference = 1;
};

// Two series of one piece of work of less than a millisecond (arithmetic, reads all over 4 MiB,
// system calls), pinned and in the order ABBA, for `budget_ns`. The calling thread is pinned
// meanwhile. Throws as affinity::Pin does.
NoiseFloor measure_noise_floor(unsigned cpu, std::int64_t budget_ns);

// What the two series say; first[i] and second[i] were measured one after the other. The sizes are
// equal and not 0. The unit is a block: the medians of 20 stretches of both series are paired,
// because neighbouring samples are disturbed together.
NoiseFloor noise_floor(std::span<const double> first, std::span<const double> second);

}  // namespace schedlab::cli
