#include "iouring/descriptor.hh"

#include "lab/base/error.hh"

#include <cassert>
#include <cerrno>

namespace schedlab::iouring {

namespace detail {

void OpenFd::let_go() noexcept {
  if (--holders_ == 0)
    delete this;
}

void OpenFd::end_use() noexcept {
  if (--uses_ > 0)
    return;
  if (closer_) {
    loop_->ready(std::exchange(closer_, {}));
  } else if (std::exchange(abandoned_, false)) {  // once: its readers may ask again
    fd_ = Fd();
    let_go();
  }
}

void OpenFd::begin_sending(std::string_view call) {
  if (std::exchange(sending_, true))
    throw_errno(EBUSY, call, name_);
}

void OpenFd::abandon() noexcept {
  closing_ = true;
  if (uses_ == 0) {
    fd_ = Fd();
    return let_go();
  }
  assert(Loop::current());  // which has not let go of the requests yet
  abandoned_ = true;
  begin_use();  // until the answer
  ending_ = {.op = Op::cancel_fd, .fd = fd_.get()};
  Loop::current()->driver().submit(ending_, *this);
}

void OpenFd::complete(int, std::uint32_t) noexcept {
  end_use();
}

Task<> OpenFd::close() {
  closing_ = true;
  if (uses_ > 0)
    co_await Undisturbed({.op = Op::cancel_fd, .fd = fd_.get()});
  co_await Drained(*this);
  const std::string name = name_;
  const int result = co_await Undisturbed({.op = Op::close, .fd = fd_.release()});
  let_go();
  check_kernel(result, "close", name);
}

Fd OpenFd::release() noexcept {
  assert(uses_ == 0);
  closing_ = true;
  Fd fd = std::move(fd_);
  let_go();
  return fd;
}

}  // namespace detail

Task<> Descriptor::close() {
  if (detail::OpenFd* const shared = std::exchange(shared_, nullptr))
    co_await shared->close();
}

Fd Descriptor::release() noexcept {
  detail::OpenFd* const shared = std::exchange(shared_, nullptr);
  return shared ? shared->release() : Fd();
}

detail::OpenFd& Descriptor::shared(std::string_view call) const {
  if (get() < 0)
    throw_errno(EBADF, call, shared_ ? std::string_view(shared_->name()) : std::string_view());
  return *shared_;
}

}  // namespace schedlab::iouring
