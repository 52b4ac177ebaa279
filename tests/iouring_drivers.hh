#pragma once
// The drivers that work here, for tests of what must be the same on all of them, and requests
// without a loop.

#include "iouring/driver.hh"
#include "iouring/loop.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <netinet/in.h>
#include <sys/socket.h>

#include <deque>
#include <ostream>
#include <string>
#include <vector>

namespace schedlab::iouring {

inline std::ostream& operator<<(std::ostream& out, DriverChoice choice) {
  return out << (choice == DriverChoice::epoll ? "epoll" : "io_uring");
}

}  // namespace schedlab::iouring

namespace schedlab::testing {

using iouring::Driver;
using iouring::DriverChoice;
using iouring::Op;
using iouring::Operation;
using iouring::Request;

// Empty where the driver works here, otherwise the reason.
inline std::string refusal_of(DriverChoice choice) {
  try {
    iouring::make_driver({.choice = choice});
    return {};
  } catch (const Unsupported& reason) {
    return reason.what();
  }
}

// For a data set: each semantic case runs on all of them.
inline const std::vector<DriverChoice>& drivers_here() {
  static const std::vector<DriverChoice> drivers = [] {
    std::vector<DriverChoice> working = {DriverChoice::epoll};
    if (refusal_of(DriverChoice::io_uring).empty())
      working.push_back(DriverChoice::io_uring);
    return working;
  }();
  return drivers;
}
inline const auto on_all_drivers = boost::unit_test::data::make(drivers_here());

// A precondition of cases for io_uring alone: skips them with the reason.
inline boost::test_tools::assertion_result uring_works(boost::unit_test::test_unit_id) {
  const std::string reason = refusal_of(DriverChoice::io_uring);
  boost::test_tools::assertion_result works(reason.empty());
  works.message() << reason;
  return works;
}

inline iouring::LoopOptions on(DriverChoice choice) {
  iouring::LoopOptions options;
  options.driver.choice = choice;
  return options;
}

struct End {
  int result;
  std::uint32_t flags;
};

// An operation that remembers how it ended.
class Recorded final : public Operation {
public:
  Request request;
  std::vector<End> ends;

  [[nodiscard]] bool ended() const { return !ends.empty() && !(ends.back().flags & more); }
  [[nodiscard]] int result() const { return ends.back().result; }

private:
  void complete(int result, std::uint32_t flags) noexcept override {
    BOOST_TEST_REQUIRE(!ended(), "completed again after its end");
    ends.push_back({result, flags});
  }
};

// A driver with the operations that were begun on it.
class Bench {
public:
  explicit Bench(iouring::DriverOptions options) : driver_(make_driver(options)) {}
  explicit Bench(DriverChoice choice) : Bench(iouring::DriverOptions{.choice = choice}) {}

  Driver& operator*() { return *driver_; }
  Driver* operator->() { return driver_.get(); }

  Recorded& begin(const Request& request) {
    Recorded& made = operations_.emplace_back();
    made.request = request;
    driver_->submit(made.request, made);
    return made;
  }
  // Waits until it has ended; gives its result.
  int end(const Recorded& operation) {
    while (!operation.ended())
      driver_->wait(-1);
    return operation.result();
  }
  int run(const Request& request) { return end(begin(request)); }
  // Waits until so many completions have come.
  void collect(const Recorded& operation, std::size_t count) {
    while (operation.ends.size() < count)
      driver_->wait(-1);
  }
  // What can happen without anybody's help has happened; used before "nothing has happened".
  void settle() {
    for (int i = 0; i < 3; ++i)
      driver_->wait(1'000'000);
  }

private:
  std::deque<Recorded> operations_;  // outlives the driver
  std::unique_ptr<Driver> driver_;
};

// Two connected stream sockets.
struct Pair {
  Fd near, far;
  Pair() {
    int fds[2];
    check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), "socketpair");
    near = Fd(fds[0]);
    far = Fd(fds[1]);
  }
};

// A socket that listens on the loopback, or with `listens` false a port where nobody does.
struct Listener {
  Fd fd;
  sockaddr_in address{};

  explicit Listener(bool listens = true)
      : fd(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")) {
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    check(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), "bind");
    check(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
    if (listens)
      check(::listen(fd.get(), 128), "listen");
  }
  Request connect(const Fd& socket) {
    return {.op = Op::connect, .fd = socket.get(), .length = sizeof address, .address = &address};
  }
};

inline Fd new_socket() {
  return Fd(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
}

template <typename Area>
Request moving(Op op, const Fd& fd, Area& area, std::uint32_t flags = 0) {
  return {.op = op,
          .fd = fd.get(),
          .flags = flags,
          .length = static_cast<std::uint32_t>(std::size(area) * sizeof *std::data(area)),
          .address = std::data(area)};
}

}  // namespace schedlab::testing
