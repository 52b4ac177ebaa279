#include "iouring/broken.hh"

#include "lab/base/clock.hh"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace schedlab::iouring {

int end_at_once(const Request& request, int error) noexcept {
  if (request.op == Op::close)
    return ::close(request.fd) < 0 ? -errno : 0;
  return request.op == Op::cancel_fd ? 0 : -error;
}

void wait_for_wake(int eventfd, std::int64_t timeout_ns) noexcept {
  constexpr std::int64_t brief_ns = 1'000'000;
  const timespec timeout = clock::to_timespec(timeout_ns);
  pollfd written{eventfd, POLLIN, 0};
  const int ready = ::ppoll(&written, 1, timeout_ns < 0 ? nullptr : &timeout, nullptr);
  if (ready < 0 && errno != EINTR) {  // the same filter may refuse this too
    const timespec rest =
        clock::to_timespec(timeout_ns < 0 ? brief_ns : std::min(timeout_ns, brief_ns));
    ::nanosleep(&rest, nullptr);
  }
  std::uint64_t count = 0;
  if (ready > 0)
    static_cast<void>(!::read(eventfd, &count, sizeof count));
}

}  // namespace schedlab::iouring
