// Sockets and listeners, the same on all drivers.

#include "iouring/acceptor.hh"
#include "iouring/gather.hh"
#include "iouring/receiver.hh"
#include "iouring/socket.hh"
#include "tests/iouring_io.hh"

#include <sys/resource.h>

#include <csignal>

using namespace schedlab;
using namespace schedlab::testing;
using namespace std::chrono_literals;
using iouring::Acceptor;
using iouring::Address;
using iouring::Socket;
using iouring::SocketPair;
using iouring::Task;

namespace {

void set_buffer(const Socket& socket, int option, int bytes) {
  check(::setsockopt(socket.fd(), SOL_SOCKET, option, &bytes, sizeof bytes), "setsockopt");
}

// The next close sends a reset.
void reset_at_close(const Socket& socket) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  check(::setsockopt(socket.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), "setsockopt");
}

Task<std::string> receive_all(Socket& socket) {
  std::string all, area(64 * 1024, '\0');
  for (;;) {
    const std::size_t count = co_await socket.recv(area_of(area));
    if (count == 0)
      co_return all;
    all.append(area, 0, count);
  }
}

Task<SocketPair> connected(const iouring::Listener& listener) {
  auto both = co_await iouring::gather(iouring::connect(listener.address()),
                                       const_cast<iouring::Listener&>(listener).accept());
  co_return SocketPair{std::move(std::get<0>(both)), std::move(std::get<1>(both))};
}

Task<> send_whole(Socket& socket, std::string_view text) {
  co_await socket.send_all(bytes_of(text));
}

Task<> send_and_shut(Socket& socket, std::string_view text) {
  co_await socket.send_all(bytes_of(text));
  co_await socket.shutdown();
}

