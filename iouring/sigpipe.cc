#include "iouring/sigpipe.hh"

#include <csignal>
#include <ctime>

namespace schedlab::iouring::detail {

namespace {

struct Blocked {
  unsigned by = 0;       // objects that live
  bool before = false;   // it was blocked anyway
  bool pending = false;  // and one was waiting
};
constinit thread_local Blocked blocked;

sigset_t only_sigpipe() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGPIPE);
  return set;
}

}  // namespace

NoSigpipe::NoSigpipe() noexcept {
  if (blocked.by++ > 0)
    return;
  sigset_t waiting, before;
  ::sigpending(&waiting);
  blocked.pending = ::sigismember(&waiting, SIGPIPE) == 1;
  const sigset_t wanted = only_sigpipe();
  ::pthread_sigmask(SIG_BLOCK, &wanted, &before);
  blocked.before = ::sigismember(&before, SIGPIPE) == 1;
}

NoSigpipe::~NoSigpipe() {
  if (--blocked.by > 0)
    return;
  const sigset_t wanted = only_sigpipe();
  const timespec now{};
  if (!blocked.pending)
    ::sigtimedwait(&wanted, nullptr, &now);
  if (!blocked.before)
    ::pthread_sigmask(SIG_UNBLOCK, &wanted, nullptr);
}

}  // namespace schedlab::iouring::detail
