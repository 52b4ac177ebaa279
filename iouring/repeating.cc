#include "iouring/repeating.hh"

#include "lab/base/error.hh"

#include <cassert>
#include <cerrno>

namespace schedlab::iouring::detail {

Repeating::Repeating(const Descriptor& descriptor, const Request& request, std::size_t limit)
    : loop_(*Loop::current()), shared_(descriptor, "receive"), request_(request), limit_(limit) {}

void Repeating::abandon() noexcept {
  assert(!waiter_);
  abandoned_ = true;
  for (; !arrivals_.empty(); arrivals_.pop())
    discard(arrivals_.front());
  if (!armed_)
    delete this;
  else if (!pausing_)
    loop_.driver().cancel(*this);
}

bool Repeating::Next::wait() noexcept {
  if (from_.size() > 0) {
    task_->waiting = nullptr;
    return false;
  }
  assert(!from_.waiter_);
  from_.waiter_ = this;
  from_.arm();
  return true;
}

void Repeating::Next::on_cancel() noexcept {
  from_.waiter_ = nullptr;
  cut_short();
}

void Repeating::arm() noexcept {
  if (armed_ || !waiter_ || abandoned_)
    return;
  if (shared_->get() < 0)
    return bring({-ECANCELED, 0});
  if (!may_begin())
    return;
  armed_ = true;
  request_.fd = shared_->get();
  shared_->begin_use();
  loop_.driver().submit(request_, *this);
}

void Repeating::complete(int result, std::uint32_t flags) noexcept {
  Arrival arrival{result, flags & ~more};
  took(arrival);
  if ((flags & more) == 0)
    return end(arrival);
  bring(arrival);
  if (!pausing_ && !abandoned_ && arrivals_.size() >= limit_) {
    pausing_ = true;
    loop_.driver().cancel(*this);
  }
}

void Repeating::end(const Arrival& last) noexcept {
  armed_ = false;
  const bool paused = std::exchange(pausing_, false) && last.result == -ECANCELED;
  const bool single = last.result == -EINVAL && request_.many;  // before Linux 5.19 or 6.0
  if (single)
    request_.many = false;
  shared_->end_use();
  if (abandoned_) {
    discard(last);
    delete this;
  } else if (paused || single || goes_on(last.result)) {
    arm();
  } else {
    bring(last);
  }
}

void Repeating::bring(const Arrival& arrival) noexcept {
  if (abandoned_)
    return discard(arrival);
  arrivals_.push(arrival);
  if (waiter_)
    std::exchange(waiter_, nullptr)->resume();
}

}  // namespace schedlab::iouring::detail
