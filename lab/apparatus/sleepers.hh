#pragma once
// Many sleepers on one CPU, and how late each of them wakes: coroutines of one loop, threads in
// clock_nanosleep, or timers of the kernel (timerfd) that one thread waits for through epoll.
//
// Each sleeper is due once in a period; the sleepers are spread evenly over it, in an order of
// their own. Lateness counts from when a sleeper was due, not from when it was asked for, so that
// what falls behind is seen to fall behind.

#include "affinity/cpu_set.hh"
#include "iouring/driver.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace schedlab::apparatus {

struct SleepersOptions {
  unsigned cpu = 0;  // of all of them
  affinity::CpuSet usable;
  std::uint64_t sleepers = 1;
  std::int64_t period_ns = 0;
  std::uint64_t slack_ns = 0;  // timer slack of the threads; 0: as it is
  // Indexes of the metrics that a sample fills in. The first five are in nanoseconds; p99 and p999
  // only of 299 and 2995 wake-ups and more.
  std::size_t late = 0;  // median of the sample
  std::size_t p99 = 1;
  std::size_t p999 = 2;
  std::size_t worst = 3;
  std::size_t cpu_time = 4;  // of the whole process, for one sleep
  std::size_t calls = 5;     // system calls for one sleep
  std::size_t memory = 6;    // bytes of user memory for one sleeper; not for timers of the kernel
};

// Subjects whose operation is one sleep of each sleeper. Throw Unsupported, std::system_error.
std::unique_ptr<harness::Subject> make_loop_sleepers(iouring::DriverChoice driver,
                                                     const SleepersOptions& options);
std::unique_ptr<harness::Subject> make_thread_sleepers(const SleepersOptions& options);
std::unique_ptr<harness::Subject> make_timerfd_sleepers(const SleepersOptions& options);

// Why so many timers of the kernel cannot be had: the limit of open files. Empty: they can.
std::string too_many_timerfds(std::uint64_t sleepers);

// When each is due, and what became of it. Used by one thread, but for due_ns and note.
class Timetable {
public:
  explicit Timetable(const SleepersOptions& options);

  // For a sample of so many rounds that begins when all have been set up.
  void plan(std::uint64_t rounds, std::int64_t base_ns);
  // CLOCK_MONOTONIC in nanoseconds. Any thread.
  [[nodiscard]] std::int64_t due_ns(std::uint64_t sleeper, std::uint64_t round) const noexcept {
    return base_ns_ + offsets_[sleeper] + static_cast<std::int64_t>(round) * options_.period_ns;
  }
  // A sleeper goes on: any thread, each sleeper by one.
  void note(std::uint64_t sleeper, std::uint64_t round, std::int64_t now_ns) noexcept {
    lateness_[round * options_.sleepers + sleeper] = now_ns - due_ns(sleeper, round);
  }
  // The metrics of lateness.
  void fill_in(harness::Sample& sample);
  [[nodiscard]] std::uint64_t sleeps() const noexcept { return lateness_.size(); }
  // Over all samples, how many went on before they were due.
  [[nodiscard]] harness::Check check() const;

private:
  SleepersOptions options_;
  std::int64_t base_ns_ = 0;
  std::vector<std::int64_t> offsets_;
  std::vector<std::int64_t> lateness_;
  std::uint64_t early_ = 0;
};

// How long before the first is due a sample begins: all must have been set by then. Found by
// trying: `attempt(lead_ns)` plays a sample and gives how long setting took.
class Lead {
public:
  explicit Lead(std::int64_t first_ns) : lead_ns_(first_ns) {}

  template <typename Attempt>
  void play(Attempt attempt) {
    for (int tries = 0; tries < most_tries; ++tries) {
      const std::int64_t took_ns = attempt(lead_ns_);
      const bool in_time = took_ns < lead_ns_;
      lead_ns_ = in_time ? lead_ns_ : 2 * took_ns;
      if (in_time)
        return;
    }
    ++late_;
  }
  [[nodiscard]] harness::Check check() const {
    return {"samples that began before all were asleep", harness::Value(0), harness::Value(late_),
            late_ == 0};
  }

private:
  static constexpr int most_tries = 4;
  std::int64_t lead_ns_;
  std::uint64_t late_ = 0;
};

}  // namespace schedlab::apparatus
