#include "lab/harness/engine.hh"

#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/keep.hh"
#include "lab/base/random.hh"
#include "lab/harness/steal.hh"

#include <algorithm>
#include <cmath>
#include <exception>

namespace schedlab::harness {

namespace {

constexpr double shortest_sample_ns = 200'000;
constexpr double longest_sample_ns = 20'000'000;
// What samples may take of a budget, and what stands around those of one series: where thousands
// of series have a millisecond or two each, that is more than the rest.
constexpr double most_sampled = 0.7;
constexpr double least_sampled = 0.3;
constexpr double around_series_s = 0.0025;
constexpr double warm_up_share = 0.5;      // of a sample
constexpr double calibration_turns = 2.3;  // two that agree, and the shorter ones before
constexpr double most_operations = 1e12;   // of a subject whose clock stands still

// A series of the group in work.
struct Running {
  std::size_t index;  // in the plan
  const SeriesPlan* plan;
  std::unique_ptr<Subject> subject;
  RawSeries* raw;
};

double seconds_since(std::int64_t start_ns) {
  return static_cast<double>(clock::now_ns() - start_ns) * 1e-9;
}

// The median of many begin-end pairs with nothing between them.
double clock_pair_ns() {
  std::array<double, 101> spans;
  for (auto& span : spans) {
    const auto begin = clock::begin();
    span = clock::ns(begin, clock::end());
  }
  std::ranges::nth_element(spans, spans.begin() + spans.size() / 2);
  return spans[spans.size() / 2];
}

std::uint64_t address(const void* object) {
  return reinterpret_cast<std::uintptr_t>(object);
}

Layout own_layout() {
  const int on_stack = 0;
  const auto on_heap = std::make_unique<int>(0);
  Layout layout;
  layout.text = reinterpret_cast<std::uintptr_t>(&measure);
  layout.heap = address(on_heap.get());
  layout.stack = address(&on_stack);
  return layout;
}

// Finds the count of operations that takes `target_ns`: grows until a sample is long enough to
// extrapolate from, and believes a count only when a second reading agrees, because one that was
// disturbed looks long and would make all samples short.
std::uint64_t calibrate(Subject& subject, double target_ns) {
  std::uint64_t operations = 1;
  for (int attempt = 0; attempt < 24; ++attempt) {
    double took = std::max(subject.sample(operations).elapsed_ns, 1.0);
    if (took > 0.7 * target_ns) {
      const double again = std::max(subject.sample(operations).elapsed_ns, 1.0);
      const bool agree = std::abs(again - took) < 0.25 * took;
      took = std::min(took, again);
      if (agree && (took < 1.4 * target_ns || operations == 1))
        return operations;
    }
    const double wanted = static_cast<double>(operations) * target_ns / took;
    const double limit = std::min(static_cast<double>(operations) * 20, most_operations);
    operations = static_cast<std::uint64_t>(std::max(1.0, std::round(std::min(wanted, limit))));
  }
  return operations;
}

class Engine {
public:
  Engine(const Plan& plan, const Request& request, Progress* progress)
      : plan_(plan), request_(request), progress_(progress), random_(request.seed),
        rounds_(rounds_of(plan.preset())) {}

  Reply run() {
    start_ns_ = clock::now_ns();
    reply_.rounds_planned = rounds_;
    reply_.clock_pair_ns = clock_pair_ns();
    reply_.layout = own_layout();
    for (const auto& series : plan_.series())
      reply_.series.push_back(
          {.name = series.name, .operations = 0, .samples = {}, .checks = {}, .failure = {}});
    target_ns_ = target_ns();
    std::size_t done = 0, all = 0;
    const auto in_groups = groups();
    for (const auto& group : in_groups)
      all += group.size();
    for (const auto& group : in_groups) {
      done += group.size();
      if (is_optional(group) && seconds_since(start_ns_) > request_.budget_s)
        continue;
      run_group(group, static_cast<double>(done) / static_cast<double>(all));
    }
    return std::move(reply_);
  }

private:
  [[nodiscard]] double target_ns() const {
    double turns = 0;
    std::size_t mine = 0;
    for (const auto& series : plan_.series())
      if (is_mine(series)) {
        turns += turns_of(rounds_, request_.operations.contains(series.name));
        ++mine;
      }
    return sample_target_ns(request_.budget_s, turns, mine);
  }

  // Is it measured at all, and by this process?
  [[nodiscard]] bool is_mine(const SeriesPlan& series) const {
    return series.skip.empty() && request_.process % series.parts == series.part;
  }

  [[nodiscard]] bool is_optional(const std::vector<std::size_t>& group) const {
    return std::ranges::all_of(group, [&](auto index) { return plan_.series()[index].optional; });
  }

  // The indexes of runnable series, group by group; the groups in random order.
  std::vector<std::vector<std::size_t>> groups() {
    std::map<std::string_view, std::size_t> numbers;
    std::vector<std::vector<std::size_t>> members;
    for (std::size_t i = 0; i < plan_.series().size(); ++i) {
      const auto& series = plan_.series()[i];
      if (!is_mine(series))
        continue;
      const auto [group, fresh] = numbers.emplace(series.group, members.size());
      if (fresh)
        members.emplace_back();
      members[group->second].push_back(i);
    }
    shuffle(members, random_);
    return members;
  }

