#include "lab/apparatus/echo_load.hh"

#include "lab/apparatus/echo_load_ways.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/keep.hh"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace schedlab::apparatus {

namespace {

constexpr std::int64_t patience_ns = 5'000'000'000;
constexpr std::size_t smallest = sizeof(std::uint64_t);  // a message begins with its number
constexpr std::size_t line_size = 64;

Fd connect_to(std::uint16_t port) {
  Fd fd(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_in there{};
  there.sin_family = AF_INET;
  there.sin_port = htons(port);
  there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  check(::connect(fd.get(), reinterpret_cast<sockaddr*>(&there), sizeof there), "connect",
        "echo server");
  const int on = 1;
  check(::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt",
        "TCP_NODELAY");
  return fd;
}

}  // namespace

EchoLoad::EchoLoad(const EchoLoadOptions& options)
    : size_(std::max(options.size, smallest)),
      stride_((size_ + line_size - 1) / line_size * line_size),
      bytes_(std::size_t{options.connections} * stride_) {
  lines_.reserve(options.connections);
  fresh_.reserve(options.connections);
  for (unsigned i = 0; i < options.connections; ++i) {
    lines_.push_back({connect_to(options.port)});
    for (std::size_t at = 0; at < size_; ++at)
      message(i)[at] = static_cast<std::byte>(31 * i + 7 * at);
  }
}

void EchoLoad::run(std::uint64_t messages, harness::Histogram& round_trips) {
  unsent_ = awaited_ = messages;
  round_trips_ = &round_trips;
  rests_ = 0;
  exchange();
}

std::span<const std::byte> EchoLoad::next_message(std::size_t line) {
  --unsent_;
  Line& it = lines_[line];
  it.received = 0;
  ++it.number;
  std::memcpy(message(line), &it.number, sizeof it.number);
  fresh_.push_back(line);
  return {message(line), size_};
}

void EchoLoad::stamp_sent() noexcept {
  if (fresh_.empty())
    return;
  const std::uint64_t now = clock::begin();
  for (const std::size_t line : fresh_)
    lines_[line].sent_ticks = now;
  fresh_.clear();
}

void EchoLoad::stamp_received() noexcept {
  now_ticks_ = clock::end();
}

bool EchoLoad::take(std::size_t line, std::span<const std::byte> bytes) {
  Line& it = lines_[line];
  if (bytes.size() > size_ - it.received ||
      std::memcmp(message(line) + it.received, bytes.data(), bytes.size()) != 0)
    throw std::runtime_error("the echo server sent other bytes than it got");
  it.received += bytes.size();
  rests_ = 0;
  if (it.received < size_)
    return false;
  round_trips_->record(now_ticks_ - it.sent_ticks);
  --awaited_;
  return true;
}

void EchoLoad::idle() {
  constexpr std::uint64_t rests_a_look = 4096;
  pause_cpu();
  if (++rests_ % rests_a_look != 0)
    return;
  const std::int64_t now = clock::now_ns();
  if (rests_ == rests_a_look)
    give_up_ns_ = now + patience_ns;
  else if (now > give_up_ns_)
    throw std::runtime_error("the echo server has not answered for five seconds");
}

void EchoLoad::fail(long result) {
  if (result == 0)
    throw std::runtime_error("the echo server closed a connection");
  throw_errno(static_cast<int>(-result), "echo client");
}

std::unique_ptr<EchoLoad> make_echo_load(const EchoLoadOptions& options) {
  // A descriptor for each connection: more than the soft limit of old.
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  if (options.ring)
    if (auto load = make_ring_load(options))
      return load;
  return make_epoll_load(options);
}

}  // namespace schedlab::apparatus
