#include "iouring/task_group.hh"

#include <algorithm>
#include <utility>

namespace schedlab::iouring {

namespace {

std::string text_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& known) {
    return known.what();
  } catch (...) {
    return "of an unknown type";
  }
}

}  // namespace

GroupError::GroupError(std::vector<std::exception_ptr> errors) {
  std::string text =
      std::to_string(errors.size()) +
      (errors.size() == 1 ? " failure in a task group" : " failures in a task group");
  if (!errors.empty())
    text += (errors.size() == 1 ? ": " : "; the first: ") + text_of(errors.front());
  content_ = std::make_shared<const Content>(Content{std::move(errors), std::move(text)});
}

std::coroutine_handle<> TaskGroup::begin(detail::TaskState& waiter,
                                         std::coroutine_handle<> coroutine, Task<>& body) noexcept {
  waiter_ = &waiter;
  coroutine_ = coroutine;
  body_.group = this;
  body_.loop = waiter.loop;
  body_.started = waiter.started;
  body_.ended = [](detail::TaskState& state, detail::PromiseBase& first) noexcept {
    auto& self = static_cast<Body&>(state);
    self.over = true;
    TaskGroup& group = *self.group;
    // The body may pass on what a task threw.
    if (std::ranges::find(group.errors_, first.exception) == group.errors_.end()) {
      group.body_gave_up_ = detail::is_cancelled(first.exception) && !group.ending_;
      group.one_ended(first.exception);
    } else {
      group.one_ended(nullptr);
    }
  };
  body.handle().promise().state = &body_;
  waiter.waiting = this;
  if (waiter.cancel_pending)
    on_cancel();
  return body.handle();
}

void TaskGroup::link(Link& link) noexcept {
  link.group = this;
  link.previous = last_;
  (last_ ? last_->next : first_) = &link;
  last_ = &link;
  ++size_;
  link.child.listen(link);
  if (ending_)
    link.child.cancel();
}

void TaskGroup::task_ended(Link& link) noexcept {
  (link.previous ? link.previous->next : first_) = link.next;
  (link.next ? link.next->previous : last_) = link.previous;
  --size_;
  one_ended(link.child.exception());
}

void TaskGroup::one_ended(const std::exception_ptr& thrown) {
  if (detail::is_cancelled(thrown)) {
    one_was_cancelled_ = true;
    if (body_gave_up_)
      end_early();
  } else if (thrown) {
    errors_.push_back(thrown);
    end_early();
  }
  if (!over())
    return;
  waiter_->waiting = nullptr;
  waiter_->loop->ready(coroutine_);
}

void TaskGroup::finish() {
  if (!errors_.empty())
    throw GroupError(std::move(errors_));
  if (cancelled_ && one_was_cancelled_) {
    waiter_->cancel_pending = false;
    throw Cancelled();
  }
  if (body_gave_up_)
    throw Cancelled();
}

void TaskGroup::cancel() noexcept {
  end_early();
}

void TaskGroup::end_early() noexcept {
  if (!ending_)
    cancel_all();
}

void TaskGroup::cancel_all() noexcept {
  ending_ = true;
  for (Link* link = first_; link; link = link->next)
    link->child.cancel();
  if (!body_.over)
    body_.cancel();
}

void TaskGroup::on_cancel() noexcept {
  if (!std::exchange(cancelled_, true))
    cancel_all();
  else if (!body_.over)
    body_.cancel();
  waiter_->waiting = this;
}

}  // namespace schedlab::iouring
