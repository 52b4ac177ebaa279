#include "lab/apparatus/pool_kills.hh"

#include "affinity/pin.hh"
#include "lab/apparatus/memory_cage.hh"
#include "lab/apparatus/pool_in_cage.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/random.hh"
#include "procs/process_pool.hh"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <optional>
#include <stdexcept>
#include <vector>

namespace schedlab::apparatus {
namespace {

using harness::Check;
using harness::Sample;
using procs::Bytes;
using procs::ProcessFuture;
using procs::ProcessPool;
using procs::Step;
using procs::WorkerDied;

constexpr std::size_t in_round = 6;
constexpr unsigned workers = 2;
constexpr unsigned poison_attempts = 3;
constexpr unsigned memory_attempts = 2;
constexpr std::int64_t bound_ns = 10'000'000'000;  // nothing may take longer
constexpr std::chrono::nanoseconds time_limit{2'000'000};

// --- what runs in the workers

using Count = std::atomic<std::uint32_t>;

struct Trace {
  std::uint64_t task = 0;
  pid_t pid = -1;
  std::int64_t began_ns = 0;
};

Trace note(const Bytes& journal, std::uint64_t task) {
  reinterpret_cast<Count*>(journal.data())[task].fetch_add(1);
  return {task, ::getpid(), clock::now_ns()};
}

Trace compute_a_little(const Bytes& journal, std::uint64_t task) {
  const Trace trace = note(journal, task);
  while (clock::now_ns() < trace.began_ns + 100'000) {
  }
  return trace;
}

Trace die(const Bytes& journal, std::uint64_t task) {
  note(journal, task);
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  ::signal(SIGSEGV, SIG_DFL);  // a sanitizer has its own handler
  ::raise(SIGSEGV);
  return {};
}

Trace outgrow(const Bytes& journal, std::uint64_t task) {
  const Trace trace = note(journal, task);
  // Of all in the cage the kernel takes this one.
  const Fd score(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  if (score)
    static_cast<void>(::write(score.get(), "1000", 4));
  use_up_memory(4 * pool_cage_bytes);
  return trace;
}

Trace never_end(const Bytes& journal, std::uint64_t task) {
  note(journal, task);
  for (;;)
    ::pause();
}

// --- a pool whose workers are killed

class WorkerKills final : public harness::Subject {
public:
  explicit WorkerKills(const PoolKillOptions& options) : options_(options), random_(options.seed) {
    const affinity::Pin everywhere(options.usable);  // workers inherit it
    pool_.emplace(procs::ProcessPoolOptions{.workers = workers,
                                            .start = options.start,
                                            .most_restarts = 1'000'000,
                                            .first_back_off = std::chrono::milliseconds(0)});
    journal_ = pool_->bytes((in_round + 1) * sizeof(Count));
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(std::nullopt, options_.usable);
    counts_ = {};
    recovery_ns_ = 0;
    late_ns_ = 0;
    seen_late_ = 0;
    const std::uint64_t rounds = operations * options_.kills;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < rounds; ++i)
      round();
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, clock::end());
    const auto& at = options_.metrics;
    const auto each = static_cast<double>(rounds);
    if (options_.how == PoolKill::at_step || options_.how == PoolKill::outside)
      sample.values[at.recovery] = static_cast<double>(recovery_ns_) / each;
    if (options_.how == PoolKill::timeout && seen_late_ > 0)
      sample.values[at.late] = static_cast<double>(late_ns_) / seen_late_;
    sample.values[at.kills] = counts_.kills;
    sample.values[at.lost] = counts_.lost;
    sample.values[at.doubled] = counts_.doubled;
    sample.values[at.hurt] = counts_.hurt;
    sample.values[at.unnamed] = counts_.unnamed;
    bad_ += counts_.lost + counts_.doubled + counts_.hurt + counts_.unnamed;
    kills_ += counts_.kills;
    return sample;
  }

  std::vector<Check> checks() override {
    return {{std::string(harmless_check), 0.0, bad_, bad_ == 0},
            {"kills landed", "at least " + std::to_string(options_.kills), std::to_string(kills_),
             kills_ >= static_cast<double>(options_.kills)}};
  }

private:
  struct Counts {
    double kills = 0;
    double lost = 0;
    double doubled = 0;
    double hurt = 0;
    double unnamed = 0;
  };

  Count* starts() noexcept { return reinterpret_cast<Count*>(journal_.data()); }

  void round() {
    for (std::size_t i = 0; i <= in_round; ++i)
      starts()[i].store(0);
    switch (options_.how) {
    case PoolKill::at_step:
      at_step();
      break;
    case PoolKill::outside:
      from_outside();
      break;
    case PoolKill::poison:
      doom<die>(poison_attempts, procs::Ended::signalled, "killed by SIGSEGV");
      break;
    case PoolKill::memory:
      // And then the file that counted it.
      doom<outgrow>(memory_attempts, procs::Ended::oom, "killed by SIGKILL: /");
      break;
    case PoolKill::timeout:
    case PoolKill::parent:
      time_out();
      break;
    }
  }

