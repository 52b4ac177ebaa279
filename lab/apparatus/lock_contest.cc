#include "lab/apparatus/lock_contest.hh"

#include "lab/apparatus/lock_kinds.hh"
#include "lab/apparatus/loop.hh"
#include "lab/apparatus/start_line.hh"
#include "lab/apparatus/work_length.hh"
#include "lab/base/keep.hh"

#include <sched.h>

#include <algorithm>
#include <array>
#include <numeric>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;

std::vector<std::optional<unsigned>> places_of(const std::vector<unsigned>& cpus) {
  return {cpus.begin(), cpus.end()};
}

// Where each thread has a CPU, waiting awake is worth about what falling asleep and waking costs.
LockOptions lock_options(const ContestOptions& options) {
  constexpr std::uint32_t spins = 200;
  return {.patience = {all_apart(places_of(options.cpus)) ? spins : 0}};
}

// What a thread counted in a sample.
struct alignas(line_pair) Score {
  std::uint64_t begin = 0;  // ticks
  std::uint64_t end = 0;
  std::int64_t cpu_ns = 0;
  std::uint64_t locks = 0;
  std::uint64_t calls = 0;
  std::uint64_t longest = 0;  // ticks
};

class LoneLock final : public harness::Subject {
public:
  LoneLock(const ContestOptions& options, std::unique_ptr<harness::Subject> loop)
      : loop_(std::move(loop)),
        second_({}, {options.cpus.front()}, options.usable, [](unsigned, std::uint64_t) {}) {}
  Sample sample(std::uint64_t operations) override { return loop_->sample(operations); }

private:
  std::unique_ptr<harness::Subject> loop_;
  Team second_;  // sleeps
};

// What does not depend on the kind of lock.
class Contest : public harness::Subject {
public:
  explicit Contest(const ContestOptions& options)
      : options_(options), apart_(all_apart(places_of(options.cpus))),
        critical_(options.critical_ns > 0 ? steps_for(options.critical_ns) : 0),
        parallel_(options.parallel_ns > 0 ? steps_for(options.parallel_ns) : 0),
        scores_(options.cpus.size()), line_(static_cast<unsigned>(options.cpus.size())) {}

  Sample sample(std::uint64_t operations) override {
    field_.counter.store(0, std::memory_order_relaxed);
    field_.limit = operations;
    field_.stop.store(false, std::memory_order_relaxed);
    team_->start(1);
    const auto records = team_->finish();
    return result(records);
  }

  std::vector<Check> checks() override {
    const bool guarded = options_.kind != "none";
    return {{guarded ? "additions lost" : "additions lost without a lock", guarded ? "0" : "any",
             lost_, !guarded || lost_ == 0},
            line_.all_met()};
  }

protected:
  void begin_team() {
    team_.emplace(TaskOptions{}, places_of(options_.cpus), options_.usable,
                  [this](unsigned member, std::uint64_t) { compete(member); });
  }
  virtual void compete(unsigned member) noexcept = 0;

  template <typename Lock, bool Clocked>
  void play(Lock& lock, unsigned member) noexcept {
    Grip<Lock> grip(lock);
    Score score;
    if (apart_)
      line_.wait();
    const std::int64_t cpu_before = clock::thread_cpu_ns();
    const std::uint64_t calls_before = procs::futex_calls();
    score.begin = clock::begin();
    while (!field_.stop.load(std::memory_order_relaxed)) {
      if constexpr (Clocked) {
        const auto begin = clock::begin();
        grip.lock();
        score.longest = std::max(score.longest, clock::end() - begin);
      } else {
        grip.lock();
      }
      // A plain addition: two at the same time lose one.
      const auto count = field_.counter.load(std::memory_order_relaxed) + 1;
      field_.counter.store(count, std::memory_order_relaxed);
      if (count >= field_.limit)
        field_.stop.store(true, std::memory_order_relaxed);
      if (critical_ > 0)
        compute(critical_);
      grip.unlock();
      if (parallel_ > 0)
        compute(parallel_);
      ++score.locks;
    }
    score.end = clock::end();
    score.cpu_ns = clock::thread_cpu_ns() - cpu_before;
    score.calls = procs::futex_calls() - calls_before;
    scores_[member] = score;
  }

private:
  struct Field {
    alignas(line_pair) std::atomic<std::uint64_t> counter{0};
    alignas(line_pair) std::atomic<bool> stop{false};
    std::uint64_t limit = 0;
  };

