#pragma once
// The simplest subject of asynchronous work: one thread with an event loop that does something n
// times.

#include "iouring/loop.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/harness/sample.hh"

#include <optional>
#include <utility>

namespace schedlab::apparatus {

struct LoopedOptions {
  std::optional<unsigned> cpu;  // kernel number; nothing: all of `usable`
  affinity::CpuSet usable;
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;
  unsigned blocking_threads = 4;
  bool busy = true;  // the loop never sleeps: time that it did not use was somebody else's
};

class Looped : public harness::Subject {
public:
  // Throws Unsupported where the driver cannot run.
  explicit Looped(const LoopedOptions& options) : options_(options), loop_(loop_options(options)) {}

  harness::Sample sample(std::uint64_t operations) final {
    stand_on(options_.cpu, options_.usable);
    harness::Sample sample;
    sample.operations = operations;
    const auto window_begin = clock::begin();
    witness_.begin();
    loop_.run(play(operations, sample));
    const TaskRecord record = witness_.end();
    const double window_ns = clock::ns(window_begin, clock::end());
    sample.proof = prove(record, options_.cpu, window_ns, options_.busy);
    counted(record, sample);
    return sample;
  }

protected:
  // Does the operations as the loop's main task; puts what was clocked and its values into the
  // sample.
  virtual iouring::Task<> play(std::uint64_t operations, harness::Sample& sample) = 0;
  // What the kernel counted of the thread meanwhile, for subjects whose values are made of it.
  virtual void counted(const TaskRecord&, harness::Sample&) {}
  [[nodiscard]] iouring::Loop& loop() noexcept { return loop_; }

private:
  static iouring::LoopOptions loop_options(const LoopedOptions& options) {
    stand_on(options.cpu, options.usable);  // the loop's memory is near
    iouring::LoopOptions made;
    made.driver.choice = options.driver;
    made.driver.blocking_threads = options.blocking_threads;
    return made;
  }

  LoopedOptions options_;
  iouring::Loop loop_;
  Witness witness_;
};

}  // namespace schedlab::apparatus
