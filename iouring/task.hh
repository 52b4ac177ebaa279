#pragma once
// Task<T>: a coroutine that does nothing until it is awaited, then runs in its awaiter's task and
// gives a T or throws. Awaiting and returning transfer control symmetrically, so that a chain of
// any length needs no stack; frames come from the thread's pool.
//
//   Task<int> twice(int n) { co_return 2 * n; }
//   Task<int> sum() { co_return co_await twice(1) + co_await twice(2); }
//
// A task that was never awaited is destroyed with its object. One that is suspended must not be:
// whoever started it waits for its end.

#include "iouring/frame_pool.hh"
#include "iouring/task_state.hh"

#include <concepts>
#include <coroutine>
#include <exception>
#include <memory>
#include <type_traits>
#include <utility>

namespace schedlab::iouring {

template <typename T>
class Task;

namespace detail {

struct PromiseBase {
  std::coroutine_handle<> continuation;  // null in a task's first coroutine
  TaskState* state = nullptr;
  std::exception_ptr exception;

  static void* operator new(std::size_t size) { return allocate_frame(size); }
  static void operator delete(void* frame, std::size_t size) noexcept { free_frame(frame, size); }

  struct AtEnd {
    bool await_ready() noexcept { return false; }
    template <typename Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) noexcept {
      PromiseBase& promise = self.promise();
      if (promise.continuation)
        return promise.continuation;
      promise.state->ended(*promise.state, promise);
      return std::noop_coroutine();
    }
    void await_resume() noexcept {}
  };

  std::suspend_always initial_suspend() noexcept { return {}; }
  AtEnd final_suspend() noexcept { return {}; }
  void unhandled_exception() noexcept { exception = std::current_exception(); }
};

// Remembers whether there is a value to destroy; nothing where values need no destructor, so that a
// small task fits a cache line.
template <typename T>
struct HasValue {
  void set() noexcept { is_set = true; }
  bool is_set = false;
};
template <typename T>
requires std::is_trivially_destructible_v<T>
struct HasValue<T> {
  void set() noexcept {}
  static constexpr bool is_set = false;
};

template <typename T>
struct Promise : PromiseBase {
  // Frames are no better aligned, and a promise must lie where PromiseBase would.
  static_assert(alignof(T) <= 16, "a task's value is aligned to at most 16 bytes");
  union {
    T value;
  };
  [[no_unique_address]] HasValue<T> has_value;

  Promise() noexcept {}
  Promise(const Promise&) = delete;
  Promise& operator=(const Promise&) = delete;
  ~Promise() {
    if (has_value.is_set)
      std::destroy_at(&value);
  }

  Task<T> get_return_object() noexcept;
  template <typename U = T>
  requires std::constructible_from<T, U&&>
  void return_value(U&& result) noexcept(std::is_nothrow_constructible_v<T, U&&>) {
    std::construct_at(&value, std::forward<U>(result));
    has_value.set();
  }
  // Throws what the coroutine threw.
  T& get() {
    if (exception)
      std::rethrow_exception(exception);
    return value;
  }
  T take() { return std::move(get()); }
};

// A reference is kept as a pointer.
template <typename T>
struct Promise<T&> : PromiseBase {
  T* value = nullptr;

  Task<T&> get_return_object() noexcept;
  void return_value(T& result) noexcept { value = &result; }
  T& get() {
    if (exception)
      std::rethrow_exception(exception);
    return *value;
  }
  T& take() { return get(); }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void get() {
    if (exception)
      std::rethrow_exception(exception);
  }
  void take() { get(); }
};

}  // namespace detail

template <typename T = void>
class [[nodiscard]] Task {
public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() noexcept = default;
  explicit Task(Handle handle) noexcept : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    Task taken(std::move(other));
    std::swap(handle_, taken.handle_);
    return *this;
  }
  ~Task() {
    if (handle_)
      handle_.destroy();
  }

  // Does it hold a coroutine?
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(handle_); }

  // The awaiting coroutine owns the task until it has ended: `co_await f()`, `co_await
  // std::move(task)`.
  auto operator co_await() && noexcept { return Awaiter(handle_); }

  // For whoever starts tasks: the coroutine, still owned by this object.
  [[nodiscard]] Handle handle() const noexcept { return handle_; }

private:
  class Awaiter {
  public:
    explicit Awaiter(Handle child) noexcept : child_(child) {}
    bool await_ready() noexcept { return false; }
    template <std::derived_from<detail::PromiseBase> Parent>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Parent> parent) noexcept {
      auto& promise = child_.promise();
      promise.continuation = parent;
      promise.state = parent.promise().state;
      return child_;
    }
    T await_resume() { return child_.promise().take(); }

  private:
    Handle child_;
  };

  Handle handle_;
};

namespace detail {

template <typename T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
}
template <typename T>
Task<T&> Promise<T&>::get_return_object() noexcept {
  return Task<T&>(std::coroutine_handle<Promise>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
}

}  // namespace detail

}  // namespace schedlab::iouring
