#pragma once
#include "lab/harness/document.hh"

namespace schedlab::harness {

// This program: version, compiler and flags as Meson set them, and the versions of the libraries it
// was built with; for glibc and hwloc also the one it runs with, where that differs.
ToolInfo tool_info();

// Was the program compiled with optimisation?
bool optimised() noexcept;

}  // namespace schedlab::harness
