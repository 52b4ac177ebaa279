#include "lab/apparatus/lateness.hh"

#include "iouring/gather.hh"
#include "iouring/sleep.hh"
#include "iouring/to_thread.hh"
#include "lab/apparatus/looped.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using iouring::Task;

constexpr std::int64_t yield_every_ns = 50'000;

void compute_until(std::int64_t due_ns) noexcept {
  while (clock::now_ns() < due_ns) {
  }
}

// Blocks for so long; gives the thread that did.
long blocked(std::int64_t length_ns) noexcept {
  clock::sleep_for(length_ns);
  return ::syscall(SYS_gettid);
}

void put(Sample& sample, std::size_t metric, double worst_sum, std::uint64_t operations,
         std::uint64_t begin) {
  sample.elapsed_ns = clock::ns(begin, clock::end());
  sample.values[metric] = worst_sum / static_cast<double>(operations);
}

class SleepingTask final : public Looped {
public:
  SleepingTask(Beside beside, const SleeperOptions& options)
      : Looped({.cpu = options.cpu,
                .usable = options.usable,
                .driver = options.driver,
                .blocking_threads = 1,
                .busy = false}),
        beside_(beside), options_(options), own_thread_(::syscall(SYS_gettid)) {}

  std::vector<Check> checks() override {
    std::vector<Check> made = {{"the sleeper woke in every episode", "yes",
                                woke_ >= episodes_ ? "yes" : "no", woke_ >= episodes_}};
    if (beside_ == Beside::call_in_thread) {
      made.push_back({std::string(elsewhere_check), episodes_, elsewhere_,
                      elsewhere_ == episodes_ && episodes_ > 0});
    }
    return made;
  }

private:
  Task<> play(std::uint64_t operations, Sample& sample) override {
    double worst_sum = 0;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      worst_ns_ = 0;
      over_ = false;
      co_await iouring::gather(sleeper(), other());
      worst_sum += static_cast<double>(worst_ns_);
      ++episodes_;
    }
    put(sample, options_.metric, worst_sum, operations, begin);
  }

  Task<> sleeper() {
    while (!over_) {
      const std::int64_t due_ns = clock::now_ns() + options_.period_ns;
      co_await iouring::sleep_for(std::chrono::nanoseconds(options_.period_ns));
      worst_ns_ = std::max(worst_ns_, clock::now_ns() - due_ns);
      ++woke_;
    }
  }

  // Begins when the sleeper sleeps already.
  Task<> other() {
    const std::int64_t end_ns = clock::now_ns() + options_.length_ns;
    switch (beside_) {
    case Beside::nothing:
      co_await iouring::sleep_for(std::chrono::nanoseconds(options_.length_ns));
      break;
    case Beside::hog:
      compute_until(end_ns);
      break;
    case Beside::yielding_hog:
      while (clock::now_ns() < end_ns) {
        compute_until(std::min(end_ns, clock::now_ns() + yield_every_ns));
        co_await iouring::yield();
      }
      break;
    case Beside::blocking_call:
      blocked(options_.length_ns);
      break;
    case Beside::call_in_thread: {
      const std::int64_t length_ns = options_.length_ns;
      auto call = iouring::to_thread([length_ns] { return blocked(length_ns); });
      const long thread = co_await call;
      elsewhere_ += thread != own_thread_;
      break;
    }
    }
    over_ = true;
  }

  Beside beside_;
  SleeperOptions options_;
  long own_thread_;
  bool over_ = false;
  std::int64_t worst_ns_ = 0;
  std::uint64_t woke_ = 0;
  std::uint64_t episodes_ = 0;
  std::uint64_t elsewhere_ = 0;
};

class SleepingThread final : public harness::Subject {
public:
  SleepingThread(Beside beside, const SleeperOptions& options)
      : beside_(beside), options_(options),
        team_({}, {options.cpu}, options.usable, [this](unsigned, std::uint64_t) { take_long(); }) {
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    Sample sample;
    sample.operations = operations;
    TaskRecord partner;
    double worst_sum = 0;
    witness_.begin();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      over_.store(false, std::memory_order_relaxed);
      team_.start(1);
      worst_sum += static_cast<double>(worst_while_it_runs());
      partner = team_.finish()[0];
    }
    put(sample, options_.metric, worst_sum, operations, begin);
    const std::array records = {witness_.end(), partner};
    const std::array<std::optional<unsigned>, 2> places = {options_.cpu, options_.cpu};
    // That they wait for each other is what is measured.
    sample.proof = prove(records, places, sample.elapsed_ns, false, true);
    return sample;
  }

private:
  std::int64_t worst_while_it_runs() noexcept {
    std::int64_t worst_ns = 0;
    do {
      const std::int64_t due_ns = clock::now_ns() + options_.period_ns;
      clock::sleep_until(due_ns);
      worst_ns = std::max(worst_ns, clock::now_ns() - due_ns);
    } while (!over_.load(std::memory_order_relaxed));
    return worst_ns;
  }
  void take_long() noexcept {
    if (beside_ == Beside::hog)
      compute_until(clock::now_ns() + options_.length_ns);
    else
      blocked(options_.length_ns);
    over_.store(true, std::memory_order_relaxed);
  }

  Beside beside_;
  SleeperOptions options_;
  alignas(line_pair) std::atomic<bool> over_{false};
  Witness witness_;
  Team team_;  // last: its member uses the rest
};

}  // namespace

std::unique_ptr<harness::Subject> make_sleeping_task(Beside beside, const SleeperOptions& options) {
  return std::make_unique<SleepingTask>(beside, options);
}

std::unique_ptr<harness::Subject> make_sleeping_thread(Beside beside,
                                                       const SleeperOptions& options) {
  if (beside != Beside::hog && beside != Beside::nothing)
    throw std::logic_error("a sleeping thread has a hog beside it, or nothing");
  return std::make_unique<SleepingThread>(beside, options);
}

}  // namespace schedlab::apparatus
