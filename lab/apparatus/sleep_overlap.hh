#pragma once
// Small programs of tasks that sleep and tasks that compute, whose total time says what ran beside
// what: two sleepers in threads, processes or coroutines; one wait after another; a task that was
// started before it is waited for; computing in a loop.

#include "affinity/cpu_set.hh"
#include "iouring/driver.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

struct OverlapOptions {
  unsigned cpu = 0;  // of all of them
  affinity::CpuSet usable;
  iouring::DriverChoice driver = iouring::DriverChoice::epoll;  // of those that run a loop
  std::int64_t step_ns = 0;
  // Indexes of the metrics that a sample fills in.
  std::size_t total = 0;  // time of the whole, as a multiple of what the program calls one
  std::size_t late = 1;   // ns: by how much a step is longer than asked, or a timer later
};

inline constexpr unsigned overlap_steps = 10;  // of each of two sleepers

// What one is, and what a check says, by name:
//
//   threads            two threads sleep ten steps each. One: ten steps. Turns are counted.
//   processes          two processes likewise, from when both are there
//   processes-started  the same with starting and ending them
//   coroutines         two tasks under gather likewise
//   sequential         a task awaits ten steps, then ten steps; another ticks meanwhile
//   create_task        a task of five steps is started, then ten steps are awaited, then the task
//   slice-short        a timer falls due as a coroutine computes for 4 steps. One: what is left of
//                      the computing when it falls due
//   slice-long         the same with 16 steps
//   compute-pair       two computing tasks under gather. One: the time of one of them
const std::vector<std::string_view>& overlap_programs();
bool runs_a_loop(std::string_view program) noexcept;

// A subject whose operation is one run of the program. Throws Unsupported, std::system_error.
std::unique_ptr<harness::Subject> make_overlap(std::string_view program,
                                               const OverlapOptions& options);

// Names of the checks, for those who judge by them.
inline constexpr std::string_view turns_check = "least changes of turn in a run";
inline constexpr std::string_view ticks_check = "least ticks during a wait";
inline constexpr std::string_view began_check =
    "runs in which the task began before it was awaited";
inline constexpr std::string_view threads_check = "threads that ran the tasks";

}  // namespace schedlab::apparatus
