#pragma once
// Where a socket listens or connects: a TCP address or the name of a unix socket.

#include <cstdint>
#include <netinet/in.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>

namespace schedlab::iouring {

class Address {
public:
  Address() noexcept = default;  // of nothing
  // "127.0.0.1:8080", "[::1]:80", "localhost:80" and ":80" (both 127.0.0.1), "*:80" (every
  // interface, IPv4), "unix:/path", "unix:@abstract". No name is looked up. Throws BadInput.
  explicit Address(std::string_view text);
  // As the kernel gives it.
  Address(const sockaddr* address, socklen_t length) noexcept;
  // Of a socket and of what it is connected to. Throw std::system_error.
  static Address local_of(int fd);
  static Address peer_of(int fd);

  [[nodiscard]] int family() const noexcept { return address_.any.sa_family; }  // AF_
  [[nodiscard]] bool is_unix() const noexcept { return family() == AF_UNIX; }
  // Of TCP; otherwise 0.
  [[nodiscard]] std::uint16_t port() const noexcept;
  // Of a unix socket in the file system; otherwise empty.
  [[nodiscard]] std::string path() const;
  // As it is parsed; "unix:" for a socket without a name.
  [[nodiscard]] std::string text() const;

  [[nodiscard]] const sockaddr* get() const noexcept { return &address_.any; }
  [[nodiscard]] socklen_t length() const noexcept { return length_; }

private:
  void parse_unix(std::string_view name);
  void parse_tcp(std::string_view text);
  [[nodiscard]] std::string_view unix_name() const noexcept;

  union {
    sockaddr any;
    sockaddr_un local;
    sockaddr_in v4;
    sockaddr_in6 v6;
    sockaddr_storage room;
  } address_ = {.room = {}};
  socklen_t length_ = 0;
};

}  // namespace schedlab::iouring
