#pragma once
// From the samples of all replicate processes to the series of the result: summaries, derived
// costs with their own intervals, checks and warnings.

#include "lab/harness/document.hh"
#include "lab/harness/engine.hh"
#include "lab/harness/plan.hh"

#include <span>
#include <vector>

namespace schedlab::harness {

// The replies of the processes that ended well, in the order of their numbers; not empty unless
// nothing could be run. Gives one Series for each planned one.
std::vector<Series> merge(const Plan& plan, std::span<const Reply> replies);

// A metric from its samples in each process, empty where a process has none.
Metric make_metric(const MetricInfo& info, std::span<const std::vector<double>> runs);

// What concerns the lab as a whole: rounds cut, too few processes.
std::vector<Warning> lab_warnings(const Plan& plan, std::span<const Reply> replies);

}  // namespace schedlab::harness
