#include "lab/apparatus/interleaving.hh"

#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/futex.hh"

#include <array>
#include <bit>
#include <climits>
#include <optional>

namespace schedlab::apparatus {

namespace {

constexpr unsigned most_steps = 4096;  // kept room for: recording does not allocate

}  // namespace

unsigned Interleaving::draw(Random& random, std::uint32_t present) noexcept {
  auto skip = random.below(static_cast<std::uint64_t>(std::popcount(present)));
  while (skip-- > 0)
    present &= present - 1;
  return static_cast<unsigned>(std::countr_zero(present));
}

Interleaving::Interleaving(std::uint64_t seed, unsigned members) noexcept
    : random_(seed), present_(static_cast<std::uint32_t>((std::uint64_t{1} << members) - 1)),
      turn_(draw(random_, present_)) {
  trace_.reserve(most_steps);
}

// Gives the turn to one that is drawn. The release pairs with the acquire in point(): it carries
// everything that was done in this turn.
void Interleaving::hand_on() noexcept {
  const unsigned before = turn_.load(std::memory_order_relaxed);
  const unsigned next = draw(random_, present_);
  turn_.store(next, std::memory_order_release);
  if (next != before)
    futex_wake(turn_, INT_MAX, false);
}

void Interleaving::point(unsigned member) noexcept {
  const std::uint32_t me = 1u << member;
  // Only who has the turn may have started; so nobody reads started_ while another writes it.
  if (turn_.load(std::memory_order_acquire) == member && (started_ & me))
    hand_on();
  for (;;) {
    const std::uint32_t turn = turn_.load(std::memory_order_acquire);
    if (turn == member)
      break;
    futex_wait(turn_, turn, false);
  }
  started_ |= me;
  if (trace_.size() < trace_.capacity())
    trace_.push_back(static_cast<std::uint8_t>(member));
}

void Interleaving::leave(unsigned member) noexcept {
  present_ &= ~(1u << member);
  if (present_)
    hand_on();
}

std::vector<std::uint8_t> Interleaving::foretold(std::uint64_t seed, unsigned members,
                                                 unsigned steps) {
  Random random(seed);
  auto present = static_cast<std::uint32_t>((std::uint64_t{1} << members) - 1);
  std::vector<unsigned> left(members, steps);
  std::vector<std::uint8_t> order;
  while (present) {
    const unsigned member = draw(random, present);
    order.push_back(static_cast<std::uint8_t>(member));
    if (--left[member] == 0)
      present &= ~(1u << member);
  }
  return order;
}

namespace {

using harness::Check;
using harness::Sample;

constexpr unsigned both = 2;

// What the counter ends at when the steps happen in this order.
std::uint64_t worked_out(const std::vector<std::uint8_t>& order) {
  std::uint64_t counter = 0;
  std::array<std::optional<std::uint64_t>, both> read;
  for (const auto member : order)
    if (auto& seen = read[member]; seen) {
      counter = *seen + 1;
      seen.reset();
    } else {
      seen = counter;
    }
  return counter;
}

class SeededUpdates : public harness::Subject {
public:
  explicit SeededUpdates(const SeededOptions& options)
      : options_(options), seed_(options.seed),
        team_({.kind = TaskKind::threads}, std::vector<std::optional<unsigned>>(both, options.cpu),
              options.usable,
              [this](unsigned member, std::uint64_t updates) { update(member, updates); }) {}

  Sample sample(std::uint64_t operations) override {
    Sample sample;
    sample.operations = operations;
    const std::uint64_t lost_before = lost_;
    for (std::uint64_t i = 0; i < operations; ++i)
      sample.elapsed_ns += play_case(seed_++);
    const auto updates = static_cast<double>(operations) * both * options_.updates;
    sample.values[options_.lost] = static_cast<double>(lost_ - lost_before) / updates;
    sample.values[options_.each] = sample.elapsed_ns / (updates * 2 * 2);  // steps, played twice
    return sample;
  }

  std::vector<Check> checks() override {
    const auto seen = static_cast<double>(alike_);
    return {{"cases that ended alike when replayed and when worked out", cases_, seen,
             alike_ == cases_}};
  }

private:
  void update(unsigned member, std::uint64_t updates) noexcept {
    for (std::uint64_t i = 0; i < updates; ++i) {
      order_->point(member);
      const std::uint64_t seen = counter_.load(std::memory_order_relaxed);
      order_->point(member);
      counter_.store(seen + 1, std::memory_order_relaxed);
    }
    order_->leave(member);
  }

  double play(std::uint64_t seed) {
    order_.emplace(seed, both);
    counter_.store(0, std::memory_order_relaxed);
    const auto begin = clock::begin();
    team_.start(options_.updates);
    team_.finish();
    return clock::ns(begin, clock::end());
  }

  double play_case(std::uint64_t seed) {
    double took = play(seed);
    const auto trace = order_->trace();
    const std::uint64_t end = counter_.load(std::memory_order_relaxed);
    took += play(seed);
    const auto foretold = Interleaving::foretold(seed, both, 2 * options_.updates);
    const bool again = order_->trace() == trace && counter_.load(std::memory_order_relaxed) == end;
    alike_ += again && foretold == trace && worked_out(foretold) == end;
    ++cases_;
    lost_ += both * options_.updates - end;
    return took;
  }

  SeededOptions options_;
  std::uint64_t seed_;
  std::uint64_t cases_ = 0;
  std::uint64_t alike_ = 0;
  std::uint64_t lost_ = 0;
  std::optional<Interleaving> order_;
  alignas(line_pair) std::atomic<std::uint64_t> counter_{0};
  Team team_;  // last: its members use the rest
};

}  // namespace

std::unique_ptr<harness::Subject> make_seeded_updates(const SeededOptions& options) {
  return std::make_unique<SeededUpdates>(options);
}

}  // namespace schedlab::apparatus
