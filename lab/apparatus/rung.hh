#pragma once
// The rungs of the ladder of switches that one thread climbs alone: from a call to a second stack.
// Each goes to another flow of control and back, and the other side counts.

#include "iouring/driver.hh"
#include "lab/apparatus/loop.hh"
#include "lab/harness/sample.hh"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

struct RungOptions {
  unsigned cpu = 0;  // kernel number
  affinity::CpuSet usable;
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;  // of rungs through a loop
  std::size_t round_trip_metric = 0;                                // ns
  std::size_t one_way_metric = 1;                                   // ns, half of it
};

// By name, from the cheapest to the dearest:
//
//   call, virtual     a call that is not inlined, and its return
//   resume            coroutine_handle::resume of a suspended Task, until it suspends again
//   transfer          from one coroutine to another and back, symmetrically
//   child             a call of a Task, its await and its return: a frame each
//   child-elided      the same where the compiler leaves the frame out
//   yield, yield-64   two (64) tasks let each other run, by the loop's ready list
//   event, queue      two tasks wake each other by an Event, or pass an item by a Queue
//   fcontext, fiber   to a second stack, by Boost.Context
//   swapcontext       the same by libc, which keeps the signal mask too
const std::vector<std::string_view>& rungs();

// Does it go through an event loop, which has a driver?
bool needs_loop(std::string_view rung) noexcept;

// Why it cannot run here; empty if it can.
std::string rung_refusal(std::string_view rung);

// A subject whose operation is a round trip. Its checks say how often the other side was reached
// and how many coroutine frames were made.
std::unique_ptr<harness::Subject> make_rung(std::string_view rung, const RungOptions& options);

// The floor of swapcontext's two system calls: one change of the signal mask, to metric `metric`.
std::unique_ptr<harness::Subject> make_signal_mask_call(const RungOptions& options,
                                                        std::size_t metric);

}  // namespace schedlab::apparatus
