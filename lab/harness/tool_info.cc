#include "lab/harness/tool_info.hh"

#include "affinity/topology.hh"
#include "lab/harness/build_info.hh"
#include "lab/harness/git_version.hh"

#include <gnu/libc-version.h>

namespace schedlab::harness {

namespace {

std::string version(const std::string& built, const std::string& runs) {
  return built == runs ? built : built + " (running " + runs + ")";
}

std::string glibc() {
  return version(std::to_string(__GLIBC__) + "." + std::to_string(__GLIBC_MINOR__),
                 ::gnu_get_libc_version());
}

}  // namespace

ToolInfo tool_info() {
  ToolInfo info;
  info.version = build::version;
  info.git = build::git;
  info.compiler = build::compiler;
  info.flags = build::flags;
  info.build_type = build::build_type;
  info.sanitizers = build::sanitizers;
  if (info.sanitizers == "[]")  // as Meson 1.8 and later say it
    info.sanitizers = "none";
  info.libraries = {{"glibc", glibc()},
                    {"hwloc", version(build::hwloc, affinity::hwloc_version())},
                    {"numa", build::numa},
                    {"liburing", build::liburing},
                    {"fmt", build::fmt},
                    {"nlohmann_json", build::nlohmann_json},
                    {"turbojpeg", build::turbojpeg}};
  return info;
}

bool optimised() noexcept {
#ifdef __OPTIMIZE__
  return true;
#else
  return false;
#endif
}

}  // namespace schedlab::harness
