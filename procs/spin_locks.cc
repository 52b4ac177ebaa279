#include "lab/base/keep.hh"
#include "procs/mcs_lock.hh"
#include "procs/ticket_lock.hh"

#include <sched.h>

#include <algorithm>

namespace schedlab::procs {
namespace {

// Asks as often as patience allows, then gives the CPU away between two questions: on a CPU that
// must be shared the one that is waited for can run only so.
template <typename Done>
void spin_until(Done done, Patience patience) noexcept {
  const std::uint32_t spins = std::min(patience.spins, most_spins);
  for (std::uint32_t i = 0; i < spins; ++i) {
    if (done())
      return;
    pause_cpu();
  }
  while (!done())
    ::sched_yield();
}

}  // namespace

void TicketLock::await(std::uint32_t number) noexcept {
  spin_until([&] { return shown_.load(std::memory_order_acquire) == number; }, patience_);
}

// Behind whom we stand may not have linked himself to us yet, hence the order: the place is ready
// before the tail shows it (release), and the holder's writes are seen with the turn (acquire).
void McsLock::lock(Node& node) noexcept {
  node.next.store(nobody, std::memory_order_relaxed);
  node.waits.store(true, std::memory_order_relaxed);
  const Link before = tail_.exchange(link(node), std::memory_order_acq_rel);
  if (before == nobody)
    return;
  at(before).next.store(link(node), std::memory_order_release);
  spin_until([&] { return !node.waits.load(std::memory_order_acquire); }, patience_);
}

bool McsLock::try_lock(Node& node) noexcept {
  node.next.store(nobody, std::memory_order_relaxed);
  Link seen = nobody;
  return tail_.compare_exchange_strong(seen, link(node), std::memory_order_acq_rel,
                                       std::memory_order_relaxed);
}

void McsLock::unlock(Node& node) noexcept {
  Link next = node.next.load(std::memory_order_acquire);
  if (next == nobody) {
    Link last = link(node);
    if (tail_.compare_exchange_strong(last, nobody, std::memory_order_release,
                                      std::memory_order_relaxed))
      return;
    // Somebody has taken the tail and is about to say so.
    spin_until([&] { return (next = node.next.load(std::memory_order_acquire)) != nobody; },
               patience_);
  }
  at(next).waits.store(false, std::memory_order_release);
}

}  // namespace schedlab::procs
