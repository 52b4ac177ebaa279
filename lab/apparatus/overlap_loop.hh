#pragma once
// What the programs of sleep_overlap.hh share, and those of them that run in a loop.

#include "lab/apparatus/sleep_overlap.hh"
#include "lab/harness/statistics.hh"

#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// The times of the runs in a sample.
class OverlapTally {
public:
  OverlapTally(const OverlapOptions& options, std::int64_t one_ns)
      : options_(options), one_ns_(one_ns) {}

  void add(std::int64_t total_ns) { totals_.push_back(static_cast<double>(total_ns)); }
  // Where sleepers overlap, what a step is longer than asked for is their whole delay by steps.
  void fill_in(harness::Sample& sample, std::uint64_t operations, double elapsed_ns) const {
    const double total_ns = harness::median(totals_);
    sample.operations = operations;
    sample.elapsed_ns = elapsed_ns;
    sample.values[options_.total] = total_ns / static_cast<double>(one_ns_);
    sample.values[options_.late] = (total_ns - static_cast<double>(one_ns_)) / overlap_steps;
  }

private:
  const OverlapOptions& options_;
  std::int64_t one_ns_;
  std::vector<double> totals_;
};

harness::Check turns(unsigned least_changes);

std::unique_ptr<harness::Subject> make_loop_overlap(std::string_view program,
                                                    const OverlapOptions& options);

}  // namespace schedlab::apparatus
