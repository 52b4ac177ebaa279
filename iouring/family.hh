#pragma once
// Several tasks that one wait begins and whose ends it awaits, all of them: what gather, settle and
// race are made of.

#include "iouring/filled.hh"
#include "iouring/loop.hh"

#include <concepts>
#include <coroutine>
#include <exception>
#include <tuple>
#include <vector>

namespace schedlab::iouring::detail {

class Family;

// A task of a family. `ended` is null when it has.
struct Member : TaskState {
  Family* family = nullptr;
};

class Family : public Waiting {
public:
  // What makes a family end early, by cancelling those that are left.
  enum class Ends : std::uint8_t { all_ended, first_failed, first_ended };
  explicit Family(Ends ends) noexcept : ends_(ends) {}

  [[nodiscard]] bool await_ready() const noexcept { return left_ == 0; }
  template <std::derived_from<PromiseBase> Promise>
  void await_suspend(std::coroutine_handle<Promise> coroutine) {
    waiter_ = coroutine.promise().state;
    coroutine_ = coroutine;
    waiter_->loop->reserve_ready(left_ + 1);
    begin();
    waiter_->waiting = this;
    if (waiter_->cancel_pending)
      on_cancel();
  }
  // Throws the failure that counts.
  void await_resume() const {
    if (!failure_)
      return;
    if (cancelled_)
      waiter_->serve_cancel(failure_);
    std::rethrow_exception(failure_);
  }
  // The member that ended it early by ending first; null if cancelled before.
  [[nodiscard]] const Member* winner() const noexcept { return winner_; }

protected:
  ~Family() = default;
  virtual void begin() noexcept = 0;           // begins all members
  virtual void cancel_members() noexcept = 0;  // those that have not ended

  // Called by begin().
  void begin(Member& member, PromiseBase& promise, std::coroutine_handle<> coroutine) noexcept {
    member.family = this;
    member.loop = waiter_->loop;
    member.started = waiter_->started;
    member.ended = [](TaskState& state, PromiseBase& first) noexcept {
      auto& self = static_cast<Member&>(state);
      self.ended = nullptr;
      self.family->member_ended(self, first);
    };
    promise.state = &member;
    waiter_->loop->ready(coroutine);
  }
  static bool has_ended(const Member& member) noexcept { return !member.ended; }

  std::size_t left_ = 0;  // members that have not ended

private:
  void member_ended(Member& member, PromiseBase& promise) noexcept {
    if (promise.exception)
      failed(promise.exception);
    else if (ends_ == Ends::first_ended)
      won(member);
    if (--left_ > 0)
      return;
    if (winner_)
      failure_ = nullptr;
    waiter_->waiting = nullptr;
    waiter_->loop->ready(coroutine_);
  }
  void won(Member& member) noexcept {
    if (decided())
      return;
    winner_ = &member;
    end_early();
  }
  void failed(const std::exception_ptr& thrown) noexcept {
    if (ends_ == Ends::all_ended && !(cancelled_ && is_cancelled(thrown)))
      return;
    if (decided())
      return;
    if (!failure_ || !is_cancelled(thrown))
      failure_ = thrown;
    end_early();
  }
  // The first result or failure counts. Cancelled gives way to a failure that comes later, and in a
  // race that was cancelled also to a value.
  [[nodiscard]] bool decided() const noexcept {
    if (winner_ || (failure_ && !is_cancelled(failure_)))
      return true;
    return failure_ && ends_ == Ends::first_ended && !cancelled_;
  }
  // Once, since a member that is cancelled again would be disturbed while it puts its things away.
  void end_early() noexcept {
    if (ending_ || left_ == 1)
      return;
    ending_ = true;
    cancel_members();
  }
  void on_cancel() noexcept final {
    cancelled_ = true;
    ending_ = true;
    cancel_members();
    waiter_->waiting = this;
  }

  Ends ends_;
  bool cancelled_ = false;
  bool ending_ = false;
  TaskState* waiter_ = nullptr;
  std::coroutine_handle<> coroutine_;
  const Member* winner_ = nullptr;
  std::exception_ptr failure_;
};

// Any number of tasks of one type.
template <typename T>
class Crowd final : public Family {
public:
  Crowd(std::vector<Task<T>>& tasks, Ends ends) : Family(ends), tasks_(tasks) {
    members_.reserve(tasks.size());
    left_ = tasks.size();
  }
  // Which task has won.
  [[nodiscard]] std::size_t winning() const noexcept {
    return static_cast<std::size_t>(winner() - members_.data());
  }

private:
  void begin() noexcept override {
    for (auto& task : tasks_)
      Family::begin(members_.emplace_back(), task.handle().promise(), task.handle());
  }
  void cancel_members() noexcept override {
    for (std::size_t i = 0; i < tasks_.size(); ++i)
      if (!has_ended(members_[i]))
        members_[i].cancel();
  }

  std::vector<Task<T>>& tasks_;
  std::vector<Member> members_;  // made as they begin, never moved
};

// A few tasks of different types.
template <typename... T>
class Ensemble final : public Family {
public:
  explicit Ensemble(Ends ends, Task<T>&... tasks) noexcept : Family(ends), tasks_(tasks...) {
    left_ = sizeof...(T);
  }
  [[nodiscard]] std::size_t winning() const noexcept {
    return static_cast<std::size_t>(winner() - members_);
  }

private:
  void begin() noexcept override {
    std::apply(
        [this](auto&... task) {
          std::size_t i = 0;
          (Family::begin(members_[i++], task.handle().promise(), task.handle()), ...);
        },
        tasks_);
  }
  void cancel_members() noexcept override {
    for (auto& member : members_)
      if (!has_ended(member))
        member.cancel();
  }

  std::tuple<Task<T>&...> tasks_;
  Member members_[sizeof...(T)];
};

}  // namespace schedlab::iouring::detail
