#pragma once
// A request as io_uring wants it: fills in a submission entry but its user data.

#include "iouring/driver.hh"

#include <cerrno>

struct io_uring;
struct io_uring_sqe;

namespace schedlab::iouring {

// IORING_OP_WAITID, from Linux 6.7 on, and later than Debian 12's headers.
inline constexpr unsigned op_waitid = 50;

void prepare(io_uring_sqe& sqe, const Request& request) noexcept;

// A splice that was interrupted ends with the kernel's own word for it (ERESTARTSYS and its kin).
inline int result_of(int result) noexcept {
  return result <= -512 && result >= -516 ? -EINTR : result;
}

// Of a wait: the kernel could not now, or was interrupted; nothing is lost.
bool is_passing(int result) noexcept;

// Is there a completion with these data, not taken yet, that is an error?
bool has_failed(io_uring& ring, std::uint64_t data) noexcept;

}  // namespace schedlab::iouring
