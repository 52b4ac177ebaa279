#pragma once
// What does a loop's I/O: io_uring, or epoll with a few threads for files. The loop and all that is
// built on it see only requests and how they ended, so that both mean the same everywhere.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <sys/types.h>

namespace schedlab::iouring {

enum class Op : std::uint8_t {
  nop,         // flags 1: ends with length as its result (io_uring: from Linux 6.10 on); for tests
  read,        // fd, address, length, offset
  write,       // fd, address, length, offset
  recv,        // fd, address, length, flags (MSG_)
  send,        // fd, address, length, flags (MSG_)
  accept,      // fd, address (sockaddr, may be null), second (socklen_t), flags (SOCK_); epoll: the
               // listening socket becomes and stays non-blocking
  connect,     // fd, address (sockaddr), length
  shutdown,    // fd, flags (SHUT_)
  open,        // fd (directory), address (path), flags (O_), length (mode)
  close,       // fd, on which no request is under way: cancel_fd and its end come first
  fsync,       // fd, flags (1: data only)
  statx,       // fd (directory), address (path), flags (AT_), length (mask), second (struct statx)
  poll,        // fd, flags (POLL): result is what is ready
  splice,      // fd, offset: from; second_fd, second_offset: to; length, flags (SPLICE_F_)
  wait_child,  // fd (process id), address (siginfo_t), flags (WEXITED ...; epoll: no WSTOPPED and
               // no WCONTINUED)
  cancel_fd,   // fd: all requests on it are asked to end, of splices those that write to it, once a
               // thread of the kernel has begun them (epoll: that wait for it); result: how many,
               // of splices perhaps none; flags: io_uring's, for tests
};

inline constexpr std::uint64_t at_position = ~std::uint64_t{0};  // the file's own offset
inline constexpr std::uint16_t no_buffer = 0xffff;

struct Request {
  Op op = Op::nop;
  bool fixed_file = false;  // fd is an index of Driver::register_files
  // accept, recv: completes again and again, with Operation::more, until an error, the end of the
  // stream or a cancel ends it. Without address and timeout; recv takes its buffers from a group.
  bool many = false;
  std::uint16_t fixed_buffer = no_buffer;  // read, write: index of Driver::register_buffers
  std::uint16_t buffer_group = no_buffer;  // recv: into a buffer of this group (add_buffers)
  int fd = -1;
  std::uint32_t flags = 0;
  std::uint32_t length = 0;
  void* address = nullptr;
  std::uint64_t offset = at_position;
  void* second = nullptr;
  int second_fd = -1;
  std::uint64_t second_offset = at_position;
  std::int64_t timeout_ns = 0;  // > 0: ends with -ETIME when it takes longer
};

// Would cancel_fd end it?
[[nodiscard]] inline bool is_on(const Request& request, int fd) noexcept {
  const bool writes = request.op == Op::splice && request.second_fd == fd;
  return writes || (request.fd == fd && !request.fixed_file && request.op != Op::wait_child &&
                    request.op != Op::cancel_fd);
}

class EpollRequest;

// A request under way. It must live, where it is, until it has completed for the last time.
class Operation {
public:
  Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  // Flags, as io_uring has them.
  static constexpr std::uint32_t buffer = 1;  // upper 16 bits are the number of the buffer
  static constexpr std::uint32_t more = 2;    // it will complete again

protected:
  virtual ~Operation() = default;
  // How it ended: what the call would return, or -errno. In the loop's thread, from within submit,
  // cancel or wait; makes coroutines ready and runs none. May submit and cancel.
  virtual void complete(int result, std::uint32_t flags) noexcept = 0;

private:
  friend class UringDriver;
  friend class EpollDriver;
  friend class OperationLine;
  friend class UnderWay;
  EpollRequest* part_ = nullptr;  // epoll: once it has to wait
  Operation* next_ = nullptr;     // of requests that wait for room, or whose cancel does
  const Request* request_ = nullptr;
  std::uint8_t parts_ = 0;     // completions still to come from the kernel
  std::uint8_t restarts_ = 0;  // after EINTR
  bool timed_out_ = false;
  bool asked_to_end_ = false;
  std::uint32_t place_ = 0;  // among all that are under way
  int result_ = 0;
  std::uint32_t flags_ = 0;
  std::int64_t limit_[2] = {};  // seconds and nanoseconds, read by the kernel
};

struct DriverCounts {
  std::uint64_t requests = 0;   // submitted
  std::uint64_t completed = 0;  // completions, those of multishot requests each
  std::uint64_t calls = 0;      // system calls made by the loop's thread for I/O
  std::uint64_t overflows =
      0;  // io_uring: times that completions found the ring full; none is lost
};

// Made and used by one thread; only wake() may be called from others. Destroying a driver ends the
// requests that are still under way without completing them, and waits until nothing touches their
// memory any more.
class Driver {
public:
  Driver() = default;
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  virtual ~Driver() = default;

