#include "lab/apparatus/shared_state.hh"

#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/keep.hh"
#include "lab/base/random.hh"
#include "lab/harness/statistics.hh"
#include "procs/sealed_memory.hh"
#include "procs/spsc_ring.hh"

#include <array>
#include <mutex>
#include <numeric>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Sample;
using procs::Outcome;
using procs::SpscRing;

constexpr std::size_t entries = 4096;
constexpr std::size_t shards = 64;
constexpr std::uint64_t window = 16;        // requests under way
constexpr std::uint64_t stamped_each = 32;  // operations

struct Operation {
  std::uint32_t key = 0;
  bool write = false;
};

// The same for both ways, and for each half of the work another.
class Script {
public:
  Script(std::uint64_t seed, unsigned write_percent) : random_(seed), percent_(write_percent) {}
  Operation next() noexcept {
    const std::uint64_t drawn = random_();
    return {static_cast<std::uint32_t>(drawn % entries), (drawn >> 32) % 100 < percent_};
  }

private:
  Random random_;
  unsigned percent_;
};

class SharedState : public harness::Subject {
public:
  explicit SharedState(const SharedStateOptions& options) : options_(options) {}

  std::vector<harness::Check> checks() override {
    const std::uint64_t found = increments();
    return {{"increments", harness::Value(written_), harness::Value(found), found == written_}};
  }

protected:
  // What the table holds after all samples.
  virtual std::uint64_t increments() = 0;

  void finish(Sample& sample, std::uint64_t operations, double elapsed_ns,
              std::span<const TaskRecord> records, double window_ns) {
    sample.operations = operations;
    sample.elapsed_ns = elapsed_ns;
    const std::array places = {options_.first, options_.second};
    sample.proof = prove(records, places, window_ns, false);
    sample.values[options_.rate_metric] = static_cast<double>(operations) / elapsed_ns * 1e9;
    if (took_.size() >= harness::samples_needed(0.99))
      sample.values[options_.p99_metric] = harness::quantile(took_, 0.99);
  }

  SharedStateOptions options_;
  std::uint64_t written_ = 0;  // increments that were asked for
  std::vector<double> took_;
};

// Both threads work on the table, and lock the part of it that they touch.
class LockedTable final : public SharedState {
public:
  explicit LockedTable(const SharedStateOptions& options)
      : SharedState(options),
        team_({}, {options.second}, options.usable, [this](unsigned, std::uint64_t operations) {
          partner_written_ = work(operations, 2, nullptr);
        }) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.first, options_.usable);
    const std::uint64_t mine = (operations + 1) / 2;
    took_.clear();
    took_.reserve(mine / stamped_each + 1);
    team_.start(operations - mine);
    witness_.begin();
    const auto begin = clock::begin();
    written_ += work(mine, 1, &took_);
    std::array records = {witness_.end(), TaskRecord{}};
    records[1] = team_.finish()[0];
    const double elapsed_ns = clock::ns(begin, clock::end());
    written_ += partner_written_;
    Sample sample;
    finish(sample, operations, elapsed_ns, records, elapsed_ns);
    return sample;
  }

private:
  struct alignas(line_pair) Shard {
    std::mutex mutex;
    std::array<std::uint64_t, entries / shards> values{};
  };

  std::uint64_t work(std::uint64_t operations, std::uint64_t seed,
                     std::vector<double>* took) noexcept {
    Script script(seed, options_.write_percent);
    std::uint64_t written = 0, read = 0;
    for (std::uint64_t i = 0; i < operations; ++i) {
      const bool stamp = took && i % stamped_each == 0;
      const auto begin = stamp ? clock::begin() : 0;
      const Operation operation = script.next();
      Shard& shard = table_[operation.key % shards];
      {
        const std::lock_guard lock(shard.mutex);
        std::uint64_t& value = shard.values[operation.key / shards];
        read += value;
        value += operation.write;
      }
      written += operation.write;
      if (stamp)
        took->push_back(clock::ns(begin, clock::end()));
    }
    keep(read);
    return written;
  }

  std::uint64_t increments() override {
    std::uint64_t sum = 0;
    for (const auto& shard : table_)
      sum = std::accumulate(shard.values.begin(), shard.values.end(), sum);
    return sum;
  }

  std::array<Shard, shards> table_;
  std::uint64_t partner_written_ = 0;
  Witness witness_;
  Team team_;  // last: its member uses the rest
};

