#pragma once
// Where a curve changes its level: the edges of a latency staircase, the reach of a TLB. Nothing
// is assumed of the places at which an edge may lie.
//
// All functions take finite values only and may be called from any thread.

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace schedlab::harness {

// The first indexes of the runs of one level that `values` falls into, beginning with 0: the
// partition that makes the squared deviations from the runs' means plus a price for each run
// smallest (Jackson et al. 2005, An algorithm for optimal partitioning of data on an interval).
// The price is that of a step of `least`, or more where the values scatter more. Quadratic in their
// number.
std::vector<std::size_t> level_runs(std::span<const double> values, double least);

// A climb from one level of a curve to the next.
struct Rise {
  double at = 0;    // x at which a quarter of the climb is done
  double from = 0;  // the last x on the lower level
  double to = 0;    // the first x on the upper level
  double low = 0;   // the two levels: medians of y
  double high = 0;
  bool open = false;  // the curve ends before it has come to a level; `high` is where it ends
};

struct RiseOptions {
  double least = 0;         // a smaller rise, in y, is none
  double level_span = 1.4;  // a run of one level is one if its last x is so many times its first
};

// The climbs of y over log x, in order. x ascends and is positive. Runs too short to be a level
// belong to the climb around them; the first run is always a level. An edge lies where half of the
// climb is done, interpolated.
std::vector<Rise> find_rises(std::span<const double> x, std::span<const double> y,
                             const RiseOptions& options);

// One curve as several processes measured it.
struct CurveRuns {
  std::vector<double> x;
  std::vector<double> y;                       // of all processes together
  std::vector<std::vector<double>> processes;  // each one's y; NaN where it did not measure
};

// A rise of the whole curve, and what each process saw of it: its own rise nearest to that one, if
// there is one no further than `same` times apart.
struct SharedRise {
  Rise rise;
  std::vector<std::optional<Rise>> seen;
};

// Open rises are left out: half of a climb whose end was not seen is nowhere.
std::vector<SharedRise> shared_rises(const CurveRuns& curve, const RiseOptions& options,
                                     double same);

}  // namespace schedlab::harness
