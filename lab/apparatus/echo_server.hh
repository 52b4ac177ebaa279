#pragma once
// Servers that send back what they get: the loop on io_uring, the loop on epoll, and a blocking
// thread for each connection. Each runs in a process of its own, which does nothing else.

#include "lab/base/child.hh"
#include "lab/base/fd.hh"

#include <cstdint>
#include <optional>
#include <string_view>
#include <sys/types.h>

namespace schedlab::apparatus {

enum class EchoMethod : std::uint8_t { io_uring, epoll, threads };
std::string_view to_text(EchoMethod method) noexcept;
// "io_uring", "epoll" or "threads".
EchoMethod echo_method(std::string_view word);

class EchoServer {
public:
  // A process pinned to `cpu` (nothing: as the caller) that listens on a port of 127.0.0.1. Throws
  // std::system_error, or std::runtime_error with what the server said.
  EchoServer(EchoMethod method, std::optional<unsigned> cpu);
  EchoServer(const EchoServer&) = delete;
  EchoServer& operator=(const EchoServer&) = delete;
  // Its connections should be closed before.
  ~EchoServer();

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
  [[nodiscard]] pid_t pid() const noexcept { return child_.pid(); }
  // System calls for I/O so far, those for this question included. Throws std::runtime_error when
  // the server has died.
  [[nodiscard]] std::uint64_t calls() const;
  // Bytes of its memory that are resident; 0 where the kernel does not tell.
  [[nodiscard]] std::uint64_t resident() const;

private:
  [[nodiscard]] std::uint64_t answer() const;

  Fd control_;
  Child child_;
  std::uint16_t port_ = 0;
};

// The server itself, in this process, until the other end of `control` is closed. Tells its port
// there, as eight bytes, and for each byte that it reads there the system calls so far. Throws what
// setting up threw.
void serve_echo(EchoMethod method, Fd control);

// CPU time of a process in nanoseconds, all its threads, those that ended and the workers of its
// rings included. Of a process that has nothing to do: while one runs, the kernel shows others its
// time as of the last tick, which may be milliseconds ago. Gives it a millisecond to fall asleep.
// Throws std::system_error (ESRCH).
std::int64_t process_cpu_ns(pid_t pid);

}  // namespace schedlab::apparatus
