#pragma once
// One job, again and again, by as many workers as are wanted of a crew: what scales perfectly, what
// shares the inside of a core, what has a serial part, and what shares a cache line.

#include "lab/apparatus/team.hh"
#include "lab/base/mapping.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

enum class Job : std::uint8_t {
  chain,   // additions that wait for each other: a core's other thread leaves them their pace
  wide,    // additions that fill a core: its two threads have one core's pace together
  serial,  // a chain of which one worker does a share while the others wait
  shared,  // a chain, and after each piece of it an addition to one counter for all
};
std::string_view to_text(Job job) noexcept;
// "chain", "wide", "serial" or "shared".
Job job_from(std::string_view word);

struct JobOptions {
  Job job = Job::chain;
  unsigned workers = 1;  // of the crew, its first ones
  // Strong: all share one job. Weak: each has a whole job's parallel part.
  bool weak = false;
  double serial = 0;           // share of the job that one does alone; of Job::serial
  std::uint64_t steps = 1000;  // of a job, as compute() counts them
  std::uint64_t turn = 100;    // steps between two additions to the counter; of Job::shared
  std::size_t time = 0;        // metric: nanoseconds from the first begin to the last end
  std::size_t rate = 1;        // metric: jobs done in a second

  // Jobs that one run of it does: more than one where the work grows with the workers.
  [[nodiscard]] double jobs() const noexcept;
};

// Steps of a job, and additions to the counter, that a worker does beside the serial part.
struct JobPart {
  std::uint64_t steps = 0;
  std::uint64_t turns = 0;
};
// The parts of all workers together are the job, to the last step.
JobPart part_of(const JobOptions& options, unsigned worker) noexcept;
std::uint64_t serial_steps(const JobOptions& options) noexcept;

// Threads or processes that wait for jobs. For one thread.
class JobCrew {
public:
  // One worker for each place. With `apart` each has a CPU of its own and meets the others
  // spinning, for a while; else they sleep at once. Throws what Team throws.
  JobCrew(TaskKind kind, std::vector<std::optional<unsigned>> places,
          const affinity::CpuSet& usable, bool apart);
  JobCrew(const JobCrew&) = delete;
  JobCrew& operator=(const JobCrew&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return places_.size(); }

  struct Run {
    double window_ns = 0;
    std::uint64_t steps = 0;  // done by all workers, counted by them
    std::uint64_t turns = 0;  // read from the counter
    harness::Proof proof;
  };
  Run run(const JobOptions& options, std::uint64_t rounds);

private:
  struct Board;
  static Mapping make_board(std::size_t workers);
  void play(unsigned worker, std::uint64_t rounds) noexcept;
  [[nodiscard]] Board& board() const noexcept { return *shared_.as<Board>(); }

  std::vector<std::optional<unsigned>> places_;
  bool apart_;
  Mapping shared_;
  Team team_;  // last: gone before what its members use
};

// An operation is one run of the job. checks() compares the steps and additions that were done with
// those of the job.
std::unique_ptr<harness::Subject> make_shared_job(std::shared_ptr<JobCrew> crew,
                                                  const JobOptions& options);

}  // namespace schedlab::apparatus
