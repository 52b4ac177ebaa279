#pragma once
// A request as ordinary system calls, for the driver on epoll: one try that does not block, or the
// call as it is, for a thread that may.

#include "iouring/driver.hh"

namespace schedlab::iouring {

// What was already done for a request that is not finished.
struct Progress {
  int done = 0;        // bytes
  int pidfd = -1;      // wait_child: owned, closed by whoever owns the request
  bool begun = false;  // connect: the connection is being made
};

struct Tried {
  enum class Next : std::uint8_t {
    done,    // it ended with `result`
    wait,    // once `fd` has `events`, it is worth another try
    thread,  // it would block, and there is nothing to wait for
  };
  Next next = Next::done;
  int result = 0;
  int fd = -1;
  std::uint32_t events = 0;
};

// Adds the system calls it makes to `calls`. Not for close, cancel_fd and recv from a group.
Tried try_call(const Request& request, Progress& progress, std::uint64_t& calls) noexcept;

// Blocks as long as it takes. Any thread. -EAGAIN only of a splice: its descriptors are not ready.
int call_blocking(const Request& request, const Progress& progress) noexcept;

// What a request waits for on its descriptor before it is tried, if others wait for the same; 0 if
// it is tried at once.
std::uint32_t waits_in_line_for(const Request& request) noexcept;

}  // namespace schedlab::iouring
