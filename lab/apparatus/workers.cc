#include "lab/apparatus/workers.hh"

#include "lab/apparatus/migration_counter.hh"
#include "lab/apparatus/ring.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/keep.hh"

#include <sched.h>

#include <algorithm>
#include <bit>
#include <optional>
#include <set>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;

constexpr std::uint64_t stride = cache_line;
constexpr std::uint64_t touch_all = 0;  // "rounds" of the call that gives every page its frame

// What a worker says of its work; shared, so that it may be a process.
struct alignas(line_pair) Desk {
  std::uint64_t begin = 0;  // ticks
  std::uint64_t end = 0;
  std::int64_t cpu_ns = 0;
  std::uint64_t migrations = 0;
  bool counted = false;  // does the kernel tell migrations?
};

// CPUs that were seen, one bit each.
class Seen {
public:
  static std::size_t words(unsigned cpus) noexcept { return cpus / word_bits + 1; }
  static void add(std::span<std::uint64_t> words, unsigned cpu) noexcept {
    if (cpu / word_bits < words.size())
      words[cpu / word_bits] |= std::uint64_t{1} << (cpu % word_bits);
  }

private:
  static constexpr unsigned word_bits = 64;
};

// As many dependent multiplications as take about as long as a walk over lines in the L2 cache.
std::uint64_t compute(std::uint64_t lines, std::uint64_t value) noexcept {
  for (std::uint64_t i = 0; i < 2 * lines; ++i) {
    value = value * 6364136223846793005u + 1442695040888963407u;
    launder(value);
  }
  return value;
}

class Workers : public harness::Subject {
public:
  explicit Workers(const WorkersOptions& options)
      : options_(options), count_(static_cast<unsigned>(options.places.size())),
        words_(Seen::words(options.usable.cpus().back())),
        desks_(Mapping::shared_memory(count_ * sizeof(Desk))),
        seen_(Mapping::shared_memory(count_ * words_ * sizeof(std::uint64_t))),
        sets_(make_sets(count_, options.size)), counters_(count_),
        team_(options.tasks, options.places, options.usable,
              [this](unsigned worker, std::uint64_t operations) { work(worker, operations); }) {
    team_.start(touch_all);
    team_.finish();
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(std::nullopt, options_.usable);
    std::ranges::fill(seen_words(), 0);
    team_.start(operations);
    const auto records = team_.finish();
    const double span_ns = span();

    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = span_ns;
    sample.proof = prove(records, options_.places, span_ns, false);
    sample.values[options_.step] = span_ns / static_cast<double>(operations * steps_per_operation);
    sample.values[options_.running] = cpu_ns() / span_ns;
    sample.values[options_.cpus] = distinct();
    if (std::ranges::all_of(desks(), &Desk::counted))
      sample.values[options_.migrations] =
          static_cast<double>(migrations()) / count_ / span_ns * 1e9;
    moved_ += pinned() ? migrations() : 0;
    return sample;
  }

  // Pinned workers are on as many CPUs as they have places, and none is ever moved.
  std::vector<Check> checks() override {
    if (!pinned())
      return {};
    const std::set<std::optional<unsigned>> places(options_.places.begin(), options_.places.end());
    std::vector<Check> checks = {{"CPUs in use", places.size(), distinct(),
                                  distinct() == static_cast<double>(places.size())}};
    if (std::ranges::all_of(desks(), &Desk::counted))
      checks.push_back({"migrations of pinned workers", 0, moved_, moved_ == 0});
    return checks;
  }

private:
  static std::vector<Mapping> make_sets(unsigned count, std::uint64_t size) {
    std::vector<Mapping> sets;
    for (unsigned i = 0; i < count; ++i)
      sets.push_back(Mapping::private_memory(std::max<std::size_t>(size, page_size())));
    return sets;
  }

  [[nodiscard]] bool pinned() const noexcept { return options_.places.front().has_value(); }
  [[nodiscard]] std::span<Desk> desks() const noexcept { return {desks_.as<Desk>(), count_}; }
  [[nodiscard]] std::span<std::uint64_t> seen_words() const noexcept {
    return {seen_.as<std::uint64_t>(), count_ * words_};
  }

  void work(unsigned worker, std::uint64_t operations) noexcept {
    const Mapping& set = sets_[worker];
    if (operations == touch_all) {
      keep(walk(set.data(), options_.size, page_size(), Access::write));
      counters_[worker].emplace();  // by the task it is to count for
      return;
    }
    Desk& desk = desks()[worker];
    const auto seen = seen_words().subspan(worker * words_, words_);
    const auto before = counters_[worker]->read();
    const std::int64_t cpu_before = clock::thread_cpu_ns();
    std::uint64_t value = worker;
    desk.begin = clock::begin();
    for (std::uint64_t i = 0; i < operations * steps_per_operation; ++i) {
      value += walk(set.data(), options_.size, stride, Access::write);
      value = compute(options_.size / stride, value);
      Seen::add(seen, static_cast<unsigned>(::sched_getcpu()));
    }
    desk.end = clock::end();
    keep(value);
    desk.cpu_ns = clock::thread_cpu_ns() - cpu_before;
    const auto after = counters_[worker]->read();
    desk.counted = before && after;
    desk.migrations = after.value_or(0) - before.value_or(0);
  }

  // From the first start to the last end.
  [[nodiscard]] double span() const noexcept {
    const auto first = std::ranges::min_element(desks(), {}, &Desk::begin);
    const auto last = std::ranges::max_element(desks(), {}, &Desk::end);
    return clock::ns(first->begin, last->end);
  }
  [[nodiscard]] double cpu_ns() const noexcept {
    double sum = 0;
    for (const auto& desk : desks())
      sum += static_cast<double>(desk.cpu_ns);
    return sum;
  }
  [[nodiscard]] std::uint64_t migrations() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& desk : desks())
      sum += desk.migrations;
    return sum;
  }
  [[nodiscard]] double distinct() const noexcept {
    int count = 0;
    for (std::size_t word = 0; word < words_; ++word) {
      std::uint64_t used = 0;
      for (unsigned worker = 0; worker < count_; ++worker)
        used |= seen_words()[worker * words_ + word];
      count += std::popcount(used);
    }
    return count;
  }

  WorkersOptions options_;
  unsigned count_;
  std::size_t words_;  // of a worker's CPUs in `seen_`
  Mapping desks_;
  Mapping seen_;
  std::vector<Mapping> sets_;
  std::vector<std::optional<MigrationCounter>> counters_;  // each used by its worker alone
  std::uint64_t moved_ = 0;
  Team team_;
};

}  // namespace

std::unique_ptr<harness::Subject> make_workers(const WorkersOptions& options) {
  return std::make_unique<Workers>(options);
}

}  // namespace schedlab::apparatus
