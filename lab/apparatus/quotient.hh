#pragma once
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/merge.hh"

#include <vector>

namespace schedlab::apparatus {

// A metric made of two: in each process the median of the one over `parts` medians of the other.
inline harness::Metric quotient(unsigned processes, const harness::MetricInfo& info,
                                const harness::Metric& above, const harness::Metric& below,
                                double parts = 1) {
  std::vector<std::vector<double>> runs(processes);
  for (std::uint32_t process = 0; process < processes; ++process) {
    const auto a = harness::median_in(above, process);
    const auto b = harness::median_in(below, process);
    if (a && b)
      runs[process] = {*a / (*b * parts)};
  }
  return harness::make_metric(info, runs);
}

}  // namespace schedlab::apparatus
