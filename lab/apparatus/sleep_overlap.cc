#include "lab/apparatus/sleep_overlap.hh"

#include "lab/apparatus/overlap_loop.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/mapping.hh"

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>

namespace schedlab::apparatus {

namespace {

constexpr unsigned pair = 2;

// Where two sleepers, perhaps of different processes, write down who ended a step.
struct Board {
  std::atomic<std::uint32_t> at{0};
  std::array<std::atomic<std::uint8_t>, pair * overlap_steps> who{};
  std::array<std::atomic<std::int64_t>, pair> begun_ns{};
  std::array<std::atomic<std::int64_t>, pair> ended_ns{};
};

// As time.sleep does: each step from when the one before it ended.
void sleep_steps(Board& board, unsigned me, std::int64_t step_ns) noexcept {
  board.begun_ns[me].store(clock::now_ns(), std::memory_order_relaxed);
  for (unsigned step = 0; step < overlap_steps; ++step) {
    clock::sleep_for(step_ns);
    const auto at = board.at.fetch_add(1, std::memory_order_relaxed);
    board.who[at % board.who.size()].store(static_cast<std::uint8_t>(me),
                                           std::memory_order_relaxed);
  }
  board.ended_ns[me].store(clock::now_ns(), std::memory_order_relaxed);
}

std::int64_t extent_ns(const Board& board) noexcept {
  return std::max(board.ended_ns[0].load(), board.ended_ns[1].load()) -
         std::min(board.begun_ns[0].load(), board.begun_ns[1].load());
}

unsigned changes_of_turn(const Board& board) noexcept {
  unsigned changes = 0;
  for (std::size_t i = 1; i < board.who.size(); ++i)
    changes += board.who[i].load() != board.who[i - 1].load();
  return changes;
}

// Two threads or processes that are there already.
class StandingPair final : public harness::Subject {
public:
  StandingPair(TaskKind kind, const OverlapOptions& options)
      : options_(options), memory_(Mapping::shared_memory(sizeof(Board))),
        team_({.kind = kind}, {options.cpu, options.cpu}, options.usable,
              [this](unsigned me, std::uint64_t) {
                sleep_steps(*memory_.as<Board>(), me, options_.step_ns);
              }) {}

  harness::Sample sample(std::uint64_t operations) override {
    harness::Sample sample;
    OverlapTally tally(options_, overlap_steps * options_.step_ns);
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      Board& board = *new (memory_.data()) Board;
      team_.start(1);
      const auto records = team_.finish();
      const std::array<std::optional<unsigned>, pair> places = {options_.cpu, options_.cpu};
      add(prove(records, places, static_cast<double>(extent_ns(board)), false), sample.proof);
      tally.add(extent_ns(board));
      least_changes_ = std::min(least_changes_, changes_of_turn(board));
    }
    sample.proof.expected_switches = pair * overlap_steps * operations;
    sample.proof.most_switches = 3 * sample.proof.expected_switches;
    tally.fill_in(sample, operations, clock::ns(begin, clock::end()));
    return sample;
  }
  std::vector<harness::Check> checks() override { return {turns(least_changes_)}; }

private:
  OverlapOptions options_;
  Mapping memory_;
  unsigned least_changes_ = std::numeric_limits<unsigned>::max();
  Team team_;  // last: its members use the rest
};

// Two processes, their start and their end.
class FreshProcesses final : public harness::Subject {
public:
  explicit FreshProcesses(const OverlapOptions& options)
      : options_(options), memory_(Mapping::shared_memory(sizeof(Board))) {}

  harness::Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    harness::Sample sample;
    OverlapTally tally(options_, overlap_steps * options_.step_ns);
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      Board& board = *new (memory_.data()) Board;
      const std::int64_t begun_ns = clock::now_ns();
      std::array<Child, pair> children;
      for (unsigned me = 0; me < pair; ++me)
        children[me] = Child::fork([&board, me, step_ns = options_.step_ns] {
          sleep_steps(board, me, step_ns);
          return 0;
        });
      for (auto& child : children)
        if (!child.wait().success())
          throw std::runtime_error("a sleeping process was killed");
      tally.add(clock::now_ns() - begun_ns);
    }
    tally.fill_in(sample, operations, clock::ns(begin, clock::end()));
    return sample;
  }

private:
  OverlapOptions options_;
  Mapping memory_;
};

}  // namespace

harness::Check turns(unsigned least_changes) {
  return {std::string(turns_check), harness::Value("more than 1"), harness::Value(least_changes),
          least_changes > 1};
}

const std::vector<std::string_view>& overlap_programs() {
  static const std::vector<std::string_view> names = {
      "threads",     "processes",   "processes-started", "coroutines",  "sequential",
      "create_task", "slice-short", "slice-long",        "compute-pair"};
  return names;
}

bool runs_a_loop(std::string_view program) noexcept {
  return program != "threads" && !program.starts_with("processes");
}

std::unique_ptr<harness::Subject> make_overlap(std::string_view program,
                                               const OverlapOptions& options) {
  if (program == "threads")
    return std::make_unique<StandingPair>(TaskKind::threads, options);
  if (program == "processes")
    return std::make_unique<StandingPair>(TaskKind::processes, options);
  if (program == "processes-started")
    return std::make_unique<FreshProcesses>(options);
  return make_loop_overlap(program, options);
}

}  // namespace schedlab::apparatus
