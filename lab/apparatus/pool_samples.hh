#pragma once
// How the work of pools is sampled, whatever the pool is: one task there and back, and batches of
// tasks. What is done is the derived class's.

#include "lab/apparatus/pool_work.hh"
#include "lab/apparatus/witness.hh"

#include <vector>

namespace schedlab::apparatus {

// The caller stands where it is told; an operation is a trip. Checks that each was made once, and
// in another thread, on the worker's CPU.
class Trips : public harness::Subject {
public:
  explicit Trips(const RoundTripOptions& options) : options_(options) {}

  harness::Sample sample(std::uint64_t operations) final;
  std::vector<harness::Check> checks() override;

protected:
  virtual void begin_sample() = 0;
  // Gives one for each trip.
  virtual std::uint64_t go(std::uint64_t trips) = 0;
  // Calls seen_on().
  virtual void end_sample(harness::Sample& sample) = 0;
  void seen_on(unsigned cpu, long thread) noexcept;
  [[nodiscard]] const RoundTripOptions& options() const noexcept { return options_; }
  // Does spinning help? Not where both stand on one CPU.
  [[nodiscard]] bool apart() const noexcept {
    return !options_.submitter || !options_.worker || *options_.submitter != *options_.worker;
  }

private:
  RoundTripOptions options_;
  Witness witness_;
  std::uint64_t wanted_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t misplaced_ = 0;
};

// The caller may run anywhere; an operation is a batch. Checks that each task was done once.
class Batches : public harness::Subject {
public:
  Batches(const affinity::CpuSet& usable, std::size_t metric) : usable_(usable), metric_(metric) {}

  harness::Sample sample(std::uint64_t operations) final;
  std::vector<harness::Check> checks() override;

protected:
  virtual void begin_sample() {}
  // Does one batch; gives how many tasks were done.
  virtual std::uint64_t play() = 0;
  [[nodiscard]] virtual std::uint64_t in_operation() const = 0;
  virtual void end_sample(std::uint64_t /*tasks*/, harness::Sample& /*sample*/) {}

private:
  affinity::CpuSet usable_;
  std::size_t metric_;  // ns a task
  Witness witness_;
  std::uint64_t wanted_ = 0;
  std::uint64_t done_ = 0;
};

}  // namespace schedlab::apparatus
