#pragma once
// The ring of a loop: as good and as large as this kernel and this user's limits let it be.

#include "lab/base/fd.hh"

#include <cerrno>
#include <chrono>
#include <thread>

struct io_uring;

namespace schedlab::iouring {

struct RingSetUp {
  unsigned completions = 0;         // that the ring holds
  bool can_message = false;         // MSG_RING works, from Linux 5.18 on
  bool waits_for_children = false;  // WAITID works, from Linux 6.7 on
};

// For the calling thread, with four completions for each entry; a smaller ring where the memlock
// limit is low. Throws Unsupported with cause and fix.
RingSetUp set_up_ring(io_uring& ring, unsigned entries);

// What wakes a ring. Throws Unsupported with cause and fix.
Fd make_wake_fd();

// Closes a ring. If it is busy, waits until the kernel has ended what is under way on it, for some
// seconds if it must.
void take_down_ring(io_uring& ring, bool busy) noexcept;

// The kernel gives the memory that a closed ring had locked back from a worker of its own, some
// milliseconds later: ENOMEM counts only if it outlasts `rests`. `attempt` gives 0 or errno.
template <typename Attempt>
int error_that_lasts(int rests, Attempt attempt) {
  int error = attempt();
  for (; error == ENOMEM && rests > 0; --rests) {
    std::this_thread::sleep_for(std::chrono::milliseconds(15));
    error = attempt();
  }
  return error;
}
inline constexpr int patience = 20;  // rests, before something is given up altogether

}  // namespace schedlab::iouring
