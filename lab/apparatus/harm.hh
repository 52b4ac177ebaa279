#pragma once
// A task does something wrong, as a thread of a process or as a process of its own: who dies of it,
// who lives, what is left, and what is told.

#include "affinity/cpu_set.hh"
#include "lab/apparatus/team.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace schedlab::apparatus {

// What the task does after it has written over the state of whoever started it.
enum class Harm : std::uint8_t {
  none,    // ends well: what it wrote is what it can do without any crash
  leak,    // opens descriptors, and ends well without closing them
  write,   // writes where it may not: SIGSEGV
  stack,   // calls itself for ever
  abort,   // std::abort
  except,  // lets an exception out
  exit,    // _exit
  kill,    // SIGKILL, addressed at this task alone
  memory,  // touches more memory than its cgroup has
};
std::string_view to_text(Harm harm) noexcept;
std::span<const Harm> all_harms() noexcept;

struct HarmOptions {
  Harm harm = Harm::none;
  TaskKind kind = TaskKind::threads;  // what the task is to whoever started it
  unsigned cpu = 0;                   // kernel number
  affinity::CpuSet usable;
  // Indexes of the metrics that a sample fills in.
  std::size_t alive = 0;    // share of the starters that outlived the task
  std::size_t changed = 1;  // share of a survivor's state that it finds changed
  std::size_t left = 2;     // descriptors that a survivor has more than before
  std::size_t told = 3;     // ns from just before the harm until the parent of what died knew
};

// The name of the check whose `seen` says how it ended, as its parent was told.
inline constexpr std::string_view cause_check = "how it ended";

inline constexpr std::uint64_t cage_bytes = std::uint64_t{8} << 20;
inline constexpr int leaked_descriptors = 16;

// An operation is a scene: a forked process with 64 KiB of state, which starts the task and, if it
// can, looks at its state and descriptors when the task is gone. The checks say that all scenes
// ended alike, and how; and, of `memory`, that the cgroup counted the kills.
// Throws Unsupported where there is no cgroup for `memory`.
std::unique_ptr<harness::Subject> make_harm(const HarmOptions& options);

}  // namespace schedlab::apparatus
