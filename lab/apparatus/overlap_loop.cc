#include "lab/apparatus/overlap_loop.hh"

#include "iouring/gather.hh"
#include "iouring/loop.hh"
#include "iouring/sleep.hh"
#include "iouring/start.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/keep.hh"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace schedlab::apparatus {

namespace {

using iouring::create_task;
using iouring::Loop;
using iouring::Running;
using iouring::sleep_for;
using iouring::Task;
using std::chrono::nanoseconds;

constexpr unsigned short_task_steps = 5;
constexpr unsigned short_slice_steps = 4;
constexpr unsigned long_slice_steps = 16;
constexpr std::int64_t computing_ns = 1'000'000;  // of one of a computing pair, about

// What all of them do: run a task in a loop, as often as asked for.
class InLoop : public harness::Subject {
public:
  InLoop(const OverlapOptions& options, std::int64_t one_ns)
      : options_(options), one_ns_(one_ns), loop_([&] {
          iouring::LoopOptions how;
          how.driver.choice = options.driver;
          return how;
        }()) {}

  harness::Sample sample(std::uint64_t operations) final {
    stand_on(options_.cpu, options_.usable);
    harness::Sample sample;
    OverlapTally tally(options_, one_ns_);
    witness_.begin();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i)
      tally.add(loop_.run(program()));
    const auto end = clock::end();
    sample.proof = prove(witness_.end(), options_.cpu, clock::ns(begin, end), false);
    tally.fill_in(sample, operations, clock::ns(begin, end));
    amend(sample);
    return sample;
  }

protected:
  // Gives how long it took, in nanoseconds.
  virtual Task<std::int64_t> program() = 0;
  // A step's delay has a meaning only where sleepers overlap.
  virtual void amend(harness::Sample& sample) {
    sample.values[options_.late] = harness::not_measured;
  }
  [[nodiscard]] nanoseconds steps(unsigned count) const noexcept {
    return nanoseconds(count * options_.step_ns);
  }

  OverlapOptions options_;

private:
  std::int64_t one_ns_;
  Loop loop_;
  Witness witness_;
};

class TwoCoroutines final : public InLoop {
public:
  explicit TwoCoroutines(const OverlapOptions& options)
      : InLoop(options, overlap_steps * options.step_ns) {}
  std::vector<harness::Check> checks() override {
    return {turns(least_changes_),
            {std::string(threads_check), harness::Value(1), harness::Value(threads_.size()),
             threads_.size() == 1}};
  }

private:
  Task<std::int64_t> program() override {
    who_.clear();
    const std::int64_t begun_ns = clock::now_ns();
    std::vector<Task<>> both;
    both.push_back(sleeper(0));
    both.push_back(sleeper(1));
    co_await iouring::gather(std::move(both));
    const std::int64_t took_ns = clock::now_ns() - begun_ns;
    unsigned changes = 0;
    for (std::size_t i = 1; i < who_.size(); ++i)
      changes += who_[i] != who_[i - 1];
    least_changes_ = std::min(least_changes_, changes);
    co_return took_ns;
  }
  void amend(harness::Sample&) override {}
  Task<> sleeper(unsigned me) {
    for (unsigned step = 0; step < overlap_steps; ++step) {
      co_await sleep_for(steps(1));
      who_.push_back(me);
      threads_.insert(::syscall(SYS_gettid));
    }
  }

  std::vector<unsigned> who_;
  std::set<long> threads_;
  unsigned least_changes_ = std::numeric_limits<unsigned>::max();
};

// await a; await b, while another task ticks.
class Sequential final : public InLoop {
public:
  explicit Sequential(const OverlapOptions& options)
      : InLoop(options, overlap_steps * options.step_ns) {}
  std::vector<harness::Check> checks() override {
    return {{std::string(ticks_check), harness::Value("more than 0"), harness::Value(least_ticks_),
             least_ticks_ > 0}};
  }

private:
  Task<std::int64_t> program() override {
    ticks_ = 0;
    Running<> ticking = create_task(tick());
    const std::int64_t begun_ns = clock::now_ns();
    for (int wait = 0; wait < 2; ++wait) {
      const unsigned before = ticks_;
      co_await sleep_for(steps(overlap_steps));
      least_ticks_ = std::min(least_ticks_, ticks_ - before);
    }
    const std::int64_t took_ns = clock::now_ns() - begun_ns;
    ticking.cancel();
    co_return took_ns;
  }
  Task<> tick() {
    for (;;) {
      co_await sleep_for(steps(1));
      ++ticks_;
    }
  }

  unsigned ticks_ = 0;
  unsigned least_ticks_ = std::numeric_limits<unsigned>::max();
};

