#pragma once
// The two ways in which the client of an echo server does its I/O.

#include "lab/apparatus/echo_load.hh"

namespace schedlab::apparatus {

// Null where io_uring, or its rings of buffers (Linux 6.0), cannot be had.
std::unique_ptr<EchoLoad> make_ring_load(const EchoLoadOptions& options);
std::unique_ptr<EchoLoad> make_epoll_load(const EchoLoadOptions& options);

}  // namespace schedlab::apparatus
