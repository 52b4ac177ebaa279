#pragma once
// The smallest task that has what the compilers get wrong: it starts when awaited, passes control
// by symmetric transfer, owns its frame, and counts the frames that live.

#include <coroutine>
#include <cstdio>
#include <exception>
#include <utility>

namespace coroutine_check {

inline int live_frames = 0;

class Task {
public:
  struct promise_type {
    promise_type() { ++live_frames; }
    promise_type(const promise_type&) = delete;
    promise_type& operator=(const promise_type&) = delete;
    ~promise_type() { --live_frames; }

    struct Resume {
      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> ended) noexcept {
        return ended.promise().waiter;
      }
      void await_resume() noexcept {}
    };

    Task get_return_object() {
      return Task(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    Resume final_suspend() noexcept { return {}; }
    void return_value(int result) noexcept { value = result; }
    void unhandled_exception() noexcept { failure = std::current_exception(); }

    int value = 0;
    std::exception_ptr failure;
    std::coroutine_handle<> waiter = std::noop_coroutine();
  };

  Task(Task&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (frame_)
      frame_.destroy();
  }

  bool await_ready() noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiter) noexcept {
    frame_.promise().waiter = waiter;
    return frame_;
  }
  int await_resume() {
    if (frame_.promise().failure)
      std::rethrow_exception(frame_.promise().failure);
    return frame_.promise().value;
  }

  int run() {
    frame_.resume();
    return await_resume();
  }

private:
  explicit Task(std::coroutine_handle<promise_type> frame) : frame_(frame) {}

  std::coroutine_handle<promise_type> frame_;
};

// Ready at once: no frame of its own.
struct Ready {
  int value;
  bool await_ready() noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) noexcept {}
  int await_resume() noexcept { return value; }
};

inline Task leaf(int value) {
  co_return value;
}

// A value whose every copy is counted, and which knows whether it still lives: a copy that was
// destroyed twice, or never constructed, shows in `wrong`.
class Counted {
public:
  explicit Counted(int value) : value_(value) { ++live; }
  Counted(const Counted& other) : value_(other.value()) { ++live; }
  Counted(Counted&& other) noexcept : value_(other.value()) { ++live; }
  Counted& operator=(const Counted&) = delete;
  ~Counted() {
    if (!alive())
      ++wrong;
    self_ = nullptr;
    --live;
  }

  int value() const noexcept { return alive() ? value_ : -1; }

  static inline int live = 0;
  static inline int wrong = 0;

private:
  // Through volatile: the store in the destructor is dead to the optimiser otherwise. An object
  // that was copied byte by byte points at the original, and is wrong too.
  bool alive() const noexcept { return self_ == this; }

  int value_;
  const volatile void* volatile self_ = this;
};

struct Case {
  const char* name;
  Task (*make)();
  int expected;
};

// Runs the cases; 0 if all gave the value expected and left nothing behind. A case is named before
// it runs, because a wrong frame may end the program.
template <std::size_t Count>
int run_all(const Case (&cases)[Count]) {
  int failed = 0;
  for (const Case& one : cases) {
    std::printf("%s\n", one.name);
    std::fflush(stdout);
    int value = 0;
    {
      Task task = one.make();
      value = task.run();
    }
    if (value == one.expected && live_frames == 0 && Counted::live == 0 && Counted::wrong == 0)
      continue;
    std::printf("  wrong: %d instead of %d; %d frames, %d objects left, %d destroyed wrongly\n",
                value, one.expected, live_frames, Counted::live, Counted::wrong);
    live_frames = Counted::live = Counted::wrong = 0;
    ++failed;
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace coroutine_check
