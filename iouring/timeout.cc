#include "iouring/timeout.hh"

namespace schedlab::iouring::detail {

void Deadline::begin(TaskState& waiter, std::coroutine_handle<> coroutine) {
  waiter_ = &waiter;
  coroutine_ = coroutine;
  loop = waiter.loop;
  started = waiter.started;
  ended = [](TaskState& state, PromiseBase&) noexcept {
    auto& self = static_cast<Deadline&>(state);
    self.loop->timers().unset(self);
    self.waiter_->waiting = nullptr;
    self.loop->ready(self.coroutine_);
  };
  loop->timers().set(*this, limit_ns_);
  promise_.state = this;
  waiter.waiting = this;
  if (waiter.cancel_pending)
    on_cancel();
}

void Deadline::expired() noexcept {
  expired_ = true;
  cancel();
}

void Deadline::on_cancel() noexcept {
  cancelled_ = true;
  cancel();
  waiter_->waiting = this;
}

void Deadline::await_resume() const {
  if (!is_cancelled(promise_.exception))
    return;
  if (cancelled_) {
    waiter_->cancel_pending = false;
    throw Cancelled();
  }
  if (expired_)
    throw TimeoutError();
}

}  // namespace schedlab::iouring::detail
