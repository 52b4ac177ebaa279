#include "lab/apparatus/sleepers.hh"

#include "iouring/frame_pool.hh"
#include "iouring/loop.hh"
#include "iouring/sleep.hh"
#include "iouring/start.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/random.hh"
#include "lab/harness/statistics.hh"

#include <algorithm>
#include <chrono>
#include <numeric>

namespace schedlab::apparatus {

Timetable::Timetable(const SleepersOptions& options)
    : options_(options), offsets_(options.sleepers) {
  std::vector<std::uint64_t> order(options.sleepers);  // of being due
  std::iota(order.begin(), order.end(), std::uint64_t{0});
  Random random(options.sleepers);
  shuffle(order, random);
  const double step_ns =
      static_cast<double>(options.period_ns) / static_cast<double>(options.sleepers);
  for (std::uint64_t place = 0; place < options.sleepers; ++place)
    offsets_[order[place]] = static_cast<std::int64_t>(step_ns * static_cast<double>(place + 1));
}

void Timetable::plan(std::uint64_t rounds, std::int64_t base_ns) {
  base_ns_ = base_ns;
  lateness_.assign(rounds * options_.sleepers, 0);
}

void Timetable::fill_in(harness::Sample& sample) {
  std::vector<double> late(lateness_.begin(), lateness_.end());
  std::ranges::sort(late);
  early_ += static_cast<std::uint64_t>(std::ranges::lower_bound(late, 0.0) - late.begin());
  const auto at = [&](double share) {
    return late[static_cast<std::size_t>(share * static_cast<double>(late.size() - 1))];
  };
  sample.values[options_.late] = harness::median(late);
  sample.values[options_.worst] = late.back();
  if (late.size() >= harness::samples_needed(0.99))
    sample.values[options_.p99] = at(0.99);
  if (late.size() >= harness::samples_needed(0.999))
    sample.values[options_.p999] = at(0.999);
}

harness::Check Timetable::check() const {
  return {"sleepers that went on before they were due", harness::Value(0), harness::Value(early_),
          early_ == 0};
}

namespace {

using iouring::Loop;
using iouring::Running;
using iouring::Task;

constexpr std::int64_t least_lead_ns = 200'000;
constexpr std::int64_t lead_of_a_task_ns = 300;

iouring::LoopOptions loop_options(iouring::DriverChoice driver) {
  iouring::LoopOptions options;
  options.driver.choice = driver;
  return options;
}

// A task for each sleeper, in one loop.
class LoopSleepers final : public harness::Subject {
public:
  LoopSleepers(iouring::DriverChoice driver, const SleepersOptions& options)
      : options_(options), table_(options),
        lead_(least_lead_ns + lead_of_a_task_ns * static_cast<std::int64_t>(options.sleepers)),
        loop_(loop_options(driver)) {
    tasks_.reserve(options.sleepers);
  }

  harness::Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    const TaskScope scope({.slack_ns = options_.slack_ns});
    harness::Sample sample;
    lead_.play([&](std::int64_t lead_ns) {
      table_.plan(operations, clock::now_ns() + lead_ns);
      attempt(operations, sample);
      return last_set_ns_ - begun_ns_;
    });
    table_.fill_in(sample);
    return sample;
  }
  std::vector<harness::Check> checks() override { return {table_.check(), lead_.check()}; }

private:
  void attempt(std::uint64_t operations, harness::Sample& sample) {
    const auto calls = loop_.driver().counts().calls;
    const auto bytes = iouring::frame_counts().bytes;
    witness_.begin();
    const auto cpu_ns = clock::process_cpu_ns();
    const auto begin = clock::begin();
    begun_ns_ = clock::now_ns();
    loop_.run(all(operations));
    const auto end = clock::end();
    const auto used_ns = clock::process_cpu_ns() - cpu_ns;
    const TaskRecord record = witness_.end();
    const auto sleeps = static_cast<double>(table_.sleeps());
    sample = {};
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof = prove(record, options_.cpu, sample.elapsed_ns, false);
    sample.values[options_.cpu_time] = static_cast<double>(used_ns) / sleeps;
    sample.values[options_.calls] =
        static_cast<double>(loop_.driver().counts().calls - calls) / sleeps;
    // What the pool handed out: frame and state of each task; and its place in the timers' heap.
    sample.values[options_.memory] = static_cast<double>(iouring::frame_counts().bytes - bytes) /
                                         static_cast<double>(options_.sleepers) +
                                     sizeof(void*);
  }

  Task<> all(std::uint64_t rounds) {
    for (std::uint64_t i = 0; i < options_.sleepers; ++i)
      tasks_.push_back(iouring::create_task(sleeper(i, rounds)));
    for (auto& task : tasks_)
      co_await task;
    tasks_.clear();
  }

  Task<> sleeper(std::uint64_t me, std::uint64_t rounds) {
    for (std::uint64_t round = 0; round < rounds; ++round) {
      const std::int64_t now_ns = clock::now_ns();
      if (round == 0)
        last_set_ns_ = now_ns;
      co_await iouring::sleep_for(std::chrono::nanoseconds(table_.due_ns(me, round) - now_ns));
      table_.note(me, round, clock::now_ns());
    }
  }

  SleepersOptions options_;
  Timetable table_;
  Lead lead_;
  Loop loop_;
  std::vector<Running<>> tasks_;
  std::int64_t begun_ns_ = 0;
  std::int64_t last_set_ns_ = 0;  // when the last of them went to sleep for the first time
  Witness witness_;
};

}  // namespace

std::unique_ptr<harness::Subject> make_loop_sleepers(iouring::DriverChoice driver,
                                                     const SleepersOptions& options) {
  return std::make_unique<LoopSleepers>(driver, options);
}

}  // namespace schedlab::apparatus
