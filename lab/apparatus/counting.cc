#include "lab/apparatus/counting.hh"

#include "lab/apparatus/loop.hh"
#include "lab/apparatus/start_line.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/keep.hh"
#include "procs/bytecode.hh"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <type_traits>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using harness::Value;
using procs::AtomicCount;
using procs::BiasedCount;
using procs::CountedThread;
using procs::CountedThreads;
using procs::PlainCount;

std::vector<std::optional<unsigned>> places_of(const std::vector<unsigned>& cpus) {
  return {cpus.begin(), cpus.end()};
}

struct alignas(line_pair) Times {
  std::uint64_t begin = 0;  // ticks
  std::uint64_t end = 0;
};

double longest_ns(const std::vector<Times>& times) noexcept {
  double longest = 0;
  for (const auto& [begin, end] : times)
    longest = std::max(longest, clock::ns(begin, end));
  return longest;
}

template <typename Count>
class CountingThreads final : public harness::Subject {
public:
  explicit CountingThreads(const CountingOptions& options)
      : options_(options), me_(registry_), common_(me_), times_(options.cpus.size()),
        line_(static_cast<unsigned>(options.cpus.size())),
        team_({}, places_of(options.cpus), options.usable,
              [this](unsigned member, std::uint64_t pairs) { play(member, pairs); }) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(std::nullopt, options_.usable);
    team_.start(operations);
    const auto records = team_.finish();
    const double time_ns = longest_ns(times_);
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = time_ns;
    sample.proof = prove(records, places_of(options_.cpus), time_ns, false);
    sample.values[options_.pair] = time_ns / static_cast<double>(operations);
    return sample;
  }

  // One reference is ours. Who shares a plain count loses some, as is to be shown.
  std::vector<Check> checks() override {
    if (std::is_same_v<Count, PlainCount> && options_.shared && options_.cpus.size() > 1)
      return {line_.all_met()};
    const std::int64_t lost = lost_ + common_.count.value() - 1;
    return {{std::string(references_check), Value(0), Value(lost), lost == 0}, line_.all_met()};
  }

private:
  struct alignas(line_pair) Object {
    explicit Object(const CountedThread& owner) : count(owner) {}
    Count count;
  };

  void play(unsigned member, std::uint64_t pairs) noexcept {
    CountedThread me(registry_);
    Object own(me);
    Count& count = options_.shared ? common_.count : own.count;
    line_.wait();
    times_[member].begin = clock::begin();
    for (std::uint64_t i = 0; i < pairs; ++i) {
      count.add(me);
      keep(&count);  // what is taken is in memory before it is given up
      count.drop(me);
      keep(&count);
    }
    times_[member].end = clock::end();
    lost_.fetch_add(own.count.value() - 1);
  }

  CountingOptions options_;
  CountedThreads registry_;
  CountedThread me_;
  Object common_;
  std::vector<Times> times_;
  std::atomic<std::int64_t> lost_{0};
  StartLine line_;
  Team team_;  // last: its members use the rest
};

template <typename Count>
struct Interpreter {
  explicit Interpreter(std::int64_t limit)
      : counted(registry), code(procs::count_to(limit), procs::Constants::counted, counted),
        thread(lock), machine(code, thread, counted) {
    thread.take();
  }

  CountedThreads registry;
  CountedThread counted;
  procs::Code<Count> code;
  procs::InterpreterLock lock;
  procs::InterpreterThread thread;
  procs::Machine<Count> machine;
};

template <typename Count>
std::unique_ptr<harness::Subject> counting_loop(const LoopOptions& options) {
  constexpr std::uint64_t chunk = 1000;
  auto many = std::make_shared<Interpreter<Count>>(chunk);
  auto one = std::make_shared<Interpreter<Count>>(1);
  return make_loop(options, [many, one](std::uint64_t turns) noexcept {
    for (std::uint64_t i = 0; i < turns / chunk; ++i)
      many->machine.run();
    for (std::uint64_t i = 0; i < turns % chunk; ++i)
      one->machine.run();
  });
}

