#include "procs/fault.hh"

#include "lab/base/clock.hh"

#include <unistd.h>

#include <csignal>

namespace schedlab::procs {

void FaultPoint::die(Step step) noexcept {
  if (left_.fetch_sub(1, std::memory_order_relaxed) != 1)
    return;
  disarm();
  if (stops_.exchange(false, std::memory_order_relaxed)) {
    ::kill(::getpid(), SIGSTOP);
    return;
  }
  died_ns_.store(clock::now_ns(), std::memory_order_relaxed);
  landed_[static_cast<std::size_t>(step)].fetch_add(1, std::memory_order_relaxed);
  ::kill(::getpid(), SIGKILL);
  for (;;)
    ::pause();
}

void HoldPoint::stand() noexcept {
  auto seen = shut_state;
  if (!state_.compare_exchange_strong(seen, held_state, std::memory_order_acq_rel))
    return;
  while (holds())
    clock::sleep_for(100'000);
}

}  // namespace schedlab::procs
