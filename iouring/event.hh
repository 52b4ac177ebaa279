#pragma once
// A flag that tasks of one loop wait for: `co_await event.wait()`. Setting it lets all go on that
// wait, even if it is cleared before they run. Loop's thread only.

#include "iouring/waiters.hh"

#include <concepts>
#include <coroutine>

namespace schedlab::iouring {

class Event {
public:
  class [[nodiscard]] Wait final : public detail::Waiter {
  public:
    explicit Wait(Event& event) noexcept : event_(event) {}
    [[nodiscard]] bool await_ready() const noexcept { return event_.set_; }
    template <std::derived_from<detail::PromiseBase> Promise>
    bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      return enter(event_.line_, coroutine);
    }
    void await_resume() const { throw_if_cancelled(); }

  private:
    Event& event_;
  };

  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void set() noexcept {
    set_ = true;
    line_.wake_all();
  }
  void clear() noexcept { set_ = false; }
  [[nodiscard]] bool is_set() const noexcept { return set_; }
  // Without a wait if it is set. Throws Cancelled.
  Wait wait() noexcept { return Wait(*this); }
  // Tasks in line.
  [[nodiscard]] std::size_t waiting() const noexcept { return line_.size(); }

private:
  bool set_ = false;
  detail::Line line_;
};

}  // namespace schedlab::iouring
