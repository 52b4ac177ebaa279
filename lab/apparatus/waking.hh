#pragma once
// What all ways to wake have in common: two threads, their stamps, and what becomes of them.

#include "lab/apparatus/team.hh"
#include "lab/apparatus/wakeup.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/keep.hh"

#include <array>
#include <atomic>
#include <string>
#include <vector>

namespace schedlab::apparatus {

enum Side : unsigned { waker_side, sleeper_side };

class Waking : public harness::Subject {
public:
  harness::Sample sample(std::uint64_t operations) final;
  // Was the sleeper asleep each time, and is no stamp older than the call before it?
  std::vector<harness::Check> checks() final;

protected:
  explicit Waking(const WakeupOptions& options);

  // To be called by the constructor of the derived class: lets each thread make what it needs.
  // Throws what that threw.
  void open_both();

  // Makes what a thread needs to wait and to be woken, in that thread. May throw.
  virtual void open(Side side) = 0;
  // Wakes and waits for the answer, or waits and answers, `rounds` times.
  virtual void play(Side side, std::uint64_t rounds) noexcept = 0;
  // System calls of both threads, up to now, if `rounds` wake-ups and answers were made; may be
  // not_measured.
  [[nodiscard]] virtual double calls_after(std::uint64_t rounds) const noexcept = 0;

  [[nodiscard]] bool one_cpu() const noexcept {
    return options_.waker && options_.waker == options_.sleeper;
  }
  [[nodiscard]] bool two_cpus() const noexcept { return options_.waker && !one_cpu(); }

  // The steps of a waker's round.
  void rest() noexcept {
    if (options_.gap_ns == 0 || at_ < settling)
      return;
    const auto gap_ns = static_cast<double>(options_.gap_ns);
    for (const auto begin = clock::begin(); clock::ns(begin, clock::begin()) < gap_ns;)
      pause_cpu();
  }
  void before_call() noexcept { rounds_[at_].before = clock::begin(); }
  void after_call() noexcept { rounds_[at_].after = clock::end(); }
  void answered() noexcept {
    Round& round = rounds_[at_++];
    round.answered = clock::end();
    round.seen = seen_.load(std::memory_order_relaxed);
  }
  // The sleeper goes on.
  void woken() noexcept { seen_.store(clock::end(), std::memory_order_relaxed); }

private:
  // Wake-ups, without a gap, that bring both threads into step before the clock counts.
  static constexpr std::uint64_t settling = 8;

  struct Round {
    std::uint64_t before = 0;  // ticks, as all
    std::uint64_t after = 0;
    std::uint64_t seen = 0;
    std::uint64_t answered = 0;
  };
  void role(Side side, std::uint64_t rounds) noexcept;
  void fill_in(harness::Sample& sample);

  WakeupOptions options_;
  std::vector<Round> rounds_;
  std::size_t at_ = 0;
  alignas(line_pair) std::atomic<std::uint64_t> seen_{0};
  std::array<std::string, 2> failures_;  // of opening, by side
  std::uint64_t wakes_ = 0;              // over all samples
  std::uint64_t sleeps_ = 0;
  double least_sleeps_ = 0;
  std::uint64_t backward_ = 0;
  Team team_;
};

// Loop::post on a driver; in a file of its own.
std::unique_ptr<harness::Subject> make_post_wakeup(std::string_view driver,
                                                   const WakeupOptions& options);

}  // namespace schedlab::apparatus
