#include "lab/apparatus/shared_job.hh"

#include "lab/apparatus/work_length.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/futex.hh"
#include "lab/base/keep.hh"

#include <array>
#include <atomic>
#include <climits>
#include <cmath>
#include <stdexcept>

namespace schedlab::apparatus {

namespace {

constexpr std::array<std::string_view, 4> job_names = {"chain", "wide", "serial", "shared"};

// About a millisecond: longer than the parts that others wait for, and short beside a time slice,
// where another worker was kept from its CPU.
constexpr std::uint32_t most_spins = 30'000;

// Where workers wait for each other, in memory that they share; again and again. The last to come
// opens it for all.
class Gate {
public:
  void pass(unsigned workers, std::uint32_t spins) noexcept {
    const std::uint32_t seen = opened_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == workers) {
      arrived_.store(0, std::memory_order_relaxed);
      // Before the sleepers are counted, as they count themselves before they look: one of the two
      // sees the other.
      opened_.fetch_add(1, std::memory_order_seq_cst);
      if (sleepers_.load(std::memory_order_seq_cst) > 0)
        futex_wake(opened_, INT_MAX, true);
      return;
    }
    for (; spins > 0; --spins) {
      if (opened_.load(std::memory_order_acquire) != seen)
        return;
      pause_cpu();
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (opened_.load(std::memory_order_seq_cst) == seen)
      futex_wait(opened_, seen, true);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }

private:
  alignas(line_pair) std::atomic<std::uint32_t> arrived_{0};
  alignas(line_pair) std::atomic<std::uint32_t> opened_{0};
  std::atomic<std::uint32_t> sleepers_{0};
};

// More additions at once than a core has adders, none waiting for another. Not inlined: where the
// registers are taken its values would go through memory, and wait for that.
[[gnu::noinline]] void compute_wide(std::uint64_t steps) noexcept {
  std::uint64_t a = steps, b = 1, c = 2, d = 3, e = 4, f = 5, g = 6, h = 7;
  for (std::uint64_t i = 0; i < steps; ++i) {
    asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f), "+r"(g), "+r"(h));
    a += i;
    b += i;
    c += i;
    d += i;
    e += i;
    f += i;
    g += i;
    h += i;
  }
  keep(a + b + c + d + e + f + g + h);
}

// Cuts `all` into `parts` that differ by one at most; the sum of all is `all`.
std::uint64_t share_of(std::uint64_t all, unsigned part, unsigned parts) noexcept {
  return all / parts + (part < all % parts);
}

// What one worker counted, on a line of its own.
struct alignas(line_pair) Tally {
  std::uint64_t steps = 0;
};

}  // namespace

// Shared by the caller and the workers; the tallies lie behind it.
struct JobCrew::Board {
  JobOptions job;  // written before the team is started
  Gate all;        // passed once by the whole crew, so that nobody wakes up while others work
  Gate workers;
  double window_ns = 0;  // written by the first worker
  alignas(line_pair) std::atomic<std::uint64_t> counter{0};

  Tally* tallies() noexcept { return reinterpret_cast<Tally*>(this + 1); }
};

std::string_view to_text(Job job) noexcept {
  return job_names[static_cast<std::size_t>(job)];
}

Job job_from(std::string_view word) {
  for (std::size_t i = 0; i < job_names.size(); ++i)
    if (job_names[i] == word)
      return static_cast<Job>(i);
  throw std::invalid_argument("no such job: " + std::string(word));
}

std::uint64_t serial_steps(const JobOptions& options) noexcept {
  if (options.job != Job::serial)
    return 0;
  return static_cast<std::uint64_t>(
      std::llround(static_cast<double>(options.steps) * options.serial));
}

double JobOptions::jobs() const noexcept {
  if (!weak)
    return 1;
  const auto alone = static_cast<double>(serial_steps(*this)) / static_cast<double>(steps);
  return alone + (1 - alone) * workers;
}

JobPart part_of(const JobOptions& options, unsigned worker) noexcept {
  const std::uint64_t parallel = options.steps - serial_steps(options);
  const unsigned sharing = options.weak ? 1 : options.workers;
  const unsigned part = options.weak ? 0 : worker;
  if (options.job != Job::shared)
    return {share_of(parallel, part, sharing), 0};
  const std::uint64_t turns = share_of(parallel / options.turn, part, sharing);
  return {turns * options.turn, turns};
}

