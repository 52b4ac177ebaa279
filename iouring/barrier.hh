#pragma once
// A place where tasks of one loop wait until so many have come: `co_await barrier.wait()`. Then all
// go on, and the barrier can be used again at once. A waiter that is cancelled leaves, as if it had
// not come. Loop's thread only.

#include "iouring/waiters.hh"

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>

namespace schedlab::iouring {

// The barrier was aborted, or reset while tasks waited.
struct BrokenBarrier final : std::exception {
  [[nodiscard]] const char* what() const noexcept override { return "broken barrier"; }
};

class Barrier {
public:
  class [[nodiscard]] Wait final : public detail::Waiter {
  public:
    explicit Wait(Barrier& barrier) noexcept : barrier_(barrier) {}
    [[nodiscard]] bool await_ready() noexcept {
      broken_ = barrier_.broken_;
      return broken_ || barrier_.arrive(*this);
    }
    template <std::derived_from<detail::PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      return enter(barrier_.line_, coroutine);
    }
    // Its place among those that went on together: 0 for the first to come, so that one of them
    // can be told from the others.
    std::size_t await_resume() const {
      throw_if_cancelled();
      if (broken_)
        throw BrokenBarrier();
      return index_;
    }

  private:
    friend class Barrier;
    Barrier& barrier_;
    std::size_t index_ = 0;
    bool broken_ = false;
  };

  // At least one party.
  explicit Barrier(std::size_t parties) noexcept : parties_(parties) { assert(parties > 0); }
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;

  // The last to come does not wait. Throws Cancelled or BrokenBarrier.
  Wait wait() noexcept { return Wait(*this); }
  // Those that wait, and those that come before the next reset(), get BrokenBarrier.
  void abort() noexcept {
    broken_ = true;
    break_all();
  }
  // Empty and whole again; those that wait get BrokenBarrier.
  void reset() noexcept {
    broken_ = false;
    break_all();
  }
  [[nodiscard]] bool broken() const noexcept { return broken_; }
  [[nodiscard]] std::size_t parties() const noexcept { return parties_; }
  [[nodiscard]] std::size_t waiting() const noexcept { return line_.size(); }

private:
  // Is it the last? Then the others go on.
  bool arrive(Wait& last) noexcept {
    if (line_.size() + 1 < parties_)
      return false;
    last.index_ = parties_ - 1;
    for (std::size_t index = 0; detail::Waiter* const waiter = line_.pop(); ++index) {
      static_cast<Wait*>(waiter)->index_ = index;
      waiter->wake();
    }
    return true;
  }
  void break_all() noexcept {
    while (detail::Waiter* const waiter = line_.pop()) {
      static_cast<Wait*>(waiter)->broken_ = true;
      waiter->wake();
    }
  }

  std::size_t parties_;
  bool broken_ = false;
  detail::Line line_;
};

}  // namespace schedlab::iouring
