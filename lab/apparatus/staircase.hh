#pragma once
// What a curve of latency over size says of the caches under it: where they end, and what a load
// costs well inside each.

#include "lab/harness/change_point.hh"
#include "lab/harness/document.hh"

#include <cstdint>
#include <vector>

namespace schedlab::apparatus {

struct Staircase {
  std::vector<double> sizes;  // bytes of the lines used, ascending
  std::vector<const harness::Metric*> latencies;
};

// The values of each process, for make_metric.
using Runs = std::vector<std::vector<double>>;

std::size_t processes_of(const Staircase& staircase);

// The edges, by change points of the logarithm of the latency.
std::vector<harness::SharedRise> edges_of(const Staircase& staircase);
// Where each process saw an edge.
Runs places_of(const harness::SharedRise& edge);

// The edge that a cache of this size may make: the nearest, if no further than edge_of_cache times
// away, or null.
inline constexpr double edge_of_cache = 2;
const harness::SharedRise* edge_near(const std::vector<harness::SharedRise>& edges, double size);

// The sizes well inside a cache, by its size and that of the one before it (0: none): within a
// factor of two of the middle. It begins where little is left of the one before, at four times its
// size, or at twice if there is no room, and ends at half of its own.
struct Range {
  double low = 0;
  double high = 0;
};
Range well_inside(double below, double size);

// The median latency of the sizes in a range, in each process.
Runs latencies_in(const Staircase& staircase, Range range);

// Sizes to add: the geometric middles, in whole KiB, between neighbours of which the latter is more
// than a third slower, the steepest first; none between sizes less than a tenth apart. A latency
// that is not above zero was not measured.
std::vector<std::uint64_t> steep_middles(const std::vector<std::uint64_t>& sizes,
                                         const std::vector<double>& latencies);

}  // namespace schedlab::apparatus
