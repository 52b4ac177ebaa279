#pragma once
// What a pool of processes is asked to do in measurements, the same as a pool of threads is asked
// by pool_work.hh; and what it takes to have either pool.

#include "lab/apparatus/pool_work.hh"

#include <cstddef>
#include <memory>

namespace schedlab::procs {
class ProcessPool;
}

namespace schedlab::apparatus {

// A pool of processes that several subjects use in turn, made when the first is: so many processes
// once, and not for each length of work. Its members are for one thread.
class SharedProcesses {
public:
  // With a worker for each of these CPUs, which the workers may run on.
  explicit SharedProcesses(affinity::CpuSet usable);
  SharedProcesses(const SharedProcesses&) = delete;
  SharedProcesses& operator=(const SharedProcesses&) = delete;
  ~SharedProcesses();

  // Throws as ProcessPool does.
  procs::ProcessPool& pool();
  [[nodiscard]] const affinity::CpuSet& usable() const noexcept { return usable_; }

private:
  affinity::CpuSet usable_;
  std::unique_ptr<procs::ProcessPool> pool_;
};

// A subject whose operation is submit and get, with a pool of one process. `wakes` is not filled
// in, here and below: a pool of processes does not count them.
std::unique_ptr<harness::Subject> make_process_round_trip(const RoundTripOptions& options);

// A subject whose operation is so many tiny tasks, submitted one by one; with 4096 under way the
// value of the oldest is got first.
std::unique_ptr<harness::Subject> make_process_flood(std::shared_ptr<SharedProcesses> processes,
                                                     std::uint64_t tasks, std::size_t metric);

// A subject whose operation is a batch of pieces that compute; of the options length, pieces and
// metric count.
std::unique_ptr<harness::Subject> make_process_pieces(std::shared_ptr<SharedProcesses> processes,
                                                      const PieceOptions& options);

enum class PoolOf : std::uint8_t { threads, processes };

struct PoolStartOptions {
  PoolOf what = PoolOf::threads;
  unsigned workers = 1;
  affinity::CpuSet usable;
  std::size_t metric = 0;  // ns
};

// A subject whose operation is a pool: made, given one task, its value got, and ended. Processes
// come from a server that each pool starts anew.
std::unique_ptr<harness::Subject> make_pool_start(const PoolStartOptions& options);

}  // namespace schedlab::apparatus
