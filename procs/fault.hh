#pragma once
// The steps of the pool's protocol, and death at one of them on order: what kill -9 does at the
// worst moment, made to happen there. A step costs a load and a branch that is never taken.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace schedlab::procs {

// In the order in which one task meets them. A worker that dies before `running` has not begun the
// task; one that dies from `done` on has resolved it.
enum class Step : std::uint8_t {
  // the parent, on the way out
  queued,  // the task is in the slot, and its worker was not woken
  // the worker
  woken,      // it saw the task and has not taken it
  claimed,    // it took the task
  running,    // the task counts as begun
  decoded,    // its arguments are there
  called,     // it has returned
  encoded,    // its result lies in the slot
  done,       // the slot says so, and nobody was woken
  announced,  // the parent was woken
  // the parent
  drained,    // the result was taken from the slot, the future does not know
  reaped,     // a worker's death was seen, its tasks are still with it
  requeued,   // its tasks are back in the queue, no other worker has started
  respawned,  // the other worker has started
};
inline constexpr std::size_t step_count = 13;
inline constexpr std::array<std::string_view, step_count> step_names = {
    "queued", "woken",     "claimed", "running", "decoded",  "called",   "encoded",
    "done",   "announced", "drained", "reaped",  "requeued", "respawned"};

constexpr std::string_view to_text(Step step) noexcept {
  return step_names[static_cast<std::size_t>(step)];
}
constexpr bool of_worker(Step step) noexcept {
  return step >= Step::woken && step <= Step::announced;
}
// A worker that dies there has begun a task and has not finished it.
constexpr bool begun(Step step) noexcept {
  return step >= Step::running && step <= Step::encoded;
}

// Lies in memory that all processes of the pool share.
class FaultPoint {
public:
  // The `after`-th to come to this step from now on dies there; 1 is the next.
  void arm(Step step, std::uint32_t after = 1) noexcept {
    left_.store(after, std::memory_order_relaxed);
    armed_.store(static_cast<std::uint32_t>(step) + 1, std::memory_order_release);
  }
  // The next to come to this step stops there (SIGSTOP), until somebody lets it go on.
  void stop(Step step) noexcept {
    stops_.store(true, std::memory_order_relaxed);
    arm(step);
  }
  void disarm() noexcept { armed_.store(0, std::memory_order_release); }
  void reach(Step step) noexcept {
    if (armed_.load(std::memory_order_relaxed) == static_cast<std::uint32_t>(step) + 1) [[unlikely]]
      die(step);
  }
  // How often somebody died at a step.
  [[nodiscard]] std::uint32_t landed(Step step) const noexcept {
    return landed_[static_cast<std::size_t>(step)].load(std::memory_order_relaxed);
  }

  // When the last one died, CLOCK_MONOTONIC.
  [[nodiscard]] std::int64_t died_ns() const noexcept {
    return died_ns_.load(std::memory_order_relaxed);
  }

private:
  void die(Step step) noexcept;

  std::atomic<std::uint32_t> armed_{0};
  std::atomic<std::uint32_t> left_{0};
  std::atomic<bool> stops_{false};
  std::atomic<std::int64_t> died_ns_{0};
  std::array<std::atomic<std::uint32_t>, step_count> landed_{};
};

// Where the next thread to come stands still on order: a moment between two of its instructions,
// made to last. Costs a load and a branch.
class HoldPoint {
public:
  void shut() noexcept { state_.store(shut_state, std::memory_order_release); }
  void open() noexcept { state_.store(open_state, std::memory_order_release); }
  // Does somebody stand there?
  [[nodiscard]] bool holds() const noexcept {
    return state_.load(std::memory_order_acquire) == held_state;
  }
  void reach() noexcept {
    if (state_.load(std::memory_order_relaxed) != open_state) [[unlikely]]
      stand();
  }

private:
  void stand() noexcept;

  static constexpr std::uint32_t open_state = 0;
  static constexpr std::uint32_t shut_state = 1;
  static constexpr std::uint32_t held_state = 2;
  std::atomic<std::uint32_t> state_{open_state};
};

}  // namespace schedlab::procs