// The partner, a process, has the table to itself; the caller asks.
class OwnedTable final : public SharedState {
public:
  explicit OwnedTable(const SharedStateOptions& options)
      : SharedState(options),
        memory_(procs::SealedMemory::make(2 * ring_bytes + sizeof(std::uint64_t), "requests")),
        asked_(SpscRing<Operation>::make(memory_.bytes(), capacity)),
        answered_(SpscRing<std::uint64_t>::make(memory_.bytes().subspan(ring_bytes), capacity)),
        team_({.kind = TaskKind::processes}, {options.second}, options.usable,
              [this](unsigned, std::uint64_t operations) { serve(operations); }) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.first, options_.usable);
    took_.clear();
    took_.reserve(operations / stamped_each + 1);
    team_.start(operations);
    const auto window_begin = clock::begin();
    witness_.begin();
    const auto begin = clock::begin();
    ask(operations);
    const double elapsed_ns = clock::ns(begin, clock::end());
    std::array records = {witness_.end(), TaskRecord{}};
    const double window_ns = clock::ns(window_begin, clock::end());
    records[1] = team_.finish()[0];
    Sample sample;
    finish(sample, operations, elapsed_ns, records, window_ns);
    return sample;
  }

private:
  static constexpr std::size_t capacity = 64;
  static constexpr std::size_t ring_bytes =
      (sizeof(procs::RingControl) + capacity * sizeof(std::uint64_t) + line_pair - 1) / line_pair *
      line_pair;

  [[nodiscard]] procs::Wait wait() const noexcept {
    const bool apart = options_.first && options_.first != options_.second;
    return {.patience = {apart ? 200U : 0U}};
  }

  void ask(std::uint64_t operations) noexcept {
    auto asked = asked_.producer();
    auto answered = answered_.consumer();
    Script script(1, options_.write_percent);
    std::array<std::uint64_t, window> begun{};
    std::uint64_t sent = 0, got = 0, value = 0;
    for (; got < operations; ++got) {
      for (; sent < operations && sent - got < window; ++sent) {
        const Operation operation = script.next();
        if (sent % stamped_each == 0)
          begun[sent % window] = clock::begin();
        asked.push(operation, wait());
        written_ += operation.write;
      }
      if (answered.pop(value, wait()) != Outcome::done)
        return;
      if (got % stamped_each == 0)
        took_.push_back(clock::ns(begun[got % window], clock::end()));
    }
  }

  void serve(std::uint64_t operations) noexcept {
    auto asked = asked_.consumer();
    auto answered = answered_.producer();
    for (std::uint64_t i = 0; i < operations; ++i) {
      Operation operation;
      if (asked.pop(operation, wait()) != Outcome::done)
        return;
      std::uint64_t& value = table_[operation.key];
      answered.push(value, wait());
      value += operation.write;
    }
    total() = std::accumulate(table_.begin(), table_.end(), std::uint64_t{0});
  }

  [[nodiscard]] std::uint64_t& total() const noexcept {
    return *reinterpret_cast<std::uint64_t*>(memory_.data() + 2 * ring_bytes);
  }
  std::uint64_t increments() override { return total(); }

  procs::SealedMemory memory_;
  SpscRing<Operation> asked_;
  SpscRing<std::uint64_t> answered_;
  std::vector<std::uint64_t> table_ = std::vector<std::uint64_t>(entries);  // the owner's copy
  Witness witness_;
  Team team_;  // last: its member uses the rest
};

}  // namespace

std::unique_ptr<harness::Subject> make_shared_state(const SharedStateOptions& options) {
  if (options.owned)
    return std::make_unique<OwnedTable>(options);
  return std::make_unique<LockedTable>(options);
}

}  // namespace schedlab::apparatus
