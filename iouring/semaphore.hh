#pragma once
// A number of permits: `const auto permit = co_await semaphore.acquire();`
//
// First come, first served: a permit that is given back while tasks wait goes to the first of them.
// Loop's thread only.

#include "iouring/waiters.hh"

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <utility>

namespace schedlab::iouring {

class Semaphore {
public:
  // Gives its permit back at its end.
  class [[nodiscard]] Permit {
  public:
    Permit(Permit&& other) noexcept : semaphore_(std::exchange(other.semaphore_, nullptr)) {}
    Permit& operator=(Permit&& other) noexcept {
      Permit taken(std::move(other));
      std::swap(semaphore_, taken.semaphore_);
      return *this;
    }
    ~Permit() { release(); }

    // Gives it back early; nothing if that is done.
    void release() noexcept {
      if (Semaphore* const semaphore = std::exchange(semaphore_, nullptr))
        semaphore->give_back();
    }
    // Lets somebody else release it.
    void keep() noexcept { semaphore_ = nullptr; }

  private:
    friend class Semaphore;
    explicit Permit(Semaphore& semaphore) noexcept : semaphore_(&semaphore) {}
    Semaphore* semaphore_;
  };

  class [[nodiscard]] Acquire final : public detail::Waiter {
  public:
    explicit Acquire(Semaphore& semaphore) noexcept : semaphore_(semaphore) {}
    [[nodiscard]] bool await_ready() noexcept { return semaphore_.take(); }
    template <std::derived_from<detail::PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      return enter(semaphore_.line_, coroutine);
    }
    Permit await_resume() {
      throw_if_cancelled();
      return Permit(semaphore_);
    }

  private:
    Semaphore& semaphore_;
  };

  explicit Semaphore(std::size_t permits = 1) noexcept : permits_(permits) {}
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  // Without a wait if there is a permit. Throws Cancelled.
  Acquire acquire() noexcept { return Acquire(*this); }
  std::optional<Permit> try_acquire() noexcept {
    return take() ? std::optional<Permit>(Permit(*this)) : std::nullopt;
  }
  // One permit more than there was: for one that was kept, or to tell of something.
  void release() noexcept { give_back(); }
  // No permit is there now.
  [[nodiscard]] bool locked() const noexcept { return permits_ == 0; }
  [[nodiscard]] std::size_t permits() const noexcept { return permits_; }
  // Tasks in line.
  [[nodiscard]] std::size_t waiting() const noexcept { return line_.size(); }

private:
  // Tasks wait only while there is none.
  bool take() noexcept {
    if (permits_ == 0)
      return false;
    --permits_;
    return true;
  }
  void give_back() noexcept {
    if (detail::Waiter* const next = line_.pop())
      next->wake();
    else
      ++permits_;
  }

  std::size_t permits_;
  detail::Line line_;
};

// One that refuses more permits than it began with.
class BoundedSemaphore : private Semaphore {
public:
  explicit BoundedSemaphore(std::size_t permits = 1) noexcept
      : Semaphore(permits), bound_(permits) {}

  using Semaphore::Acquire;
  using Semaphore::acquire;
  using Semaphore::locked;
  using Semaphore::Permit;
  using Semaphore::permits;
  using Semaphore::try_acquire;
  using Semaphore::waiting;

  // Throws std::logic_error if nothing was acquired.
  void release() {
    if (permits() == bound_)
      throw std::logic_error("BoundedSemaphore released more often than acquired");
    Semaphore::release();
  }

private:
  std::size_t bound_;
};

}  // namespace schedlab::iouring
