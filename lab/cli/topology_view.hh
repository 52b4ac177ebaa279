#pragma once
#include "affinity/topology.hh"

#include <nlohmann/json_fwd.hpp>

#include <string>

namespace schedlab::cli {

// The machine for people: the tree with both numbers, L#3(P#7), then what of it may be used, which
// relations two tasks can have, and how far the nodes are apart. Subtrees that are alike share a
// line as far as it takes to fit a screen. Lines have at most `width` columns where words allow it.
std::string topology_text(const affinity::Topology& topology, unsigned width);

// The same for programs, complete: every CPU with all its numbers.
nlohmann::json topology_json(const affinity::Topology& topology);

}  // namespace schedlab::cli
