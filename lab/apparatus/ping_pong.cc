#include "lab/apparatus/ping_pong.hh"

#include "lab/apparatus/handover.hh"
#include "lab/apparatus/vector_registers.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"

#include <array>
#include <memory>
#include <string>
#include <type_traits>

namespace schedlab::apparatus {

namespace {

using harness::Sample;

// Untimed round trips that bring both tasks into step before the clock starts.
constexpr std::uint64_t settling = 8;

// Keeps a mechanism in memory that a forked partner shares.
template <typename Mechanism>
class Shared {
public:
  explicit Shared(bool processes)
      : memory_(Mapping::shared_memory(sizeof(Mechanism))),
        mechanism_(new (memory_.data()) Mechanism(processes)) {}
  ~Shared() { mechanism_->~Mechanism(); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  Mechanism& operator*() const noexcept { return *mechanism_; }

private:
  Mapping memory_;
  Mechanism* mechanism_;
};

template <typename Mechanism, bool Dirty>
class PingPong : public harness::Subject {
public:
  explicit PingPong(const PingPongOptions& options)
      : options_(options), mechanism_(options.tasks.kind == TaskKind::processes),
        dirty_(widest_dirty_registers()),
        team_(options.tasks, {options.second}, options.usable,
              [this](unsigned, std::uint64_t rounds) { answer(rounds); }) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.first, options_.usable);
    const TaskScope scope(options_.tasks);
    const std::uint64_t rounds = settling + operations;
    team_.start(rounds);
    const auto window_begin = clock::begin();
    witness_.begin();
    serve(settling);
    const auto begin = clock::begin();
    serve(operations);
    const auto end = clock::end();
    const std::array records = {witness_.end(), TaskRecord{}};
    const auto window_end = clock::end();
    return result(operations, clock::ns(begin, end), clock::ns(window_begin, window_end), records);
  }

private:
  void serve(std::uint64_t rounds) noexcept {
    Mechanism& mechanism = *mechanism_;
    for (std::uint64_t i = 0; i < rounds; ++i) {
      if constexpr (Dirty)
        dirty_();
      mechanism.give(1);
      mechanism.take(0);
    }
  }

  void answer(std::uint64_t rounds) noexcept {
    Mechanism& mechanism = *mechanism_;
    for (std::uint64_t i = 0; i < rounds; ++i) {
      mechanism.take(1);
      if constexpr (Dirty)
        dirty_();
      mechanism.give(0);
    }
  }

  Sample result(std::uint64_t operations, double elapsed_ns, double window_ns,
                std::array<TaskRecord, 2> records) {
    records[1] = team_.finish()[0];
    const std::array places = {options_.first, options_.second};
    const bool one_cpu = options_.first && options_.first == options_.second;
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = elapsed_ns;
    sample.proof = prove(records, places, window_ns, one_cpu);
    sample.proof.expected_switches = 2 * (settling + operations);
    const double round_trip = elapsed_ns / static_cast<double>(operations);
    sample.values[options_.round_trip_metric] = round_trip;
    sample.values[options_.one_way_metric] = round_trip / 2;
    return sample;
  }

  PingPongOptions options_;
  Shared<Mechanism> mechanism_;
  DirtyRegisters dirty_;
  Witness witness_;
  Team team_;  // last: its members use the rest
};

// Two tasks of one CPU that yield to each other. How often a yield really switches is the
// scheduler's choice, so the time is divided by the switches that were counted: each time the
// caller is switched out, so is its partner once.
class YieldPingPong : public harness::Subject {
public:
  explicit YieldPingPong(const PingPongOptions& options)
      : options_(options), stop_(Mapping::shared_memory(sizeof(std::atomic<bool>))),
        team_(options.tasks, {options.second}, options.usable,
              [this](unsigned, std::uint64_t) { answer(); }) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.first, options_.usable);
    const TaskScope scope(options_.tasks);
    auto& stop = *stop_.as<std::atomic<bool>>();
    stop.store(false, std::memory_order_relaxed);
    team_.start(operations);
    for (std::uint64_t i = 0; i < settling; ++i)
      ::sched_yield();
    witness_.begin();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i)
      ::sched_yield();
    const auto end = clock::end();
    const TaskRecord own = witness_.end();
    stop.store(true, std::memory_order_relaxed);
    const TaskRecord partner = team_.finish()[0];

    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    const std::array records = {own, partner};
    const std::array places = {options_.first, options_.second};
    sample.proof = prove(records, places, sample.elapsed_ns, false);
    const auto switches = static_cast<double>(2 * own.switches());
    if (switches > 0)
      sample.values[options_.one_way_metric] = sample.elapsed_ns / switches;
    return sample;
  }

