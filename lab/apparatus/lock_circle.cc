#include "lab/apparatus/lock_circle.hh"

#include "lab/apparatus/curb.hh"
#include "lab/apparatus/start_line.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/keep.hh"
#include "lab/base/random.hh"

#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;

struct alignas(line_pair) Fork {
  std::mutex mutex;
};

// Written by one thread, read when it has stopped; `pairs` also meanwhile.
struct alignas(line_pair) Seat {
  std::atomic<std::uint64_t> pairs{0};
  std::uint64_t rounds = 0;
  std::uint64_t retries = 0;
  std::uint64_t deadlocks = 0;  // that this thread completed
  std::uint64_t intruders = 0;  // seen inside beside it
  std::uint64_t begin = 0;      // ticks
  std::uint64_t end = 0;
  std::uint64_t plays = 0;
  std::uint64_t least = 0;  // pairs of the slowest when this one was half way
  // 1 while it holds both locks; a neighbour's must be 0 then.
  std::atomic<std::uint32_t> inside{0};
};

class LockCircle : public harness::Subject {
public:
  explicit LockCircle(const LockCircleOptions& options)
      : options_(options), count_(static_cast<unsigned>(options.places.size())),
        apart_(all_apart(options.places)), forks_(count_), seats_(count_), line_(count_) {
    team_.emplace(TaskOptions{}, options.places, options.usable,
                  [this](unsigned seat, std::uint64_t rounds) { play(seat, rounds); });
  }
  ~LockCircle() override { team_.reset(); }

  Sample sample(std::uint64_t operations) override {
    const Totals before = totals();
    curb_.begin();
    const auto window_begin = clock::begin();
    team_->start(operations);
    const auto records = team_->finish();
    const double window_ns = clock::ns(window_begin, clock::end());
    const Totals now = totals();
    Sample sample;
    sample.operations = operations;
    sample.proof = prove(records, options_.places, window_ns, false, !apart_);
    const auto pairs = static_cast<double>(now.pairs - before.pairs);
    const double rounds = pairs / count_;
    // What all of it would have taken, where the sample was ended early.
    sample.elapsed_ns = span_ns() * static_cast<double>(operations) / rounds;
    if (options_.taking == Taking::circular)
      sample.values[options_.odds] = static_cast<double>(now.deadlocks - before.deadlocks) / rounds;
    sample.values[options_.retries] = static_cast<double>(now.retries - before.retries) / pairs;
    if (options_.skew_ns == 0) {
      sample.values[options_.each] = span_ns() / pairs;
      sample.values[options_.evenness] = evenness(operations);
    }
    return sample;
  }

  std::vector<Check> checks() override {
    const Totals sums = totals();
    return {{"pairs of locks taken", sums.rounds, sums.pairs, sums.pairs == sums.rounds},
            {"neighbours inside at the same time", 0, sums.intruders, sums.intruders == 0},
            line_.all_met()};
  }

private:
  struct Totals {
    std::uint64_t rounds = 0;
    std::uint64_t pairs = 0;
    std::uint64_t retries = 0;
    std::uint64_t deadlocks = 0;
    std::uint64_t intruders = 0;
  };
  [[nodiscard]] Totals totals() const noexcept {
    Totals sums;
    for (const auto& seat : seats_) {
      sums.rounds += seat.rounds;
      sums.pairs += seat.pairs.load(std::memory_order_relaxed);
      sums.retries += seat.retries;
      sums.deadlocks += seat.deadlocks;
      sums.intruders += seat.intruders;
    }
    return sums;
  }

  [[nodiscard]] double span_ns() const noexcept {
    const auto begin = std::ranges::min_element(seats_, {}, &Seat::begin)->begin;
    const auto end = std::ranges::max_element(seats_, {}, &Seat::end)->end;
    return clock::ns(begin, end);
  }

  // By the one that was half way first: it saw how far the slowest was.
  [[nodiscard]] double evenness(std::uint64_t rounds) const noexcept {
    const std::uint64_t half = rounds / 2;
    const auto least = std::ranges::min_element(seats_, {}, &Seat::least)->least;
    return half == 0 || least == UINT64_MAX
               ? harness::not_measured
               : static_cast<double>(least) / static_cast<double>(half);
  }

  void play(unsigned number, std::uint64_t rounds) {
    Seat& seat = seats_[number];
    Random random(options_.seed + 0x9e3779b97f4a7c15u * (++seat.plays * count_ + number));
    if (apart_)
      line_.wait();
    const std::uint64_t begun = seat.pairs.load(std::memory_order_relaxed);
    seat.least = UINT64_MAX;
    seat.begin = clock::begin();
    for (std::uint64_t i = 0; i < rounds; ++i) {
      if (meets()) {
        if (number == 0)
          curb_.ask(i);
        line_.wait();
        pass(random.below(options_.skew_ns));
      }
      take_pair(number, random);
      ++seat.rounds;
      if (meets() ? curb_.ends(i) : i % 16 == 0 && curb_.is_over())
        break;
      if (i + 1 == rounds / 2)
        seat.least = behind(begun, rounds / 2);
    }
    seat.end = clock::end();
  }

  [[nodiscard]] bool meets() const noexcept { return options_.skew_ns > 0 && apart_; }

