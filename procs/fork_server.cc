#include "procs/fork_server.hh"

#include "lab/base/error.hh"
#include "procs/fork_server_state.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <utility>

namespace schedlab::procs {

namespace detail {

namespace {

// The kernel passes at most so many at once (SCM_MAX_FD).
constexpr std::size_t most_fds = 253;

}  // namespace

void send_with_fds(int socket, std::span<const std::byte> data, std::span<const int> fds) {
  if (fds.size() > most_fds)
    throw Unsupported("a forkserver hands over at most 251 descriptors; use exec");
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(most_fds * sizeof(int))> control{};
  iovec part{const_cast<std::byte*>(data.data()), data.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(head), fds.data(), fds.size_bytes());
  }
  ssize_t sent;
  do
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  check(sent, "sendmsg", "forkserver");
}

Packet receive_with_fds(int socket) {
  Packet packet;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(most_fds * sizeof(int))> control;
  iovec part{&packet.answer, sizeof packet.answer};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got;
  do
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  packet.closed = got <= 0;
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
      continue;
    std::array<int, most_fds> numbers;
    const std::size_t bytes = head->cmsg_len - CMSG_LEN(0);
    std::memcpy(numbers.data(), CMSG_DATA(head), bytes);
    for (const int number : std::span(numbers).first(bytes / sizeof(int)))
      packet.fds.emplace_back(number);
  }
  packet.complete = (message.msg_flags & MSG_CTRUNC) == 0;
  return packet;
}

}  // namespace detail

namespace {

constexpr int server_socket = 3;

// A child of the server, and the pipe on which its end is told.
struct Started {
  Child child;
  Fd told;
};

// In the server: one request.
Started start(const detail::Packet& packet) {
  if (!packet.complete)
    throw_errno(EMFILE, "recvmsg", "forkserver");
  if (packet.fds.size() < 2)
    throw_errno(EINVAL, "recvmsg", "forkserver");
  const detail::Order order = detail::Order::read(packet.fds[0]);
  SpawnOptions spawn;
  spawn.cpu_mask = order.cpu_mask;
  int above = STDERR_FILENO;
  for (std::size_t i = 0; i < std::min(order.fds.size(), packet.fds.size() - 2); ++i) {
    spawn.fds.emplace_back(packet.fds[i + 2].get(), order.fds[i]);
    above = std::max(above, order.fds[i]);
  }
  const int pipe = above + 1;
  spawn.fds.emplace_back(packet.fds[1].get(), pipe);
  Started started;
  started.child = Child::fork(spawn, [&] {
    std::signal(SIGINT, SIG_DFL);
    const int status = detail::play(order, pipe);
    std::fflush(stdout);
    return status;
  });
  started.told = Fd(::fcntl(packet.fds[1].get(), F_DUPFD_CLOEXEC, 3));
  return started;
}

void answer(const Fd& socket, std::vector<Started>& all) {
  detail::Packet packet = detail::receive_with_fds(socket.get());
  detail::Answer answer;
  try {
    all.push_back(start(packet));
    answer.pid = all.back().child.pid();
    const std::array pidfd = {all.back().child.pidfd()};
    detail::send_with_fds(socket.get(), std::as_bytes(std::span(&answer, 1)), pidfd);
  } catch (const std::system_error& error) {
    answer.error = error.code().value();
    detail::send_with_fds(socket.get(), std::as_bytes(std::span(&answer, 1)), {});
  }
}

// Tells of the children that have ended.
void reap(std::vector<Started>& all) {
  std::erase_if(all, [](Started& one) {
    const auto cause = one.child.wait_for(0);
    if (cause)
      detail::tell(one.told.get(), detail::Told::ended,
                   {reinterpret_cast<const char*>(&*cause), sizeof *cause});
    return cause.has_value();
  });
}

int serve(std::span<const std::byte>) {
  std::signal(SIGINT, SIG_IGN);  // a terminal's is for the program, which then ends us
  Fd socket(server_socket);
  std::vector<Started> all;
  while (socket || !all.empty()) {
    std::vector<pollfd> watched = {{.fd = socket.get(), .events = POLLIN, .revents = 0}};
    for (const Started& one : all)
      watched.push_back({.fd = one.child.pidfd(), .events = POLLIN, .revents = 0});
    if (::poll(watched.data(), watched.size(), -1) < 0)
      continue;
    reap(all);
    if ((watched[0].revents & POLLIN) != 0)
      answer(socket, all);
    else if (watched[0].revents != 0)
      socket = Fd();
  }
  return 0;
}

}  // namespace

ForkServer::ForkServer(StartMethod method) : state_(std::make_shared<State>()) {
  std::array<int, 2> ends;
  check(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), "socketpair");
  state_->socket = Fd(ends[0]);
  const Fd theirs(ends[1]);
  state_->server = Process::start<serve>(
      {.method = method, .name = "forkserver", .fds = {{theirs.get(), server_socket}}});
}

pid_t ForkServer::pid() const noexcept {
  return state_->server.pid();
}

bool ForkServer::running() const noexcept {
  pollfd ended{.fd = state_->server.pidfd(), .events = POLLIN, .revents = 0};
  return ::poll(&ended, 1, 0) == 0;
}

}  // namespace schedlab::procs
