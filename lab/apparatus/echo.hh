#pragma once
// An echo server on one CPU and a client that keeps a message in flight on each of its connections
// on another: what a message costs the server.

#include "affinity/cpu_set.hh"
#include "lab/apparatus/echo_server.hh"
#include "lab/harness/sample.hh"

#include <cstddef>
#include <memory>

namespace schedlab::apparatus {

// Where in a sample's values the numbers go.
struct EchoMetrics {
  std::size_t throughput = 0;  // messages a second
  std::size_t cpu = 0;         // ns of the server's CPU for a message
  std::size_t busy = 0;        // share of the window in which that CPU worked
  std::size_t calls = 0;       // the server's system calls for a message
  std::size_t p50 = 0;         // ns of a round trip
  std::size_t p99 = 0;         // likewise, where a sample has 299 messages
  std::size_t memory = 0;      // resident bytes of the server for a connection
};

struct EchoOptions {
  EchoMethod method = EchoMethod::io_uring;
  unsigned connections = 1;
  std::size_t size = 64;  // bytes of a message
  unsigned server = 0;    // kernel numbers; two CPUs, as the client spins
  unsigned client = 0;
  affinity::CpuSet usable;
  EchoMetrics metrics;
};

// An operation is a message there and back. The server's CPU time is that of its process, with the
// workers of its rings; where the kernel accounts interrupts apart from tasks, that CPU's softirq
// of /proc/stat is added, in which arrives what others send. Throws std::system_error, or
// std::runtime_error with what went wrong in the client.
std::unique_ptr<harness::Subject> make_echo(const EchoOptions& options);

}  // namespace schedlab::apparatus
