#include "lab/apparatus/mover.hh"

#include "lab/apparatus/migration_counter.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/keep.hh"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;

// A mask of one CPU as the kernel reads it, made before the clock runs.
class Goal {
public:
  explicit Goal(unsigned cpu) : cpu_(cpu), words_(cpu / word_bits + 1) {
    words_.back() = 1ul << (cpu % word_bits);
  }

  // Sends the calling thread there. Did it arrive?
  [[nodiscard]] bool go() const noexcept {
    ::syscall(SYS_sched_setaffinity, 0, words_.size() * sizeof words_[0], words_.data());
    return static_cast<unsigned>(::sched_getcpu()) == cpu_;
  }

private:
  static constexpr unsigned word_bits = 8 * sizeof(unsigned long);
  unsigned cpu_;
  std::vector<unsigned long> words_;
};

class Mover : public harness::Subject {
public:
  explicit Mover(const MoverOptions& options)
      : options_(options), there_(options.second), back_(options.first) {
    stand_on(options_.first, options_.usable);
    set_ = options_.area->bytes().data();
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.first, options_.usable);
    static_cast<void>(travel(1));  // leaves the caches as every later lap finds them
    const auto counted = counter_.read();
    witness_.begin();
    const auto begin = clock::begin();
    const std::uint64_t arrived = travel(operations);
    const auto end = clock::end();
    const TaskRecord record = witness_.end();
    note(2 * operations, arrived, counted);

    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof = prove(record, options_.first, sample.elapsed_ns, !moves());
    sample.proof.on_cpu = sample.proof.on_cpu && arrived == 2 * operations;
    if (moves()) {
      sample.proof.cpus = {std::min(options_.first, options_.second),
                           std::max(options_.first, options_.second)};
      // The task leaves its CPU once for each move, and may sleep once until it has arrived.
      sample.proof.expected_switches = 2 * operations;
      sample.proof.most_switches = 4 * operations;
    }
    sample.values[options_.metric] = sample.elapsed_ns / static_cast<double>(2 * operations);
    return sample;
  }

  std::vector<Check> checks() override {
    std::vector<Check> checks = options_.area->checks();
    checks.push_back({"calls after which the task was on the CPU it was sent to", calls_, arrived_,
                      arrived_ == calls_});
    if (counter_.read()) {
      const std::uint64_t expected = moves() ? calls_ : 0;
      checks.push_back(
          {"migrations that the kernel counted", expected, counted_, counted_ == expected});
    }
    return checks;
  }

private:
  [[nodiscard]] bool moves() const noexcept { return options_.first != options_.second; }

  // Goes there and back; gives how many of the calls arrived.
  [[nodiscard]] std::uint64_t travel(std::uint64_t laps) const noexcept {
    std::uint64_t arrived = 0;
    for (std::uint64_t i = 0; i < laps; ++i)
      for (const Goal* goal : {&there_, &back_}) {
        arrived += goal->go();
        keep(walk(set_, options_.size, options_.stride, options_.access));
      }
    return arrived;
  }

  void note(std::uint64_t calls, std::uint64_t arrived, std::optional<std::uint64_t> before) {
    calls_ += calls;
    arrived_ += arrived;
    counted_ += counter_.read().value_or(0) - before.value_or(0);
  }

  MoverOptions options_;
  std::byte* set_ = nullptr;
  Goal there_;
  Goal back_;
  Witness witness_;
  MigrationCounter counter_;
  std::uint64_t calls_ = 0;
  std::uint64_t arrived_ = 0;
  std::uint64_t counted_ = 0;
};

}  // namespace

std::unique_ptr<harness::Subject> make_mover(const MoverOptions& options) {
  return std::make_unique<Mover>(options);
}

}  // namespace schedlab::apparatus
