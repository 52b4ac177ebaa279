#pragma once
// What the measured pairs say about the topology that the kernel reports. A virtual machine shows
// what its configuration says, not what lies under it.

#include "affinity/placement.hh"
#include "lab/harness/document.hh"

#include <span>
#include <string>
#include <vector>

namespace schedlab::apparatus {

struct MeasuredPair {
  affinity::Pair pair;
  double ns = 0;  // one line transfer by compare-exchange, > 0
  int l3 = -1;    // the L3 that both share, any number that tells it from others; -1: none
};

struct Contradiction {
  enum class Kind : unsigned char {
    hidden_smt,     // CPUs of two cores that are as near as the threads of one
    split_cache,    // one L3 whose CPUs form groups that are far from each other
    false_smt,      // threads of one core that are no nearer than two cores
    false_package,  // two packages that are as near as the cores of one
  };
  Kind kind = Kind::hidden_smt;
  std::string text;  // "CPUs 0 and 1 are reported as two cores and are 7.1 ns apart"
  std::vector<unsigned> cpus;
  double near_ns = 0;  // medians of the two groups that were compared; 0: of one pair alone
  double far_ns = 0;
};

// Of each kind at most one, with the clearest evidence. Needs medians of undisturbed samples:
// noise widens groups and is told from them by the gap between them.
std::vector<Contradiction> find_contradictions(std::span<const MeasuredPair> pairs);

// The same as warnings of a result.
std::vector<harness::Warning> topology_warnings(std::span<const MeasuredPair> pairs);

}  // namespace schedlab::apparatus
