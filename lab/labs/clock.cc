// clock: what can the clocks of this machine resolve, and can they be trusted?
//
// Method   Each clock is read back to back: the cost of a read, and the smallest step it shows. A
//          spinning reader records the gaps, the spans in which somebody else had the CPU. Across
//          CPUs one task publishes stamps and the other compares its own clock with each: one that
//          lies before a stamp already published is a backward step.
// Reading  A sample must be long against "read" and "step". "lead" bounds how far two CPUs' clocks
//          can be apart: the smallest distance seen from a stamp to the other CPU's own reading.
// Traps    A clock that answers in nanoseconds need not resolve one. A clocksource other than the
//          TSC makes each read a system call. A gap is not the clock's fault: it is an interrupt,
//          another task, or the hypervisor.

#include "lab/apparatus/loop.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/keep.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

namespace schedlab::labs {
namespace {

using namespace harness;
using affinity::Relation;

enum : std::size_t { read_cost, resolution, longest_gap, gap_share, backward, lead };

constexpr MetricInfo metrics[] = {
    {.name = "read", .unit = "ns", .help = "one reading, back to back", .interval = true},
    {.name = "step", .unit = "ns", .help = "smallest difference of two readings that is not zero"},
    {.name = "longest_gap", .unit = "ns", .help = "longest span without a reading, in a sample"},
    {.name = "gap_share",
     .unit = "",
     .kind = Kind::ratio,
     .help = "share of time in gaps above 1 us"},
    {.name = "backward",
     .unit = "",
     .kind = Kind::count,
     .help = "readings before a stamp that the other CPU had published"},
    {.name = "lead",
     .unit = "ns",
     .better = Better::none,
     .help = "least distance from the other CPU's stamp to one's own reading"},
};

constexpr double gap_threshold_ns = 1000;

// A clock by the number that clock_gettime takes, or our own.
constexpr clockid_t lab_clock = -1000;

template <clockid_t Id>
std::uint64_t reading() noexcept {
  if constexpr (Id == lab_clock) {
    return clock::begin();
  } else {
    return static_cast<std::uint64_t>(clock::read_ns(Id));
  }
}

template <clockid_t Id>
double step_ns() noexcept {
  std::uint64_t least = ~std::uint64_t{0};
  for (int i = 0; i < 50; ++i) {
    const auto first = reading<Id>();
    auto next = first;
    for (int spins = 0; next == first && spins < 1'000'000; ++spins)
      next = reading<Id>();
    if (next > first)
      least = std::min(least, next - first);
  }
  return Id == lab_clock ? clock::ns(0, least) : static_cast<double>(least);
}

template <clockid_t Id>
class Reader : public Subject {
public:
  explicit Reader(const apparatus::LoopOptions& options)
      : loop_(apparatus::make_loop(options, [](std::uint64_t operations) noexcept {
          for (std::uint64_t i = 0; i < operations; ++i)
            keep(reading<Id>());
        })) {}

  Sample sample(std::uint64_t operations) override {
    Sample sample = loop_->sample(operations);
    sample.values[resolution] = step_ns<Id>();
    return sample;
  }

private:
  std::unique_ptr<Subject> loop_;
};

class Gaps : public Subject {
public:
  explicit Gaps(const apparatus::LoopOptions& options) : options_(options) {}

  Sample sample(std::uint64_t operations) override {
    apparatus::stand_on(options_.cpu, options_.usable);
    witness_.begin();
    double longest_ns = 0, lost_ns = 0;
    const auto begin = clock::begin();
    auto before = begin;
    for (std::uint64_t i = 0; i < operations; ++i) {
      const auto now = clock::begin();
      const double gap_ns = clock::ns(before, now);
      longest_ns = std::max(longest_ns, gap_ns);
      if (gap_ns > gap_threshold_ns)
        lost_ns += gap_ns;
      before = now;
    }
    const auto record = witness_.end();
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, before);
    sample.proof = apparatus::prove(record, options_.cpu, sample.elapsed_ns, true);
    sample.values[longest_gap] = longest_ns;
    sample.values[gap_share] = lost_ns / sample.elapsed_ns;
    return sample;
  }

private:
  apparatus::LoopOptions options_;
  apparatus::Witness witness_;
};

// The partner publishes stamps as fast as it can; the caller compares `operations` fresh ones.
class Backward : public Subject {
public:
  Backward(const affinity::Pair& pair, const affinity::CpuSet& usable)
      : pair_(pair), usable_(usable), board_(std::make_unique<Board>()),
        team_({}, {pair.second}, usable, [this](unsigned, std::uint64_t) { publish(); }) {}

