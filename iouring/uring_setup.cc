#include "iouring/uring_setup.hh"

#include "iouring/probe.hh"
#include "iouring/refusal.hh"
#include "iouring/uring_request.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"

#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

namespace schedlab::iouring {

namespace {

constexpr std::uint32_t needed_features = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
constexpr unsigned smallest = 8;
constexpr unsigned largest = 32768;

constexpr int longest_end_ms = 5'000;        // a child that was forked may hold the ring
constexpr long unseen_end_ns = 100'000'000;  // where it cannot be seen

[[noreturn]] void refuse(const std::string& cause, const std::string& fix) {
  throw Unsupported("io_uring: " + cause + (fix.empty() ? "" : "; " + fix));
}

// A file of the ring's goes with its last request: nobody can write to the pipe any more. An
// invalid descriptor if the ring takes no file.
Fd watch_end(io_uring& ring) noexcept {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0)
    return {};
  Fd gone(ends[0]);
  const Fd kept(ends[1]);
  ::io_uring_unregister_files(&ring);
  return ::io_uring_register_files(&ring, ends + 1, 1) == 0 ? std::move(gone) : Fd();
}

void wait_for_end(const Fd& end) noexcept {
  pollfd gone{end.get(), 0, 0};
  if (end) {
    while (::poll(&gone, 1, longest_end_ms) < 0 && errno == EINTR) {
    }
  } else {
    const timespec rest{0, unseen_end_ns};
    ::nanosleep(&rest, nullptr);
  }
}

[[noreturn]] void refuse(int error) {
  std::string cause, fix;
  explain_refusal(error, cause, fix);
  refuse(cause, fix);
}

}  // namespace

Fd make_wake_fd() {
  const int fd = ::eventfd(0, EFD_CLOEXEC);
  if (fd < 0)
    refuse(errno);
  return Fd(fd);
}

void take_down_ring(io_uring& ring, bool busy) noexcept {
  const Fd end = busy ? watch_end(ring) : Fd();
  ::io_uring_queue_exit(&ring);
  ring.ring_fd = ring.enter_ring_fd = -1;  // the numbers may be another's from now on
  if (busy)
    wait_for_end(end);
}

RingSetUp set_up_ring(io_uring& ring, unsigned entries) {
  const Probe found = quick_probe();
  if (!found.usable)
    refuse(found.cause, found.fix);
  if ((found.features & needed_features) != needed_features)
    refuse("this kernel lacks timeouts of a wait", "boot Linux 5.11 or later");
  entries = std::clamp(entries, smallest, largest);
  for (;; entries = std::max(entries / 2, smallest)) {
    io_uring_params params{};
    const int error = error_that_lasts(entries > smallest ? 2 : patience, [&] {
      params = {};
      params.flags = found.setup_flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
      params.cq_entries = 4 * entries;
      return -::io_uring_queue_init_params(entries, &ring, &params);
    });
    if (error == 0)
      return {params.cq_entries, found.supports(IORING_OP_MSG_RING), found.supports(op_waitid)};
    if (error != ENOMEM || entries == smallest)
      refuse(error);
  }
}

}  // namespace schedlab::iouring
