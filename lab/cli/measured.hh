#pragma once
// Distances that labs measured, as annotations of a topology.

#include "affinity/annotate.hh"
#include "lab/harness/document.hh"

#include <span>
#include <string>
#include <vector>

namespace schedlab::cli {

struct ResultFile {
  std::string path;
  harness::Document document;
};

struct Measured {
  affinity::Annotations annotations;
  std::vector<std::string> notes;  // what was left out, and why; a line each
};

// The matrices of core_to_core and numa_matrix in these files. Pure.
//
// A matrix in ns becomes distances of its CPUs or nodes in ps, one in B/s distances in MiB/s; the
// names end in the unit: "schedlab:core_to_core/cas:ps". The first latency and the first bandwidth
// of numa_matrix are the nodes' Latency (ns) and Bandwidth (MiB/s) too. A transfer that was
// measured one way only stands for both, a CPU's distance from itself is 0, and objects are left
// out until no gap remains.
//
// `machine_key` is the key of this machine; empty for a foreign topology, whose shape must then be
// that of the files. Throws BadInput naming the file that describes another machine, has no such
// matrix, repeats one, or has none that can be taken.
Measured measured_on(const affinity::Topology& topology, std::span<const ResultFile> files,
                     const std::string& machine_key);

}  // namespace schedlab::cli
