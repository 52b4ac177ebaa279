#include "iouring/epoll_call.hh"

#include "lab/base/fd.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace schedlab::iouring {

namespace {

enum class Kind : std::uint8_t { file, socket, other };

Tried done(int result) {
  return {Tried::Next::done, result};
}
Tried wait_for(int fd, std::uint32_t events) {
  return {Tried::Next::wait, 0, fd, events};
}
const Tried in_thread{Tried::Next::thread};

// As the kernel gives it to io_uring.
int outcome(ssize_t result) {
  return result < 0 ? -errno : static_cast<int>(result);
}

sockaddr* address_of(const Request& request) {
  return static_cast<sockaddr*>(request.address);
}

bool has_flag(int fd, int flag, std::uint64_t& calls) {
  ++calls;
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & flag) != 0;
}

// What is ready of `events` now, 0 for nothing, or -errno.
int ready_events(int fd, std::uint32_t events, std::uint64_t& calls) {
  pollfd one{fd, static_cast<short>(events), 0};
  ++calls;
  if (::poll(&one, 1, 0) < 0)
    return -errno;
  return one.revents & POLLNVAL ? -EBADF
                                : static_cast<int>(static_cast<unsigned short>(one.revents));
}

// 0 or -errno.
int kind_of(int fd, Kind& kind, std::uint64_t& calls) {
  struct stat status;
  ++calls;
  if (::fstat(fd, &status) < 0)
    return -errno;
  const auto type = status.st_mode & S_IFMT;
  kind = type == S_IFSOCK                     ? Kind::socket
         : type == S_IFREG || type == S_IFBLK ? Kind::file
                                              : Kind::other;
  return 0;
}

ssize_t transfer(const Request& request, int done_before, std::uint64_t offset, int flags) {
  const iovec area{static_cast<char*>(request.address) + done_before,
                   request.length - static_cast<std::size_t>(done_before)};
  const auto at = static_cast<off_t>(offset);
  return request.op == Op::read ? ::preadv2(request.fd, &area, 1, at, flags)
                                : ::pwritev2(request.fd, &area, 1, at, flags);
}

// What is neither a file nor a socket has no place of its own, and io_uring ignores a given one.
std::uint64_t place(const Request& request, Kind kind) {
  return kind == Kind::file ? request.offset : at_position;
}

// Pipes, eventfds, terminals. Those whose driver knows no RWF_NOWAIT are read and written by a
// thread, because another process may take the data between poll and read.
Tried try_other(const Request& request, std::uint32_t events, std::uint64_t& calls) {
  ++calls;
  int result = outcome(transfer(request, 0, at_position, RWF_NOWAIT));
  if (result == -EOPNOTSUPP && has_flag(request.fd, O_NONBLOCK, calls)) {
    ++calls;
    result = outcome(transfer(request, 0, at_position, 0));
  }
  if (result == -EAGAIN)
    return wait_for(request.fd, events);
  if (result != -EOPNOTSUPP)
    return done(result);
  const int ready = ready_events(request.fd, events, calls);
  return ready < 0 ? done(ready) : ready == 0 ? wait_for(request.fd, events) : in_thread;
}

// What the page cache has or takes is there at once. RWF_NOWAIT does not help O_DIRECT: the call
// would wait for the device all the same. A part is continued, as io_uring does.
Tried try_file(const Request& request, Progress& progress, std::uint64_t& calls) {
  if (has_flag(request.fd, O_DIRECT, calls))
    return in_thread;
  ++calls;
  const int result = outcome(transfer(request, 0, request.offset, RWF_NOWAIT));
  if (result == -EAGAIN || result == -EOPNOTSUPP)
    return in_thread;
  if (result <= 0 || static_cast<std::uint32_t>(result) == request.length)
    return done(result);
  progress.done = result;
  return in_thread;
}

Tried try_transfer(const Request& request, Progress& progress, std::uint64_t& calls) {
  const bool reads = request.op == Op::read;
  Kind kind{};
  if (const int error = kind_of(request.fd, kind, calls))
    return done(error);
  if (kind == Kind::file)
    return try_file(request, progress, calls);
  const std::uint32_t events = reads ? POLLIN : POLLOUT;
  if (kind == Kind::other)
    return try_other(request, events, calls);
  if (request.offset != at_position && request.offset != 0)
    return done(-ESPIPE);
  ++calls;
  const int result =
      outcome(reads ? ::recv(request.fd, request.address, request.length, MSG_DONTWAIT)
                    : ::send(request.fd, request.address, request.length, MSG_DONTWAIT));
  return result == -EAGAIN ? wait_for(request.fd, events) : done(result);
}

