#pragma once
// One thread wakes another that waits in a loop, again and again, and both read the clock. The
// waker stamps before and after the call that wakes, the woken thread as soon as it goes on, and it
// wakes the waker in return by the same mechanism. All clocks of lab/base/clock.hh are common to
// the CPUs, so that a stamp of one thread may be subtracted from the other's.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

struct WakeupOptions {
  std::optional<unsigned> waker;    // its CPU; nothing: unpinned
  std::optional<unsigned> sleeper;  // likewise
  affinity::CpuSet usable;
  // So long the waker spins before each wake-up, while the other sleeps. Not on one CPU.
  std::int64_t gap_ns = 0;
  // Indexes of the metrics that a sample fills in; the first four are in nanoseconds and medians
  // over the wake-ups of the sample, but p99.
  std::size_t one_way = 0;     // from before the call until the sleeper goes on
  std::size_t p99 = 1;         // of one_way; only of 299 wake-ups and more
  std::size_t call = 2;        // the waker's call
  std::size_t round_trip = 3;  // until the waker goes on after the return wake-up
  std::size_t cpu = 4;         // CPU time of the sleeper for one wake-up and its answer
  std::size_t calls = 5;       // system calls of both threads for one wake-up
};

// "eventfd", "futex", "pipe", "epoll" (an eventfd, waited for by epoll_wait), "msg_ring" (ring to
// ring), and Loop::post from loop to loop: "post-io_uring", "post-epoll".
const std::vector<std::string_view>& wakeup_mechanisms();

// "io_uring" or "epoll" where a mechanism takes that driver or what it is made of; else "".
std::string_view driver_of(std::string_view mechanism) noexcept;

// A subject whose operation is a wake-up and its answer. Throws Unsupported, std::system_error.
std::unique_ptr<harness::Subject> make_wakeup(std::string_view mechanism,
                                              const WakeupOptions& options);

}  // namespace schedlab::apparatus
