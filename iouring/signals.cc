#include "iouring/signals.hh"

#include "iouring/perform.hh"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace schedlab::iouring {

Signals::Signals(std::span<const int> numbers) {
  ::sigemptyset(&wanted_);
  ::sigemptyset(&added_);
  for (const int number : numbers)
    if (number == SIGKILL || number == SIGSTOP || ::sigaddset(&wanted_, number) < 0)
      throw_errno(EINVAL, "signalfd", std::to_string(number));
  // Read without blocking by this thread: another would not see what was sent to this one.
  const int fd = ::signalfd(-1, &wanted_, SFD_CLOEXEC | SFD_NONBLOCK);
  descriptor_ = Descriptor(Fd(check(fd, "signalfd")), "signals");
  sigset_t before;
  ::pthread_sigmask(SIG_BLOCK, &wanted_, &before);
  for (const int number : numbers)
    if (::sigismember(&before, number) == 0)
      ::sigaddset(&added_, number);
}

Signals::~Signals() {
  ::pthread_sigmask(SIG_UNBLOCK, &added_, nullptr);
}

Task<signalfd_siginfo> Signals::next_info() {
  const detail::InUse use(descriptor_, "signalfd");
  for (;;) {
    co_await perform({.op = Op::poll, .fd = use.fd(), .flags = POLLIN}, "poll", use.name());
    signalfd_siginfo info{};
    const ssize_t size = ::read(use.fd(), &info, sizeof info);
    if (size == static_cast<ssize_t>(sizeof info))
      co_return info;
    if (errno != EAGAIN && errno != EINTR)  // another reader may have been first
      throw_errno(errno, "read", use.name());
  }
}

Task<int> Signals::next() {
  const signalfd_siginfo info = co_await next_info();
  co_return static_cast<int>(info.ssi_signo);
}

}  // namespace schedlab::iouring
