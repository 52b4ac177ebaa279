#include "procs/fair_mutex.hh"

#include <cerrno>
#include <climits>

namespace schedlab::procs {
namespace {

constexpr std::uint32_t ticket_bits = 14;
constexpr std::uint32_t tickets = 1u << ticket_bits;
constexpr std::uint32_t first_shift = 3;
constexpr std::uint32_t next_shift = first_shift + ticket_bits;
constexpr std::uint32_t state_mask = (1u << first_shift) - 1;

// Who sleeps without a ticket has a bit of his own; the owners of tickets share the others, so that
// a hand-over wakes one of them, or one in 31 where there are so many.
constexpr std::uint32_t competitors = 1u << 31;
std::uint32_t bit_of(std::uint32_t ticket) noexcept {
  return 1u << ticket % 31;
}

std::uint32_t first_ticket(std::uint32_t word) noexcept {
  return word >> first_shift & (tickets - 1);
}
std::uint32_t next_ticket(std::uint32_t word) noexcept {
  return word >> next_shift & (tickets - 1);
}
std::uint32_t with_tickets(std::uint32_t state, std::uint32_t first, std::uint32_t next) noexcept {
  return first == next ? state : state | first << first_shift | next << next_shift;
}

}  // namespace

bool FairMutex::lock_until(const timespec* until) noexcept {
  return try_lock() || compete(until);
}

void FairMutex::lock_slowly() noexcept {
  for (;;) {
    if (patience_.count() > 0) {
      const timespec until = monotonic_in(patience_);
      if (compete(&until))
        return;
    }
    std::uint32_t ticket = 0;
    if (!draw_ticket(ticket))
      return;
    if (ticket < tickets) {
      await_turn(ticket);
      return;
    }
    // All tickets are out: 16,383 threads wait for their turns. Sleep through one of them.
    if (const timespec moment = monotonic_in(std::chrono::milliseconds(1)); compete(&moment))
      return;
  }
}

// The mark stays when the time is over: all it can cost is a needless wake-up.
bool FairMutex::compete(const timespec* until) noexcept {
  std::uint32_t mine = held;  // who has slept must suppose that others do
  for (;;) {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);
    if (seen == 0) {
      if (take(0, mine))
        return true;
      continue;
    }
    if (!(seen & slept_for) &&
        !word_.compare_exchange_weak(seen, seen | slept_for, std::memory_order_relaxed))
      continue;
    mine = held | slept_for;
    if (futex::wait(word_, seen | slept_for, sharing_, until, competitors) == ETIMEDOUT)
      return false;
  }
}

// False if the lock was free and is now ours. A ticket of `tickets` stands for none.
bool FairMutex::draw_ticket(std::uint32_t& ticket) noexcept {
  for (;;) {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);
    if (seen == 0) {
      if (take(0, held | slept_for))
        return false;
      continue;
    }
    const std::uint32_t first = first_ticket(seen);
    const std::uint32_t next = next_ticket(seen);
    const std::uint32_t after = (next + 1) % tickets;
    ticket = next;
    if (after == first) {
      ticket = tickets;
      return true;
    }
    const auto wanted = with_tickets((seen & state_mask) | slept_for, first, after);
    if (word_.compare_exchange_weak(seen, wanted, std::memory_order_relaxed))
      return true;
  }
}

void FairMutex::await_turn(std::uint32_t ticket) noexcept {
  for (;;) {
    std::uint32_t seen = word_.load(std::memory_order_relaxed);
    if (!(seen & handed) || first_ticket(seen) != ticket) {
      futex::wait(word_, seen, sharing_, nullptr, bit_of(ticket));
      continue;
    }
    const auto wanted =
        with_tickets(held | (seen & slept_for), (ticket + 1) % tickets, next_ticket(seen));
    // Pairs with the release in unlock_slowly().
    if (word_.compare_exchange_weak(seen, wanted, std::memory_order_acquire,
                                    std::memory_order_relaxed))
      return;
  }
}

void FairMutex::unlock_slowly(std::uint32_t seen, Sharing sharing) noexcept {
  for (;;) {
    const bool waited_for = first_ticket(seen) != next_ticket(seen);
    const std::uint32_t wanted = waited_for ? (seen & ~held) | handed : 0;
    if (!word_.compare_exchange_weak(seen, wanted, std::memory_order_release,
                                     std::memory_order_relaxed))
      continue;
    if (waited_for)
      futex::wake(&word_, INT_MAX, sharing, bit_of(first_ticket(seen)));
    else if (seen & slept_for)
      futex::wake(&word_, 1, sharing, competitors);
    return;
  }
}

}  // namespace schedlab::procs