  template <auto task>
  void submit_batch() {
    futures_.clear();
    for (std::uint64_t i = 0; i < in_round; ++i)
      futures_.push_back(pool_->submit<task>(journal_, i));
  }

  // What became of the batch, in which one worker at most was killed: of it one task may have died,
  // if `may_die`.
  void collect(pid_t victim, bool may_die) {
    unsigned died = 0;
    for (std::uint64_t i = 0; i < in_round; ++i) {
      if (!futures_[i].wait_for(std::chrono::nanoseconds(bound_ns))) {
        ++counts_.lost;
        continue;
      }
      try {
        const Trace trace = futures_[i].get();
        counts_.lost += trace.task == i && starts()[i].load() >= 1 ? 0 : 1;
      } catch (const WorkerDied& error) {
        ++died;
        const bool named = error.end.pid == victim && error.end.text == "killed by SIGKILL";
        counts_.unnamed += named ? 0 : 1;
      } catch (const std::exception&) {
        ++counts_.lost;
      }
      counts_.doubled += starts()[i].load() > 1 ? 1 : 0;
    }
    counts_.hurt += died > (may_die ? 1u : 0u) ? died - (may_die ? 1u : 0u) : 0;
  }

  [[nodiscard]] std::vector<pid_t> both() {
    for (const std::int64_t until = clock::now_ns() + bound_ns; clock::now_ns() < until;) {
      auto pids = pool_->pids();
      if (pids.size() == workers)
        return pids;
      clock::sleep_for(20'000);
    }
    throw std::runtime_error("a process pool did not replace its worker");
  }

  // Until a worker that was not there before has begun a task.
  void await_successor(const std::vector<pid_t>& before, std::int64_t killed_ns) {
    for (const std::int64_t until = clock::now_ns() + bound_ns; clock::now_ns() < until;) {
      std::array pair = {pool_->submit<note>(journal_, in_round),
                         pool_->submit<note>(journal_, in_round)};
      for (auto& future : pair)
        if (const Trace trace = future.get();
            std::ranges::find(before, trace.pid) == before.end()) {
          recovery_ns_ += trace.began_ns - killed_ns;
          return;
        }
    }
    throw std::runtime_error("a process pool did not replace its worker");
  }

  void at_step() {
    const auto pids = both();
    const auto chosen = static_cast<unsigned>(random_.below(workers));
    procs::FaultPoint& fault = pool_->worker_fault(chosen);
    const std::uint32_t before = fault.landed(options_.step);
    fault.arm(options_.step);
    submit_batch<note>();
    collect(pids[chosen], procs::begun(options_.step));
    // The other worker may have done all of it.
    for (const std::int64_t until = clock::now_ns() + bound_ns;
         fault.landed(options_.step) == before && clock::now_ns() < until;) {
      for (std::size_t i = 0; i < in_round; ++i)
        starts()[i].store(0);
      submit_batch<note>();
      collect(pids[chosen], procs::begun(options_.step));
    }
    counts_.kills += fault.landed(options_.step) - before;
    await_successor(pids, fault.died_ns());
  }

  void from_outside() {
    const auto pids = both();
    const auto chosen = static_cast<unsigned>(random_.below(workers));
    submit_batch<compute_a_little>();
    clock::sleep_for(static_cast<std::int64_t>(random_.below(400'000)));
    const std::int64_t killed_ns = clock::now_ns();
    const pid_t victim = pool_->kill_worker(chosen);
    ++counts_.kills;
    collect(victim, true);
    await_successor(pids, killed_ns);
  }

  // The one task that kills is given up after its attempts; the others are none the worse.
  template <auto deadly>
  void doom(unsigned attempts, procs::Ended how, std::string_view words) {
    auto doomed = pool_->submit_with<deadly>({.attempts = attempts}, journal_, in_round);
    submit_batch<note>();
    collect(-1, false);
    try {
      doomed.get();
      ++counts_.lost;
    } catch (const WorkerDied& error) {
      const bool named =
          error.attempts == attempts && error.end.how == how && error.end.text.starts_with(words);
      counts_.unnamed += named ? 0 : 1;
    }
    const std::uint32_t begun = starts()[in_round].load();
    counts_.kills += begun;
    counts_.doubled += begun > attempts ? 1 : 0;
  }

  void time_out() {
    auto late = pool_->submit_with<never_end>({.timeout = time_limit}, journal_, in_round);
    // Where a quota keeps the worker from its CPU, its time may be over before its first line.
    while (starts()[in_round].load() == 0 && !late.ready())
      clock::sleep_for(10'000);
    const bool seen = starts()[in_round].load() > 0;
    const std::int64_t began_ns = clock::now_ns();
    submit_batch<note>();
    collect(-1, false);
    try {
      late.get();
      ++counts_.lost;
    } catch (const procs::TaskTimeout&) {
      ++counts_.kills;
      seen_late_ += seen;
      late_ns_ += seen ? clock::now_ns() - began_ns - time_limit.count() : 0;
    } catch (const WorkerDied&) {
      ++counts_.unnamed;
    }
  }

  PoolKillOptions options_;
  Random random_;
  std::optional<ProcessPool> pool_;
  Bytes journal_;
  std::vector<ProcessFuture<Trace>> futures_;
  Counts counts_;
  std::int64_t recovery_ns_ = 0;
  std::int64_t late_ns_ = 0;  // of those seen to begin
  double seen_late_ = 0;
  double bad_ = 0;
  double kills_ = 0;
};

// --- a program whose pool it takes with it

// In a process group of its own, by which what is left of it can be found.
int doomed_program(std::span<const std::byte> argument) {
  ::setpgid(0, 0);
  const auto step = static_cast<Step>(argument[0]);
  const auto start = static_cast<procs::StartMethod>(argument[1]);
  ProcessPool pool({.workers = workers, .start = start, .most_restarts = 1'000'000});
  const Bytes journal = pool.bytes((in_round + 1) * sizeof(Count));
  for (std::size_t i = 0; i <= in_round; ++i)
    new (journal.data() + i * sizeof(Count)) Count{0};
  const auto* starts = reinterpret_cast<const Count*>(journal.data());
  if (procs::of_worker(step)) {
    std::array stuck = {pool.submit<never_end>(journal, 0u), pool.submit<never_end>(journal, 0u)};
    while (starts[0].load() < stuck.size())
      clock::sleep_for(10'000);
    ::kill(::getpid(), SIGKILL);
  }
  pool.parent_fault().arm(step, 3);
  for (std::uint64_t i = 0;; ++i) {
    std::vector<ProcessFuture<Trace>> futures;
    for (std::size_t k = 0; k < in_round; ++k)
      futures.push_back(pool.submit_with<note>({.attempts = 9}, journal, k));
    if (i % 2 == 0)
      pool.kill_worker(0);
    for (auto& future : futures)
      future.get();
  }
}

class ParentKills final : public harness::Subject {
public:
  explicit ParentKills(const PoolKillOptions& options) : options_(options) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(std::nullopt, options_.usable);
    // Whoever loses its parent becomes our child, and can be waited for.
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    double left = 0;
    std::int64_t gone_ns = 0;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations * options_.kills; ++i) {
      const std::array argument = {std::byte(options_.step), std::byte(options_.start)};
      auto program =
          procs::Process::start<doomed_program>({.method = procs::StartMethod::exec}, argument);
      const pid_t group = program.pid();
      const auto ending = program.end_within(static_cast<int>(bound_ns / 1'000'000));
      const bool killed = ending.cause.kind == ExitCause::Kind::signalled &&
                          ending.cause.value == SIGKILL &&
                          ending.why != procs::Ending::Why::timed_out;
      kills_ += killed ? 1 : 0;
      const std::int64_t seen_ns = clock::now_ns();
      left += await_end_of(group);
      gone_ns += clock::now_ns() - seen_ns;
    }
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, clock::end());
    ::prctl(PR_SET_CHILD_SUBREAPER, 0);
    const auto done = static_cast<double>(operations * options_.kills);
    sample.values[options_.metrics.recovery] = static_cast<double>(gone_ns) / done;
    sample.values[options_.metrics.kills] = kills_ - counted_;
    sample.values[options_.metrics.left] = left;
    counted_ = kills_;
    expected_ += done;
    left_ += left;
    return sample;
  }

  std::vector<Check> checks() override {
    return {{std::string(nobody_left_check), 0.0, left_, left_ == 0},
            {"programs that died where they were to", expected_, kills_, expected_ == kills_}};
  }

private:
  // How many processes of the group are left once there was time enough to end.
  static double await_end_of(pid_t group) {
    for (const std::int64_t until = clock::now_ns() + bound_ns; clock::now_ns() < until;) {
      siginfo_t info{};
      if (::waitid(P_PGID, static_cast<id_t>(group), &info, WEXITED | WNOHANG) < 0 &&
          ::kill(-group, 0) < 0)
        return 0;
      if (info.si_pid == 0)
        clock::sleep_for(20'000);
    }
    return 1;
  }

  PoolKillOptions options_;
  double kills_ = 0;
  double counted_ = 0;
  double expected_ = 0;
  double left_ = 0;
};

}  // namespace

std::unique_ptr<harness::Subject> make_pool_here(const PoolKillOptions& options) {
  return std::make_unique<WorkerKills>(options);
}

std::unique_ptr<harness::Subject> make_pool_kills(const PoolKillOptions& options) {
  if (options.how == PoolKill::parent)
    return std::make_unique<ParentKills>(options);
  if (options.how == PoolKill::memory)
    return make_pool_in_cage(options);
  return make_pool_here(options);
}

}  // namespace schedlab::apparatus
