#pragma once
// Who takes which lock while holding which, and where: the cycles in that order are deadlocks that
// can happen, found also in runs in which they did not.
//
// An acquisition is an edge from each lock that the thread holds to the one it takes. A cycle of
// edges is reported if each edge was made by another thread and no lock was held along all of them
// (a gate keeps them from happening at once): the Goodlock rules (Bensalem and Havelund, "Dynamic
// deadlock analysis of multi-threaded programs", 2005). What succeeds by trying makes no edge to
// itself, because it did not wait. That one thread ended before the other began is not seen: such
// a cycle is reported though it could not happen.
//
// A deadlock that is happening is a cycle of threads of which each waits for a lock that the next
// one holds; it is exact, because nobody in it can go on.
//
// Thread rule: all functions may be called from any thread. A lock is added before it is used and
// the recorder outlives the use of its locks. Each acquisition costs a mutex and a look-up, each
// new edge a search of all paths, and each thread a record that stays: for looking, not for
// production.

#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace schedlab::procs {

class LockOrder {
public:
  using Place = std::source_location;
  using Lock = std::uint32_t;  // a lock's number in its recorder

  // A thread took `wanted` (or waits for it) while it held `held`.
  struct Edge {
    Lock held = 0;
    Lock wanted = 0;
    std::uint32_t thread = 0;  // numbered in the order in which they took their first lock
    Place held_at;             // where it took `held`
    Place wanted_at;

    friend bool operator==(const Edge& a, const Edge& b) noexcept {
      return a.held == b.held && a.wanted == b.wanted && a.thread == b.thread;
    }
  };
  // Each edge's `wanted` is the next one's `held`, and the last one's the first one's. A cycle of
  // one edge is a thread that takes again, and may not, what it holds.
  using Cycle = std::vector<Edge>;

  LockOrder();
  LockOrder(const LockOrder&) = delete;
  LockOrder& operator=(const LockOrder&) = delete;
  ~LockOrder();

  // A recursive lock may be taken again by its holder.
  Lock add(std::string name, bool recursive = false);
  [[nodiscard]] std::string name(Lock lock) const;

  // Before the wait for a lock, when it was taken, and before it is given back. `tried` says that
  // it was taken without a wait; then there is no call of waiting.
  void waiting(Lock lock, const Place& place);
  void taken(Lock lock, const Place& place, bool tried);
  void giving_back(Lock lock) noexcept;
  // Instead of taken: the wait was given up.
  void gave_up(Lock lock) noexcept;

  // The deadlocks that can happen, in the order in which their last edge was seen; of each set of
  // locks the first cycle.
  [[nodiscard]] std::vector<Cycle> cycles() const;
  // The deadlock that has happened: the threads wait for each other now. Empty if none does.
  [[nodiscard]] Cycle standstill() const;
  // The clock (CLOCK_MONOTONIC, ns) when the wait began that closed the first standstill; 0 before.
  [[nodiscard]] std::int64_t stood_still_ns() const noexcept;
  // Different acquisitions seen so far: by lock held, lock wanted, thread and locks held beside.
  [[nodiscard]] std::size_t edges() const;

  // A sentence a line: who holds what since where, and wants what where.
  [[nodiscard]] std::string text(const Cycle& cycle) const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

// Any lockable, watched. Lockable itself; lock() says where it was called only where the caller's
// place can be had, so take it by Hold.
template <typename L>
class Watched {
public:
  using Place = LockOrder::Place;

  template <typename... Arguments>
  explicit Watched(LockOrder& order, std::string name, bool recursive = false,
                   Arguments&&... arguments)
      : order_(order), number_(order.add(std::move(name), recursive)),
        lock_(std::forward<Arguments>(arguments)...) {}

  void lock(const Place& place = Place::current()) {
    order_.waiting(number_, place);
    try {
      lock_.lock();
    } catch (...) {
      order_.gave_up(number_);
      throw;
    }
    order_.taken(number_, place, false);
  }
  bool try_lock(const Place& place = Place::current()) {
    if (!lock_.try_lock())
      return false;
    order_.taken(number_, place, true);
    return true;
  }
  void unlock() {
    order_.giving_back(number_);
    lock_.unlock();
  }
  [[nodiscard]] LockOrder::Lock number() const noexcept { return number_; }

private:
  LockOrder& order_;
  LockOrder::Lock number_;
  L lock_;
};

// Holds a watched lock for a scope; the place is that of its declaration.
template <typename L>
class Hold {
public:
  explicit Hold(Watched<L>& lock, const LockOrder::Place& place = LockOrder::Place::current())
      : lock_(lock) {
    lock_.lock(place);
  }
  Hold(const Hold&) = delete;
  Hold& operator=(const Hold&) = delete;
  ~Hold() { lock_.unlock(); }

private:
  Watched<L>& lock_;
};

}  // namespace schedlab::procs