// With MSG_WAITALL parts add up, and count if the rest does not come.
Tried try_message(const Request& request, Progress& progress, std::uint64_t& calls) {
  const bool receives = request.op == Op::recv;
  const int flags = static_cast<int>(request.flags) | MSG_DONTWAIT | (receives ? 0 : MSG_NOSIGNAL);
  auto* const area = static_cast<char*>(request.address) + progress.done;
  const auto left = request.length - static_cast<std::size_t>(progress.done);
  ++calls;
  const int result = outcome(receives ? ::recv(request.fd, area, left, flags)
                                      : ::send(request.fd, area, left, flags));
  const bool all = (request.flags & MSG_WAITALL) != 0;
  const bool may_wait = (request.flags & MSG_DONTWAIT) == 0;
  if (all && result > 0)
    progress.done += result;
  const bool part = all && result > 0 && static_cast<std::uint32_t>(progress.done) < request.length;
  if ((result == -EAGAIN || part) && may_wait)
    return wait_for(request.fd, receives ? POLLIN : POLLOUT);
  return done(progress.done > 0 ? progress.done : result);
}

// A blocking listener would stop the loop when another process takes the connection between poll
// and accept, and no flag of the call prevents that.
void make_non_blocking(int listener, std::uint64_t& calls) {
  if (has_flag(listener, O_NONBLOCK, calls))
    return;
  int listens = 0;
  socklen_t size = sizeof listens;
  calls += 3;
  if (::getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens)
    ::fcntl(listener, F_SETFL, ::fcntl(listener, F_GETFL) | O_NONBLOCK);
}

Tried try_accept(const Request& request, std::uint64_t& calls) {
  make_non_blocking(request.fd, calls);
  ++calls;
  const int result =
      outcome(::accept4(request.fd, request.many ? nullptr : address_of(request),
                        request.many ? nullptr : static_cast<socklen_t*>(request.second),
                        static_cast<int>(request.flags)));
  return result == -EAGAIN ? wait_for(request.fd, POLLIN) : done(result);
}

// The socket does not block for the length of one call; before it is connected nobody can miss
// that. A full backlog of a unix socket gives nothing to wait for.
int connect_now(const Request& request, std::uint64_t& calls) {
  const int flags = ::fcntl(request.fd, F_GETFL);
  const bool blocks = flags >= 0 && (flags & O_NONBLOCK) == 0;
  if (blocks)
    ::fcntl(request.fd, F_SETFL, flags | O_NONBLOCK);
  const int result = outcome(::connect(request.fd, address_of(request), request.length));
  if (blocks)
    ::fcntl(request.fd, F_SETFL, flags);
  calls += blocks ? 4 : 2;
  return result;
}

// Called again, connect tells what became of the first call.
Tried try_connect(const Request& request, Progress& progress, std::uint64_t& calls) {
  const int result = connect_now(request, calls);
  if (result == -EAGAIN && address_of(request)->sa_family == AF_UNIX)
    return in_thread;
  if (result == -EINPROGRESS || (progress.begun && result == -EALREADY)) {
    progress.begun = true;
    return wait_for(request.fd, POLLOUT);
  }
  return done(progress.begun && result == -EISCONN ? 0 : result);
}

Tried try_poll(const Request& request, std::uint64_t& calls) {
  const int ready = ready_events(request.fd, request.flags, calls);
  return ready ? done(ready) : wait_for(request.fd, request.flags & 0xffff);
}

// Once both ends are ready, by a thread: one of them may be a file.
Tried try_splice(const Request& request, std::uint64_t& calls) {
  if ((request.flags & SPLICE_F_NONBLOCK) == 0)
    for (const auto& [fd, events] : {std::pair(request.fd, std::uint32_t{POLLIN}),
                                     std::pair(request.second_fd, std::uint32_t{POLLOUT})}) {
      const int ready = ready_events(fd, events, calls);
      if (ready <= 0)
        return ready < 0 ? done(ready) : wait_for(fd, events);
    }
  return in_thread;
}

