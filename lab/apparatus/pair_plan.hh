#pragma once
// Which pairs of CPUs are measured, and by how many processes, where there is no time for all of
// them by all: 128 CPUs have 8128 pairs. One pair of each class comes first, then as many more as
// the budget holds, then the same pairs in more processes.

#include "affinity/placement.hh"
#include "affinity/topology.hh"

#include <compare>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace schedlab::apparatus {

// Pairs that should cost the same: their closest shared object, and what kinds of core they are.
struct PairClass {
  affinity::Relation relation = affinity::Relation::unpinned;
  int low_kind = -1;
  int high_kind = -1;
  auto operator<=>(const PairClass&) const = default;
};
PairClass class_of(const affinity::Topology& topology, const affinity::Pair& pair);
// "l3", or "l3.0-1" where there are several kinds of core.
std::string class_name(const affinity::Topology& topology, const affinity::Pair& pair);

// The pairs that a placement asks for, of two CPUs each, because two tasks that spin on one would
// wait for each other's time slice: of a relation all pairs, of locations all pairs among them, the
// first two named first and as they were named. What cannot be had is absent, with the reason.
affinity::Choice<affinity::Pair> spinning_pairs(const affinity::Topology& topology,
                                                const affinity::Placement& placement);

// The one whose CPUs are farthest apart, for what needs two CPUs at no particular distance; not
// pinned only if none is. `pairs` is not empty.
affinity::Pair farthest(std::span<const affinity::Pair> pairs);

struct PairPlanOptions {
  double budget_s = 0;        // wall clock for the lab, all processes together
  bool classes_only = false;  // no other pairs, whatever the budget
  unsigned processes = 1;
  unsigned rounds = 4;           // samples of a series in one process
  std::size_t class_series = 1;  // series of all representatives together
  std::size_t pair_series = 1;   // series of each further pair
};

struct PairPlan {
  std::vector<affinity::Pair> classes;  // one of each class, for all processes
  std::vector<affinity::Pair> more;     // those there is time for
  unsigned parts = 1;                   // each of `more` is for one process of so many
  std::size_t left_out = 0;             // pairs that there is no time for
  double predicted_s = 0;               // wall clock
};

// Classes in the order in which `pairs` first shows them; the other pairs by turns from each
// relation, in an order that is mixed, but the same every time. Classes are planned even if they
// alone exceed the budget.
PairPlan plan_pairs(const affinity::Topology& topology, std::span<const affinity::Pair> pairs,
                    const PairPlanOptions& options);

}  // namespace schedlab::apparatus