// A short task is started, a long wait follows, then the task is waited for.
class StartedBefore final : public InLoop {
public:
  explicit StartedBefore(const OverlapOptions& options)
      : InLoop(options, overlap_steps * options.step_ns) {}
  std::vector<harness::Check> checks() override {
    return {{std::string(began_check), harness::Value(runs_), harness::Value(began_before_),
             began_before_ == runs_},
            {std::string(threads_check), harness::Value(1), harness::Value(threads_.size()),
             threads_.size() == 1}};
  }

private:
  Task<std::int64_t> program() override {
    ++runs_;
    began_ = false;
    threads_.insert(::syscall(SYS_gettid));
    const std::int64_t begun_ns = clock::now_ns();
    Running<> started = create_task(short_task());
    co_await sleep_for(steps(overlap_steps));
    began_before_ += began_;
    co_await std::move(started);
    co_return clock::now_ns() - begun_ns;
  }
  Task<> short_task() {
    began_ = true;
    threads_.insert(::syscall(SYS_gettid));
    co_await sleep_for(steps(short_task_steps));
  }

  bool began_ = false;
  std::uint64_t runs_ = 0;
  std::uint64_t began_before_ = 0;
  std::set<long> threads_;
};

// A timer falls due while a coroutine computes.
class Slice final : public InLoop {
public:
  Slice(const OverlapOptions& options, unsigned slice_steps)
      : InLoop(options, slice_steps * options.step_ns), slice_(steps(slice_steps)) {}
  std::vector<harness::Check> checks() override { return {}; }

private:
  Task<std::int64_t> program() override {
    Running<> timer = create_task(one_step());
    co_await iouring::yield();
    while (due_ns_ == 0)
      co_await iouring::yield();
    const std::int64_t until_ns = clock::now_ns() + slice_.count();
    while (clock::now_ns() < until_ns)
      pause_cpu();
    const std::int64_t left_ns = clock::now_ns() - due_ns_;
    co_await std::move(timer);
    lateness_.push_back(static_cast<double>(late_ns_));
    shares_.push_back(static_cast<double>(late_ns_) / static_cast<double>(left_ns));
    due_ns_ = 0;
    co_return left_ns;
  }
  Task<> one_step() {
    const std::int64_t due_ns = clock::now_ns() + steps(1).count();
    due_ns_ = due_ns;
    co_await sleep_for(steps(1));
    late_ns_ = clock::now_ns() - due_ns;
  }
  void amend(harness::Sample& sample) override {
    sample.values[options_.total] = harness::median(shares_);
    sample.values[options_.late] = harness::median(lateness_);
    shares_.clear();
    lateness_.clear();
  }

  nanoseconds slice_;
  std::int64_t due_ns_ = 0;
  std::int64_t late_ns_ = 0;
  std::vector<double> lateness_;
  std::vector<double> shares_;
};

// Two tasks that compute, under gather, and one of them alone.
class ComputePair final : public InLoop {
public:
  explicit ComputePair(const OverlapOptions& options) : InLoop(options, computing_ns) {
    const std::int64_t took_ns = std::max<std::int64_t>(compute(probe_turns), 1);
    turns_ = std::max<std::uint64_t>(probe_turns * static_cast<std::uint64_t>(computing_ns) /
                                         static_cast<std::uint64_t>(took_ns),
                                     1);
  }
  std::vector<harness::Check> checks() override { return {}; }

private:
  static constexpr std::uint64_t probe_turns = 20'000;

  // A chain of additions and multiplications; gives nanoseconds.
  static std::int64_t compute(std::uint64_t turns) noexcept {
    const std::int64_t begun_ns = clock::now_ns();
    std::uint64_t value = turns;
    for (std::uint64_t i = 0; i < turns; ++i) {
      value = value * 3 + 1;
      launder(value);
    }
    return clock::now_ns() - begun_ns;
  }
  Task<> worker() {
    compute(turns_);
    co_await iouring::yield();
  }
  Task<std::int64_t> program() override {
    const std::int64_t begun_ns = clock::now_ns();
    co_await worker();
    const std::int64_t alone_ns = clock::now_ns() - begun_ns;
    std::vector<Task<>> both;
    both.push_back(worker());
    both.push_back(worker());
    const std::int64_t pair_ns = clock::now_ns();
    co_await iouring::gather(std::move(both));
    const std::int64_t took_ns = clock::now_ns() - pair_ns;
    ratios_.push_back(static_cast<double>(took_ns) / static_cast<double>(alone_ns));
    co_return took_ns;
  }
  void amend(harness::Sample& sample) override {
    sample.values[options_.total] = harness::median(ratios_);
    sample.values[options_.late] = harness::not_measured;
    ratios_.clear();
  }

  std::uint64_t turns_ = 1;
  std::vector<double> ratios_;
};

}  // namespace

std::unique_ptr<harness::Subject> make_loop_overlap(std::string_view program,
                                                    const OverlapOptions& options) {
  if (program == "coroutines")
    return std::make_unique<TwoCoroutines>(options);
  if (program == "sequential")
    return std::make_unique<Sequential>(options);
  if (program == "create_task")
    return std::make_unique<StartedBefore>(options);
  if (program == "slice-short")
    return std::make_unique<Slice>(options, short_slice_steps);
  if (program == "slice-long")
    return std::make_unique<Slice>(options, long_slice_steps);
  if (program == "compute-pair")
    return std::make_unique<ComputePair>(options);
  throw std::logic_error("no such program: " + std::string(program));
}

}  // namespace schedlab::apparatus
