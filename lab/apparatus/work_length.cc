#include "lab/apparatus/work_length.hh"

#include "iouring/gather.hh"
#include "lab/apparatus/loop.hh"
#include "lab/apparatus/looped.hh"
#include "lab/base/keep.hh"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <thread>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using iouring::Task;

constexpr double batch_ns = 1e6;

std::uint64_t pieces_in_batch(double length_ns) {
  return static_cast<std::uint64_t>(std::clamp(batch_ns / length_ns, 1.0, 1000.0));
}

// The quickest of some spans: whoever is disturbed takes longer.
double quickest_step_ns() {
  constexpr std::uint64_t steps = 100'000;
  double quickest = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 15; ++i) {
    const auto begin = clock::begin();
    compute(steps);
    quickest = std::min(quickest, clock::ns(begin, clock::end()));
  }
  return quickest / static_cast<double>(steps);
}

// Calls, by the caller. An operation of the loop is a piece.
class Calls final : public harness::Subject {
public:
  explicit Calls(const WorkOptions& options)
      : pieces_(pieces_in_batch(options.length_ns)),
        loop_(make_loop({options.cpu, options.usable, options.metric},
                        [steps = steps_for(options.length_ns)](std::uint64_t pieces) {
                          for (std::uint64_t i = 0; i < pieces; ++i)
                            compute(steps);
                        })) {}
  Sample sample(std::uint64_t operations) override {
    Sample sample = loop_->sample(operations * pieces_);
    sample.operations = operations;
    return sample;
  }

private:
  std::uint64_t pieces_;
  std::unique_ptr<harness::Subject> loop_;
};

class Tasks final : public Looped {
public:
  explicit Tasks(const WorkOptions& options)
      : Looped({.cpu = options.cpu, .usable = options.usable, .driver = options.driver}),
        options_(options), pieces_(pieces_in_batch(options.length_ns)),
        steps_(steps_for(options.length_ns)) {}

  std::vector<Check> checks() override {
    return {{"pieces of work that were done", wanted_, done_, wanted_ == done_}};
  }

private:
  Task<> play(std::uint64_t operations, Sample& sample) override {
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      std::vector<Task<>> pieces;
      pieces.reserve(pieces_);
      for (std::uint64_t j = 0; j < pieces_; ++j)
        pieces.push_back(piece());
      co_await iouring::gather(std::move(pieces));
    }
    sample.elapsed_ns = clock::ns(begin, clock::end());
    wanted_ += operations * pieces_;
    sample.values[options_.metric] = sample.elapsed_ns / static_cast<double>(operations * pieces_);
  }
  Task<> piece() {
    compute(steps_);
    ++done_;
    co_return;
  }

  WorkOptions options_;
  std::uint64_t pieces_;
  std::uint64_t steps_;
  std::uint64_t wanted_ = 0;
  std::uint64_t done_ = 0;
};

class Threads final : public harness::Subject {
public:
  explicit Threads(const WorkOptions& options)
      : options_(options), pieces_(pieces_in_batch(options.length_ns)),
        steps_(steps_for(options.length_ns)),
        at_once_(std::clamp<std::size_t>(options.usable.count(), 1, 64)) {
    threads_.reserve(at_once_);
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(std::nullopt, options_.usable);
    // At least as many pieces as run at once, or the last would not be used.
    const std::uint64_t pieces = std::max<std::uint64_t>(pieces_, at_once_);
    Sample sample;
    sample.operations = operations;
    witness_.begin();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i)
      for (std::uint64_t begun = 0; begun < pieces; begun += at_once_) {
        const auto last = std::min<std::uint64_t>(begun + at_once_, pieces);
        for (std::uint64_t j = begun; j < last; ++j)
          threads_.emplace_back([this] { compute(steps_); });
        threads_.clear();  // joins them
      }
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.proof = prove(witness_.end(), std::nullopt, sample.elapsed_ns, false);
    sample.values[options_.metric] = sample.elapsed_ns / static_cast<double>(operations * pieces);
    return sample;
  }

private:
  WorkOptions options_;
  std::uint64_t pieces_;
  std::uint64_t steps_;
  std::size_t at_once_;
  std::vector<std::jthread> threads_;
  Witness witness_;
};

}  // namespace

void compute(std::uint64_t steps) noexcept {
  std::uint64_t value = steps;
  for (std::uint64_t i = 0; i < steps; ++i) {
    value += i;
    launder(value);
  }
  keep(value);
}

std::uint64_t steps_for(double length_ns) {
  static const double step_ns = quickest_step_ns();
  return static_cast<std::uint64_t>(std::max(1.0, std::round(length_ns / step_ns)));
}

std::unique_ptr<harness::Subject> make_work(RunAs how, const WorkOptions& options) {
  switch (how) {
  case RunAs::calls:
    return std::make_unique<Calls>(options);
  case RunAs::tasks:
    return std::make_unique<Tasks>(options);
  case RunAs::threads:
    return std::make_unique<Threads>(options);
  }
  throw std::logic_error("no such way to run work");
}

}  // namespace schedlab::apparatus
