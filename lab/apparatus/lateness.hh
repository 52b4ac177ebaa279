#pragma once
// How late a sleeper wakes that shares its thread, or its CPU, with something that takes long.

#include "affinity/cpu_set.hh"
#include "iouring/driver.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <string_view>

namespace schedlab::apparatus {

// The check of where the calls of call_in_thread ran, for those who judge by it.
inline constexpr std::string_view elsewhere_check = "calls that ran in another thread";

struct SleeperOptions {
  unsigned cpu = 0;  // kernel number
  affinity::CpuSet usable;
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;  // of tasks
  std::int64_t period_ns = 100'000;                                 // it sleeps that long
  std::int64_t length_ns = 5'000'000;                               // so long takes what is beside
  std::size_t metric = 0;
};

// What runs beside the sleeper.
enum class Beside : std::uint8_t {
  nothing,
  hog,            // computes and never waits
  yielding_hog,   // computes, and yields every 50 us
  blocking_call,  // sleeps in the kernel, in the same thread: tasks only
  call_in_thread  // the same through to_thread: tasks only
};

// An operation is an episode of `length_ns`, in which the sleeper sleeps again and again. Fills in,
// in nanoseconds, how much later than it asked for it woke at most in an episode, the mean over
// the episodes of a sample.
std::unique_ptr<harness::Subject> make_sleeping_task(Beside beside, const SleeperOptions& options);

// The same with two threads of one CPU: the caller sleeps, another computes (hog) or there is none.
std::unique_ptr<harness::Subject> make_sleeping_thread(Beside beside,
                                                       const SleeperOptions& options);

}  // namespace schedlab::apparatus
