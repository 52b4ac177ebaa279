#include "procs/bell.hh"

#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/futex.hh"

#include <poll.h>
#include <sched.h>

#include <algorithm>
#include <climits>
#include <string>

namespace schedlab::procs {
namespace {

// After so long a sleeper looks whether its peer lives, and whether somebody rang who was killed
// before he could wake. Ten times a second costs some 50 us of CPU time.
constexpr std::int64_t longest_sleep_ns = 100'000'000;

}  // namespace

std::string_view to_text(Outcome outcome) noexcept {
  switch (outcome) {
  case Outcome::done:
    return "done";
  case Outcome::closed:
    return "closed";
  case Outcome::gone:
    return "peer gone";
  case Outcome::broken:
    return "broken off in a message";
  case Outcome::timed_out:
    return "timed out";
  case Outcome::too_long:
    break;
  }
  return "message too long";
}

Peer Peer::of(pid_t pid) {
  Fd pidfd = open_pidfd(pid);
  check(pidfd.get(), "pidfd_open", std::to_string(pid));
  return Peer(std::move(pidfd));
}

bool Peer::gone() const noexcept {
  if (!pidfd_)
    return false;
  pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, 0) == 1;
}

Outcome Wait::over() const noexcept {
  if (peer && peer->gone())
    return Outcome::gone;
  return deadline_ns != never && clock::now_ns() >= deadline_ns ? Outcome::timed_out
                                                                : Outcome::done;
}

std::int64_t Wait::slice_ns(std::int64_t longest_ns) const noexcept {
  if (deadline_ns == never)
    return longest_ns;
  return std::clamp<std::int64_t>(deadline_ns - clock::now_ns(), 0, longest_ns);
}

void Bell::sleep(std::uint32_t heard, const Wait& wait) noexcept {
  const bool shared = scope_ == Scope::processes;
  if (!shared && !wait.peer && wait.deadline_ns == never) {
    futex_wait(word_.word(), heard, false);
    return;
  }
  const timespec slice = clock::to_timespec(wait.slice_ns(longest_sleep_ns));
  futex_wait(word_.word(), heard, shared, &slice);
}

void Bell::wake() noexcept {
  word_.hush();
  futex_wake(word_.word(), INT_MAX, scope_ == Scope::processes);
}

void detail::yield() noexcept {
  ::sched_yield();
}

}  // namespace schedlab::procs
