#include "procs/barrier.hh"

#include "lab/base/keep.hh"

#include <algorithm>
#include <cerrno>
#include <climits>

namespace schedlab::procs {

// The phase is read before one is counted: it cannot end before that. The counting is the chain by
// which all see what each wrote; it begins anew before the phase that lets the next round come.
std::optional<bool> Barrier::arrive_and_wait_until(const timespec* until) noexcept {
  const Sharing sharing = sharing_;
  const std::uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (here_.fetch_add(1, std::memory_order_acq_rel) + 1 == parties_) {
    here_.store(0, std::memory_order_relaxed);
    const bool alone = parties_ == 1;
    phase_.store(phase + 1, std::memory_order_release);
    if (!alone)
      futex::wake(&phase_, INT_MAX, sharing);
    return true;
  }
  const std::uint32_t spins = std::min(patience_.spins, most_spins);
  for (std::uint32_t i = 0; i < spins; ++i) {
    if (phase_.load(std::memory_order_acquire) != phase)
      return false;
    pause_cpu();
  }
  while (phase_.load(std::memory_order_acquire) == phase)
    if (futex::wait(phase_, phase, sharing, until) == ETIMEDOUT &&
        phase_.load(std::memory_order_acquire) == phase)
      return std::nullopt;
  return false;
}

}  // namespace schedlab::procs
