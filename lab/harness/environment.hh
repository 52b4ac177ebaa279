#pragma once
// The machine, as far as it bears on a measurement: "env" of the result file. What cannot be read
// is null, with the reason under its path in `unavailable`; nothing here throws for a machine that
// lacks something.

#include "affinity/topology.hh"
#include "lab/base/clock.hh"
#include "lab/harness/document.hh"
#include "lab/harness/system.hh"

#include <map>
#include <string>

namespace schedlab::harness {

struct Environment {
  JsonValue env;                                   // machine_key, config_key and nine sections
  std::map<std::string, std::string> unavailable;  // {"env.power.governors", "why"}
};

// Takes some milliseconds. The section io_uring has only what files tell; who can probe adds the
// rest. machine_key names the hardware (vendor, model, stepping, topology shape, size class of the
// memory), config_key how it is set up (kernel, microcode, mitigations, governor, and what else
// stays until an administrator changes it); neither holds a reading that drifts.
Environment capture_environment(const affinity::Topology& topology,
                                const clock::Calibration& calibration,
                                const System& system = System());

// env.machine_key alone.
std::string machine_key(const affinity::Topology& topology, const System& system = System());

// Takes out what tells whose machine it is: the path of the cgroup, and the words of the kernel
// command line that do not bear on scheduling.
void redact(Environment& environment);

// The same for the run: host, working directory, boot id, label of the node, and the folders in
// the arguments.
void redact(RunInfo& run);

// The words of a kernel command line that bear on scheduling, in their order.
std::string scheduling_words(const std::string& command_line);

}  // namespace schedlab::harness
