#include "lab/apparatus/echo_server.hh"

#include "affinity/pin.hh"
#include "iouring/acceptor.hh"
#include "iouring/receiver.hh"
#include "iouring/start.hh"
#include "lab/apparatus/memory_rollup.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>
#include <time.h>

namespace schedlab::apparatus {

namespace {

using namespace iouring;

constexpr unsigned buffer_count = 1024;
constexpr unsigned buffer_size = 2048;

Task<> echo(Socket& socket, const BufferPool& buffers) {
  Receiver receiver(socket, buffers);
  for (;;) {
    const Received data = co_await receiver.next();
    if (!data)
      break;
    co_await socket.send_all(data.bytes());
  }
}

// A client that goes in the middle of a message is no failure.
Task<> serve_one(Socket socket, BufferPool buffers) {
  try {
    co_await echo(socket, buffers);
  } catch (const std::system_error&) {
  }
}

Task<> serve_all(const Listener& listener) {
  const BufferPool buffers(buffer_count, buffer_size);
  Acceptor acceptor(listener);
  for (;;) {
    Socket socket = co_await acceptor.next();
    create_task(serve_one(std::move(socket), buffers)).detach();
  }
}

std::span<const std::byte> bytes_of(const std::uint64_t& value) {
  return std::as_bytes(std::span(&value, 1));
}

Task<> serve_on_loop(Loop& loop, Socket& control) {
  const Listener listener(Address("127.0.0.1:0"));
  const std::uint64_t port = listener.address().port();
  const Running<> server = create_task(serve_all(listener));
  co_await control.send_all(bytes_of(port));
  std::array<std::byte, 1> question;
  for (;;) {
    const std::size_t asked = co_await control.recv(question);
    if (asked == 0)
      break;
    const std::uint64_t calls = loop.driver().counts().calls;
    co_await control.send_all(bytes_of(calls));
  }
}

void run_loop(DriverChoice choice, Fd control) {
  Loop loop({.driver = {.choice = choice}});
  Socket socket(std::move(control));
  loop.run(serve_on_loop(loop, socket));
}

// One connection of the blocking server.
void echo_blocking(int fd, std::atomic<std::uint64_t>& calls) noexcept {
  const Fd socket(fd);
  std::array<std::byte, buffer_size> area;
  for (;;) {
    const auto got = ::recv(socket.get(), area.data(), area.size(), 0);
    if (got <= 0)
      return;
    calls.fetch_add(2, std::memory_order_relaxed);
    for (std::size_t from = 0; from < static_cast<std::size_t>(got);) {
      const auto sent = ::send(socket.get(), area.data() + from,
                               static_cast<std::size_t>(got) - from, MSG_NOSIGNAL);
      if (sent <= 0)
        return;
      from += static_cast<std::size_t>(sent);
    }
  }
}

// A connection for which there is no thread is closed, which its client sees.
void accept_blocking(int listener, std::atomic<std::uint64_t>& calls) noexcept {
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0)
      return;
    try {
      std::thread([fd, &calls] { echo_blocking(fd, calls); }).detach();
    } catch (const std::system_error&) {
      ::close(fd);
    }
  }
}

// The process ends with its threads in their calls.
void run_threads(const Fd& control) {
  static std::atomic<std::uint64_t> calls{0};
  const iouring::Listener listener(Address("127.0.0.1:0"));
  const int on = 1;  // what is accepted inherits it
  check(::setsockopt(listener.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt",
        "TCP_NODELAY");
  const std::uint64_t port = listener.address().port();
  check(::write(control.get(), &port, sizeof port), "write", "control");
  std::thread([fd = listener.fd()] { accept_blocking(fd, calls); }).detach();
  char question;
  while (::read(control.get(), &question, 1) > 0) {
    const std::uint64_t so_far = calls.load(std::memory_order_relaxed);
    check(::write(control.get(), &so_far, sizeof so_far), "write", "control");
  }
}

void allow_many_files() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
}

}  // namespace

std::string_view to_text(EchoMethod method) noexcept {
  constexpr std::string_view names[] = {"io_uring", "epoll", "threads"};
  return names[static_cast<std::size_t>(method)];
}

EchoMethod echo_method(std::string_view word) {
  for (const auto method : {EchoMethod::io_uring, EchoMethod::epoll})
    if (word == to_text(method))
      return method;
  return EchoMethod::threads;
}

void serve_echo(EchoMethod method, Fd control) {
  allow_many_files();
  switch (method) {
  case EchoMethod::io_uring:
    return run_loop(DriverChoice::io_uring, std::move(control));
  case EchoMethod::epoll:
    return run_loop(DriverChoice::epoll, std::move(control));
  case EchoMethod::threads:
    return run_threads(control);
  }
}

EchoServer::EchoServer(EchoMethod method, std::optional<unsigned> cpu) {
  int ends[2];
  check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
  control_ = Fd(ends[0]);
  Fd theirs(ends[1]);
  child_ = Child::fork([&] {
    try {
      control_ = Fd();  // or it would never see it closed
      if (cpu)
        affinity::bind_thread(0, affinity::CpuSet{*cpu});
      serve_echo(method, std::move(theirs));
      return 0;
    } catch (const std::exception&) {
      return 1;
    }
  });
  theirs = Fd();
  port_ = static_cast<std::uint16_t>(answer());
}

EchoServer::~EchoServer() {
  constexpr int patience_ms = 2000;
  control_ = Fd();
  child_.wait_for(patience_ms);
}

std::uint64_t EchoServer::answer() const {
  std::uint64_t value = 0;
  ssize_t got = 0;
  do {
    got = ::recv(control_.get(), &value, sizeof value, MSG_WAITALL);
  } while (got < 0 && errno == EINTR);
  if (got != sizeof value)
    throw std::runtime_error("the echo server has ended");
  return value;
}

std::uint64_t EchoServer::calls() const {
  const char question = 0;
  if (::send(control_.get(), &question, 1, MSG_NOSIGNAL) != 1)
    throw std::runtime_error("the echo server has ended");
  return answer();
}

std::uint64_t EchoServer::resident() const {
  return static_cast<std::uint64_t>(memory_rollup(pid()).value_or(MemoryRollup{}).resident);
}

std::int64_t process_cpu_ns(pid_t pid) {
  clock::sleep_for(1'000'000);
  clockid_t clock = 0;
  timespec time{};
  if (::clock_getcpuclockid(pid, &clock) != 0)
    throw_errno(ESRCH, "clock_getcpuclockid", std::to_string(pid));
  check(::clock_gettime(clock, &time), "clock_gettime", "another process");
  return clock::to_ns(time);
}

}  // namespace schedlab::apparatus