Task<> talk(const std::string& where) {
  iouring::Listener listener{Address(where)};
  SocketPair pair = co_await connected(listener);
  BOOST_TEST(pair.first.peer().text() == listener.address().text());
  BOOST_TEST(pair.second.local().text() == listener.address().text());
  const std::string there = pattern(300'000);
  const std::string back = pattern(200'000);
  auto done = co_await iouring::gather(send_and_shut(pair.first, there), receive_all(pair.second),
                                       send_and_shut(pair.second, back), receive_all(pair.first));
  BOOST_TEST((std::get<1>(done) == there));
  BOOST_TEST((std::get<3>(done) == back));
  co_await pair.first.close();
  co_await pair.second.close();
  co_await listener.close();
}

Task<> read_the_port_back() {
  const iouring::Listener listener{Address(":0")};
  BOOST_TEST(listener.address().port() != 0);
  BOOST_TEST(listener.address().text().starts_with("127.0.0.1:"));
  co_return;
}

Task<> replace_a_stale_path(const std::string& path) {
  const Address address("unix:" + path);
  {
    const Fd stale = [&] {
      Fd fd(check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
      check(::bind(fd.get(), address.get(), address.length()), "bind");
      return fd;
    }();
  }
  BOOST_TEST(std::filesystem::exists(path));
  {
    iouring::Listener listener(address);
    const SocketPair pair = co_await connected(listener);
    BOOST_TEST(!!pair.second);
    // A living one is not replaced.
    int error = 0;
    try {
      const iouring::Listener second(address);
    } catch (const std::system_error& refused) {
      error = refused.code().value();
    }
    BOOST_TEST(error == EADDRINUSE);
  }
  BOOST_TEST(!std::filesystem::exists(path));
}

Task<> connect_in_vain(const std::string& where, int expected) {
  std::string text;
  int error = 0;
  try {
    co_await iouring::connect(Address(where));
  } catch (const std::system_error& refused) {
    error = refused.code().value();
    text = refused.what();
  }
  BOOST_TEST(error == expected);
  BOOST_TEST_INFO(text);
  BOOST_TEST(text.starts_with("connect '" + where + "': "));
}
Task<> connect_to_nobody(const std::string& path) {
  std::string free;
  {
    const iouring::Listener listener{Address(":0")};
    free = listener.address().text();
  }
  co_await connect_in_vain(free, ECONNREFUSED);
  co_await connect_in_vain("unix:" + path, ENOENT);
}

// Until the backlog is full, and one more.
Task<> connect_to_a_full_backlog(const std::string& where) {
  iouring::Listener listener(Address(where), {.backlog = 1});
  std::vector<Socket> waiting;
  int error = 0;
  for (int i = 0; i < 8 && error == 0; ++i) {
    try {
      Socket socket = co_await iouring::connect(listener.address(), 50ms);
      waiting.push_back(std::move(socket));
    } catch (const std::system_error& late) {
      error = late.code().value();
    }
  }
  BOOST_TEST(error == ETIMEDOUT);
  // With room again it works.
  Socket taken = co_await listener.accept();
  if (listener.address().is_unix()) {
    Socket socket = co_await iouring::connect(listener.address(), 5s);
    BOOST_TEST(!!socket);
  }
}

Task<> connect_and_be_cancelled(Address address) {
  for (;;) {
    [[maybe_unused]] auto* const kept = new Socket(co_await iouring::connect(address));
    delete kept;
  }
}

Task<> cancel_a_connect_to_a_full_backlog(const std::string& where) {
  iouring::Listener listener(Address(where), {.backlog = 1});
  std::vector<Socket> waiting;
  int error = 0;
  while (error == 0) {
    try {
      Socket socket = co_await iouring::connect(listener.address(), 50ms);
      waiting.push_back(std::move(socket));
    } catch (const std::system_error& late) {
      error = late.code().value();
    }
  }
  auto connecting =
      iouring::create_task(is_cancelled(connect_and_be_cancelled(listener.address())));
  co_await settle();
  connecting.cancel();
  const bool cancelled = co_await connecting;
  BOOST_TEST(cancelled);
}

Task<> send_to_the_gone() {
  iouring::Listener listener{Address(":0")};
  SocketPair pair = co_await connected(listener);
  co_await pair.second.close();
  int error = 0;
  while (error == 0)  // the first goes out, and is answered by a reset
    error = co_await errno_of(send_whole(pair.first, "hello"));
  BOOST_TEST((error == EPIPE || error == ECONNRESET));
  SocketPair local = iouring::make_socket_pair();
  co_await local.second.close();
  error = co_await errno_of(send_whole(local.first, "hello"));
  BOOST_TEST(error == EPIPE);
}

Task<> be_reset() {
  iouring::Listener listener{Address(":0")};
  SocketPair pair = co_await connected(listener);
  std::string area(10, '\0');
  auto receiving = iouring::create_task(errno_of(pair.first.recv(area_of(area))));
  co_await settle();
  reset_at_close(pair.second);
  co_await pair.second.close();
  const int error = co_await receiving;
  BOOST_TEST(error == ECONNRESET);
}

Task<> send_in_small_pieces() {
  SocketPair pair = iouring::make_socket_pair();
  set_buffer(pair.first, SO_SNDBUF, 1);  // the least that the kernel knows
  const std::string text = pattern(100'000);
  auto done = co_await iouring::gather(send_and_shut(pair.first, text), receive_all(pair.second));
  BOOST_TEST((std::get<1>(done) == text));
}

Task<std::size_t> receive_slowly(Socket& socket, const std::string& expected) {
  std::string area(64 * 1024, '\0');
  std::size_t done = 0;
  for (;;) {
    const std::size_t count = co_await socket.recv(area_of(area));
    if (count == 0)
      co_return done;
    BOOST_TEST_REQUIRE((std::string_view(expected).substr(done, count) ==
                        std::string_view(area).substr(0, count)));
    done += count;
    co_await iouring::yield();
  }
}
Task<> send_much_to_a_slow_reader() {
  SocketPair pair = iouring::make_socket_pair();
  const std::string text = pattern(8 * 1024 * 1024);
  auto done =
      co_await iouring::gather(send_and_shut(pair.first, text), receive_slowly(pair.second, text));
  BOOST_TEST(std::get<1>(done) == text.size());
}

Task<> send_twice_at_once() {
  SocketPair pair = iouring::make_socket_pair();
  set_buffer(pair.first, SO_SNDBUF, 1);
  const std::string text = pattern(100'000);
  auto first = iouring::create_task(send_and_shut(pair.first, text));
  co_await iouring::yield();
  const int error = co_await errno_of(send_whole(pair.first, "mixed up"));
  BOOST_TEST(error == EBUSY);
  const std::string all = co_await receive_all(pair.second);
  BOOST_TEST((all == text));
  co_await first;
}

Task<> close_while_busy() {
  SocketPair pair = iouring::make_socket_pair();
  std::string area(10, '\0');
  const std::string much = pattern(4'000'000);
  auto receiving = iouring::create_task(errno_of(pair.first.recv(area_of(area))));
  auto sending = iouring::create_task(errno_of(send_whole(pair.first, much)));
  co_await settle();
  co_await pair.first.close();
  const int received = co_await receiving;
  const int sent = co_await sending;
  BOOST_TEST(received == ECANCELED);
  BOOST_TEST(sent == ECANCELED);
}

Task<> echo(Socket socket) {
  std::string area(4096, '\0');
  for (;;) {
    const std::size_t count = co_await socket.recv(area_of(area));
    if (count == 0)
      break;
    co_await socket.send_all(std::as_bytes(std::span(area).first(count)));
  }
  co_await socket.close();
}
Task<> serve(Acceptor& acceptor, int connections) {
  std::vector<iouring::Running<>> served;
  for (int i = 0; i < connections; ++i) {
    Socket socket = co_await acceptor.next();
    served.push_back(iouring::create_task(echo(std::move(socket))));
  }
  for (auto& one : served)
    co_await one;
}
Task<> ask(const Address& address, int number) {
  Socket socket = co_await iouring::connect(address, 10s);
  const std::string question = std::to_string(number) + pattern(3000);
  auto done = co_await iouring::gather(send_and_shut(socket, question), receive_all(socket));
  BOOST_TEST((std::get<1>(done) == question));
}
Task<> serve_many(int connections) {
  const iouring::Listener listener{Address(":0")};
  Acceptor acceptor(listener);
  auto serving = iouring::create_task(serve(acceptor, connections));
  std::vector<Task<>> clients;
  for (int i = 0; i < connections; ++i)
    clients.push_back(ask(listener.address(), i));
  co_await iouring::gather(std::move(clients));
  co_await serving;
}

Task<Socket> take_one(Acceptor& acceptor) {
  Socket socket = co_await acceptor.next();
  co_return socket;
}

Task<> cancel_an_acceptor() {
  const iouring::Listener listener{Address(":0")};
  Acceptor acceptor(listener);
  auto taking = iouring::create_task(is_cancelled(take_one(acceptor)));
  co_await settle();
  taking.cancel();
  const bool cancelled = co_await taking;
  BOOST_TEST(cancelled);
  // It came while nobody waited.
  Socket client = co_await iouring::connect(listener.address());
  co_await settle();
  Socket socket = co_await acceptor.next();
  BOOST_TEST(!!socket);
  co_await client.close();
  std::string area(1, '\0');
  const std::size_t count = co_await socket.recv(area_of(area));
  BOOST_TEST(count == 0u);
}

// More than an acceptor keeps, and nobody takes them.
Task<> keep_a_part_of_a_flood(std::size_t before) {
  iouring::Listener listener{Address(":0")};
  std::vector<Socket> clients;
  {
    Acceptor acceptor(listener);
    auto taking = iouring::create_task(is_cancelled(take_one(acceptor)));
    co_await settle();
    taking.cancel();
    co_await taking;
    for (int i = 0; i < 150; ++i) {
      Socket client = co_await iouring::connect(listener.address());
      clients.push_back(std::move(client));
    }
    co_await settle();
    // A batch may come before the request has ended; never all.
    const std::size_t kept = open_descriptors() - before - clients.size() - 1;
    BOOST_TEST(kept >= 64u);
    BOOST_TEST(kept < 128u);
    for (int i = 0; i < 150; ++i) {
      const Socket socket = co_await acceptor.next();
      BOOST_TEST_REQUIRE(!!socket);
    }
    Socket client = co_await iouring::connect(listener.address());
    clients.push_back(std::move(client));
    co_await settle();
  }
  co_await settle();
  clients.clear();
  co_await listener.close();
  BOOST_TEST(open_descriptors() == before);
}

Task<> close_under_an_acceptor() {
  iouring::Listener listener{Address(":0")};
  Acceptor acceptor(listener);
  auto taking = iouring::create_task(errno_of(take_one(acceptor)));
  co_await settle();
  co_await listener.close();
  int error = co_await taking;
  BOOST_TEST(error == ECANCELED);
  error = co_await errno_of(take_one(acceptor));
  BOOST_TEST(error == ECANCELED);
}

Task<> run_out_of_descriptors() {
  const iouring::Listener listener{Address(":0")};
  Acceptor acceptor(listener);
  Socket first = co_await iouring::connect(listener.address());
  Socket second = co_await iouring::connect(listener.address());
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 3;
  ::setrlimit(RLIMIT_NOFILE, &none);
  const int error = co_await errno_of(take_one(acceptor));
  ::setrlimit(RLIMIT_NOFILE, &before);
  BOOST_TEST(error == EMFILE);
  // What could not be taken is still there.
  const Socket one = co_await acceptor.next();
  const Socket other = co_await acceptor.next();
  BOOST_TEST(!!one);
  BOOST_TEST(!!other);
}

boost::test_tools::assertion_result ipv6_works(boost::unit_test::test_unit_id) {
  const Fd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Address loopback("[::1]:0");
  const bool bound = socket && ::bind(socket.get(), loopback.get(), loopback.length()) == 0;
  boost::test_tools::assertion_result works(bound);
  works.message() << "no IPv6 loopback here";
  return works;
}

}  // namespace

BOOST_DATA_TEST_CASE(two_sockets_talk_by_tcp, on_all_drivers, choice) {
  run_io(choice, talk, "127.0.0.1:0");
}

BOOST_TEST_DECORATOR(*boost::unit_test::precondition(ipv6_works))
BOOST_DATA_TEST_CASE(two_sockets_talk_by_ipv6, on_all_drivers, choice) {
  run_io(choice, talk, "[::1]:0");
}

BOOST_DATA_TEST_CASE(two_sockets_talk_by_a_path, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, talk, "unix:" + folder.path("socket"));
}

BOOST_DATA_TEST_CASE(two_sockets_talk_by_an_abstract_name, on_all_drivers, choice) {
  run_io(choice, talk, "unix:@schedlab-test-" + std::to_string(::getpid()));
}

BOOST_DATA_TEST_CASE(a_listener_knows_its_port, on_all_drivers, choice) {
  run_io(choice, read_the_port_back);
}

BOOST_DATA_TEST_CASE(a_path_without_a_listener_is_replaced, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, replace_a_stale_path, folder.path("socket"));
}

BOOST_DATA_TEST_CASE(a_refused_connection_names_its_address, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, connect_to_nobody, folder.path("nobody"));
}

BOOST_DATA_TEST_CASE(a_connect_to_a_full_backlog_ends_in_time, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, connect_to_a_full_backlog, ":0");
  run_io(choice, connect_to_a_full_backlog, "unix:" + folder.path("socket"));
}

