#pragma once
// The timers of one loop: a heap in user space, so that a hundred thousand sleepers cost the kernel
// one timeout. Used by the loop's thread only.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace schedlab::iouring {

class Timers;

// On CLOCK_MONOTONIC, in nanoseconds; the latest there is if the sum is beyond it.
[[nodiscard]] std::int64_t from_now(std::chrono::nanoseconds time) noexcept;

// Something that is due once, at a time of CLOCK_MONOTONIC in nanoseconds. Must not be destroyed
// while set.
class Timer {
public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  [[nodiscard]] bool is_set() const noexcept { return place_ != nowhere; }
  [[nodiscard]] std::int64_t due_ns() const noexcept { return due_ns_; }

protected:
  virtual ~Timer() = default;
  // Its time has come; it is no longer set.
  virtual void expired() noexcept = 0;

private:
  friend class Timers;
  static constexpr std::size_t nowhere = ~std::size_t{0};
  std::int64_t due_ns_ = 0;
  std::uint64_t order_ = 0;  // of two that are due at once, the one set first expires first
  std::size_t place_ = nowhere;
};

class Timers {
public:
  // Throws std::bad_alloc. A timer that is set is moved.
  void set(Timer& timer, std::int64_t due_ns);
  // Nothing happens if it is not set.
  void unset(Timer& timer) noexcept;

  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return heap_.size(); }
  // When the first is due; not empty.
  [[nodiscard]] std::int64_t first_ns() const noexcept { return heap_.front()->due_ns_; }
  // How long that is from then on, 0 if it is due; not empty.
  [[nodiscard]] std::int64_t left_ns(std::int64_t now_ns) const noexcept {
    return first_ns() <= now_ns ? 0 : first_ns() - now_ns;
  }
  // Lets all expire that are due by then, in their order. One that is set meanwhile waits for the
  // next call. Returns how many.
  std::size_t expire(std::int64_t now_ns) noexcept;

private:
  static bool before(const Timer& a, const Timer& b) noexcept;
  void put(Timer* timer, std::size_t place) noexcept;
  void sift_up(std::size_t place) noexcept;
  void sift_down(std::size_t place) noexcept;

  std::vector<Timer*> heap_;  // four children a node: fewer cache lines than two
  std::uint64_t next_order_ = 0;
  // What is set while others expire is due no earlier than they, and so behind them.
  static constexpr std::int64_t always = std::numeric_limits<std::int64_t>::min();
  std::int64_t expiring_ns_ = always;
};

}  // namespace schedlab::iouring
