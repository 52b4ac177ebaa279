#pragma once
// The measured pairs of CPUs as a matrix in the order of the topology.

#include "affinity/topology.hh"
#include "lab/apparatus/pair_classes.hh"
#include "lab/harness/document.hh"

#include <span>

namespace schedlab::apparatus {

// A row and a column for each CPU of any pair, "L#3(P#7)", in logical order; the same value for
// both directions, NaN where nothing was measured. A border stands before the first CPU of each
// package, node and L3.
harness::Matrix pair_matrix(const affinity::Topology& topology,
                            std::span<const MeasuredPair> pairs);

}  // namespace schedlab::apparatus