  Sample result(std::span<const TaskRecord> records) {
    Score all = scores_.front();
    double squares = 0;
    double sum = 0;
    all.locks = 0;
    all.calls = 0;
    all.cpu_ns = 0;
    for (const Score& score : scores_) {
      all.begin = std::min(all.begin, score.begin);
      all.end = std::max(all.end, score.end);
      all.longest = std::max(all.longest, score.longest);
      all.locks += score.locks;
      all.calls += score.calls;
      all.cpu_ns += score.cpu_ns;
      const auto locks = static_cast<double>(score.locks);
      sum += locks;
      squares += locks * locks;
    }
    const std::uint64_t lost = all.locks - field_.counter.load(std::memory_order_relaxed);
    lost_ += lost;
    Sample sample;
    sample.operations = all.locks;
    sample.elapsed_ns = clock::ns(all.begin, all.end);
    sample.proof = prove(records, places_of(options_.cpus), sample.elapsed_ns, false, !apart_);
    auto& values = sample.values;
    values[options_.overhead] =
        static_cast<double>(all.cpu_ns) / sum - options_.critical_ns - options_.parallel_ns;
    values[options_.rate] = sum / sample.elapsed_ns * 1e9;
    values[options_.lost] = static_cast<double>(lost);
    if (scores_.size() > 1)
      values[options_.jain] = sum * sum / (static_cast<double>(scores_.size()) * squares);
    if (options_.clock_waits)
      values[options_.max_wait] = clock::ns(0, all.longest);
    std::uint64_t sleeps = 0;
    for (const auto& record : records)
      sleeps += record.voluntary;
    values[options_.sleeps] = static_cast<double>(sleeps) / sum;
    if (counts_calls(options_.kind))
      values[options_.calls] = static_cast<double>(all.calls) / sum;
    return sample;
  }

  ContestOptions options_;
  bool apart_;
  std::uint64_t critical_;  // steps
  std::uint64_t parallel_;
  Field field_;
  std::vector<Score> scores_;
  StartLine line_;
  std::uint64_t lost_ = 0;

protected:
  std::optional<Team> team_;  // last: its members use the rest
};

template <typename Lock>
class ContestFor final : public Contest {
public:
  explicit ContestFor(const ContestOptions& options)
      : Contest(options), clocked_(options.clock_waits), lock_(lock_options(options)) {
    begin_team();
  }
  ~ContestFor() override { team_.reset(); }

private:
  void compete(unsigned member) noexcept override {
    if (clocked_)
      play<Lock, true>(lock_, member);
    else
      play<Lock, false>(lock_, member);
  }

  bool clocked_;
  alignas(line_pair) Lock lock_;
};

template <typename Lock>
class Handoff final : public harness::Subject {
public:
  explicit Handoff(const ContestOptions& options)
      : options_(options), desk_(std::make_unique<Desk>(lock_options(options))),
        team_({}, {options.cpus.at(1)}, options.usable,
              [this](unsigned, std::uint64_t rounds) { answer(rounds); }) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpus[0], options_.usable);
    const std::uint64_t rounds = settling + (operations + 1) / 2;
    Grips mine(*desk_);
    mine.grip[0].lock();
    mine.grip[2].lock();
    desk_->ready.store(false, std::memory_order_relaxed);
    team_.start(rounds);
    while (!desk_->ready.load(std::memory_order_acquire))
      ::sched_yield();
    Turn turn{0, 2};
    turn.take(mine, settling);
    const std::uint64_t calls_before = procs::futex_calls();
    witness_.begin();
    const auto begin = clock::begin();
    turn.take(mine, rounds - settling);
    const auto end = clock::end();
    std::array records = {witness_.end(), TaskRecord{}};
    const std::uint64_t calls = procs::futex_calls() - calls_before;
    turn.leave(mine);
    records[1] = team_.finish()[0];
    // The partner's counts are of all its turns, the caller's of those that are clocked.
    const auto turns = static_cast<double>(rounds);
    const auto clocked = static_cast<double>(rounds - settling);
    const double own = static_cast<double>(records[0].voluntary) / clocked;
    const double others = static_cast<double>(records[1].voluntary) / turns;
    Sample sample;
    sample.operations = 2 * (rounds - settling);
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof = prove(records, places_of(options_.cpus), sample.elapsed_ns, false);
    sample.values[options_.handoff] = sample.elapsed_ns / (2 * clocked);
    sample.values[options_.sleeps] = (own + others) / 2;
    if (counts_calls(options_.kind))
      sample.values[options_.calls] =
          (static_cast<double>(calls) / clocked + static_cast<double>(desk_->calls) / turns) / 2;
    return sample;
  }