  // Pairs that the slowest has taken since `begun`, which is the same for all.
  [[nodiscard]] std::uint64_t behind(std::uint64_t begun, std::uint64_t most) const noexcept {
    std::uint64_t least = most;
    for (const auto& seat : seats_) {
      const std::uint64_t pairs = seat.pairs.load(std::memory_order_relaxed);
      least = std::min(least, pairs - std::min(begun, pairs));
    }
    return least;
  }

  static void pass(std::uint64_t delay_ns) noexcept {
    if (delay_ns == 0)
      return;
    const auto begin = clock::begin();
    while (clock::ns(begin, clock::end()) < static_cast<double>(delay_ns))
      pause_cpu();
  }

  // Between the first lock and the second.
  void hold() const noexcept {
    pass(options_.hold_ns);
    if (options_.yields)
      ::sched_yield();
  }

  // A turn of a wait for what another thread has: it may need this CPU for it.
  void let_others() const noexcept {
    if (apart_)
      pause_cpu();
    else
      ::sched_yield();
  }

  // After a refusal, for a while that grows and is drawn: threads in step refuse each other for
  // ever.
  void back_off(std::uint64_t refusals, Random& random) const noexcept {
    constexpr std::uint64_t most_doubled = 6;
    for (auto left = random.below(std::uint64_t{1} << std::min(refusals, most_doubled)); left > 0;
         --left)
      let_others();
  }

  void take_pair(unsigned number, Random& random) {
    const unsigned next = (number + 1) % count_;
    std::mutex& own = forks_[number].mutex;
    std::mutex& neighbours = forks_[next].mutex;
    switch (options_.taking) {
    case Taking::circular:
      return circular(number, own, neighbours);
    case Taking::ordered: {
      std::mutex& first = number < next ? own : neighbours;
      std::mutex& second = number < next ? neighbours : own;
      const std::scoped_lock one(first);
      hold();
      const std::scoped_lock other(second);
      return work(number);
    }
    case Taking::scoped: {
      const std::scoped_lock both(own, neighbours);
      hold();
      return work(number);
    }
    case Taking::back_off:
      for (std::uint64_t refusals = 1; !tried(number, own, neighbours); ++refusals) {
        ++seats_[number].retries;
        back_off(refusals, random);
      }
    }
  }

  bool tried(unsigned number, std::mutex& own, std::mutex& neighbours) {
    const std::scoped_lock first(own);
    hold();
    const std::unique_lock second(neighbours, std::try_to_lock);
    if (second)
      work(number);
    return static_cast<bool>(second);
  }

  // stuck_ counts the threads that hold their first lock and were refused the second. When it
  // reaches the number of threads, each holds what its neighbour wants: a deadlock, and a thread
  // that has meanwhile got its second lock cannot be among them, since its neighbour would lack it.
  void circular(unsigned number, std::mutex& own, std::mutex& neighbours) {
    Seat& seat = seats_[number];
    for (;;) {
      std::unique_lock first(own);
      hold();
      std::unique_lock second(neighbours, std::try_to_lock);
      if (second)
        return work(number);
      if (stuck_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
        ++seat.deadlocks;
        ++seat.retries;
        stuck_.fetch_sub(1, std::memory_order_acq_rel);
        first.unlock();
        // The neighbour that waits for it takes it before this thread asks again.
        wait_until_wanted_is_gone();
        continue;
      }
      while (!second.try_lock())
        let_others();
      stuck_.fetch_sub(1, std::memory_order_acq_rel);
      return work(number);
    }
  }

  void wait_until_wanted_is_gone() const noexcept {
    while (stuck_.load(std::memory_order_acquire) + 1 == count_)
      let_others();
  }

  void work(unsigned number) noexcept {
    Seat& seat = seats_[number];
    seat.inside.store(1, std::memory_order_relaxed);
    const unsigned left = (number + count_ - 1) % count_;
    const unsigned right = (number + 1) % count_;
    seat.intruders += seats_[left].inside.load(std::memory_order_relaxed) +
                      seats_[right].inside.load(std::memory_order_relaxed);
    seat.inside.store(0, std::memory_order_relaxed);
    seat.pairs.fetch_add(1, std::memory_order_relaxed);
  }

  LockCircleOptions options_;
  unsigned count_;
  bool apart_;
  std::vector<Fork> forks_;
  std::vector<Seat> seats_;
  StartLine line_;
  Curb curb_;
  alignas(line_pair) std::atomic<unsigned> stuck_{0};
  std::optional<Team> team_;
};

}  // namespace

std::string_view to_text(Taking taking) noexcept {
  constexpr std::array<std::string_view, 4> names = {"circular", "ordered", "scoped", "back-off"};
  return names[static_cast<std::size_t>(taking)];
}

std::unique_ptr<harness::Subject> make_lock_circle(const LockCircleOptions& options) {
  return std::make_unique<LockCircle>(options);
}

double expected_odds(double hold_ns, double skew_ns) noexcept {
  // Both begin uniformly in [0, skew): their distance is triangular.
  const double apart = std::min(hold_ns / skew_ns, 1.0);
  return 1 - (1 - apart) * (1 - apart);
}

}  // namespace schedlab::apparatus