class Losing final : public harness::Subject {
public:
  explicit Losing(const LosingOptions& options)
      : options_(options), owner_(registry_),
        code_(procs::count_to(turns), procs::Constants::counted, owner_),
        line_(static_cast<unsigned>(options.cpus.size())), times_(options.cpus.size()),
        team_({}, places_of(options.cpus), options.usable,
              [this](unsigned member, std::uint64_t operations) { play(member, operations); }) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(std::nullopt, options_.usable);
    lock_.emplace(procs::InterpreterLockOptions{.rule = options_.rule, .interval_ns = 200'000});
    const double before = lost();
    team_.start(operations);
    const auto records = team_.finish();
    const double time_ns = longest_ns(times_);
    // Of both constants of a turn, by each thread.
    const double taken = 2.0 * static_cast<double>(turns) * static_cast<double>(operations) *
                         static_cast<double>(options_.cpus.size());
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = time_ns;
    sample.proof = prove(records, places_of(options_.cpus), time_ns, false);
    sample.values[options_.lost] = std::abs(lost() - before) / taken * 1e6;
    return sample;
  }

  std::vector<Check> checks() override {
    if (options_.rule == procs::LockRule::none)
      return {line_.all_met()};
    return {{std::string(references_check), Value(0), Value(lost()), lost() == 0}, line_.all_met()};
  }

private:
  static constexpr std::int64_t turns = 1000;

  [[nodiscard]] double lost() const {
    double sum = 0;
    for (std::size_t i = 0; i < code_.program().constants.size(); ++i)
      sum += static_cast<double>(code_.references(i));
    return sum;
  }

  void play(unsigned member, std::uint64_t operations) {
    CountedThread counted(registry_);
    procs::InterpreterThread thread(*lock_);
    procs::Machine<PlainCount> machine(code_, thread, counted);
    line_.wait();
    times_[member].begin = clock::begin();
    {
      procs::HoldInterpreter hold(thread);
      for (std::uint64_t i = 0; i < operations; ++i)
        machine.run();
    }
    times_[member].end = clock::end();
  }

  LosingOptions options_;
  CountedThreads registry_;
  CountedThread owner_;
  procs::Code<PlainCount> code_;
  std::optional<procs::InterpreterLock> lock_;  // of the sample in work
  StartLine line_;
  std::vector<Times> times_;
  Team team_;  // last: its members use the rest
};

}  // namespace

std::string_view to_text(Counting counting) noexcept {
  switch (counting) {
  case Counting::plain:
    return "plain";
  case Counting::atomic:
    return "atomic";
  case Counting::biased:
    break;
  }
  return "biased";
}

Counting counting_from(std::string_view word) {
  if (word == "plain")
    return Counting::plain;
  return word == "atomic" ? Counting::atomic : Counting::biased;
}

std::unique_ptr<harness::Subject> make_counting(const CountingOptions& options) {
  switch (options.counting) {
  case Counting::plain:
    return std::make_unique<CountingThreads<PlainCount>>(options);
  case Counting::atomic:
    return std::make_unique<CountingThreads<AtomicCount>>(options);
  case Counting::biased:
    break;
  }
  return std::make_unique<CountingThreads<BiasedCount>>(options);
}

std::unique_ptr<harness::Subject> make_counting_loop(Counting counting, unsigned cpu,
                                                     const affinity::CpuSet& usable,
                                                     std::size_t turn) {
  const LoopOptions options{cpu, usable, turn};
  switch (counting) {
  case Counting::plain:
    return counting_loop<PlainCount>(options);
  case Counting::atomic:
    return counting_loop<AtomicCount>(options);
  case Counting::biased:
    break;
  }
  return counting_loop<BiasedCount>(options);
}

std::unique_ptr<harness::Subject> make_losing(const LosingOptions& options) {
  return std::make_unique<Losing>(options);
}

}  // namespace schedlab::apparatus
