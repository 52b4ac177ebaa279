#include "lab/apparatus/waking.hh"

#include "lab/base/error.hh"
#include "lab/harness/statistics.hh"

#include <algorithm>
#include <exception>

namespace schedlab::apparatus {

namespace {

// Of the wake-ups of a sample, so many must have found the sleeper asleep; the first and the last
// need not.
double least_sleeps(std::uint64_t rounds) noexcept {
  const auto all = static_cast<double>(rounds);
  return std::min(0.95 * all, all - 2);
}

}  // namespace

Waking::Waking(const WakeupOptions& options)
    : options_(options), team_({}, {options.waker, options.sleeper}, options.usable,
                               [this](unsigned member, std::uint64_t rounds) {
                                 role(static_cast<Side>(member), rounds);
                               }) {}

void Waking::open_both() {
  team_.start(0);
  team_.finish();
  for (const auto& failure : failures_)
    if (!failure.empty())
      throw Unsupported(failure);
}

void Waking::role(Side side, std::uint64_t rounds) noexcept {
  if (rounds > 0)
    return play(side, rounds);
  try {
    open(side);
  } catch (const std::exception& failure) {
    failures_[side] = failure.what();
  }
}

harness::Sample Waking::sample(std::uint64_t operations) {
  const std::uint64_t rounds = settling + operations;
  rounds_.assign(rounds, {});
  at_ = 0;
  const double calls_before = calls_after(0);
  const auto begin = clock::begin();
  team_.start(rounds);
  const auto records = team_.finish();
  const auto end = clock::end();

  harness::Sample sample;
  sample.operations = operations;
  sample.elapsed_ns = clock::ns(rounds_[settling - 1].answered, rounds_.back().answered);
  const std::array places = {options_.waker, options_.sleeper};
  sample.proof = prove(records, places, clock::ns(begin, end), false);
  sample.proof.expected_switches = 2 * rounds;
  const auto& sleeper = records[sleeper_side];
  sample.values[options_.cpu] = static_cast<double>(sleeper.cpu_ns) / static_cast<double>(rounds);
  sample.values[options_.calls] =
      (calls_after(rounds) - calls_before) / static_cast<double>(2 * rounds);
  wakes_ += rounds;
  sleeps_ += sleeper.voluntary;
  least_sleeps_ += least_sleeps(rounds);
  fill_in(sample);
  return sample;
}

void Waking::fill_in(harness::Sample& sample) {
  std::vector<double> one_way, call, round_trip;
  for (std::size_t i = settling; i < rounds_.size(); ++i) {
    const Round& round = rounds_[i];
    const double until_seen = clock::ns(round.before, round.seen);
    backward_ += until_seen < 0;
    one_way.push_back(until_seen);
    round_trip.push_back(clock::ns(round.before, round.answered));
    // On one CPU a waker whose call ends after the sleeper went on was switched out within it.
    if (!one_cpu() || clock::ns(round.after, round.seen) >= 0)
      call.push_back(clock::ns(round.before, round.after));
  }
  sample.values[options_.one_way] = harness::median(one_way);
  sample.values[options_.round_trip] = harness::median(round_trip);
  if (!call.empty())
    sample.values[options_.call] = harness::median(call);
  if (one_way.size() >= harness::samples_needed(0.99))
    sample.values[options_.p99] = harness::quantile(one_way, 0.99);
}

std::vector<harness::Check> Waking::checks() {
  std::vector<harness::Check> made = {{"wake-ups seen before their call", harness::Value(0),
                                       harness::Value(backward_), backward_ == 0}};
  // Where both may be on one CPU, the one that wakes may be preempted by the one that it wakes.
  if (two_cpus())
    made.push_back({"sleeps of the woken thread", harness::Value(wakes_), harness::Value(sleeps_),
                    static_cast<double>(sleeps_) >= least_sleeps_});
  return made;
}

}  // namespace schedlab::apparatus
