#pragma once
// A real deadlock, in a process of its own that is given up: who notices it, when, and what can be
// said of it. And the same locks in runs in which nothing happened.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

enum class Scene : std::uint8_t {
  deadlock,    // all hold their first lock before any asks for the second
  lucky,       // the same code, one thread after the other: nothing happens
  consistent,  // all take the locks in one order
  gated,       // opposite orders, always under a third lock
};
std::string_view to_text(Scene scene) noexcept;

struct StandstillOptions {
  Scene scene = Scene::deadlock;
  unsigned threads = 2;  // around a table, a lock between each two
  std::vector<std::optional<unsigned>> places;
  affinity::CpuSet usable;
  std::int64_t patience_ns = 10'000'000;  // without a step, before the watchdog looks
  // Indexes of the metrics that a sample fills in.
  std::size_t found = 0;     // scenes that the watchdog found at a standstill, share
  std::size_t foretold = 1;  // scenes in whose lock order a cycle was found, share
  std::size_t seen = 2;      // ns from the last lock's asking until the recorder knew
  std::size_t reported = 3;  // ns until the watchdog had said so
};

// The check that no scene was given up: it ended, or its watchdog ended it. For those who judge.
inline constexpr std::string_view ended_check = "scenes that came to an end";
// The name of the check whose `seen` is what was said of the cycle, a line for each thread.
inline constexpr std::string_view cycle_check = "the cycle, with the places of all locks";

// An operation is a scene: a forked process with its threads, which ends by itself or, at a
// standstill, by its watchdog. The checks say that each ended so, that what was found is what the
// scene holds, and what the cycle looks like.
std::unique_ptr<harness::Subject> make_standstill(const StandstillOptions& options);

}  // namespace schedlab::apparatus