Tried try_wait_child(const Request& request, Progress& progress, std::uint64_t& calls) {
  const int flags = static_cast<int>(request.flags);
  if (flags & (WSTOPPED | WCONTINUED))
    return done(-EINVAL);
  siginfo_t seen{};
  siginfo_t& info = request.address ? *static_cast<siginfo_t*>(request.address) : seen;
  info = {};
  ++calls;
  const int result =
      outcome(::waitid(P_PID, static_cast<id_t>(request.fd), &info, flags | WNOHANG));
  if (result < 0 || info.si_pid != 0 || (flags & WNOHANG))
    return done(result);
  if (progress.pidfd < 0) {
    ++calls;
    progress.pidfd = open_pidfd(request.fd).release();
    if (progress.pidfd < 0)
      return done(-errno);
  }
  return wait_for(progress.pidfd, POLLIN);
}

int open_blocking(const Request& request) {
  return outcome(::openat(request.fd, static_cast<const char*>(request.address),
                          static_cast<int>(request.flags), static_cast<mode_t>(request.length)));
}

int splice_blocking(const Request& request) {
  auto from = static_cast<loff_t>(request.offset);
  auto to = static_cast<loff_t>(request.second_offset);
  return outcome(::splice(request.fd, request.offset == at_position ? nullptr : &from,
                          request.second_fd, request.second_offset == at_position ? nullptr : &to,
                          request.length, request.flags | SPLICE_F_NONBLOCK));
}

int transfer_blocking(const Request& request, const Progress& progress) {
  std::uint64_t calls = 0;
  Kind kind{};
  if (const int error = kind_of(request.fd, kind, calls))
    return error;
  std::uint64_t offset = place(request, kind);
  if (offset != at_position)
    offset += static_cast<std::uint64_t>(progress.done);
  const int result = outcome(transfer(request, progress.done, offset, 0));
  return progress.done > 0 ? progress.done + std::max(result, 0) : result;
}

int call_once(const Request& request, const Progress& progress) {
  switch (request.op) {
  case Op::read:
  case Op::write:
    return transfer_blocking(request, progress);
  case Op::connect:
    return outcome(::connect(request.fd, address_of(request), request.length));
  case Op::open:
    return open_blocking(request);
  case Op::close:
    return outcome(::close(request.fd));
  case Op::fsync:
    return outcome(request.flags ? ::fdatasync(request.fd) : ::fsync(request.fd));
  case Op::statx:
    return outcome(::statx(request.fd, static_cast<const char*>(request.address),
                           static_cast<int>(request.flags), request.length,
                           static_cast<struct statx*>(request.second)));
  case Op::splice:
    return splice_blocking(request);
  default:
    return -EINVAL;
  }
}

}  // namespace

Tried try_call(const Request& request, Progress& progress, std::uint64_t& calls) noexcept {
  switch (request.op) {
  case Op::nop:
    return done(request.flags ? static_cast<int>(request.length) : 0);
  case Op::read:
  case Op::write:
    return try_transfer(request, progress, calls);
  case Op::recv:
  case Op::send:
    return try_message(request, progress, calls);
  case Op::accept:
    return try_accept(request, calls);
  case Op::connect:
    return try_connect(request, progress, calls);
  case Op::shutdown:
    ++calls;
    return done(outcome(::shutdown(request.fd, static_cast<int>(request.flags))));
  case Op::poll:
    return try_poll(request, calls);
  case Op::splice:
    return try_splice(request, calls);
  case Op::wait_child:
    return try_wait_child(request, progress, calls);
  default:
    return in_thread;
  }
}

int call_blocking(const Request& request, const Progress& progress) noexcept {
  int result = 0;
  do
    result = call_once(request, progress);
  while (result == -EINTR && request.op != Op::close);
  return result;
}

std::uint32_t waits_in_line_for(const Request& request) noexcept {
  switch (request.op) {
  case Op::read:
  case Op::recv:
  case Op::accept:
    return POLLIN;
  case Op::write:
  case Op::send:
    return POLLOUT;
  default:
    return 0;
  }
}

}  // namespace schedlab::iouring
