#include "iouring/socket.hh"

#include "iouring/perform.hh"
#include "iouring/sleep.hh"
#include "lab/base/clock.hh"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace schedlab::iouring {

namespace {

constexpr std::size_t most_at_once = 0x40000000;  // of one send or recv
constexpr auto first_pause = std::chrono::milliseconds(1);
constexpr auto longest_pause = std::chrono::milliseconds(32);

std::uint32_t length_of(std::size_t size) {
  return static_cast<std::uint32_t>(std::min(size, most_at_once));
}

Request send_request(const detail::InUse& use, std::span<const std::byte> area, int flags) {
  return {.op = Op::send,
          .fd = use.fd(),
          .flags = static_cast<std::uint32_t>(flags | MSG_NOSIGNAL),
          .length = length_of(area.size()),
          .address = const_cast<std::byte*>(area.data())};
}

Fd stream_socket(const Address& address) {
  return Fd(
      check(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0), "socket", address.text()));
}

void enable(int fd, int level, int option, const char* name) {
  const int on = 1;
  check(::setsockopt(fd, level, option, &on, sizeof on), "setsockopt", name);
}

bool is_tcp(const Address& address) {
  return address.family() == AF_INET || address.family() == AF_INET6;
}

// A unix socket in the file system whose listener is gone.
bool is_stale(const Address& address) {
  struct stat status;
  const bool is_socket = ::lstat(address.path().c_str(), &status) == 0 && S_ISSOCK(status.st_mode);
  if (!is_socket)
    return false;
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(probe.get(), address.get(), address.length()) < 0 && errno == ECONNREFUSED;
}

void bind_to(int fd, const Address& address) {
  int result = ::bind(fd, address.get(), address.length());
  const int error = errno;
  if (result < 0 && error == EADDRINUSE && !address.path().empty() && is_stale(address)) {
    ::unlink(address.path().c_str());
    result = ::bind(fd, address.get(), address.length());
  } else {
    errno = error;
  }
  check(result, "bind", address.text());
}

std::uint64_t inode_of(const std::string& path) {
  struct stat status;
  return !path.empty() && ::lstat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

Request connect_request(const detail::InUse& use, const Address& address) {
  return {.op = Op::connect,
          .fd = use.fd(),
          .length = address.length(),
          .address = const_cast<sockaddr*>(address.get())};
}

// A unix socket with a full backlog gives nothing to wait for: it is tried again and again.
Task<int> connect_unix(const detail::InUse& use, const Address& address,
                       std::chrono::nanoseconds limit) {
  const int flags = ::fcntl(use.fd(), F_GETFL);
  ::fcntl(use.fd(), F_SETFL, flags | O_NONBLOCK);
  const std::int64_t begin = clock::now_ns();
  int result = -EAGAIN;
  for (auto pause = first_pause;; pause = std::min(2 * pause, longest_pause)) {
    result = co_await perform(connect_request(use, address));
    if (result != -EAGAIN)
      break;
    if (limit.count() > 0 && clock::now_ns() - begin >= limit.count()) {
      result = -ETIME;
      break;
    }
    co_await sleep_for(pause);
  }
  ::fcntl(use.fd(), F_SETFL, flags);
  co_return result;
}

}  // namespace

Task<std::size_t> Socket::recv(std::span<std::byte> area) {
  const detail::InUse use(descriptor_, "recv");
  const int count = co_await perform(
      {.op = Op::recv, .fd = use.fd(), .length = length_of(area.size()), .address = area.data()},
      "recv", use.name());
  co_return static_cast<std::size_t>(count);
}

Task<std::size_t> Socket::send(std::span<const std::byte> area) {
  const detail::SendingSide side(descriptor_);
  const int count = co_await perform(send_request(side.use(), area, 0), "send", side.use().name());
  co_return static_cast<std::size_t>(count);
}

SendAll::SendAll(const Descriptor& descriptor, std::span<const std::byte> area)
    : side_(descriptor), left_(area), request_(send_request(side_.use(), area, MSG_WAITALL)),
      result_(area.empty() ? 0 : -ECANCELED) {}

