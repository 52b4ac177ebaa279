#pragma once
// Threads that count references to an object of their own, or all to the same one.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"
#include "procs/interpreter_lock.hh"

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

enum class Counting : std::uint8_t { plain, atomic, biased };
std::string_view to_text(Counting counting) noexcept;
// "plain", "atomic" or "biased".
Counting counting_from(std::string_view word);

// The check of the counts, for those who judge by it.
inline constexpr std::string_view references_check = "references lost";

struct CountingOptions {
  Counting counting = Counting::plain;
  bool shared = false;         // one object for all, made by none of them
  std::vector<unsigned> cpus;  // one thread on each, all different (kernel numbers)
  affinity::CpuSet usable;
  std::size_t pair = 0;  // metric: ns for one thread to take a reference and give it up
};
// Checks that no reference was lost, but for plain counts that are shared.
std::unique_ptr<harness::Subject> make_counting(const CountingOptions& options);

// One thread that interprets a loop with this way to count, pinned; ns for a turn of the loop.
std::unique_ptr<harness::Subject> make_counting_loop(Counting counting, unsigned cpu,
                                                     const affinity::CpuSet& usable,
                                                     std::size_t turn);

struct LosingOptions {
  procs::LockRule rule = procs::LockRule::none;
  std::vector<unsigned> cpus;  // one thread on each
  affinity::CpuSet usable;
  std::size_t lost = 0;  // metric: references lost or found, of a million that were taken
};
// Threads that interpret one program whose constants are counted plainly. An operation is a
// thousand turns of its loop by each.
std::unique_ptr<harness::Subject> make_losing(const LosingOptions& options);

}  // namespace schedlab::apparatus
