#include "lab/apparatus/pool_loop.hh"

#include "affinity/pin.hh"
#include "iouring/gather.hh"
#include "iouring/run_in_executor.hh"
#include "iouring/sleep.hh"
#include "lab/apparatus/looped.hh"
#include "lab/base/clock.hh"
#include "procs/process_pool.hh"

#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <optional>

namespace schedlab::apparatus {
namespace {

using harness::Check;
using harness::Sample;
using iouring::Task;

constexpr std::int64_t period_ns = 100'000;

// Gives back the process that did it.
pid_t compute(std::int64_t length_ns) {
  const std::int64_t until = clock::now_ns() + length_ns;
  while (clock::now_ns() < until) {
  }
  return ::getpid();
}

pid_t crash(std::int64_t length_ns) {
  compute(length_ns);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::signal(SIGSEGV, SIG_DFL);  // a sanitizer has its own handler
  ::raise(SIGSEGV);
  return -1;
}

class PoolLoop final : public Looped {
public:
  PoolLoop(LoopWork work, const PoolLoopOptions& options)
      : Looped({.cpu = options.cpu,
                .usable = options.usable,
                .driver = options.driver,
                .busy = false}),
        work_(work), options_(options) {
    // Workers inherit where this thread may run.
    const affinity::Pin everywhere(options.usable);
    if (work != LoopWork::here)
      pool_.emplace(procs::ProcessPoolOptions{.workers = 1, .most_restarts = 1'000'000});
  }

  std::vector<Check> checks() override {
    return {{std::string(pieces_check), pieces_, right_, pieces_ == right_}};
  }

private:
  Task<> play(std::uint64_t operations, Sample& sample) override {
    double worst_sum = 0;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      worst_ns_ = 0;
      over_ = false;
      co_await iouring::gather(sleeper(), piece());
      worst_sum += static_cast<double>(worst_ns_);
    }
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.values[options_.late] = worst_sum / static_cast<double>(operations);
  }

  Task<> sleeper() {
    while (!over_) {
      const std::int64_t due = clock::now_ns() + period_ns;
      co_await iouring::sleep_for(std::chrono::nanoseconds(period_ns));
      worst_ns_ = std::max(worst_ns_, clock::now_ns() - due);
    }
  }

  Task<> piece() {
    ++pieces_;
    if (work_ == LoopWork::here) {
      co_await iouring::yield();
      right_ += compute(options_.length_ns) == ::getpid() ? 1 : 0;
    } else if (work_ == LoopWork::in_pool) {
      auto task = procs::bind_task<compute>(options_.length_ns);
      const pid_t pid = co_await iouring::run_in(*pool_, std::move(task));
      right_ += pid != ::getpid() ? 1 : 0;
    } else {
      auto task = procs::bind_task<crash>(options_.length_ns);
      try {
        co_await iouring::run_in(*pool_, std::move(task));
      } catch (const procs::WorkerDied& error) {
        right_ += error.end.text.starts_with("killed by SIGSEGV") ? 1 : 0;
      }
    }
    over_ = true;
  }

  LoopWork work_;
  PoolLoopOptions options_;
  std::optional<procs::ProcessPool> pool_;
  std::int64_t worst_ns_ = 0;
  bool over_ = false;
  double pieces_ = 0;
  double right_ = 0;
};

}  // namespace

std::unique_ptr<harness::Subject> make_pool_loop(LoopWork work, const PoolLoopOptions& options) {
  return std::make_unique<PoolLoop>(work, options);
}

}  // namespace schedlab::apparatus
