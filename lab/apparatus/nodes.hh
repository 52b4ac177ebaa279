#pragma once
// What labs that place memory ask of the machine's nodes.

#include "affinity/topology.hh"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// "L#1(P#2)".
std::string node_label(const affinity::Node& node);

// Those of some CPUs (kernel numbers) that the node is closest to, in tree order.
std::vector<unsigned> cpus_closest_to(const affinity::Topology& topology,
                                      const affinity::Node& node, const affinity::CpuSet& among);

// Is it no CPU's closest, usable or not? (Node::cpus may name those of a package it belongs to.)
bool is_memory_only(const affinity::Topology& topology, const affinity::Node& node);

// The firmware's distance to a node from one of this logical number (10: the same node); 0 where it
// gives none, or for a number below 0.
std::uint64_t node_distance(const affinity::Topology& topology, std::int64_t from_logical,
                            const affinity::Node& to);

// Why a lab should not put `count` areas of `size` bytes on a node, or empty: half of what is left
// on it is the limit, because the kernel kills who binds more than there is.
std::string too_large_on(const affinity::Topology& topology, const affinity::Node& node,
                         std::uint64_t count, std::uint64_t size);

// The node that a CPU (kernel number) is closest to, or nothing: it has none, or a cgroup keeps
// this process from allocating there.
std::optional<unsigned> own_node(const affinity::Topology& topology, unsigned cpu);

// Throws BadInput, naming the parameter, for a node (kernel number) that does not exist or on which
// this process may not allocate.
void require_node(const affinity::Topology& topology, unsigned node, std::string_view parameter);

}  // namespace schedlab::apparatus