JobCrew::JobCrew(TaskKind kind, std::vector<std::optional<unsigned>> places,
                 const affinity::CpuSet& usable, bool apart)
    : places_(std::move(places)), apart_(apart), shared_(make_board(places_.size())),
      team_(TaskOptions{.kind = kind}, places_, usable,
            [this](unsigned worker, std::uint64_t rounds) { play(worker, rounds); }) {}

Mapping JobCrew::make_board(std::size_t workers) {
  Mapping memory = Mapping::shared_memory(sizeof(Board) + workers * sizeof(Tally));
  new (memory.data()) Board;
  return memory;
}

void JobCrew::play(unsigned worker, std::uint64_t rounds) noexcept {
  Board& board = this->board();
  const JobOptions job = board.job;
  board.all.pass(static_cast<unsigned>(places_.size()), 0);
  if (worker >= job.workers)
    return;
  const std::uint32_t spins = apart_ ? most_spins : 0;
  const JobPart part = part_of(job, worker);
  const std::uint64_t alone = worker == 0 ? serial_steps(job) : 0;
  board.workers.pass(job.workers, spins);
  const auto begin = clock::begin();
  for (std::uint64_t round = 0; round < rounds; ++round) {
    if (job.job == Job::serial) {
      compute(alone);
      board.workers.pass(job.workers, spins);
    }
    if (job.job == Job::wide)
      compute_wide(part.steps);
    else if (job.job != Job::shared)
      compute(part.steps);
    for (std::uint64_t turn = 0; turn < part.turns; ++turn) {
      compute(job.turn);
      board.counter.fetch_add(1, std::memory_order_relaxed);
    }
    board.workers.pass(job.workers, spins);
  }
  if (worker == 0)
    board.window_ns = clock::ns(begin, clock::end());
  board.tallies()[worker].steps = (part.steps + alone) * rounds;
}

JobCrew::Run JobCrew::run(const JobOptions& options, std::uint64_t rounds) {
  Board& board = this->board();
  board.job = options;
  board.counter.store(0, std::memory_order_relaxed);
  for (unsigned worker = 0; worker < options.workers; ++worker)
    board.tallies()[worker].steps = 0;
  team_.start(rounds);
  const auto records = team_.finish().first(options.workers);
  Run run;
  run.window_ns = board.window_ns;
  run.proof =
      prove(records, std::span(places_).first(options.workers), board.window_ns, false, !apart_);
  for (unsigned worker = 0; worker < options.workers; ++worker)
    run.steps += board.tallies()[worker].steps;
  run.turns = board.counter.load(std::memory_order_relaxed);
  return run;
}

namespace {

class SharedJob final : public harness::Subject {
public:
  SharedJob(std::shared_ptr<JobCrew> crew, const JobOptions& options)
      : crew_(std::move(crew)), options_(options) {
    if (options.workers == 0 || options.workers > crew_->size())
      throw std::invalid_argument("more workers than the crew has");
    expected_.steps = serial_steps(options);
    for (unsigned worker = 0; worker < options.workers; ++worker) {
      const JobPart part = part_of(options, worker);
      expected_.steps += part.steps;
      expected_.turns += part.turns;
    }
  }

  harness::Sample sample(std::uint64_t operations) override {
    JobCrew::Run run = crew_->run(options_, operations);
    operations_ += operations;
    done_.steps += run.steps;
    done_.turns += run.turns;
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = run.window_ns;
    sample.proof = std::move(run.proof);
    const double time = run.window_ns / static_cast<double>(operations);
    sample.values[options_.time] = time;
    sample.values[options_.rate] = options_.jobs() * 1e9 / time;
    return sample;
  }

  std::vector<harness::Check> checks() override {
    const std::uint64_t steps = expected_.steps * operations_;
    const std::uint64_t turns = expected_.turns * operations_;
    return {{"steps that the workers did", steps, done_.steps, steps == done_.steps},
            {"additions to the shared counter", turns, done_.turns, turns == done_.turns}};
  }

private:
  std::shared_ptr<JobCrew> crew_;
  JobOptions options_;
  JobPart expected_;
  JobPart done_;
  std::uint64_t operations_ = 0;
};

}  // namespace

std::unique_ptr<harness::Subject> make_shared_job(std::shared_ptr<JobCrew> crew,
                                                  const JobOptions& options) {
  return std::make_unique<SharedJob>(std::move(crew), options);
}

}  // namespace schedlab::apparatus
