#pragma once
// A request as io_uring wants it: fills in a submission entry but its user data.

#include "iouring/driver.hh"

struct io_uring;
struct io_uring_sqe;

namespace schedlab::iouring {

// IORING_OP_WAITID, from Linux 6.7 on, and later than Debian 12's headers.
inline constexpr unsigned op_waitid = 50;

void prepare(io_uring_sqe& sqe, const Request& request) noexcept;

// Is there a completion with these data, not taken yet, that is an error?
bool has_failed(io_uring& ring, std::uint64_t data) noexcept;

}  // namespace schedlab::iouring
