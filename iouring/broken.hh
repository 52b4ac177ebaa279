#pragma once
// What is left of a driver whose wait the kernel refuses: requests end at once, and other threads
// can still wake it.

#include "iouring/driver.hh"

namespace schedlab::iouring {

// What a request ends with where nothing can be begun any more: -error. But a descriptor is closed,
// and a cancel_fd finds nothing.
int end_at_once(const Request& request, int error) noexcept;

// Waits until the eventfd was written, and takes that; no longer than `timeout_ns` (< 0: without
// end).
void wait_for_wake(int eventfd, std::int64_t timeout_ns) noexcept;

}  // namespace schedlab::iouring
