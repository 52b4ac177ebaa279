#include "lab/apparatus/pool_work.hh"

#include "affinity/pin.hh"
#include "lab/apparatus/pool_samples.hh"
#include "lab/apparatus/team.hh"
#include "lab/apparatus/work_length.hh"
#include "lab/base/clock.hh"
#include "lab/base/futex.hh"
#include "lab/base/keep.hh"
#include "procs/thread.hh"
#include "procs/thread_pool.hh"

#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Sample;
using procs::Patience;
using procs::ThreadPool;
using procs::Waiting;

class PoolTrips final : public Trips {
  using Trips::Trips;
  void begin_sample() override {
    if (pool_)
      return;
    procs::ThreadPoolOptions made{.name = "trip", .workers = 1, .waiting = options().waiting};
    if (options().worker)
      made.cpus = {*options().worker};
    pool_.emplace(made);
  }
  std::uint64_t go(std::uint64_t trips) override {
    std::uint64_t sum = 0;
    woken_ = pool_->counts().wakes;
    for (std::uint64_t i = 0; i < trips; ++i)
      sum += pool_->submit([] { return std::uint64_t{1}; }).get();
    woken_ = pool_->counts().wakes - woken_;
    return sum;
  }
  void end_sample(Sample& sample) override {
    sample.values[options().wakes] =
        static_cast<double>(woken_) / static_cast<double>(sample.operations);
    auto place =
        pool_->submit([] { return std::pair(affinity::current_cpu(), ::syscall(SYS_gettid)); });
    const auto [cpu, thread] = place.get();
    seen_on(cpu, thread);
    if (options().waiting == Waiting::spin)
      pool_.reset();  // it would disturb the others
  }

  std::optional<ThreadPool> pool_;
  std::uint64_t woken_ = 0;
};

// A word that counts; whoever waits for its next value says so if it sleeps.
class Gate {
public:
  void open(std::uint32_t turn) noexcept {
    const auto before = word_.exchange(turn << 1, std::memory_order_acq_rel);
    if ((before & sleeper) != 0)
      futex_wake(word_, INT_MAX, false);
  }
  void wait(std::uint32_t turn, Patience patience) noexcept {
    for (std::uint32_t i = 0; i < patience.spins || patience.spins == Patience::forever; ++i) {
      if (is(turn))
        return;
      pause_cpu();
    }
    while (!is(turn)) {
      std::uint32_t seen = word_.load(std::memory_order_acquire);
      if (seen >> 1 == turn)
        return;
      if ((seen & sleeper) == 0 && !word_.compare_exchange_strong(seen, seen | sleeper))
        continue;
      futex_wait(word_, seen | sleeper, false);
    }
  }

private:
  static constexpr std::uint32_t sleeper = 1;
  [[nodiscard]] bool is(std::uint32_t turn) const noexcept {
    return word_.load(std::memory_order_acquire) >> 1 == turn;
  }
  alignas(line_pair) std::atomic<std::uint32_t> word_{0};
};

// Turns are numbered within 31 bits, and 0 is the end.
class RawTrips final : public Trips {
public:
  explicit RawTrips(const RoundTripOptions& options)
      : Trips(options), patience_(Patience::of(options.waiting, apart())) {}
  ~RawTrips() override { end(); }

private:
  void begin_sample() override {
    if (partner_.joinable())
      return;
    procs::ThreadOptions how{.name = "partner"};
    how.cpus = options().worker ? affinity::CpuSet{*options().worker} : options().usable;
    turn_ = first_turn;
    there_.open(first_turn);
    back_.open(first_turn);
    partner_ = procs::Thread(how, [this] { serve(); });
  }
  std::uint64_t go(std::uint64_t trips) override {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < trips; ++i) {
      turn_ = next(turn_);
      there_.open(turn_);
      back_.wait(turn_, patience_);
      sum += value_;
    }
    return sum;
  }
  void end_sample(Sample&) override {
    seen_on(cpu_, thread_);
    if (options().waiting == Waiting::spin)
      end();
  }
  void serve() noexcept {
    thread_ = ::syscall(SYS_gettid);
    for (std::uint32_t turn = first_turn;;) {
      turn = next(turn);
      there_.wait(turn, patience_);
      if (over_.load(std::memory_order_acquire))
        return;
      value_ = 1;
      cpu_ = affinity::current_cpu();
      back_.open(turn);
    }
  }
  void end() {
    if (!partner_.joinable())
      return;
    over_.store(true, std::memory_order_release);
    there_.open(next(turn_));
    partner_.join();
    over_.store(false, std::memory_order_release);
  }
  static constexpr std::uint32_t first_turn = 1;
  static std::uint32_t next(std::uint32_t turn) noexcept {
    return turn == INT_MAX ? first_turn : turn + 1;
  }

  Patience patience_;
  Gate there_;
  Gate back_;
  std::uint64_t value_ = 0;  // as the rest: written by the partner before it opens the way back
  unsigned cpu_ = 0;
  long thread_ = 0;
  std::uint32_t turn_ = first_turn;
  std::atomic<bool> over_{false};
  procs::Thread partner_;
};

