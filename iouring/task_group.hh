#pragma once
// Tasks that live no longer than a piece of code, as asyncio.TaskGroup:
//
//   co_await TaskGroup::run([&](TaskGroup& group) -> Task<> {
//     group.start(serve(first));
//     group.start(serve(second));
//     co_await something();
//   });                                    // all have ended here
//
// The first failure, of a task or of the body, cancels the others and the body; when all have
// ended, GroupError is thrown with all failures. Cancelling the wait cancels all of them. If that
// ended one of them, Cancelled is thrown, unless there were failures: then Cancelled is thrown at
// the next wait. Cancelling it again reaches the body only. Unlike in asyncio the tasks do not wait
// for the body to end first.
//
// The body is a function because C++ cannot wait in a destructor: a scope object would need a
// join() that can be forgotten and that an exception passes by. This form cannot be left early. The
// body is moved to where it stays until all have ended, so that its captures live long enough.
// Unlike in asyncio the body is a task of its own, so that cancelling it counts nowhere else, and a
// task may be started while the group ends: it is cancelled at once.

#include "iouring/start.hh"

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace schedlab::iouring {

// What the tasks of a group, and its body, have thrown, in the order in which they ended; each
// exception once. None of them is Cancelled.
class GroupError final : public std::exception {
public:
  explicit GroupError(std::vector<std::exception_ptr> errors);

  [[nodiscard]] const std::vector<std::exception_ptr>& errors() const noexcept {
    return content_->errors;
  }
  // "2 failures in a task group; the first: ..."
  [[nodiscard]] const char* what() const noexcept override { return content_->text.c_str(); }

private:
  struct Content {
    std::vector<std::exception_ptr> errors;
    std::string text;
  };
  std::shared_ptr<const Content> content_;  // copying an exception must not throw
};

class TaskGroup final : private detail::Waiting {
public:
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // The body gets the group, which it may hand on to the tasks.
  template <typename Body>
  requires std::same_as<std::invoke_result_t<Body&, TaskGroup&>, Task<>>
  static Task<> run(Body body) {
    TaskGroup group;
    Task<> first = body(group);
    co_await Run(group, first);
  }

  // Begins a task in the next turn; the group waits for it. From the body or a task of the group.
  template <typename T>
  void start(Task<T> task, std::source_location where = std::source_location::current()) {
    add(std::move(task), where)->detach();
  }
  // The same, to wait for its result within the group. A Running that is given up cancels it.
  template <typename T>
  Running<T> create_task(Task<T> task,
                         std::source_location where = std::source_location::current()) {
    return Running<T>(*add(std::move(task), where));
  }
  // Cancels all tasks and the body. That is no failure: run() returns when they have ended.
  void cancel() noexcept;
  // Tasks that have not ended, without the body.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

private:
  // A task in the list of its group.
  struct Link : detail::Listener {
    explicit Link(detail::StartedBase& task) noexcept : child(task) {}
    void task_ended() noexcept override { group->task_ended(*this); }
    detail::StartedBase& child;
    TaskGroup* group = nullptr;
    Link* next = nullptr;
    Link* previous = nullptr;

  protected:
    ~Link() = default;
  };
  template <typename T>
  struct Child final : detail::Started<T>, Link {
    explicit Child(Task<T>&& coroutine) noexcept
        : detail::Started<T>(std::move(coroutine)), Link(static_cast<detail::StartedBase&>(*this)) {
      this->destroy = [](detail::StartedTask& self) noexcept { delete static_cast<Child*>(&self); };
    }
  };
  struct Body : detail::TaskState {
    TaskGroup* group = nullptr;
    bool over = false;
  };
  // Runs the body at once and waits for the end of all.
  class Run {
  public:
    Run(TaskGroup& group, Task<>& body) noexcept : group_(group), body_(body) {}
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <std::derived_from<detail::PromiseBase> Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
      return group_.begin(*coroutine.promise().state, coroutine, body_);
    }
    void await_resume() { group_.finish(); }

  private:
    TaskGroup& group_;
    Task<>& body_;
  };

  TaskGroup() = default;
  ~TaskGroup() = default;

  template <typename T>
  Child<T>* add(Task<T>&& task, const std::source_location& where) {
    assert(waiter_ && !over());
    const auto first = task.handle();
    waiter_->loop->reserve_ready(1);
    auto* const child = new Child<T>(std::move(task));
    detail::begin(*child, *waiter_->loop, first, where);
    link(*child);
    return child;
  }
  void link(Link& link) noexcept;
  std::coroutine_handle<> begin(detail::TaskState& waiter, std::coroutine_handle<> coroutine,
                                Task<>& body) noexcept;
  void finish();
  void task_ended(Link& link) noexcept;
  void one_ended(const std::exception_ptr& thrown);
  void end_early() noexcept;
  void cancel_all() noexcept;
  void on_cancel() noexcept override;
  [[nodiscard]] bool over() const noexcept { return body_.over && size_ == 0; }

  Body body_;
  Link* first_ = nullptr;
  Link* last_ = nullptr;
  std::size_t size_ = 0;
  detail::TaskState* waiter_ = nullptr;
  std::coroutine_handle<> coroutine_;
  std::vector<std::exception_ptr> errors_;
  bool ending_ = false;             // all were cancelled, and what is started now is
  bool cancelled_ = false;          // by the waiting task
  bool body_gave_up_ = false;       // the body threw Cancelled unasked
  bool one_was_cancelled_ = false;  // one of them ended by throwing Cancelled
};

}  // namespace schedlab::iouring
