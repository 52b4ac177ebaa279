#pragma once
// What doctor looked at, and its judgement of each part. The judgement reads nothing but the facts.

#include "affinity/topology.hh"
#include "iouring/probe.hh"
#include "lab/cli/doctor.hh"
#include "lab/cli/noise_floor.hh"
#include "lab/harness/environment.hh"
#include "procs/sched_attr.hh"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace schedlab::cli {

// Why something cannot be used; empty: it can.
using Objection = std::string;

struct Facts {
  harness::Environment environment;
  std::vector<harness::Warning> warnings;  // before and during the A/A test
  std::optional<double> load1;
  std::optional<std::uint64_t> hot_events;  // since boot
  std::optional<std::uint64_t> throttled;   // periods, by the cgroup's quota
  std::string restriction;                  // what keeps CPUs away, in words
  iouring::Probe io_uring;
  Objection hardware_counters;
  std::vector<std::pair<procs::SchedPolicy, Objection>> policies;
  NoiseFloor noise;
};

// In the order in which they are printed.
std::vector<Finding> judge(const Facts& facts);

// The findings of each group, for judge().
std::vector<Finding> judge_cpus(const Facts& facts);
std::vector<Finding> judge_speed(const Facts& facts);
std::vector<Finding> judge_noise(const Facts& facts);
std::vector<Finding> judge_kernel(const Facts& facts);
std::vector<Finding> judge_rights(const Facts& facts);

}  // namespace schedlab::cli
