#include "iouring/address.hh"

#include "lab/base/error.hh"
#include "lab/base/text.hh"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace schedlab::iouring {

namespace {

constexpr std::string_view unix_prefix = "unix:";
constexpr std::size_t name_offset = offsetof(sockaddr_un, sun_path);

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
  throw BadInput("address '" + std::string(text.substr(0, text.find('\0'))) +
                 "': " + std::string(why));
}

std::uint16_t port_of(std::string_view digits, std::string_view text) {
  const auto port = to_number(digits);
  if (!port || *port < 0 || *port > 65535)
    refuse(text, "the port is a number from 0 to 65535");
  return static_cast<std::uint16_t>(*port);
}

}  // namespace

Address::Address(std::string_view text) {
  if (text.starts_with(unix_prefix))
    parse_unix(text.substr(unix_prefix.size()));
  else
    parse_tcp(text);
}

Address::Address(const sockaddr* address, socklen_t length) noexcept
    : length_(std::min<socklen_t>(length, sizeof address_)) {
  std::memcpy(&address_, address, length_);
}

void Address::parse_unix(std::string_view name) {
  const std::string text = std::string(unix_prefix) + std::string(name);
  if (name.empty() || name == "@")
    refuse(text, "a path, or '@' and a name, follows 'unix:'");
  // A path ends with a zero.
  if (name.size() >= sizeof address_.local.sun_path || name.find('\0') != std::string_view::npos)
    refuse(text, "a path or name has at most 107 bytes, none of them 0");
  address_.local.sun_family = AF_UNIX;
  std::memcpy(address_.local.sun_path, name.data(), name.size());
  const bool abstract = name.front() == '@';
  if (abstract)
    address_.local.sun_path[0] = '\0';
  length_ = static_cast<socklen_t>(name_offset + name.size() + (abstract ? 0 : 1));
}

void Address::parse_tcp(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos)
    refuse(text, "a port is missing, as in 127.0.0.1:8080");
  const std::uint16_t port = port_of(text.substr(colon + 1), text);
  std::string host(text.substr(0, colon));
  if (host.starts_with('[') && host.ends_with(']')) {
    sockaddr_in6& address = address_.v6;
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(port);
    length_ = sizeof address;
    if (::inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &address.sin6_addr) != 1)
      refuse(text, "between the brackets stands a numeric IPv6 address without a scope");
    return;
  }
  if (host.empty() || host == "localhost")
    host = "127.0.0.1";
  else if (host == "*")
    host = "0.0.0.0";
  sockaddr_in& address = address_.v4;
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  length_ = sizeof address;
  if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1)
    refuse(text, "the host is a numeric address or localhost; names are not looked up, and an IPv6 "
                 "address stands in brackets");
}

Address Address::local_of(int fd) {
  sockaddr_storage found{};
  socklen_t length = sizeof found;
  check(::getsockname(fd, reinterpret_cast<sockaddr*>(&found), &length), "getsockname");
  return {reinterpret_cast<const sockaddr*>(&found), length};
}

Address Address::peer_of(int fd) {
  sockaddr_storage found{};
  socklen_t length = sizeof found;
  check(::getpeername(fd, reinterpret_cast<sockaddr*>(&found), &length), "getpeername");
  return {reinterpret_cast<const sockaddr*>(&found), length};
}

std::uint16_t Address::port() const noexcept {
  if (family() == AF_INET)
    return ntohs(address_.v4.sin_port);
  if (family() == AF_INET6)
    return ntohs(address_.v6.sin6_port);
  return 0;
}

std::string_view Address::unix_name() const noexcept {
  if (!is_unix() || length_ <= name_offset)
    return {};
  const std::string_view name(address_.local.sun_path, length_ - name_offset);
  return name.front() == '\0' ? name : name.substr(0, name.find('\0'));
}

std::string Address::path() const {
  const std::string_view name = unix_name();
  return name.starts_with('\0') ? std::string() : std::string(name);
}

std::string Address::text() const {
  if (is_unix()) {
    std::string name(unix_name());
    if (name.starts_with('\0'))
      name.front() = '@';
    return std::string(unix_prefix) + name;
  }
  std::array<char, INET6_ADDRSTRLEN> host{};
  if (family() == AF_INET) {
    ::inet_ntop(AF_INET, &address_.v4.sin_addr, host.data(), host.size());
    return std::string(host.data()) + ':' + std::to_string(port());
  }
  if (family() == AF_INET6) {
    ::inet_ntop(AF_INET6, &address_.v6.sin6_addr, host.data(), host.size());
    return '[' + std::string(host.data()) + "]:" + std::to_string(port());
  }
  return {};
}

}  // namespace schedlab::iouring