BOOST_DATA_TEST_CASE(a_connect_to_a_full_backlog_is_cancelled, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, cancel_a_connect_to_a_full_backlog, ":0");
  run_io(choice, cancel_a_connect_to_a_full_backlog, "unix:" + folder.path("socket"));
}

BOOST_DATA_TEST_CASE(sending_to_a_peer_that_is_gone_is_an_error_and_no_signal, on_all_drivers,
                     choice) {
  ::signal(SIGPIPE, SIG_DFL);
  run_io(choice, send_to_the_gone);
}

BOOST_DATA_TEST_CASE(a_reset_is_an_error, on_all_drivers, choice) {
  run_io(choice, be_reset);
}

BOOST_DATA_TEST_CASE(send_all_goes_on_after_short_sends, on_all_drivers, choice) {
  run_io(choice, send_in_small_pieces);
}

BOOST_DATA_TEST_CASE(much_is_sent_to_a_slow_reader, on_all_drivers, choice) {
  run_io(choice, send_much_to_a_slow_reader);
}

BOOST_DATA_TEST_CASE(a_second_send_at_once_is_refused, on_all_drivers, choice) {
  run_io(choice, send_twice_at_once);
}

BOOST_DATA_TEST_CASE(close_ends_what_is_under_way, on_all_drivers, choice) {
  run_io(choice, close_while_busy);
}

BOOST_DATA_TEST_CASE(two_hundred_connections_at_once, on_all_drivers, choice) {
  run_io(choice, serve_many, 200);
}

BOOST_DATA_TEST_CASE(a_cancelled_acceptor_loses_no_connection, on_all_drivers, choice) {
  run_io(choice, cancel_an_acceptor);
}

BOOST_DATA_TEST_CASE(an_acceptor_keeps_a_limited_number, on_all_drivers, choice) {
  const std::size_t before = [&] {
    std::size_t count = 0;
    iouring::Loop loop(on(choice));
    count = open_descriptors();
    return count;
  }();
  run_io(choice, keep_a_part_of_a_flood, before);
}

BOOST_DATA_TEST_CASE(an_acceptor_ends_with_its_listener, on_all_drivers, choice) {
  run_io(choice, close_under_an_acceptor);
}

BOOST_DATA_TEST_CASE(without_descriptors_connections_wait, on_all_drivers, choice) {
  run_io(choice, run_out_of_descriptors);
}
