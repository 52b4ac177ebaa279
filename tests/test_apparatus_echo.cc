#include "affinity/pin.hh"
#include "lab/apparatus/echo.hh"
#include "lab/apparatus/echo_load.hh"
#include "lab/apparatus/echo_server.hh"
#include "lab/base/error.hh"
#include "tests/iouring_drivers.hh"
#include "tests/topology_fixtures.hh"

#include <arpa/inet.h>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <csignal>
#include <thread>

using namespace schedlab;
using namespace schedlab::apparatus;

namespace schedlab::apparatus {
std::ostream& operator<<(std::ostream& out, EchoMethod method) {
  return out << to_text(method);
}
}  // namespace schedlab::apparatus

namespace {

std::vector<EchoMethod> methods_here() {
  std::vector<EchoMethod> methods = {EchoMethod::epoll, EchoMethod::threads};
  if (testing::refusal_of(iouring::DriverChoice::io_uring).empty())
    methods.push_back(EchoMethod::io_uring);
  return methods;
}
const auto on_all_methods = boost::unit_test::data::make(methods_here());
// The client on io_uring where it works, and on epoll.
const auto both_clients = boost::unit_test::data::make({true, false});

EchoLoadOptions load_for(const EchoServer& server, unsigned connections, std::size_t size,
                         bool ring) {
  return {.port = server.port(), .connections = connections, .size = size, .ring = ring};
}

// A server for one connection that does with each piece what the test wants.
class OddServer {
public:
  template <typename Reply>
  explicit OddServer(Reply reply)
      : listener_(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")) {
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof here;
    check(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&here), size), "bind");
    check(::listen(listener_.get(), 1), "listen");
    check(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&here), &size), "getsockname");
    port_ = ntohs(here.sin_port);
    thread_ = std::jthread([this, reply] {
      const Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      std::array<char, 256> area;
      for (;;) {
        const auto got = ::recv(socket.get(), area.data(), area.size(), 0);
        if (got <= 0 || !reply(socket.get(), std::span(area).first(static_cast<std::size_t>(got))))
          return;
      }
    });
  }
  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

private:
  Fd listener_;
  std::uint16_t port_ = 0;
  std::jthread thread_;
};

