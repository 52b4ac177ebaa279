#pragma once
#include "affinity/topology.hh"
#include "lab/base/clock.hh"
#include "lab/cli/options.hh"
#include "lab/harness/document.hh"
#include "lab/harness/runner.hh"

#include <string>

namespace schedlab::cli {

// A document with everything but labs: the run, the tool, the machine.
harness::Document begin_document(const Options& options, const harness::RunOptions& run,
                                 const affinity::Topology& topology,
                                 const clock::Calibration& calibration);

// Stamps the end.
void end_document(harness::Document& document);

// "schedlab-<host>-<UTC>.json", or without the host.
std::string default_file_name(bool redact);

}  // namespace schedlab::cli
