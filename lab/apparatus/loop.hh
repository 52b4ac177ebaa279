#pragma once
// The simplest subject: one pinned task that does something n times.

#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/harness/sample.hh"

#include <memory>
#include <utility>

namespace schedlab::apparatus {

struct LoopOptions {
  unsigned cpu = 0;
  affinity::CpuSet usable;
  std::size_t metric = 0;  // gets nanoseconds for one operation
};

// `body(operations)` is the clocked work; it must not throw, allocate or print.
template <typename Body>
class Loop : public harness::Subject {
public:
  Loop(LoopOptions options, Body body) : options_(std::move(options)), body_(std::move(body)) {}

  harness::Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    witness_.begin();
    const auto begin = clock::begin();
    body_(operations);
    const auto end = clock::end();
    const TaskRecord record = witness_.end();
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    sample.proof = prove(record, options_.cpu, sample.elapsed_ns, true);
    sample.values[options_.metric] = sample.elapsed_ns / static_cast<double>(operations);
    return sample;
  }

private:
  LoopOptions options_;
  Body body_;
  Witness witness_;
};

template <typename Body>
std::unique_ptr<harness::Subject> make_loop(LoopOptions options, Body body) {
  return std::make_unique<Loop<Body>>(std::move(options), std::move(body));
}

}  // namespace schedlab::apparatus