bool send_back(int socket, std::span<const char> bytes) {
  return ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

// What a client says of a server, or empty.
template <typename Reply>
std::string complaint_about(Reply reply, bool ring) {
  const OddServer server(reply);
  harness::Histogram round_trips;
  try {
    make_echo_load({.port = server.port(), .connections = 1, .size = 64, .ring = ring})
        ->run(100, round_trips);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

BOOST_DATA_TEST_CASE(every_message_comes_back, on_all_methods* both_clients, method, ring) {
  const EchoServer server(method, {});
  harness::Histogram round_trips;
  const auto load = make_echo_load(load_for(server, 3, 64, ring));
  load->run(1000, round_trips);
  BOOST_TEST(round_trips.count() == 1000u);
  load->run(2, round_trips);  // fewer than connections
  BOOST_TEST(round_trips.count() == 1002u);
}

BOOST_DATA_TEST_CASE(messages_longer_than_a_buffer_come_back_whole, on_all_methods* both_clients,
                     method, ring) {
  const EchoServer server(method, {});
  harness::Histogram round_trips;
  make_echo_load(load_for(server, 2, 20'000, ring))->run(50, round_trips);
  BOOST_TEST(round_trips.count() == 50u);
}

BOOST_DATA_TEST_CASE(many_connections_are_served, on_all_methods* both_clients, method, ring) {
  const EchoServer server(method, {});
  harness::Histogram round_trips;
  make_echo_load(load_for(server, 200, 64, ring))->run(4000, round_trips);
  BOOST_TEST(round_trips.count() == 4000u);
}

BOOST_DATA_TEST_CASE(clients_come_and_go, on_all_methods, method) {
  const EchoServer server(method, {});
  for (int i = 0; i < 5; ++i) {
    harness::Histogram round_trips;
    make_echo_load(load_for(server, 4, 64, true))->run(20, round_trips);
    BOOST_TEST(round_trips.count() == 20u);
  }
}

BOOST_DATA_TEST_CASE(an_honest_server_gets_no_complaint, both_clients, ring) {
  BOOST_TEST(complaint_about(send_back, ring) == "");
}

BOOST_DATA_TEST_CASE(a_changed_byte_is_seen, both_clients, ring) {
  int pieces = 0;
  const auto change = [&pieces](int socket, std::span<char> bytes) {
    bytes.back() = static_cast<char>(bytes.back() + (++pieces == 10));
    return send_back(socket, bytes);
  };
  BOOST_TEST(complaint_about(change, ring) == "the echo server sent other bytes than it got");
}

BOOST_DATA_TEST_CASE(an_old_message_is_seen, both_clients, ring) {
  std::array<char, 64> first{};
  int pieces = 0;
  const auto repeat = [&](int socket, std::span<char> bytes) {
    if (++pieces == 1)
      std::ranges::copy(bytes.first(first.size()), first.begin());
    return send_back(socket, first);
  };
  BOOST_TEST(complaint_about(repeat, ring) == "the echo server sent other bytes than it got");
}

BOOST_DATA_TEST_CASE(more_bytes_than_were_sent_are_seen, both_clients, ring) {
  const auto twice = [](int socket, std::span<char> bytes) {
    std::array<char, 128> both{};
    std::ranges::copy(bytes.first(64), both.begin());
    std::ranges::copy(bytes.first(64), both.begin() + 64);
    return send_back(socket, both);
  };
  BOOST_TEST(complaint_about(twice, ring) == "the echo server sent other bytes than it got");
}

BOOST_DATA_TEST_CASE(a_server_that_closes_is_seen, both_clients, ring) {
  const auto leave = [](int, std::span<char>) { return false; };
  BOOST_TEST(complaint_about(leave, ring) == "the echo server closed a connection");
}

BOOST_AUTO_TEST_CASE(a_blocking_server_makes_two_calls_a_message) {
  const EchoServer server(EchoMethod::threads, {});
  harness::Histogram round_trips;
  const auto load = make_echo_load(load_for(server, 2, 64, true));
  const std::uint64_t before = server.calls();
  load->run(500, round_trips);
  BOOST_TEST(server.calls() - before == 1000u);
}

BOOST_DATA_TEST_CASE(a_loop_counts_its_calls, on_all_methods, method) {
  const EchoServer server(method, {});
  harness::Histogram round_trips;
  const auto load = make_echo_load(load_for(server, 1, 64, true));
  const std::uint64_t before = server.calls();
  load->run(500, round_trips);
  // One connection leaves nothing to share a call with; no method needs ten.
  BOOST_TEST(server.calls() - before >= 500u);
  BOOST_TEST(server.calls() - before < 5000u);
}

BOOST_AUTO_TEST_CASE(the_time_and_memory_of_a_server_can_be_read) {
  const EchoServer server(EchoMethod::epoll, {});
  harness::Histogram round_trips;
  const std::int64_t before = process_cpu_ns(server.pid());
  make_echo_load(load_for(server, 1, 64, true))->run(1000, round_trips);
  BOOST_TEST((process_cpu_ns(server.pid()) > before));
  BOOST_TEST(server.resident() > 100'000u);
}

BOOST_AUTO_TEST_CASE(a_server_that_died_says_so) {
  const EchoServer server(EchoMethod::epoll, {});
  ::kill(server.pid(), SIGKILL);
  BOOST_CHECK_THROW(static_cast<void>(server.calls()), std::runtime_error);
}

BOOST_TEST_DECORATOR(*boost::unit_test::precondition(two_cpus))
BOOST_DATA_TEST_CASE(a_sample_has_all_numbers_and_passes_its_check, on_all_methods, method) {
  const affinity::CpuSet usable = affinity::thread_affinity();
  EchoOptions options;
  options.method = method;
  options.connections = 4;
  options.server = usable.cpus().back();
  options.client = usable.first();
  options.usable = usable;
  options.metrics = {0, 1, 2, 3, 4, 5, 6};
  const auto subject = make_echo(options);
  const harness::Sample sample = subject->sample(2000);
  BOOST_TEST(sample.operations == 2000u);
  for (std::size_t i = 0; i < 7; ++i)
    BOOST_TEST(sample.values[i] >= 0, "value " << i);
  BOOST_TEST(sample.values[3] > 0);
  const std::vector<unsigned> cpus = {options.client, options.server};
  BOOST_TEST(sample.proof.cpus == cpus, boost::test_tools::per_element());
  BOOST_TEST(std::isnan(subject->sample(10).values[5]));  // too few for a p99
  BOOST_TEST_REQUIRE(subject->checks().size() == 1u);
  BOOST_TEST(subject->checks()[0].ok);
}
