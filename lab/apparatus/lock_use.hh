#pragma once
// What the uses of lock_uses.hh have in common; for their sources alone.

#include "lab/apparatus/lock_uses.hh"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace schedlab::apparatus {

struct alignas(line_pair) Tally {
  std::uint64_t done = 0;
  std::uint64_t wrong = 0;
  std::uint64_t spurious = 0;
};

// A use: every thread does its share.
class Use : public Crew {
public:
  explicit Use(const UseOptions& options)
      : Crew(options.crew), options_(options), tallies_(options.crew.cpus.size()),
        alone_(std::ranges::count(options.crew.cpus, options.crew.cpus.front()) ==
               std::ssize(options.crew.cpus)) {}

protected:
  std::uint64_t prepare(std::uint64_t operations) override {
    for (auto& tally : tallies_)
      tally = {};
    share_ = share(operations);
    return share_ * count();
  }
  void fill(harness::Sample& sample, const Span& span) override {
    Tally all;
    for (const auto& tally : tallies_) {
      all.done += tally.done;
      all.wrong += tally.wrong;
      all.spurious += tally.spurious;
    }
    wrong_ += all.wrong;
    sample.operations = all.done;
    const auto done = static_cast<double>(all.done);
    sample.values[options_.cost] = span.wall_ns / done;
    sample.values[options_.rate] = done / span.wall_ns * 1e9;
    sample.values[options_.switches] = span.switches / done;
    sample.values[options_.wrong] = 1e6 * static_cast<double>(all.wrong) / done;
    if (tells_spurious_)
      sample.values[options_.spurious] = static_cast<double>(all.spurious) / done;
  }
  [[nodiscard]] harness::Check nothing_wrong(std::string name) const {
    const bool guarded = options_.way != "none";
    return {std::move(name), guarded ? "0" : "any", wrong_, !guarded || wrong_ == 0};
  }

  UseOptions options_;
  std::vector<Tally> tallies_;
  const bool alone_;  // all on one CPU
  std::uint64_t share_ = 0;
  std::uint64_t wrong_ = 0;  // of all samples
  bool tells_spurious_ = false;
};

[[noreturn]] inline void no_way(const UseOptions& options) {
  throw std::logic_error("no such way: " + options.way);
}

template <typename Subject>
std::unique_ptr<harness::Subject> made(const UseOptions& options) {
  return std::make_unique<Subject>(options);
}

}  // namespace schedlab::apparatus
