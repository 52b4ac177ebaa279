#pragma once
// An event loop beside work that computes: in the loop's own thread, or in a process pool.

#include "affinity/cpu_set.hh"
#include "iouring/driver.hh"
#include "lab/harness/sample.hh"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace schedlab::apparatus {

enum class LoopWork : std::uint8_t {
  here,     // the loop's thread computes
  in_pool,  // a worker does
  crash,    // a worker dies of it
};

// The check that the loop went on after each crash, for those who judge by it.
inline constexpr std::string_view pieces_check = "pieces of work that ended as they should";

struct PoolLoopOptions {
  unsigned cpu = 0;  // of the loop, kernel number
  affinity::CpuSet usable;
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;
  std::int64_t length_ns = 5'000'000;  // of the work
  std::size_t late = 0;                // metric: ns the loop's sleeper woke late at most, the mean
};

// An operation is one piece of work, while a task of the loop sleeps for 100 us again and again.
// Checks that each piece had its result, or that each crash was told as what it was.
std::unique_ptr<harness::Subject> make_pool_loop(LoopWork work, const PoolLoopOptions& options);

}  // namespace schedlab::apparatus
