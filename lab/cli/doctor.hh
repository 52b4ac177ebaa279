#pragma once
// What would disturb a measurement on this machine, and the command that would help. The commands
// are printed and never run: nothing on the machine is changed.

#include "affinity/topology.hh"
#include "lab/cli/noise_floor.hh"
#include "lab/harness/document.hh"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace schedlab::cli {

enum class Health : std::uint8_t {
  ok,
  note,  // to be known when reading the numbers
  warn,  // will spoil numbers
};

// "ok", "note", "warn"
const char* name(Health health) noexcept;

struct Finding {
  std::string group;  // findings of a group follow one another
  std::string name;
  Health state = Health::ok;
  std::string finding;
  harness::Fields evidence;
  std::string fix;  // a command or an advice; empty where nothing helps or nothing needs to
};

struct Diagnosis {
  std::vector<Finding> findings;
  NoiseFloor noise;
};

// Takes about 2.5 s, most of it the A/A test. The topology is this machine's, else Unsupported is
// thrown; the clock has been selected.
Diagnosis diagnose(const affinity::Topology& topology);

// For people: a line for each finding and its fix below, cut to `width` columns. The states are
// words, so that the text reads without colour.
std::string doctor_text(const Diagnosis& diagnosis, unsigned width, bool colour);

nlohmann::ordered_json doctor_json(const Diagnosis& diagnosis);

}  // namespace schedlab::cli
