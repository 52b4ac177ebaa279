#include "procs/process.hh"

#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "procs/enter.hh"
#include "procs/fork_server_state.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace schedlab::procs {

using detail::Order;
using detail::Told;

namespace {

// Whether a process has ended by then; negative: no limit.
bool ended_within(int pidfd, int timeout_ms) {
  const std::int64_t deadline = clock::now_ns() + std::int64_t{timeout_ms} * 1'000'000;
  for (;;) {
    const std::int64_t left_ms = (deadline - clock::now_ns() + 999'999) / 1'000'000;
    const int patience = timeout_ms < 0 ? -1 : static_cast<int>(std::max<std::int64_t>(left_ms, 0));
    pollfd ended{.fd = pidfd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&ended, 1, patience);
    if (ready >= 0)
      return ready > 0;
    if (errno != EINTR)
      throw_errno(errno, "poll");
  }
}

void send_signal(int pidfd, int number) noexcept {
  if (pidfd >= 0)
    ::syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, 0);
}

}  // namespace

// It is the server's child: its end is seen here, its cause is told by the server.
struct Process::Served {
  Fd pidfd;
  std::shared_ptr<ForkServer::State> server;

  Served(Fd fd, std::shared_ptr<ForkServer::State> by)
      : pidfd(std::move(fd)), server(std::move(by)) {}
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;
  ~Served() {
    if (!pidfd)
      return;
    send_signal(pidfd.get(), SIGKILL);
    pollfd ended{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
    while (::poll(&ended, 1, -1) < 0 && errno == EINTR)
      continue;
  }
};

namespace {

std::string own_name() {
  std::array<char, 16> name{};
  ::prctl(PR_GET_NAME, name.data());
  return name.data();
}

std::vector<unsigned long> mask_of(const affinity::CpuSet& cpus) {
  constexpr unsigned bits = sizeof(unsigned long) * CHAR_BIT;
  std::vector<unsigned long> mask;
  for (const unsigned cpu : cpus.cpus()) {
    mask.resize(std::max<std::size_t>(mask.size(), cpu / bits + 1));
    mask[cpu / bits] |= 1ul << cpu % bits;
  }
  return mask;
}

Order order_for(const ProcessOptions& options, const CallableId& body,
                std::span<const std::byte> argument) {
  Order order;
  order.body = body;
  order.name = options.name.empty() ? own_name() : options.name.substr(0, 15);
  order.argument = argument;
  if (options.cpus)
    order.cpu_mask = mask_of(*options.cpus);
  if (options.cpus && order.cpu_mask.empty())
    throw BadInput("a process needs a CPU to start on");
  for (const auto& [ours, theirs] : options.fds) {
    check(::fcntl(ours, F_GETFD), "fcntl", "descriptor to hand over");
    order.fds.push_back(theirs);
  }
  return order;
}

// The first number that is free in the child.
int above(const Order& order) {
  int number = STDERR_FILENO;
  for (const int fd : order.fds)
    number = std::max(number, fd);
  return number + 1;
}

// Threads of this process: each has a folder, which the parent folder links to.
void require_no_threads() {
  struct stat status {};
  if (::stat("/proc/self/task", &status) != 0)
    throw Unsupported("cannot see whether this process has threads, which a fork would leave "
                      "behind with their locks held: mount /proc, or start by exec");
  if (status.st_nlink > 3)
    throw Unsupported("this process has " + std::to_string(status.st_nlink - 2) +
                      " threads: a fork copies only the caller, and the locks of the others stay "
                      "locked in the copy; start by exec or by a forkserver");
}

void require_entered() {
  if (!entered())
    throw Unsupported("a process that is executed afresh begins at main, which must begin with "
                      "procs::enter(argc, argv); this process has not passed there");
}

Child start_by_exec(const Order& order, const ProcessOptions& options, const Fd& pipe) {
  require_entered();
  const Fd memory = order.write();
  const int free = above(order);
  SpawnOptions spawn{.fds = options.fds};
  spawn.cpu_mask = order.cpu_mask;
  spawn.fds.emplace_back(pipe.get(), free);
  spawn.fds.emplace_back(memory.get(), free + 1);
  return Child::exec(
      {self_exe, std::string(detail::child_word), std::to_string(free), std::to_string(free + 1)},
      spawn);
}

Child start_by_fork(const Order& order, const ProcessOptions& options, const Fd& pipe) {
  if (!options.despite_threads)
    require_no_threads();
  const int number = above(order);
  SpawnOptions spawn{.fds = options.fds};
  spawn.cpu_mask = order.cpu_mask;
  spawn.fds.emplace_back(pipe.get(), number);
  // What is not yet written would be written twice.
  std::fflush(stdout);
  return Child::fork(spawn, [&] {
    const int status = detail::play(order, number);
    std::fflush(stdout);
    return status;
  });
}

}  // namespace

std::string_view to_text(StartMethod method) noexcept {
  constexpr std::array<std::string_view, 3> words = {"fork", "exec", "forkserver"};
  return words[static_cast<std::size_t>(method)];
}

std::string Ending::text() const {
  switch (why) {
  case Why::exited:
  case Why::signalled:
    return cause.text() + (detail.empty() ? "" : "; " + detail);
  case Why::threw:
    return "an exception: " + detail;
  case Why::out_of_memory:
    return "out of memory: " + cause.text() + "; " + detail;
  case Why::timed_out:
    return "took longer than allowed: killed by us";
  case Why::unknown:
    break;
  }
  return "ended, but its forkserver ended first and took the cause with it";
}

Process::Process(const ProcessOptions& options, const CallableId& body,
                 std::span<const std::byte> argument)
    : oom_(OomKills::of_own_cgroup()), oom_before_(oom_.count()) {
  const Order order = order_for(options, body, argument);
  Pipe pipe = make_pipe();
  told_ = std::move(pipe.read);
  switch (options.method) {
  case StartMethod::fork:
    child_ = start_by_fork(order, options, pipe.write);
    break;
  case StartMethod::exec:
    child_ = start_by_exec(order, options, pipe.write);
    break;
  case StartMethod::forkserver:
    start_served(order, options, pipe.write);
    break;
  }
  if (!served_)
    pid_ = child_.pid();
  pipe.write = Fd();
  await_start(options);
}

void Process::start_served(const Order& order, const ProcessOptions& options, const Fd& pipe) {
  if (!options.server)
    throw BadInput("to start by a forkserver takes one: ProcessOptions::server");
  const auto& server = options.server->state_;
  const Fd memory = order.write();
  std::vector<int> fds = {memory.get(), pipe.get()};
  for (const auto& pair : options.fds)
    fds.push_back(pair.first);
  const std::scoped_lock lock(server->one_at_a_time);
  const std::array<std::byte, 1> request{};
  detail::send_with_fds(server->socket.get(), request, fds);
  detail::Packet packet = detail::receive_with_fds(server->socket.get());
  if (packet.closed)
    throw_errno(EPIPE, "recvmsg", "forkserver");
  if (packet.answer.error != 0)
    throw_errno(packet.answer.error, "fork", "in the forkserver");
  if (packet.fds.size() != 1) {
    ::kill(packet.answer.pid, SIGKILL);  // it has just been started, and has this number still
    throw_errno(EMFILE, "recvmsg", "pidfd of a process");
  }
  pid_ = packet.answer.pid;
  served_ = std::make_unique<Served>(std::move(packet.fds[0]), server);
}

// Until the child is about to call the body. What it could not do is thrown here.
void Process::await_start(const ProcessOptions& options) {
  const auto message = detail::hear(told_, options.start_within_ms, pidfd());
  if (message && message->what == Told::running)
    return;
  if (message && message->what == Told::failed)
    throw Unsupported(message->text);
  const auto ending = wait_for(0);
  if (!ending)
    throw Unsupported("a process was not running " + std::to_string(options.start_within_ms) +
                      " ms after its start; if it was executed, main must begin with "
                      "procs::enter(argc, argv)");
  if (options.method == StartMethod::exec)
    throw Unsupported("a process ended before it came to procs::enter(argc, argv) in main: " +
                      ending->text());
  if (options.cpus && ending->why == Ending::Why::exited)
    throw Unsupported("CPUs " + options.cpus->list() + " are not to be had for a process");
  throw Unsupported("a process ended before it ran: " + ending->text());
}

Process::Process() = default;
Process::Process(Process&&) noexcept = default;
Process& Process::operator=(Process&&) noexcept = default;
Process::~Process() = default;

int Process::pidfd() const noexcept {
  return served_ ? served_->pidfd.get() : child_.pidfd();
}

void Process::signal(int number) const noexcept {
  send_signal(pidfd(), number);
}

Ending Process::wait() {
  return *wait_for(-1);
}

std::optional<Ending> Process::wait_for(int timeout_ms) {
  if (!ended_within(pidfd(), timeout_ms))
    return std::nullopt;
  Ending ending;
  // What it said last is in the pipe; the server's word comes after its end.
  constexpr int server_is_quick_ms = 5'000;
  bool known = !served_;
  if (!served_)
    ending.cause = child_.wait();
  while (const auto message = detail::hear(told_, known ? 0 : server_is_quick_ms)) {
    if (message->what == Told::threw) {
      ending.why = Ending::Why::threw;
      ending.detail = message->text;
    } else if (message->what == Told::ended && message->text.size() == sizeof ending.cause) {
      std::memcpy(&ending.cause, message->text.data(), sizeof ending.cause);
      known = true;
    }
  }
  if (served_)
    served_->pidfd = Fd();
  if (!known)
    ending.why = Ending::Why::unknown;
  else if (ending.cause.kind == ExitCause::Kind::signalled)
    explain_signal(ending);
  return ending;
}

// A signal has no sender that could be asked; what is known of it is told.
void Process::explain_signal(Ending& ending) const {
  ending.why = Ending::Why::signalled;
  ending.detail.clear();
  if (ending.cause.value != SIGKILL)
    return;
  if (timed_out_) {
    ending.why = Ending::Why::timed_out;
    return;
  }
  const auto now = oom_.count();
  if (!oom_before_ || !now) {
    ending.detail = "no cgroup tells whether memory ran out";
  } else if (*now > *oom_before_) {
    ending.why = Ending::Why::out_of_memory;
    ending.detail = "oom_kill in " + oom_.path() + " rose from " + std::to_string(*oom_before_) +
                    " to " + std::to_string(*now);
  } else {
    ending.detail =
        "not for want of memory: oom_kill in " + oom_.path() + " stayed at " + std::to_string(*now);
  }
}

Ending Process::end_within(int timeout_ms) {
  if (auto ending = wait_for(timeout_ms))
    return *std::move(ending);
  timed_out_ = true;
  signal(SIGKILL);
  return wait();
}

}  // namespace schedlab::procs
