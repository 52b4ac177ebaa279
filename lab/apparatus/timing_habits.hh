#pragma once
// What ways to clock a piece of work add to it: each is measured beside the work itself, whose span
// lies inside the clocked one.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <string_view>

namespace schedlab::apparatus {

enum class TimingHabit : std::uint8_t {
  none,      // the span alone, read by two clocks
  start_up,  // the thread that works is started and joined inside the span
  process,   // a process is forked and waited for inside the span
  print,     // a line is formatted and written inside the span, to /dev/null
  rounding,  // the span is rounded to hundredths of a second
};
std::string_view to_text(TimingHabit habit) noexcept;
// "none", "start-up", "process", "print", "rounding".
TimingHabit timing_habit(std::string_view word);

struct TimingHabitOptions {
  TimingHabit habit = TimingHabit::none;
  std::uint64_t loops = 0;  // the work: count_up()
  unsigned cpu = 0;
  affinity::CpuSet usable;
  std::size_t work = 0;   // metric: ns of the work itself
  std::size_t error = 1;  // metric: by how much the clocked span differs, as a share of it; >= 0
};
// A subject whose operation is one clocked piece of work.
std::unique_ptr<harness::Subject> make_timing_habit(const TimingHabitOptions& options);

}  // namespace schedlab::apparatus
