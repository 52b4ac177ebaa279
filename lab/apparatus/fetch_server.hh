#pragma once
// A web server on the loopback that takes as long as it is told to, in a process of its own; and a
// port on which nobody listens.

#include "iouring/address.hh"
#include "iouring/driver.hh"
#include "lab/base/child.hh"
#include "lab/base/fd.hh"

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace schedlab::apparatus {

struct FetchServerOptions {
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;
  std::optional<unsigned> cpu = {};  // that it stays on
  std::size_t connections = 4096;    // at most
  std::vector<std::string> documents = {};
};

// One loop, timer slack 1 ns. Answers GET of target() with `size` bytes after `latency`, that of
// document() with one of its documents; requests that wait do not keep others waiting. Built and
// destroyed by one thread; the server ends with it, and with this process.
class FetchServer {
public:
  // Returns when it listens. Throws std::system_error, or Unsupported where it cannot run.
  explicit FetchServer(const FetchServerOptions& options);

  [[nodiscard]] const iouring::Address& address() const noexcept { return address_; }
  // Kernel number of the process.
  [[nodiscard]] pid_t pid() const noexcept { return child_.pid(); }
  // "/250/64": after 250 us, 64 bytes.
  static std::string target(std::chrono::microseconds latency, std::size_t size);
  // "/250/document/3".
  static std::string document(std::chrono::microseconds latency, std::size_t index);

private:
  Child child_;
  iouring::Address address_;
};

// A TCP port of the loopback that refuses every connection as long as the object lives: it is bound
// and nobody listens on it, so that nobody else can get it either.
class RefusedPort {
public:
  // Throws std::system_error.
  RefusedPort();
  [[nodiscard]] const iouring::Address& address() const noexcept { return address_; }

private:
  Fd fd_;
  iouring::Address address_;
};

// Both for the subjects of one process, made when the first of them needs them.
struct FetchStage {
  FetchServerOptions options;
  std::unique_ptr<FetchServer> server;
  std::unique_ptr<RefusedPort> nobody;

  const iouring::Address& address();
  const iouring::Address& refusing();
};

}  // namespace schedlab::apparatus
