#pragma once
// What cgroups take away from this process, v1 and v2 and both at once (hybrid).

#include "affinity/cpu_set.hh"

#include <cstdint>
#include <optional>
#include <string>

namespace schedlab::affinity {

struct CgroupLimits {
  int version = 0;   // 1, 2, or 0 where no cgroup with a cpu controller was found
  std::string path;  // of the cpu controller, as in /proc/self/cgroup
  // CPUs' worth of time, the smallest over this cgroup and its parents; nothing: no quota.
  std::optional<double> quota_cpus;
  std::string quota_source;      // the file the smallest quota was read from
  std::optional<CpuSet> cpuset;  // effective CPUs; nothing where there is no such controller
  std::optional<std::string> memory_nodes;  // effective nodes, kernel list
  std::optional<std::uint64_t> memory_max;  // bytes
  std::optional<std::uint64_t> pids_max;
};

// Reads the limits of the calling process. `root` stands before /proc and /sys, for tests.
CgroupLimits cgroup_limits(const std::string& root = "");

// How often, and for how long, the quota has stopped this cgroup's tasks since it was made; summed
// over the cgroup and its parents.
struct Throttling {
  std::uint64_t periods = 0;
  std::uint64_t time_ns = 0;
};
std::optional<Throttling> cgroup_throttling(const std::string& root = "");

// The file in which the calling process's memory cgroup, or the nearest parent that has one, counts
// in a line "oom_kill N" the processes that were killed for want of memory.
std::optional<std::string> oom_kill_file(const std::string& root = "");

}  // namespace schedlab::affinity