  Sample sample(std::uint64_t operations) override {
    apparatus::stand_on(pair_.first, usable_);
    board_->stop.store(false, std::memory_order_relaxed);
    team_.start(1);
    witness_.begin();
    std::uint64_t steps_back = 0, seen = 0;
    double least_ns = 1e18;
    const auto begin = clock::begin();
    for (std::uint64_t fresh = 0; fresh < operations;) {
      const auto stamp = board_->stamp.load(std::memory_order_acquire);
      const auto own = clock::end();
      if (stamp == seen) {
        pause_cpu();
        continue;
      }
      seen = stamp;
      ++fresh;
      const double lead_ns = clock::ns(stamp, own);
      steps_back += lead_ns < 0;
      least_ns = std::min(least_ns, lead_ns);
    }
    const auto end = clock::end();
    const std::array own = {witness_.end(), apparatus::TaskRecord{}};
    board_->stop.store(true, std::memory_order_relaxed);
    const std::array records = {own[0], team_.finish()[0]};
    const std::array<std::optional<unsigned>, 2> places = {pair_.first, pair_.second};
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof = apparatus::prove(records, places, sample.elapsed_ns, false);
    sample.values[backward] = static_cast<double>(steps_back);
    sample.values[lead] = least_ns;
    return sample;
  }

private:
  struct Board {
    alignas(line_pair) std::atomic<std::uint64_t> stamp{0};
    alignas(line_pair) std::atomic<bool> stop{false};
  };

  void publish() noexcept {
    // Pairs with the acquire load in sample().
    while (!board_->stop.load(std::memory_order_relaxed))
      board_->stamp.store(clock::end(), std::memory_order_release);
  }

  affinity::Pair pair_;
  affinity::CpuSet usable_;
  std::unique_ptr<Board> board_;
  apparatus::Witness witness_;
  apparatus::Team team_;
};

template <typename Make>
void add(Plan& plan, const std::string& name, unsigned cpu, Make make) {
  SeriesPlan series;
  series.name = name;
  series.group = "one CPU";
  series.params = {{"clock", name}};
  series.relation = "same-pu";
  series.cpus = {cpu};
  series.make = make;
  plan.add(std::move(series));
}

void add_reader(Plan& plan, const std::string& name, auto id,
                const apparatus::LoopOptions& options) {
  add(plan, name, options.cpu,
      [options] { return std::make_unique<Reader<decltype(id)::value>>(options); });
}

template <clockid_t Id>
constexpr std::integral_constant<clockid_t, Id> clock_id;

void plan_series(Plan& plan) {
  const auto pairs = affinity::choose_pairs(plan.topology(), plan.placement());
  if (pairs.chosen.empty())
    return;
  const auto usable = plan.topology().usable();
  const unsigned cpu = pairs.chosen.front().relation == Relation::unpinned
                           ? usable.first()
                           : pairs.chosen.front().first;
  const apparatus::LoopOptions options{cpu, usable, read_cost};
  add_reader(plan, "measuring clock", clock_id<lab_clock>, options);
  add_reader(plan, "CLOCK_MONOTONIC", clock_id<CLOCK_MONOTONIC>, options);
  add_reader(plan, "CLOCK_MONOTONIC_RAW", clock_id<CLOCK_MONOTONIC_RAW>, options);
  add_reader(plan, "CLOCK_REALTIME", clock_id<CLOCK_REALTIME>, options);
  add_reader(plan, "CLOCK_THREAD_CPUTIME_ID", clock_id<CLOCK_THREAD_CPUTIME_ID>, options);
  add(plan, "gaps", cpu, [options] { return std::make_unique<Gaps>(options); });
  for (const auto& pair : pairs.chosen) {
    if (pair.relation == Relation::same_pu || pair.relation == Relation::unpinned)
      continue;
    SeriesPlan series;
    series.name = std::string("backward/") + name(pair.relation);
    series.group = series.name;
    series.params = {{"clock", "across CPUs"}};
    series.relation = name(pair.relation);
    series.cpus = {pair.first, pair.second};
    series.make = [pair, usable] { return std::make_unique<Backward>(pair, usable); };
    plan.add(std::move(series));
  }
}

std::string answer(const Findings& findings) {
  const Metric* cost = findings.metric("measuring clock", "read");
  const Metric* finest = findings.metric("measuring clock", "step");
  if (!cost || !finest)
    return "The measuring clock could not be read.";
  std::string text = fmt::format("The measuring clock costs {} a reading and resolves {}.",
                                 with_interval(*cost), quantity(*finest->median, "ns"));
  double steps_back = 0;
  bool across = false;
  for (const auto& series : findings.result().series)
    if (const Metric* metric = find_metric(series, "backward")) {
      across = true;
      for (const auto& run : metric->per_run)
        for (const double value : run.values)
          steps_back += value;
    }
  if (across)
    text += steps_back == 0 ? " It never went backward between two CPUs."
                            : fmt::format(" It went backward {:.0f} times between two CPUs: do not "
                                          "compare stamps of different CPUs here.",
                                          steps_back);
  return text;
}

}  // namespace

extern constinit const Lab clock = {
    .name = "clock",
    .family = "base",
    .question = "what can the clocks of this machine resolve, and can they be trusted?",
    .shape = Shape::pair,
    .metrics = metrics,
    .budget = {.quick_s = 1.5, .full_s = 15},
    .plan = plan_series,
    .answer = answer,
};

}  // namespace schedlab::labs
