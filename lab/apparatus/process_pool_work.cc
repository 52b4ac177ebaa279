#include "lab/apparatus/process_pool_work.hh"

#include "affinity/pin.hh"
#include "lab/apparatus/pool_samples.hh"
#include "lab/apparatus/team.hh"
#include "lab/apparatus/work_length.hh"
#include "procs/process_pool.hh"
#include "procs/thread_pool.hh"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Sample;
using procs::ProcessPool;
using procs::Waiting;

std::uint64_t one() {
  return 1;
}

std::uint64_t piece(std::uint64_t steps) {
  compute(steps);
  return 1;
}

std::pair<unsigned, long> place() {
  return {affinity::current_cpu(), ::syscall(SYS_gettid)};
}

class ProcessTrips final : public Trips {
  using Trips::Trips;
  void begin_sample() override {
    if (pool_)
      return;
    // Where both may be while the pool is made: it asks whether to spin is of use.
    affinity::CpuSet both = options().usable;
    if (options().submitter && options().worker)
      both = affinity::CpuSet{*options().submitter, *options().worker};
    stand_on(std::nullopt, both);
    pool_.emplace(procs::ProcessPoolOptions{.workers = 1, .waiting = options().waiting});
    stand_on(options().submitter, options().usable);
    affinity::bind_thread(pool_->pids().front(), options().worker
                                                     ? affinity::CpuSet{*options().worker}
                                                     : options().usable);
  }
  std::uint64_t go(std::uint64_t trips) override {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < trips; ++i)
      sum += pool_->submit<one>().get();
    return sum;
  }
  void end_sample(Sample&) override {
    const auto [cpu, thread] = pool_->submit<place>().get();
    seen_on(cpu, thread);
    if (options().waiting == Waiting::spin)
      pool_.reset();  // it would disturb the others
  }

  std::optional<ProcessPool> pool_;
};

class ProcessFlood final : public Batches {
  // As many as the pool has room for; the futures of ten million tasks would fill the memory.
  static constexpr std::uint64_t under_way = 4096;

public:
  ProcessFlood(std::shared_ptr<SharedProcesses> processes, std::uint64_t tasks, std::size_t metric)
      : Batches(processes->usable(), metric), processes_(std::move(processes)), tasks_(tasks) {
    line_.resize(std::min<std::uint64_t>(tasks, under_way));
    processes_->pool();
  }

private:
  std::uint64_t play() override {
    ProcessPool& pool = processes_->pool();
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < tasks_; ++i) {
      auto& oldest = line_[i % line_.size()];
      if (oldest.valid())
        sum += oldest.get();
      oldest = pool.submit<one>();
    }
    for (auto& future : line_)
      sum += std::exchange(future, {}).get();
    return sum;
  }
  [[nodiscard]] std::uint64_t in_operation() const override { return tasks_; }

  std::shared_ptr<SharedProcesses> processes_;
  std::uint64_t tasks_;
  std::vector<procs::ProcessFuture<std::uint64_t>> line_;  // by number, modulo its size
};

class ProcessPieces final : public Batches {
public:
  ProcessPieces(std::shared_ptr<SharedProcesses> processes, const PieceOptions& options)
      : Batches(processes->usable(), options.metric), processes_(std::move(processes)),
        list_(options.pieces, steps_for(options.length_ns)) {
    processes_->pool();
  }

private:
  std::uint64_t play() override {
    std::uint64_t sum = 0;
    for (const std::uint64_t done : processes_->pool().map<piece>(list_))
      sum += done;
    return sum;
  }
  [[nodiscard]] std::uint64_t in_operation() const override { return list_.size(); }

  std::shared_ptr<SharedProcesses> processes_;
  std::vector<std::uint64_t> list_;  // steps
};

class PoolStart final : public Batches {
public:
  explicit PoolStart(const PoolStartOptions& options)
      : Batches(options.usable, options.metric), options_(options) {}

private:
  std::uint64_t play() override {
    if (options_.what == PoolOf::threads) {
      procs::ThreadPool pool({.name = "start", .workers = options_.workers});
      return pool.submit(one).get();
    }
    ProcessPool pool({.workers = options_.workers});
    return pool.submit<one>().get();
  }
  [[nodiscard]] std::uint64_t in_operation() const override { return 1; }

  PoolStartOptions options_;
};

}  // namespace

SharedProcesses::SharedProcesses(affinity::CpuSet usable) : usable_(std::move(usable)) {}
SharedProcesses::~SharedProcesses() = default;

ProcessPool& SharedProcesses::pool() {
  if (!pool_) {
    stand_on(std::nullopt, usable_);  // the workers inherit it
    pool_ = std::make_unique<ProcessPool>(procs::ProcessPoolOptions{.workers = usable_.count()});
  }
  return *pool_;
}

std::unique_ptr<harness::Subject> make_process_round_trip(const RoundTripOptions& options) {
  return std::make_unique<ProcessTrips>(options);
}

std::unique_ptr<harness::Subject> make_process_flood(std::shared_ptr<SharedProcesses> processes,
                                                     std::uint64_t tasks, std::size_t metric) {
  return std::make_unique<ProcessFlood>(std::move(processes), tasks, metric);
}

std::unique_ptr<harness::Subject> make_process_pieces(std::shared_ptr<SharedProcesses> processes,
                                                      const PieceOptions& options) {
  return std::make_unique<ProcessPieces>(std::move(processes), options);
}

std::unique_ptr<harness::Subject> make_pool_start(const PoolStartOptions& options) {
  return std::make_unique<PoolStart>(options);
}

}  // namespace schedlab::apparatus
