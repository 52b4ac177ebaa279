#pragma once
#include "lab/harness/document.hh"
#include "lab/harness/system.hh"

#include <functional>
#include <string>

namespace schedlab::harness {

// Gives the value of an environment variable, or null.
using Lookup = std::function<const char*(const char*)>;

// What started this process, for RunInfo::launcher. {"kind": slurm | openmpi | mpich |
// systemd-run | ssh | none}, what it told of the job (job, step, rank, size, cpu_bind), and where
// there is one {"container": ...}. Does not throw.
Fields launcher(const System& system = System());
Fields launcher(const System& system, const Lookup& lookup);

// docker, podman, kubernetes, lxc, systemd-nspawn, or another word of the container's own; empty
// outside.
std::string container(const System& system, const Lookup& lookup);
std::string container(const System& system = System());

}  // namespace schedlab::harness
