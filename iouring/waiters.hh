#pragma once
// Tasks that wait in line for something: a lock, a permit, an item. First in, first out; no memory
// is allocated, since a waiter is part of its coroutine's frame. One that is cancelled leaves the
// line. One that was woken has what it waited for: a cancellation that comes later finds it at its
// next wait, so that nothing that was handed over is lost.

#include "iouring/suspension.hh"

#include <cassert>

namespace schedlab::iouring::detail {

class Line;

class Waiter : public Suspension {
public:
  // Not in line any more.
  void wake() noexcept { resume(); }
  // From now on cancelling meets the next wait, though it waits on.
  void hold_on() noexcept { task_->waiting = nullptr; }

protected:
  virtual ~Waiter() = default;
  // False if the task was cancelled before.
  template <std::derived_from<PromiseBase> Promise>
  bool enter(Line& line, std::coroutine_handle<Promise> coroutine) noexcept;
  void on_cancel() noexcept override;

private:
  friend class Line;
  Line* line_ = nullptr;
  Waiter* next_ = nullptr;
  Waiter* previous_ = nullptr;
};

class Line {
public:
  Line() = default;
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;
  ~Line() { assert(empty()); }  // somebody would wait for ever

  [[nodiscard]] bool empty() const noexcept { return !first_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] Waiter* first() const noexcept { return first_; }

  void push(Waiter& waiter) noexcept {
    waiter.line_ = this;
    waiter.next_ = nullptr;
    waiter.previous_ = last_;
    (last_ ? last_->next_ : first_) = &waiter;
    last_ = &waiter;
    ++size_;
  }
  void remove(Waiter& waiter) noexcept {
    assert(waiter.line_ == this);
    waiter.line_ = nullptr;
    (waiter.previous_ ? waiter.previous_->next_ : first_) = waiter.next_;
    (waiter.next_ ? waiter.next_->previous_ : last_) = waiter.previous_;
    --size_;
  }
  // The first, or null.
  Waiter* pop() noexcept {
    Waiter* const waiter = first_;
    if (waiter)
      remove(*waiter);
    return waiter;
  }
  void wake_all() noexcept {
    while (Waiter* const waiter = pop())
      waiter->wake();
  }

private:
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
  std::size_t size_ = 0;
};

template <std::derived_from<PromiseBase> Promise>
bool Waiter::enter(Line& line, std::coroutine_handle<Promise> coroutine) noexcept {
  if (!suspend(coroutine))
    return false;
  line.push(*this);
  return true;
}

inline void Waiter::on_cancel() noexcept {
  line_->remove(*this);
  cut_short();
}

}  // namespace schedlab::iouring::detail
