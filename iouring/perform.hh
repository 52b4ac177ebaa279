#pragma once
// One request of a task: `co_await perform({.op = Op::read, ...}, "read", path)`.

#include "iouring/suspension.hh"
#include "lab/base/error.hh"

#include <concepts>
#include <string_view>

namespace schedlab::iouring {

namespace detail {

// Waits for one request. Success beats cancel: only a request that was cut short throws Cancelled.
class Performing : public Operation, private Suspension {
public:
  explicit Performing(const Request& request) noexcept : request_(request) {}

  bool await_ready() noexcept { return false; }
  template <std::derived_from<PromiseBase> Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
    if (!suspend(coroutine))
      return false;
    task_->loop->driver().submit(request_, *this);
    return true;
  }
  // What the call would return, or -errno. Throws Cancelled.
  int await_resume() {
    if (result_ == -ECANCELED || result_ == -EINTR)
      throw_if_cancelled();
    return result_;
  }

protected:
  ~Performing() = default;

private:
  void complete(int result, std::uint32_t) noexcept final {
    result_ = result;
    resume();
  }
  void on_cancel() noexcept final {
    cancelled_ = true;
    task_->loop->driver().cancel(*this);
  }

  Request request_;
  int result_ = -ECANCELED;
};

}  // namespace detail

// Gives the result as the kernel has it: what the call would return, or -errno.
class [[nodiscard]] PerformRaw final : public detail::Performing {
public:
  using Performing::Performing;
};

// Gives the result, or throws std::system_error naming call and subject, which must outlive it.
class [[nodiscard]] Perform final : public detail::Performing {
public:
  Perform(const Request& request, std::string_view call, std::string_view subject) noexcept
      : Performing(request), call_(call), subject_(subject) {}
  int await_resume() { return check_kernel(Performing::await_resume(), call_, subject_); }

private:
  std::string_view call_;
  std::string_view subject_;
};

inline PerformRaw perform(const Request& request) noexcept {
  return PerformRaw(request);
}
inline Perform perform(const Request& request, std::string_view call,
                       std::string_view subject = {}) noexcept {
  return Perform(request, call, subject);
}

}  // namespace schedlab::iouring
