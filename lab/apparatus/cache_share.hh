#pragma once
// What of the machine's caches some workers have, by the topology.

#include "affinity/topology.hh"
#include "lab/harness/document.hh"

#include <cstdint>
#include <span>
#include <string_view>

namespace schedlab::apparatus {

// The caches above some CPUs (kernel numbers) that have none above them, added up, each once: what
// an array must exceed fourfold by STREAM's rule. In bytes; 0 where the topology shows no cache.
std::uint64_t last_level_sum(const affinity::Topology& topology, std::span<const unsigned> cpus);

// The data or unified cache of a level that is left for each worker where those under one cache
// share it evenly; the smallest of all workers. In bytes; 0 where one has no such cache.
std::uint64_t cache_share(const affinity::Topology& topology, std::span<const unsigned> cpus,
                          int level);

// What to say of a lab whose memory is smaller than a rule asks for, as the time for touching it is
// limited: "arrays of 256 MiB are 0.53 x the last-level caches ...".
harness::Warning below_rule(std::string_view lab, std::string_view what, std::string_view size,
                            double to_caches, std::uint64_t rule);

}  // namespace schedlab::apparatus