  void run_group(std::vector<std::size_t> members, double budget_share) {
    shuffle(members, random_);
    std::vector<Running> running;
    const double idle_s = seconds_since(start_ns_);
    for (const auto index : members)
      set_up(index, running);
    aside_s_ += seconds_since(start_ns_) - idle_s;
    for (auto& series : running)
      attempt(series, [&] { warm_up(series); });
    // The budget is that of the samples: a group that faults in gigabytes has its rounds as well.
    const double deadline_s = 1.2 * request_.budget_s * budget_share + aside_s_;
    unsigned round = 0;
    for (; round < rounds_; ++round) {
      const double begun_s = seconds_since(start_ns_);
      run_round(running, round);
      const double now_s = seconds_since(start_ns_);
      if (now_s + (now_s - begun_s) > deadline_s) {
        ++round;
        break;
      }
    }
    reply_.rounds_cut = std::max(reply_.rounds_cut, rounds_ - round);
    const double done_s = seconds_since(start_ns_);
    for (auto& series : running)
      attempt(series, [&] { series.raw->checks = series.subject->checks(); });
    aside_s_ += seconds_since(start_ns_) - done_s;
    // Backward, so that a peer's process is reaped before the one that inherited its pipes.
    while (!running.empty())
      running.pop_back();
  }

  void set_up(std::size_t index, std::vector<Running>& running) {
    const SeriesPlan& series = plan_.series()[index];
    RawSeries& raw = reply_.series[index];
    try {
      running.push_back({index, &series, series.make(), &raw});
    } catch (const std::exception& failure) {
      raw.failure = failure.what();
    }
  }

  // A series whose step fails is out, with the reason, and the others go on.
  template <typename Step>
  static void attempt(Running& series, Step step) {
    if (!series.subject)
      return;
    try {
      step();
    } catch (const std::exception& failure) {
      series.raw->failure = failure.what();
      series.subject.reset();
    }
  }

  void warm_up(Running& series) {
    const auto known = request_.operations.find(series.plan->name);
    series.raw->operations =
        known != request_.operations.end() ? known->second : calibrate(*series.subject, target_ns_);
    const auto share = static_cast<double>(series.raw->operations) * warm_up_share;
    series.subject->sample(std::max<std::uint64_t>(1, static_cast<std::uint64_t>(share)));
  }

  void run_round(std::vector<Running>& running, unsigned round) {
    const std::size_t count = running.size();
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t turn = round % 2 == 0 ? i : count - 1 - i;
      Running& series = running[(turn + round / 2) % count];
      attempt(series, [&] { take_sample(series, round); });
    }
  }

  void take_sample(Running& series, unsigned round) {
    tell(series, round);
    const auto stolen_before = steal_.ticks(series.plan->cpus);
    Sample sample = series.subject->sample(series.raw->operations);
    sample.proof.steal_ticks = steal_.ticks(series.plan->cpus) - stolen_before;
    if (progress_)
      progress_->estimate.store(sample.values[0], std::memory_order_relaxed);
    series.raw->samples.push_back(sample);
  }

  void tell(const Running& series, unsigned round) {
    if (!progress_)
      return;
    const double share = seconds_since(start_ns_) / request_.budget_s;
    progress_->series.store(static_cast<std::uint32_t>(series.index), std::memory_order_relaxed);
    progress_->round.store(round + 1, std::memory_order_relaxed);
    progress_->rounds.store(rounds_, std::memory_order_relaxed);
    progress_->done_permille.store(static_cast<std::uint32_t>(std::min(share, 1.0) * 1000),
                                   std::memory_order_relaxed);
  }

  const Plan& plan_;
  const Request& request_;
  Progress* progress_;
  Random random_;
  unsigned rounds_;
  StealReader steal_;
  std::int64_t start_ns_ = 0;
  double target_ns_ = 0;
  double aside_s_ = 0;  // spent on setting up and on checks so far
  Reply reply_;
};

}  // namespace

unsigned rounds_of(Preset preset) noexcept {
  switch (preset) {
  case Preset::smoke:
    return 1;
  case Preset::quick:
    return 4;
  case Preset::full:
    break;
  }
  return 6;
}

double turns_of(unsigned rounds, bool operations_known) noexcept {
  return rounds + warm_up_share + (operations_known ? 0.0 : calibration_turns);
}

double sample_target_ns(double budget_s, double turns, std::size_t series) noexcept {
  const double left_s = budget_s - around_series_s * static_cast<double>(series);
  const double sampled_s = std::clamp(left_s, least_sampled * budget_s, most_sampled * budget_s);
  return std::clamp(sampled_s * 1e9 / std::max(turns, 1.0), shortest_sample_ns, longest_sample_ns);
}

Reply measure(const Plan& plan, const Request& request, Progress* progress) {
  return Engine(plan, request, progress).run();
}

}  // namespace schedlab::harness
