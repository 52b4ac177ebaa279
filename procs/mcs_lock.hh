#pragma once
#include "lab/base/cache_line.hh"
#include "procs/waiting.hh"

#include <atomic>
#include <cstdint>

namespace schedlab::procs {

// The queue lock of Mellor-Crummey and Scott (1991): each waiter spins on a line of its own, which
// only the one before it writes, so that an unlock moves one line however many wait. In the order
// in which threads came. What TicketLock says of shared CPUs, of time and of death holds here.
//
// The waiter brings its place in the queue, a Node, and leaves it alone from lock to unlock. Nodes
// are linked by their distance from the lock: where processes share the lock, their nodes lie in
// the same mapping as the lock.
class McsLock {
public:
  using Link = std::intptr_t;  // bytes from the lock to a node; 0: nobody
  struct alignas(line_pair) Node {
    std::atomic<Link> next{0};
    std::atomic<bool> waits{false};
  };

  McsLock() : McsLock(Patience::of(Waiting::adaptive)) {}
  explicit McsLock(Patience patience) noexcept : patience_(patience) {}
  McsLock(const McsLock&) = delete;
  McsLock& operator=(const McsLock&) = delete;

  void lock(Node& node) noexcept;
  bool try_lock(Node& node) noexcept;
  void unlock(Node& node) noexcept;

private:
  static constexpr Link nobody = 0;
  [[nodiscard]] Link link(const Node& node) const noexcept {
    return reinterpret_cast<Link>(&node) - reinterpret_cast<Link>(this);
  }
  [[nodiscard]] Node& at(Link link) const noexcept {
    return *reinterpret_cast<Node*>(reinterpret_cast<Link>(this) + link);
  }

  std::atomic<Link> tail_{nobody};
  Patience patience_;
};

// One thread's way into an McsLock: Lockable, so that std::lock_guard takes it.
class McsPlace {
public:
  explicit McsPlace(McsLock& lock) noexcept : lock_(lock) {}
  void lock() noexcept { lock_.lock(node_); }
  bool try_lock() noexcept { return lock_.try_lock(node_); }
  void unlock() noexcept { lock_.unlock(node_); }

private:
  McsLock& lock_;
  McsLock::Node node_;
};

}  // namespace schedlab::procs
