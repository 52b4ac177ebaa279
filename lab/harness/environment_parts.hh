#pragma once
// The sections of the environment, and how each fact gets in or says why it is missing.

#include "affinity/topology.hh"
#include "lab/base/clock.hh"
#include "lab/harness/environment.hh"
#include "lab/harness/system.hh"

#include <nlohmann/json_fwd.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace schedlab::harness {

// One section while it is filled in.
class Section {
public:
  Section(Environment& environment, const System& system, std::string name);

  [[nodiscard]] const System& files() const noexcept { return system_; }

  void set(const std::string& key, nlohmann::ordered_json value);
  // Null, with the reason.
  void missing(const std::string& key, std::string reason);
  // The optional's value, or null with the reason.
  template <typename T>
  void set_or(const std::string& key, const std::optional<T>& value, const std::string& reason) {
    value ? set(key, *value) : missing(key, reason);
  }
  // What a file says: all of it, a number, the choice in brackets.
  void text(const std::string& key, std::string_view path);
  void number(const std::string& key, std::string_view path);
  void choice(const std::string& key, std::string_view path);

private:
  Environment& environment_;
  const System& system_;
  std::string name_;
};

// env.cpu, env.topology, env.power
void add_cpu(Section section, const affinity::Topology& topology);
void add_topology(Section section, const affinity::Topology& topology);
void add_power(Section section, const affinity::Topology& topology);

// env.kernel, env.virt, env.memory, env.clock, env.limits, env.io_uring
void add_kernel(Section section);
void add_virt(Section section);
void add_memory(Section section);
void add_clock(Section section, const clock::Calibration& calibration);
void add_limits(Section section, const affinity::Topology& topology);
void add_io_uring(Section section);

}  // namespace schedlab::harness