  [[nodiscard]] virtual std::string_view name() const noexcept = 0;  // "io_uring", "epoll"
  // Begins a request; it and what it points to must stay until it has completed.
  virtual void submit(const Request& request, Operation& operation) noexcept = 0;
  // Asks a request to end soon. It still completes: with -ECANCELED, or as it was about to. What
  // waits for a descriptor ends at once; a file operation that has begun goes on to its end.
  virtual void cancel(Operation& operation) noexcept = 0;
  // Uses buffers (at most 2^14) or files without looking them up each time; replaces those before.
  // False where the driver or memlock does not allow it: then requests name them as usual.
  virtual bool register_buffers(std::span<const std::span<std::byte>> buffers) = 0;
  virtual bool register_files(std::span<const int> files) = 0;
  // Makes `count` buffers (a power of two, at most 2^15) of `size` bytes, from which recv takes one
  // by itself when there is data: its number is in the upper 16 bits of the flags. With none left a
  // recv ends with -ENOBUFS and flags 0; give some back, then submit it again. Throws
  // std::system_error (EEXIST, EINVAL, ENOMEM), or Unsupported before Linux 5.19.
  virtual void add_buffers(std::uint16_t group, unsigned count, unsigned size) = 0;
  // No request may use the group any longer.
  virtual void remove_buffers(std::uint16_t group) noexcept = 0;
  // Buffer `number` of a group that was added, and its return after use.
  [[nodiscard]] virtual std::span<std::byte> buffer(std::uint16_t group,
                                                    std::uint16_t number) noexcept = 0;
  virtual void give_back(std::uint16_t group, std::uint16_t number) noexcept = 0;
  // Hands over what was submitted and collects what completed; waits for the first completion
  // until then if there is none (< 0: without end; 0: does not wait). Throws std::system_error if
  // the kernel refuses the wait itself; then break_off() is due.
  virtual void wait(std::int64_t timeout_ns) = 0;
  // Gives the kernel up. What is under way ends with what came of it, or with -ECANCELED, once the
  // kernel touches its memory no more; at once, but for calls that a thread is in. From now on
  // requests end at once with -error (a close closes), and wait() waits for these threads and for
  // wake().
  virtual void break_off(int error) noexcept = 0;
  // Is there anything to hand over or to collect, without a system call?
  [[nodiscard]] virtual bool idle() const noexcept = 0;
  // Ends a wait() of the owner, now or the next one. From any thread; the driver must live until it
  // has returned.
  virtual void wake() noexcept = 0;
  // Requests that have not completed.
  [[nodiscard]] virtual std::size_t in_flight() const noexcept = 0;
  [[nodiscard]] virtual DriverCounts counts() const noexcept = 0;
};

class BlockingThreads;

enum class DriverChoice : std::uint8_t { automatic, io_uring, epoll };

// "auto", "io_uring" or "epoll"; throws BadInput for another.
DriverChoice driver_choice(std::string_view word);

struct DriverOptions {
  DriverChoice choice = DriverChoice::automatic;
  unsigned entries = 256;  // io_uring: of the submission ring; completions get four times as many
  unsigned blocking_threads = 4;  // epoll: for files, at most
  bool wait_by_pidfd = false;     // io_uring: for children, as it does before Linux 6.7 anyway
  BlockingThreads* blocking = nullptr;
};

// Throws Unsupported, with cause and fix, where the one that was asked for cannot run.
std::unique_ptr<Driver> make_driver(const DriverOptions& options);
std::unique_ptr<Driver> make_uring_driver(const DriverOptions& options);
std::unique_ptr<Driver> make_epoll_driver(const DriverOptions& options);

}  // namespace schedlab::iouring