// Batches of a pool that may run anywhere.
class Pooled : public Batches {
public:
  Pooled(unsigned workers, const affinity::CpuSet& usable, std::size_t metric)
      : Batches(usable, metric), pool_(made(workers, usable)) {}

protected:
  virtual void counted(double /*wakes*/, Sample&) {}
  [[nodiscard]] ThreadPool& pool() noexcept { return pool_; }

private:
  static procs::ThreadPoolOptions made(unsigned workers, const affinity::CpuSet& usable) {
    stand_on(std::nullopt, usable);  // the workers inherit it
    return {.name = "pool", .workers = workers, .waiting = Waiting::adaptive};
  }
  void begin_sample() final { woken_ = pool_.counts().wakes; }
  void end_sample(std::uint64_t tasks, Sample& sample) final {
    counted(static_cast<double>(pool_.counts().wakes - woken_) / static_cast<double>(tasks),
            sample);
  }

  ThreadPool pool_;
  std::uint64_t woken_ = 0;
};

struct One {
  std::uint64_t operator()() const noexcept { return 1; }
};

// The tree below a task: it hands one half over, does the other, and counts both.
std::uint64_t tree(ThreadPool& pool, std::uint64_t tasks) {
  if (tasks <= 1)
    return tasks;
  const std::uint64_t half = (tasks - 1) / 2;
  auto other = pool.submit([&pool, half] { return tree(pool, half); });
  const std::uint64_t mine = tree(pool, tasks - 1 - half);
  return 1 + mine + other.get();
}

class FloodSubject final : public Pooled {
public:
  explicit FloodSubject(const FloodOptions& options)
      : Pooled(options.workers, options.usable, options.metric), options_(options) {
    futures_.reserve(options.tasks);
    if (options.how == Flood::at_once)
      works_.resize(options.tasks);
  }

private:
  std::uint64_t play() override {
    if (options_.how == Flood::recursive)
      return pool().submit([this] { return tree(pool(), options_.tasks); }).get();
    if (options_.how == Flood::one_by_one)
      for (std::uint64_t i = 0; i < options_.tasks; ++i)
        futures_.push_back(pool().submit(One{}));
    else
      futures_ = pool().submit_all(works_);
    std::uint64_t sum = 0;
    for (auto& future : futures_)
      sum += future.get();
    futures_.clear();
    return sum;
  }
  [[nodiscard]] std::uint64_t in_operation() const override { return options_.tasks; }
  void counted(double wakes, Sample& sample) override { sample.values[options_.wakes] = wakes; }

  FloodOptions options_;
  std::vector<One> works_;
  std::vector<procs::Future<std::uint64_t>> futures_;
};

class Pieces final : public Pooled {
public:
  explicit Pieces(const PieceOptions& options)
      : Pooled(options.workers, options.usable, options.metric), options_(options),
        steps_(options.waits ? 0 : steps_for(options.length_ns)), list_(options.pieces) {}

private:
  std::uint64_t play() override {
    std::uint64_t sum = 0;
    pool().map_each(
        list_, [this](const One& one) { return work(one); },
        [&sum](std::uint64_t value) { sum += value; });
    return sum;
  }
  std::uint64_t work(const One& one) const noexcept {
    if (options_.waits) {
      clock::sleep_for(static_cast<std::int64_t>(options_.length_ns));
    } else {
      compute(steps_);
    }
    return one();
  }
  [[nodiscard]] std::uint64_t in_operation() const override { return options_.pieces; }

  PieceOptions options_;
  std::uint64_t steps_;
  std::vector<One> list_;
};

}  // namespace

std::unique_ptr<harness::Subject> make_pool_round_trip(const RoundTripOptions& options) {
  return std::make_unique<PoolTrips>(options);
}

std::unique_ptr<harness::Subject> make_raw_round_trip(const RoundTripOptions& options) {
  return std::make_unique<RawTrips>(options);
}

std::unique_ptr<harness::Subject> make_flood(const FloodOptions& options) {
  return std::make_unique<FloodSubject>(options);
}

std::unique_ptr<harness::Subject> make_pool_pieces(const PieceOptions& options) {
  return std::make_unique<Pieces>(options);
}

}  // namespace schedlab::apparatus