private:
  static constexpr std::uint64_t settling = 8;

  struct Desk {
    explicit Desk(const LockOptions& options) : first(options), second(options), third(options) {}
    alignas(line_pair) Lock first;
    alignas(line_pair) Lock second;
    alignas(line_pair) Lock third;
    alignas(line_pair) std::atomic<bool> ready{false};
    std::uint64_t calls = 0;  // the partner's
  };
  struct Grips {
    explicit Grips(Desk& desk)
        : grip{Grip<Lock>(desk.first), Grip<Lock>(desk.second), Grip<Lock>(desk.third)} {}
    Grip<Lock> grip[3];
  };
  // Which locks a thread has while it runs.
  struct Turn {
    unsigned waited_for;  // by the other one
    unsigned kept;
    void take(Grips& grips, std::uint64_t rounds) noexcept {
      for (std::uint64_t i = 0; i < rounds; ++i) {
        const unsigned third = 3 - waited_for - kept;
        grips.grip[waited_for].unlock();
        grips.grip[third].lock();
        waited_for = kept;
        kept = third;
      }
    }
    void leave(Grips& grips) noexcept {
      grips.grip[waited_for].unlock();
      grips.grip[kept].unlock();
    }
  };

  void answer(std::uint64_t rounds) noexcept {
    Grips mine(*desk_);
    mine.grip[1].lock();
    desk_->ready.store(true, std::memory_order_release);
    mine.grip[0].lock();
    Turn turn{1, 0};
    const std::uint64_t before = procs::futex_calls();
    turn.take(mine, rounds);
    desk_->calls = procs::futex_calls() - before;
    turn.leave(mine);
  }

  ContestOptions options_;
  std::unique_ptr<Desk> desk_;
  Witness witness_;
  Team team_;  // last: its member uses the rest
};

}  // namespace

std::unique_ptr<harness::Subject> make_lone_lock(const ContestOptions& options) {
  return with_lock_kind(options.kind, [&]<typename Lock>(std::type_identity<Lock>) {
    const LoopOptions where{options.cpus.front(), options.usable, options.overhead};
    auto lock = std::make_shared<Lock>(LockOptions{});
    auto loop = make_loop(where, [lock](std::uint64_t operations) {
      Grip<Lock> grip(*lock);
      for (std::uint64_t i = 0; i < operations; ++i) {
        grip.lock();
        keep(i);
        grip.unlock();
      }
    });
    return std::unique_ptr<harness::Subject>(std::make_unique<LoneLock>(options, std::move(loop)));
  });
}

std::unique_ptr<harness::Subject> make_contest(const ContestOptions& options) {
  return with_lock_kind(options.kind, [&]<typename Lock>(std::type_identity<Lock>) {
    return std::unique_ptr<harness::Subject>(std::make_unique<ContestFor<Lock>>(options));
  });
}

std::unique_ptr<harness::Subject> make_lock_handoff(const ContestOptions& options) {
  return with_lock_kind(options.kind, [&]<typename Lock>(std::type_identity<Lock>) {
    return std::unique_ptr<harness::Subject>(std::make_unique<Handoff<Lock>>(options));
  });
}

std::string contest_objection(std::string_view kind, const std::vector<unsigned>& cpus) {
  if (!always_spins(kind) || all_apart(places_of(cpus)))
    return "";
  return "a lock that only spins needs a CPU for each thread; take fewer threads";
}

bool counts_calls(std::string_view kind) noexcept {
  return kind == "mutex" || kind == "mutex-spin" || kind == "mutex-shared" || kind == "fair" ||
         kind == "pi";
}

}  // namespace schedlab::apparatus
