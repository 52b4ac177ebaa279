#pragma once
// What a task begins with of what the one that started it has, and what of it both go on sharing.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace schedlab::apparatus {

enum class Thing : std::uint8_t {
  descriptor,  // of a file: shared means its offset
  cloexec,     // the same with FD_CLOEXEC
  global,      // a variable
  privately,   // anonymous memory, MAP_PRIVATE
  shared,      // anonymous memory, MAP_SHARED
};
std::string_view to_text(Thing thing) noexcept;
std::span<const Thing> all_things() noexcept;

enum class Start : std::uint8_t {
  thread,
  fork,
  exec,  // of another program
};
std::string_view to_text(Start start) noexcept;
std::span<const Start> all_starts() noexcept;

struct InheritanceOptions {
  Thing thing = Thing::global;
  Start start = Start::fork;
  unsigned cpu = 0;  // kernel number
  affinity::CpuSet usable;
  std::size_t passed = 0;  // metric: share of it that the task begins with
  std::size_t shared = 1;  // metric: share of what the task changed that the starter finds changed
};

// An operation is a task that is started, looks, writes, and ends. Of a program that was executed
// the starter looks into /proc/PID/fd, and for memory at the same address by process_vm_readv.
std::unique_ptr<harness::Subject> make_inheritance(const InheritanceOptions& options);

struct CopyOnWriteOptions {
  bool writes = true;  // or the child only reads
  unsigned cpu = 0;    // kernel number
  affinity::CpuSet usable;
  std::size_t faults = 0;  // metric: minor faults (ru_minflt) for each page that was touched
  std::size_t each = 1;    // metric: ns for a page
};

inline constexpr std::uint64_t copied_pages = 512;

// An operation is a forked child that touches 512 pages which its parent had written. The checks
// count the pages that became the children's own (/proc/self/pagemap), which is all or none.
std::unique_ptr<harness::Subject> make_copy_on_write(const CopyOnWriteOptions& options);

// Names of the checks of what was printed, for those who judge by them.
inline constexpr std::string_view lines_check = "runs that printed the three lines, whole";
inline constexpr std::string_view done_check = "runs in which the last line was \"Done!\"";

struct TwoThreadsOptions {
  unsigned cpu = 0;       // kernel number; nothing is pinned where `anywhere` is set
  bool anywhere = false;  // on all of `usable`
  affinity::CpuSet usable;
  std::size_t overtook = 0;  // metric: runs in which the thread started second printed first, share
  std::size_t each = 1;      // metric: ns for a run
};

// An operation is a run of a first program with threads: one prints a square, the other a cube, the
// main thread waits for both and prints "Done!". The checks say in how many runs the lines were
// those three, whole, and in how many "Done!" was the last.
std::unique_ptr<harness::Subject> make_two_threads(const TwoThreadsOptions& options);

}  // namespace schedlab::apparatus
