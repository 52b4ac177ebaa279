#pragma once
// TCP and unix stream sockets.
//
//   Listener listener(Address("127.0.0.1:0"));              the port is read back
//   Socket here = co_await listener.accept();
//   Socket there = co_await connect(listener.address(), 2s);
//
// A peer that is gone is an error (EPIPE, ECONNRESET), never a signal. Errors are std::system_error
// with the call and, where it is known, the address. Loop's thread only.

#include "iouring/address.hh"
#include "iouring/descriptor.hh"

#include <chrono>
#include <cstddef>
#include <span>
#include <string>

namespace schedlab::iouring {

namespace detail {

// As long as it lives, nobody else sends. Throws std::system_error (EBADF, EBUSY).
class SendingSide {
public:
  explicit SendingSide(const Descriptor& descriptor) : use_(descriptor, "send") {
    use_.shared().begin_sending("send");
  }
  SendingSide(const SendingSide&) = delete;
  SendingSide& operator=(const SendingSide&) = delete;
  ~SendingSide() { use_.shared().end_sending(); }

  [[nodiscard]] const InUse& use() const noexcept { return use_; }
  [[nodiscard]] bool is_closing() const noexcept { return use_.shared().get() < 0; }

private:
  InUse use_;
};

}  // namespace detail

// A wait without a coroutine, and so without a frame, of its own.
class [[nodiscard]] SendAll final : public Operation, private detail::Suspension {
public:
  SendAll(const Descriptor& descriptor, std::span<const std::byte> area);

  [[nodiscard]] bool await_ready() const noexcept { return left_.empty(); }
  template <std::derived_from<detail::PromiseBase> Promise>
  bool await_suspend(std::coroutine_handle<Promise> coroutine) noexcept {
    if (side_.is_closing() || !suspend(coroutine))
      return false;
    task_->loop->driver().submit(request_, *this);
    return true;
  }
  void await_resume() const;

private:
  void complete(int result, std::uint32_t flags) noexcept override;
  void on_cancel() noexcept override;

  detail::SendingSide side_;
  std::span<const std::byte> left_;
  Request request_;
  int result_;
};

// A connected stream socket.
class Socket {
public:
  Socket() noexcept = default;
  // The descriptor blocks: on io_uring a non-blocking one would end with EAGAIN instead of waiting.
  explicit Socket(Fd fd, std::string name = {}) : descriptor_(std::move(fd), std::move(name)) {}

  // Bytes that came, at least one; 0 at the end of the stream. When cancelled no data are lost.
  Task<std::size_t> recv(std::span<std::byte> area);
  // Bytes that were sent, at least one. One send at a time: another throws EBUSY.
  Task<std::size_t> send(std::span<const std::byte> area);
  // Until all is sent. When cancelled or after an error nobody knows how much was. To be awaited at
  // once; throws as send.
  SendAll send_all(std::span<const std::byte> area) { return SendAll(descriptor_, area); }
  // The peer reads the end of the stream; here one can still receive. SHUT_RD and SHUT_RDWR too.
  Task<> shutdown(int how = SHUT_WR);
  // Ends what is under way, waits for it and closes; see Descriptor::close.
  Task<> close() { return descriptor_.close(); }

  // Throw std::system_error.
  [[nodiscard]] Address local() const { return Address::local_of(fd()); }
  [[nodiscard]] Address peer() const { return Address::peer_of(fd()); }
  // Sends what there is without waiting for more (TCP_NODELAY). Sockets that connect or accept gave
  // do so, as in asyncio. Throws std::system_error.
  void set_no_delay(bool on = true);

  [[nodiscard]] int fd() const noexcept { return descriptor_.get(); }
  [[nodiscard]] explicit operator bool() const noexcept { return fd() >= 0; }
  [[nodiscard]] const Descriptor& descriptor() const noexcept { return descriptor_; }
  // Gives the descriptor away. Nothing may be under way.
  Fd release() noexcept { return descriptor_.release(); }

private:
  Descriptor descriptor_;
};

// Connects. A limit of 0 is the kernel's: minutes for TCP, none for a unix socket whose backlog is
// full. Throws std::system_error: ETIMEDOUT when it took longer, ECONNREFUSED, ENOENT ...
Task<Socket> connect(Address address, std::chrono::nanoseconds limit = {});

// Two sockets that are connected to each other. Throws std::system_error (EMFILE, ENFILE).
struct SocketPair {
  Socket first;
  Socket second;
};
SocketPair make_socket_pair();

struct ListenerOptions {
  int backlog = SOMAXCONN;
  // Takes a port on which old connections still linger; a unix socket whose listener is gone is
  // replaced in any case.
  bool reuse_address = true;
  bool reuse_port = false;  // several listeners share the port
};

// A listening socket. One on a unix path removes the path with itself.
class Listener {
public:
  Listener() noexcept = default;
  // Binds and listens, without a wait. Throws std::system_error (EADDRINUSE, EACCES ...).
  explicit Listener(const Address& address, const ListenerOptions& options = {});
  Listener(Listener&& other) noexcept
      : descriptor_(std::move(other.descriptor_)), address_(std::exchange(other.address_, {})),
        inode_(std::exchange(other.inode_, 0)) {}
  Listener& operator=(Listener&& other) noexcept;
  ~Listener() { remove_path(); }

  // Where it listens; port 0 has become the one that the kernel chose.
  [[nodiscard]] const Address& address() const noexcept { return address_; }

  // The next connection. When cancelled none is lost.
  Task<Socket> accept();
  // Ends what is under way, waits for it and closes; see Descriptor::close.
  Task<> close();

  [[nodiscard]] int fd() const noexcept { return descriptor_.get(); }
  [[nodiscard]] explicit operator bool() const noexcept { return fd() >= 0; }
  [[nodiscard]] const Descriptor& descriptor() const noexcept { return descriptor_; }

private:
  void remove_path() noexcept;

  Descriptor descriptor_;
  Address address_;
  std::uint64_t inode_ = 0;  // of the path that this listener made
};

}  // namespace schedlab::iouring
