#pragma once
// A bounded queue of many producers and many consumers, threads of one process. Each slot has a
// turn: a producer takes the slot whose turn is its ticket, writes, and passes the turn on.
//
// Not for processes: who is killed between the taking of a ticket and the passing on of the turn
// holds up all others for ever, and nothing in the memory says who it was. Threads do not die
// alone. Producers that may be killed have a lane each: mpsc_lanes.hh.
//
// Thread rule: all functions may be called from any thread.

#include "lab/base/cache_line.hh"
#include "lab/base/error.hh"
#include "procs/bell.hh"

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace schedlab::procs {

template <typename T>
class MpmcRing {
  static_assert(std::is_nothrow_move_assignable_v<T> && std::is_default_constructible_v<T>,
                "an item is moved into a slot, and an exception there would hold up all others");

public:
  // `capacity` is a power of two of 2 or more. Throws BadInput if not, std::bad_alloc.
  explicit MpmcRing(std::size_t capacity) : mask_(capacity - 1) {
    if (capacity < 2 || !std::has_single_bit(capacity))
      throw BadInput("the capacity of a ring is a power of two of 2 or more, not " +
                     std::to_string(capacity));
    slots_ = std::make_unique<Slot[]>(capacity);
    for (std::size_t i = 0; i < capacity; ++i)
      slots_[i].turn.store(i, std::memory_order_relaxed);
  }

  // False if the ring is full; the item then is as it was.
  bool try_push(T& item) noexcept {
    std::uint64_t ticket = tail_.load(std::memory_order_relaxed);
    for (;;) {
      Slot& slot = slots_[ticket & mask_];
      const std::uint64_t turn = slot.turn.load(std::memory_order_acquire);
      if (turn == ticket) {
        if (tail_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_relaxed))
          return fill(slot, ticket, item);
      } else if (static_cast<std::int64_t>(turn - ticket) < 0) {
        return false;
      } else {
        ticket = tail_.load(std::memory_order_relaxed);
      }
    }
  }

  // False if the ring is empty.
  bool try_pop(T& item) noexcept {
    std::uint64_t ticket = head_.load(std::memory_order_relaxed);
    for (;;) {
      Slot& slot = slots_[ticket & mask_];
      const std::uint64_t turn = slot.turn.load(std::memory_order_acquire);
      if (turn == ticket + 1) {
        if (head_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_relaxed))
          return empty(slot, ticket, item);
      } else if (static_cast<std::int64_t>(turn - ticket - 1) < 0) {
        return false;
      } else {
        ticket = head_.load(std::memory_order_relaxed);
      }
    }
  }

  // Waits for room: done, closed, timed_out.
  Outcome push(T item, const Wait& wait = {}) noexcept {
    bool closed = false;
    const Outcome outcome = await(&room_, wait, [&] {
      closed = closed_.load(std::memory_order_acquire);
      return closed || try_push(item);
    });
    return closed ? Outcome::closed : outcome;
  }
  // Waits for an item; `closed` once the ring is closed and empty.
  Outcome pop(T& item, const Wait& wait = {}) noexcept {
    bool popped = false;
    const Outcome outcome = await(&items_, wait, [&] {
      const bool closed = closed_.load(std::memory_order_acquire);
      popped = try_pop(item);
      return popped || closed;
    });
    return outcome == Outcome::done && !popped ? Outcome::closed : outcome;
  }

  // Nobody may push any more; what is there is still popped. Of a push that runs meanwhile the item
  // may come after the last consumer has been told `closed`: close after the producers have ended,
  // or drain with try_pop() once they have.
  void close() noexcept {
    closed_.store(true, std::memory_order_release);
    items_.ring();
    room_.ring();
  }

private:
  struct alignas(cache_line) Slot {
    // `ticket`: free for that producer; ticket + 1: full for that consumer.
    std::atomic<std::uint64_t> turn{0};
    T item{};
  };
  bool fill(Slot& slot, std::uint64_t ticket, T& item) noexcept {
    slot.item = std::move(item);
    slot.turn.store(ticket + 1, std::memory_order_release);
    items_.ring();
    return true;
  }
  bool empty(Slot& slot, std::uint64_t ticket, T& item) noexcept {
    item = std::move(slot.item);
    slot.turn.store(ticket + mask_ + 1, std::memory_order_release);
    room_.ring();
    return true;
  }

  std::uint64_t mask_;
  std::unique_ptr<Slot[]> slots_;
  std::atomic<bool> closed_{false};
  alignas(line_pair) std::atomic<std::uint64_t> tail_{0};
  alignas(line_pair) std::atomic<std::uint64_t> head_{0};
  alignas(line_pair) Bell items_{Bell::Scope::threads};
  alignas(line_pair) Bell room_{Bell::Scope::threads};
};

}  // namespace schedlab::procs
