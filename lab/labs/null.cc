// null: what does the harness itself add to a number?
//
// Method   The subject is a chain of additions whose length is known. It goes through the same path
//          as every other subject, once with n and once with 2n steps: what does not double is the
//          part that the harness adds inside the clocked span. Two series are the same code: their
//          ratio is the noise floor of this machine.
// Reading  "bias" is that part as a share of a sample; it must stay below 1 %. "around" is spent
//          for each sample outside the clock and costs time, not truth.
// Traps    A chain of dependent additions runs at one step a cycle whatever the compiler does; a
//          loop that is not a chain would measure the front end of the CPU.

#include "lab/apparatus/loop.hh"
#include "lab/base/keep.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/plan.hh"

#include <fmt/format.h>

#include <cmath>

namespace schedlab::labs {
namespace {

using namespace harness;

enum : std::size_t { step, fixed, bias, around };

constexpr MetricInfo metrics[] = {
    {.name = "step", .unit = "ns", .help = "one addition of the chain", .interval = true},
    {.name = "fixed", .unit = "ns", .help = "added by the harness inside the clocked span"},
    {.name = "bias",
     .unit = "",
     .kind = Kind::ratio,
     .help = "that, as a share of a sample",
     .interval = true},
    {.name = "around", .unit = "ns", .help = "spent for a sample outside the span"},
};

void chain(std::uint64_t steps) noexcept {
  std::uint64_t value = steps;
  for (std::uint64_t i = 0; i < steps; ++i) {
    value += i;
    launder(value);
  }
  keep(value);
}

class Chain : public Subject {
public:
  explicit Chain(const apparatus::LoopOptions& options)
      : loop_(apparatus::make_loop(options, chain)) {}

  Sample sample(std::uint64_t operations) override {
    const auto begin = clock::begin();
    Sample sample = loop_->sample(operations);
    const double whole_ns = clock::ns(begin, clock::end());
    const double once_ns = sample.elapsed_ns;
    const double twice_ns = loop_->sample(2 * operations).elapsed_ns;
    sample.elapsed_ns = once_ns + twice_ns;  // what a sample of this subject takes
    sample.values[fixed] = 2 * once_ns - twice_ns;
    sample.values[bias] = sample.values[fixed] / once_ns;
    sample.values[around] = whole_ns - once_ns;
    return sample;
  }

private:
  std::unique_ptr<Subject> loop_;
};

void plan_series(Plan& plan) {
  const auto ones = affinity::choose_ones(plan.topology(), plan.placement());
  if (ones.chosen.empty())
    return;
  const unsigned cpu = ones.chosen.front();
  for (const auto* name : {"chain a", "chain b"}) {
    SeriesPlan series;
    series.name = name;
    series.group = "chains";
    series.params = {{"subject", name}};
    series.relation = "same-pu";
    series.cpus = {cpu};
    series.make = [options = apparatus::LoopOptions{cpu, plan.topology().usable(), step}] {
      return std::make_unique<Chain>(options);
    };
    plan.add(std::move(series));
  }
}

std::string answer(const Findings& findings) {
  const Metric* share = findings.metric("chain a", "bias");
  const Metric* outside = findings.metric("chain a", "around");
  if (!share || !share->median || !outside || !outside->median)
    return "The harness could not be measured.";
  std::string text = fmt::format(
      "The harness adds {:+.3f} % to a sample{} and spends {} around it (wanted: below 1 %).",
      100 * *share->median,
      share->ci ? fmt::format(" [{:+.3f} {:+.3f}]", 100 * share->ci->low, 100 * share->ci->high)
                : "",
      quantity(*outside->median, "ns"));
  const auto same = findings.ratio("chain a", "chain b", "step");
  if (same && same->interval)
    text += fmt::format(" The same code measured twice differs by {:+.2f} % [{:+.2f} {:+.2f}].",
                        100 * (same->value - 1), 100 * (same->interval->low - 1),
                        100 * (same->interval->high - 1));
  return text;
}

}  // namespace

extern constinit const Lab null = {
    .name = "null",
    .family = "base",
    .question = "what does the harness itself add to a number?",
    .shape = Shape::one,
    .metrics = metrics,
    .budget = {.quick_s = 1, .full_s = 10},
    .plan = plan_series,
    .answer = answer,
};

}  // namespace schedlab::labs
