#pragma once
// hwloc's names for parts of a machine: package:1.core:0-1, numa:0, core:odd, 0xff.

#include "affinity/topology.hh"

#include <string_view>

namespace schedlab::affinity {

// The usable CPUs of a location, in tree order. Numbers are logical, and count within the object
// before the dot. A range is N, N-M, N- (to the last), N:COUNT (goes on at the first after the
// last), all, odd or even. Where the machine reports no cores, "core" means PU.
// Throws BadInput: naming what exists, if the location does not; naming who forbids it, if an
// object named by number has no usable CPU. all, odd and even pass over such objects.
std::vector<unsigned> location_cpus(std::string_view location, const Topology& topology);

// Is it a mask such as 0xff or hwloc's 0x1,,0x3 (32 bits a word, the highest word first)?
bool is_mask(std::string_view text);
// CPUs by kernel number, in tree order; each must exist and be usable. Throws BadInput.
std::vector<unsigned> mask_cpus(std::string_view mask, const Topology& topology);
// The items of a kernel list, in the order they are written; else as mask_cpus.
std::vector<unsigned> list_cpus(std::string_view list, const Topology& topology);

// "core:0-1, package:0, pu:0-1": what exists, the objects of one type first.
std::string existing(const Topology& topology, std::string_view first = {});

}  // namespace schedlab::affinity
