#pragma once
// Tasks beside the one that starts them.
//
// A started task begins in the loop's next turn, whether or not anybody waits for it. Nothing is
// detached by accident: a Running<T> that is given up cancels its task, and the loop waits for the
// task's end before run() returns. Unlike in asyncio a task that is cancelled before it began still
// runs up to its first wait, so that what it was given is put away by its own code. Loop's thread
// only.

#include "iouring/loop.hh"

#include <cassert>
#include <concepts>
#include <source_location>
#include <type_traits>
#include <utility>

namespace schedlab::iouring {

namespace detail {

// Somebody who is told when a task has ended.
class Listener {
public:
  Listener() = default;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  virtual void task_ended() noexcept = 0;
  Listener* next_listener = nullptr;

protected:
  ~Listener() = default;
};

// A task that lives until it has ended and nobody holds it.
struct StartedBase : StartedTask {
  // In the order in which they came.
  void listen(Listener& listener) noexcept {
    Listener** at = &listeners;
    while (*at)
      at = &(*at)->next_listener;
    *at = &listener;
    listener.next_listener = nullptr;
  }
  void forget(const Listener& listener) noexcept {
    for (Listener** at = &listeners; *at; at = &(*at)->next_listener)
      if (*at == &listener) {
        *at = listener.next_listener;
        return;
      }
  }
  void detach() noexcept {
    held = false;
    if (done)
      destroy(*this);
  }
  void release() noexcept {
    if (!done)
      cancel();
    detach();
  }
  // What it threw, or null.
  [[nodiscard]] const std::exception_ptr& exception() const noexcept { return first->exception; }

  static void at_end(TaskState& state, PromiseBase&) noexcept {
    auto& self = static_cast<StartedBase&>(state);
    self.done = true;
    self.loop->remove(self);
    while (Listener* const listener = self.listeners) {
      self.listeners = listener->next_listener;
      listener->task_ended();
    }
    if (!self.held)
      self.loop->bury(self);  // its coroutine is still in its last step
  }

  PromiseBase* first = nullptr;  // of the first coroutine
  Listener* listeners = nullptr;
  bool done = false;
  bool held = true;
};

// With its first coroutine.
template <typename T>
struct Started : StartedBase {
  explicit Started(Task<T>&& coroutine) noexcept : task(std::move(coroutine)) {
    ended = at_end;
    destroy = [](StartedTask& self) noexcept { delete static_cast<Started*>(&self); };
    first = &task.handle().promise();
    first->state = this;
  }

  static void* operator new(std::size_t size) { return allocate_frame(size); }
  static void operator delete(void* memory, std::size_t size) noexcept { free_frame(memory, size); }

  Task<T> task;
};

// Gives a task to its loop, which has room for it.
inline void begin(StartedBase& started, Loop& loop, std::coroutine_handle<> coroutine,
                  const std::source_location& where) noexcept {
  started.started = where;
  started.loop = &loop;
  loop.add(started);
  loop.ready(coroutine);
}

// Waits for the end of a started task. To cancel the wait is to cancel what is waited for.
template <typename T>
class Join : public Listener, public Waiting {
public:
  explicit Join(Started<T>& target) noexcept : target_(target) {}

  bool await_ready() const noexcept { return target_.done; }
  template <std::derived_from<PromiseBase> Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
    waiter_ = coroutine.promise().state;
    assert(waiter_ != &target_);  // a task cannot wait for itself
    coroutine_ = coroutine;
    target_.listen(*this);
    waiter_->waiting = this;
    if (waiter_->cancel_pending)
      on_cancel();
    return true;
  }

protected:
  ~Join() = default;
  // Before the result is taken, which may throw Cancelled.
  Task<T>& ended() noexcept {
    if (cancelled_)
      waiter_->serve_cancel(target_.exception());
    return target_.task;
  }

private:
  void task_ended() noexcept final {
    waiter_->waiting = nullptr;
    waiter_->loop->ready(coroutine_);
  }
  void on_cancel() noexcept final {
    cancelled_ = true;
    target_.cancel();
    waiter_->waiting = this;
  }

  Started<T>& target_;
  TaskState* waiter_ = nullptr;
  std::coroutine_handle<> coroutine_;
  bool cancelled_ = false;
};

template <typename T>
class JoinLooking final : public Join<T> {
public:
  using Join<T>::Join;
  std::add_lvalue_reference_t<T> await_resume() { return this->ended().handle().promise().get(); }
};
template <typename T>
class JoinTaking final : public Join<T> {
public:
  using Join<T>::Join;
  T await_resume() { return this->ended().handle().promise().take(); }
};

}  // namespace detail

// A task that was started. `co_await running` gives its result by reference, as often as one likes;
// `co_await std::move(running)` gives it away. Both throw what the task threw.
template <typename T = void>
class [[nodiscard]] Running {
public:
  Running() noexcept = default;
  explicit Running(detail::Started<T>& started) noexcept : started_(&started) {}
  Running(Running&& other) noexcept : started_(std::exchange(other.started_, nullptr)) {}
  Running& operator=(Running&& other) noexcept {
    Running taken(std::move(other));
    std::swap(started_, taken.started_);
    return *this;
  }
  // Cancels a task that has not ended.
  ~Running() {
    if (started_)
      started_->release();
  }

  [[nodiscard]] bool done() const noexcept { return started_->done; }
  // Asks it to end; Cancelled is thrown at its present or next wait.
  void cancel() noexcept {
    if (!started_->done)
      started_->cancel();
  }
  // Lets it go on without anybody to wait for it; what it throws is lost.
  void detach() noexcept { std::exchange(started_, nullptr)->detach(); }

  auto operator co_await() & noexcept { return detail::JoinLooking<T>(*started_); }
  auto operator co_await() && noexcept { return detail::JoinTaking<T>(*started_); }

  // For primitives that wait for several.
  [[nodiscard]] detail::Started<T>& started() const noexcept { return *started_; }

private:
  detail::Started<T>* started_ = nullptr;
};

// Starts a task in the running loop.
template <typename T>
Running<T> create_task(Task<T> task, std::source_location where = std::source_location::current()) {
  Loop* const loop = Loop::current();
  assert(loop && task);
  const auto first = task.handle();
  loop->reserve_ready(1);
  auto* const started = new detail::Started<T>(std::move(task));
  detail::begin(*started, *loop, first, where);
  return Running<T>(*started);
}

}  // namespace schedlab::iouring