void SendAll::complete(int result, std::uint32_t) noexcept {
  result_ = result == 0 ? -EPIPE : result;
  if (result > 0)
    left_ = left_.subspan(static_cast<std::size_t>(result));
  if (result <= 0 || left_.empty())
    return resume();
  if (cancelled_ || side_.is_closing()) {
    result_ = -ECANCELED;
    return resume();
  }
  request_ = send_request(side_.use(), left_, MSG_WAITALL);
  task_->loop->driver().submit(request_, *this);
}

void SendAll::on_cancel() noexcept {
  cancelled_ = true;
  task_->loop->driver().cancel(*this);
}

void SendAll::await_resume() const {
  if (result_ == -ECANCELED || result_ == -EINTR)
    throw_if_cancelled();
  check_kernel(result_, "send", side_.use().name());
}

Task<> Socket::shutdown(int how) {
  const detail::InUse use(descriptor_, "shutdown");
  co_await perform({.op = Op::shutdown, .fd = use.fd(), .flags = static_cast<std::uint32_t>(how)},
                   "shutdown", use.name());
}

void Socket::set_no_delay(bool on) {
  const int value = on;
  check(::setsockopt(fd(), IPPROTO_TCP, TCP_NODELAY, &value, sizeof value), "setsockopt",
        "TCP_NODELAY");
}

Task<Socket> connect(Address address, std::chrono::nanoseconds limit) {
  Socket socket(stream_socket(address), address.text());
  const detail::InUse use(socket.descriptor(), "connect");
  int result = 0;
  if (address.is_unix()) {
    result = co_await connect_unix(use, address, limit);
  } else {
    Request wanted = connect_request(use, address);
    wanted.timeout_ns = limit.count();
    result = co_await perform(wanted);
  }
  check_kernel(result == -ETIME ? -ETIMEDOUT : result, "connect", use.name());
  if (is_tcp(address))
    socket.set_no_delay();
  co_return socket;
}

SocketPair make_socket_pair() {
  int fds[2];
  check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), "socketpair");
  Fd first(fds[0]);
  Fd second(fds[1]);
  return {Socket(std::move(first)), Socket(std::move(second))};
}

Listener::Listener(const Address& address, const ListenerOptions& options) {
  Fd fd = stream_socket(address);
  if (is_tcp(address) && options.reuse_address)
    enable(fd.get(), SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR");
  if (is_tcp(address) && options.reuse_port)
    enable(fd.get(), SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT");
  bind_to(fd.get(), address);
  address_ = Address::local_of(fd.get());
  inode_ = inode_of(address_.path());
  descriptor_ = Descriptor(std::move(fd), address_.text());
  check(::listen(descriptor_.get(), options.backlog), "listen", descriptor_.name());
}

Listener& Listener::operator=(Listener&& other) noexcept {
  Listener taken(std::move(other));
  std::swap(descriptor_, taken.descriptor_);
  std::swap(address_, taken.address_);
  std::swap(inode_, taken.inode_);
  return *this;
}

void Listener::remove_path() noexcept {
  const std::uint64_t inode = std::exchange(inode_, 0);
  if (inode == 0)
    return;
  const std::string path = address_.path();
  if (inode_of(path) == inode)  // not that of a listener which took its place
    ::unlink(path.c_str());
}

Task<Socket> Listener::accept() {
  const detail::InUse use(descriptor_, "accept");
  int result = 0;
  do {
    result = co_await perform({.op = Op::accept, .fd = use.fd(), .flags = SOCK_CLOEXEC});
  } while (result == -ECONNABORTED);  // it was gone before it was taken
  check_kernel(result, "accept", use.name());
  Socket socket{Fd(result)};
  if (is_tcp(address_))
    socket.set_no_delay();
  co_return socket;
}

Task<> Listener::close() {
  remove_path();
  co_await descriptor_.close();
}

}  // namespace schedlab::iouring
