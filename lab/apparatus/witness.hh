#pragma once
// What the kernel says of one task over a window: the proof beside the clock.

#include "affinity/cpu_set.hh"
#include "lab/base/fd.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <optional>
#include <span>

namespace schedlab::apparatus {

// Plain, so that it can lie in memory shared between processes.
struct TaskRecord {
  std::uint64_t voluntary = 0;    // switches: the task blocked or yielded
  std::uint64_t involuntary = 0;  // switches: the task was preempted
  std::int64_t cpu_ns = 0;        // time on a CPU
  std::int64_t waited_ns = 0;     // time runnable but not running; -1 where the kernel hides it
  unsigned cpu_before = 0;        // kernel numbers
  unsigned cpu_after = 0;

  [[nodiscard]] std::uint64_t switches() const noexcept { return voluntary + involuntary; }
};

// Watches the thread that built it. begin and end cost some microseconds and belong outside the
// clocked span.
class Witness {
public:
  Witness();
  void begin() noexcept;
  [[nodiscard]] TaskRecord end() noexcept;

private:
  void read(TaskRecord& record) const noexcept;
  Fd schedstat_;
  TaskRecord start_;
};

// Puts the records of a subject's tasks together. `places[i]` is the CPU task i was pinned to, or
// nothing. `busy` says that the tasks never leave their one CPU idle, so that time which none of
// them used was somebody else's. `sharing` says that they may be more than their CPUs: then they
// wait for each other, as planned, and that they waited tells of nobody else.
harness::Proof prove(std::span<const TaskRecord> tasks,
                     std::span<const std::optional<unsigned>> places, double wall_ns, bool busy,
                     bool sharing = false);
// The same of one task.
harness::Proof prove(const TaskRecord& task, std::optional<unsigned> place, double wall_ns,
                     bool busy);
// Whether each task is pinned to a CPU of its own.
bool all_apart(std::span<const std::optional<unsigned>> places);
// Adds the proof of one more window of the same sample, which begins with an empty one.
void add(const harness::Proof& window, harness::Proof& all);

}  // namespace schedlab::apparatus
