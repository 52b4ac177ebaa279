#pragma once
// A fixed number of threads, pinned, that do a piece of work together for each sample, and what all
// of them counted. The calling thread waits for them and does no work.

#include "lab/apparatus/team.hh"
#include "lab/base/cache_line.hh"
#include "lab/harness/sample.hh"
#include "procs/barrier.hh"

#include <optional>
#include <span>
#include <vector>

namespace schedlab::apparatus {

struct CrewOptions {
  std::vector<unsigned> cpus;  // of each thread, kernel numbers; several may have the same
  affinity::CpuSet usable;
};

// CPUs for so many threads, from those given: each its own while there are any, then from the first
// again.
std::vector<unsigned> dealt_out(const std::vector<unsigned>& cpus, std::size_t threads);

class Crew : public harness::Subject {
public:
  harness::Sample sample(std::uint64_t operations) final;

protected:
  // What a sample took, all threads together.
  struct Span {
    double wall_ns = 0;  // from the first that began to the last that ended
    double cpu_ns = 0;
    double sleeps = 0;    // voluntary context switches
    double switches = 0;  // all
  };

  explicit Crew(const CrewOptions& options);
  // By the constructor and the destructor of what is derived: the members use its parts.
  void assemble();
  void dismiss() { team_.reset(); }

  // Before each sample, by the caller. How many operations all threads together will do; may be
  // more than asked for.
  virtual std::uint64_t prepare(std::uint64_t operations) = 0;
  // By each thread; without exceptions, allocation and output.
  virtual void work(unsigned member) noexcept = 0;
  virtual void fill(harness::Sample& sample, const Span& span) = 0;

  [[nodiscard]] unsigned count() const noexcept {
    return static_cast<unsigned>(options_.cpus.size());
  }
  // An even share of `operations`, rounded up.
  [[nodiscard]] std::uint64_t share(std::uint64_t operations) const noexcept {
    return (operations + count() - 1) / count();
  }

private:
  struct alignas(line_pair) Times {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
  };

  CrewOptions options_;
  std::vector<Times> times_;
  procs::Barrier gate_;
  std::optional<Team> team_;
};

}  // namespace schedlab::apparatus
