#pragma once
// A line of tasks, first in, first out, that grows: one for all, and one for each worker of a pool.
// Tasks are taken in batches and by thieves; the one that came last can be taken back.

#include "lab/base/cache_line.hh"
#include "procs/future.hh"
#include "procs/mutex.hh"

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

namespace schedlab::procs::detail {

// Any member from any thread. A task in line holds a reference to itself, which goes with it.
class alignas(line_pair) TaskLane {
public:
  static constexpr std::size_t least_room = 64;

  // Who finds it locked asks so often before sleeping. Throws std::bad_alloc.
  explicit TaskLane(Patience patience);
  TaskLane(const TaskLane&) = delete;
  TaskLane& operator=(const TaskLane&) = delete;
  ~TaskLane() = default;  // must be empty

  // False once closed; throws std::bad_alloc. Then none was taken.
  bool push(std::span<FutureCore* const> tasks);
  // Also when closed; there must be room, as there is for `least_room` in an empty line.
  void put(std::span<FutureCore* const> tasks) noexcept;
  // Asked by the only one that puts and pushes.
  [[nodiscard]] bool has_room(std::size_t tasks) noexcept;
  // The oldest; null if there is none.
  FutureCore* pop() noexcept;
  // As many of the oldest as there is room for, but no more than a share of all of them, rounded
  // up; how many.
  std::size_t take(std::span<FutureCore*> room, std::size_t share) noexcept;
  // Takes a task out if it is the newest of those that nobody has begun; the others behind it leave
  // too.
  bool take_back(FutureCore* task) noexcept;
  // No more come in.
  void close() noexcept;
  // A glance: may lag behind.
  [[nodiscard]] bool looks_empty() const noexcept {
    return size_.load(std::memory_order_relaxed) == 0;
  }
  // Takes the lock: who pushes after it sees all that the caller did before.
  [[nodiscard]] bool empty() noexcept;

private:
  void grow(std::size_t wanted);
  void append(std::span<FutureCore* const> tasks) noexcept;
  FutureCore*& at(std::uint64_t index) noexcept { return ring_[index & mask_]; }
  FutureCore* pop_locked() noexcept { return at(first_++); }
  void publish() noexcept { size_.store(last_ - first_, std::memory_order_relaxed); }

  Mutex mutex_;  // of all below
  std::atomic<std::uint64_t> size_{0};
  std::uint64_t first_ = 0;
  std::uint64_t last_ = 0;
  std::uint64_t mask_ = least_room - 1;
  std::unique_ptr<FutureCore*[]> ring_;
  bool closed_ = false;
};

}  // namespace schedlab::procs::detail