private:
  void answer() noexcept {
    const auto& stop = *stop_.as<std::atomic<bool>>();
    while (!stop.load(std::memory_order_relaxed))
      ::sched_yield();
  }

  PingPongOptions options_;
  Mapping stop_;
  Witness witness_;
  Team team_;
};

template <typename Mechanism>
class SelfHandover : public harness::Subject {
public:
  SelfHandover(const PingPongOptions& options, std::size_t metric)
      : options_(options), metric_(metric), mechanism_(false) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.first, options_.usable);
    const TaskScope scope(options_.tasks);
    witness_.begin();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      mechanism_.give(0);
      mechanism_.take(0);
    }
    const auto end = clock::end();
    const TaskRecord record = witness_.end();
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof = prove(record, options_.first, sample.elapsed_ns, true);
    sample.values[metric_] = sample.elapsed_ns / static_cast<double>(operations);
    return sample;
  }

private:
  PingPongOptions options_;
  std::size_t metric_;
  Mechanism mechanism_;
  Witness witness_;
};

// sched_yield by a task that is alone on its CPU.
class LoneYield {
public:
  explicit LoneYield(bool) {}
  void give(int) noexcept { ::sched_yield(); }
  void take(int) noexcept {}
};

// Calls `visit` with the type that a name stands for.
template <typename Visit>
auto with_mechanism(std::string_view name, Visit visit) {
  if (name == "pipe")
    return visit(std::type_identity<PipeHandover>());
  if (name == "eventfd")
    return visit(std::type_identity<EventfdHandover>());
  if (name == "futex-private")
    return visit(std::type_identity<FutexHandover<false>>());
  if (name == "futex")
    return visit(std::type_identity<FutexHandover<true>>());
  if (name == "condvar")
    return visit(std::type_identity<CondvarHandover>());
  if (name == "unix")
    return visit(std::type_identity<UnixHandover>());
  if (name == "mq")
    return visit(std::type_identity<MessageQueueHandover>());
  throw std::logic_error("no such mechanism: " + std::string(name));
}

}  // namespace

const std::vector<std::string_view>& handover_mechanisms() {
  static const std::vector<std::string_view> names = {
      "pipe", "eventfd", "futex-private", "futex", "condvar", "unix", "mq", "yield"};
  return names;
}

bool threads_only(std::string_view mechanism) noexcept {
  return mechanism == "futex-private";
}
bool one_cpu_only(std::string_view mechanism) noexcept {
  return mechanism == "yield";
}

std::unique_ptr<harness::Subject> make_ping_pong(std::string_view mechanism,
                                                 const PingPongOptions& options) {
  if (mechanism == "yield")
    return std::make_unique<YieldPingPong>(options);
  return with_mechanism(mechanism, [&]<typename T>(std::type_identity<T>) {
    std::unique_ptr<harness::Subject> subject;
    if (options.dirty_vector)
      subject = std::make_unique<PingPong<T, true>>(options);
    else
      subject = std::make_unique<PingPong<T, false>>(options);
    return subject;
  });
}

std::unique_ptr<harness::Subject>
make_self_handover(std::string_view mechanism, const PingPongOptions& options, std::size_t metric) {
  if (mechanism == "yield")
    return std::make_unique<SelfHandover<LoneYield>>(options, metric);
  return with_mechanism(mechanism, [&]<typename T>(std::type_identity<T>) {
    std::unique_ptr<harness::Subject> subject = std::make_unique<SelfHandover<T>>(options, metric);
    return subject;
  });
}

}  // namespace schedlab::apparatus
