#pragma once
#include "affinity/topology.hh"

#include <string>
#include <vector>

namespace schedlab::cli {

// The lines of the tree of topology_text.
std::vector<std::string> topology_tree(const affinity::Topology& topology, unsigned width);

// "32 MiB", "512 KiB", "15.6 GiB".
std::string size_text(std::uint64_t bytes);

// Adds `head` and `text`; what does not fit goes on in lines indented as far as the head and `hang`
// columns more.
void add_wrapped(std::vector<std::string>& lines, const std::string& head, const std::string& text,
                 unsigned width, unsigned hang = 0);

}  // namespace schedlab::cli
