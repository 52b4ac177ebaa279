#include "lab/base/child.hh"

#include "lab/base/clock.hh"
#include "lab/base/error.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>
#include <cstring>
#include <memory>
#include <span>

extern char** environ;

namespace schedlab {

namespace {

using FdMap = std::vector<std::pair<int, int>>;

int highest(const FdMap& fds) {
  int above = 2;
  for (const auto& [ours, theirs] : fds)
    above = std::max({above, ours, theirs});
  return above;
}

// In the child: SIGKILL when the last write end of the pipe closes. The descriptor stays open
// across exec, above the numbers that the caller maps. Gives its number.
int die_with_parent(int lifeline, pid_t parent, int above) {
  lifeline = ::fcntl(lifeline, F_DUPFD, above + 1);
  ::fcntl(lifeline, F_SETOWN, ::getpid());
  ::fcntl(lifeline, F_SETSIG, SIGKILL);
  ::fcntl(lifeline, F_SETFL, ::fcntl(lifeline, F_GETFL) | O_ASYNC);
  // The parent may have died before the signal was armed.
  pollfd closed{.fd = lifeline, .events = POLLIN, .revents = 0};
  if (lifeline < 0 || ::getppid() != parent || ::poll(&closed, 1, 0) != 0)
    ::_exit(1);
  return lifeline;
}

// In the child: moves it to its CPUs; false, with errno, if the kernel granted others.
bool stand_on(const std::vector<unsigned long>& mask) {
  if (mask.empty())
    return true;
  const std::size_t size = mask.size() * sizeof mask[0];
  if (::syscall(SYS_sched_setaffinity, 0, size, mask.data()) != 0)
    return false;
  std::array<unsigned long, 1024> granted{};
  const long got = ::syscall(SYS_sched_getaffinity, 0, sizeof granted, granted.data());
  const bool same = got > 0 && std::ranges::equal(mask, std::span(granted).first(mask.size()));
  if (!same)
    errno = EINVAL;
  return same;
}

// In the child: what the parent handles is the default again, as exec would make it, so that
// unblocking runs none of its handlers in the child, which may share the parent's memory.
void drop_handlers() {
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action {};
    if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_DFL &&
        action.sa_handler != SIG_IGN)
      ::signal(number, SIG_DFL);
  }
}

// In the child: closes all but 0, 1, 2 and those on the list, which is sorted for it.
void close_others(std::vector<int> keep) {
  std::ranges::sort(keep);
  keep.push_back(INT_MAX);
  unsigned from = 3;
  for (const int kept : keep) {
    const auto number = static_cast<unsigned>(kept);
    if (number > from && ::syscall(SYS_close_range, from, number - 1, 0) != 0)
      for (unsigned one = from; one < std::min(number, 65'536u); ++one)
        ::close(static_cast<int>(one));
    from = std::max(from, number + 1);
  }
}

// In the child: gives each descriptor its number; false, with errno, if one is not open. The
// sources are moved away first, because one may sit on a number that another wants. Only
// async-signal-safe calls.
bool map_fds(FdMap& fds) {
  const int above = highest(fds);
  for (auto& [ours, theirs] : fds)
    ours = ::fcntl(ours, F_DUPFD_CLOEXEC, above + 1);
  return std::ranges::all_of(fds, [](const auto& pair) {
    return pair.first >= 0 && ::dup2(pair.first, pair.second) >= 0;
  });
}

// No signal reaches the calling thread while this exists.
class SignalsBlocked {
public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

private:
  sigset_t before_;
};

// What a child that could not become a program says of it.
struct Failure {
  enum class Step : int { affinity, program };
  Step step = Step::program;
  int error = 0;
};

std::vector<std::string> merged_environment(const SpawnOptions& options) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry; ++entry) {
    const std::string_view text(*entry);
    const bool replaced = std::ranges::any_of(options.environment, [&](const auto& pair) {
      return text.starts_with(pair.first) && text.substr(pair.first.size()).starts_with('=');
    });
    if (!replaced)
      merged.emplace_back(text);
  }
  for (const auto& [name, value] : options.environment)
    merged.push_back(name + "=" + value);
  return merged;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (auto& text : texts)
    result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

ExitCause reap(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR)
      throw_errno(errno, "waitpid", std::to_string(pid));
  if (WIFSIGNALED(status))
    return {ExitCause::Kind::signalled, WTERMSIG(status), WCOREDUMP(status) != 0};
  return {ExitCause::Kind::exited, WEXITSTATUS(status), false};
}

}  // namespace

std::string ExitCause::text() const {
  if (kind == Kind::exited)
    return "exit status " + std::to_string(value);
  const char* name = ::sigabbrev_np(value);
  return "killed by " + (name ? std::string("SIG") + name : "signal " + std::to_string(value)) +
         (core_dumped ? " (core dumped)" : "");
}

Child Child::start(bool share_memory, const std::function<void(int)>& in_child, int keep_clear) {
  Pipe lifeline = make_pipe();
  const pid_t parent = ::getpid();
  // With vfork this stack frame is the child's too until it executes a program: nothing of the
  // parent's may be changed, and nothing returned from.
  const pid_t pid = check(share_memory ? ::vfork() : ::fork(), share_memory ? "vfork" : "fork");
  if (pid == 0) {
    ::close(lifeline.write.get());
    in_child(die_with_parent(lifeline.read.get(), parent, keep_clear));
    ::_exit(127);
  }
  Fd pidfd = open_pidfd(pid);
  if (!pidfd) {
    const int error = errno;
    ::kill(pid, SIGKILL);
    reap(pid);
    throw_errno(error, "pidfd_open");
  }
  return {pid, std::move(pidfd), std::move(lifeline.write)};
}

Child Child::exec(const std::vector<std::string>& argv, const SpawnOptions& options) {
  auto arguments = argv;
  auto environment = merged_environment(options);
  const auto argument_list = pointers(arguments);
  const auto environment_list = pointers(environment);
  auto fds = options.fds;
  const int above = highest(fds);
  Pipe failure = make_pipe();

  Child child = [&] {
    const SignalsBlocked blocked;
    return start(
        true,
        [&](int) {
          if (options.own_group)
            ::setpgid(0, 0);
          drop_handlers();
          sigset_t none;
          ::sigemptyset(&none);
          ::sigprocmask(SIG_SETMASK, &none, nullptr);
          const int report = ::fcntl(failure.write.get(), F_DUPFD_CLOEXEC, above + 1);
          Failure failed{.step = Failure::Step::affinity, .error = 0};
          if (stand_on(options.cpu_mask)) {
            failed.step = Failure::Step::program;
            if (map_fds(fds))
              ::execvpe(argument_list[0], argument_list.data(), environment_list.data());
          }
          failed.error = errno;
          static_cast<void>(!::write(report, &failed, sizeof failed));
        },
        above);
  }();

  failure.write = Fd();
  Failure failed;
  ssize_t got;
  do
    got = ::read(failure.read.get(), &failed, sizeof failed);
  while (got < 0 && errno == EINTR);
  if (got == static_cast<ssize_t>(sizeof failed))
    throw_errno(failed.error,
                failed.step == Failure::Step::affinity ? "sched_setaffinity for" : "exec",
                argv.at(0));
  return child;
}

Child Child::fork(const std::function<int()>& body) {
  return start(
      false, [&](int) { ::_exit(body()); }, 2);
}

Child Child::fork(const SpawnOptions& options, const std::function<int()>& body) {
  auto fds = options.fds;
  return start(
      false,
      [&](int lifeline) {
        std::vector<int> keep = {lifeline};
        for (const auto& pair : fds)
          keep.push_back(pair.second);
        if (!stand_on(options.cpu_mask) || !map_fds(fds))
          return;
        close_others(std::move(keep));
        ::_exit(body());
      },
      highest(fds));
}

Child& Child::operator=(Child&& other) noexcept {
  if (this != &other) {
    this->~Child();
    new (this) Child(std::move(other));
  }
  return *this;
}

Child::~Child() {
  if (!pidfd_)
    return;
  signal(SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Child::signal(int number) const noexcept {
  if (pidfd_)
    ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0);
}

ExitCause Child::wait() {
  const ExitCause cause = reap(pid_);
  pidfd_ = Fd();
  lifeline_ = Fd();
  return cause;
}

std::optional<ExitCause> Child::wait_for(int timeout_ms) {
  const std::int64_t deadline = clock::now_ns() + std::int64_t{timeout_ms} * 1'000'000;
  for (;;) {
    const std::int64_t left_ms = (deadline - clock::now_ns()) / 1'000'000;
    pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&ended, 1, static_cast<int>(std::max<std::int64_t>(left_ms, 0)));
    if (ready > 0)
      return wait();
    if (ready < 0 && errno != EINTR)
      throw_errno(errno, "poll");
    if (ready == 0)
      return std::nullopt;
  }
}

namespace {

// Reads what is there; false at the end of the stream.
bool drain(Fd& fd, std::string& text) {
  std::array<char, 16384> block;
  const auto got = ::read(fd.get(), block.data(), block.size());
  if (got < 0 && errno == EINTR)
    return true;
  if (got <= 0)
    return false;
  text.append(block.data(), static_cast<std::size_t>(got));
  return true;
}

}  // namespace

Output capture(const std::vector<std::string>& argv, const SpawnOptions& options, int timeout_ms) {
  const Fd nothing(check(::open("/dev/null", O_RDONLY | O_CLOEXEC), "open", "/dev/null"));
  Pipe out = make_pipe();
  Pipe err = make_pipe();
  SpawnOptions wired = options;
  wired.fds.insert(wired.fds.end(),
                   {{nothing.get(), 0}, {out.write.get(), 1}, {err.write.get(), 2}});
  Child child = Child::exec(argv, wired);
  out.write = Fd();
  err.write = Fd();

  Output result;
  const std::int64_t deadline = clock::now_ns() + std::int64_t{timeout_ms} * 1'000'000;
  const auto left_ms = [&] {
    return static_cast<int>(std::max<std::int64_t>((deadline - clock::now_ns()) / 1'000'000, 0));
  };
  while ((out.read || err.read) && left_ms() > 0) {
    // A descriptor of -1 is passed over.
    std::array<pollfd, 2> streams{{{.fd = out.read.get(), .events = POLLIN, .revents = 0},
                                   {.fd = err.read.get(), .events = POLLIN, .revents = 0}}};
    ::poll(streams.data(), streams.size(), left_ms());
    if (streams[0].revents && !drain(out.read, result.out))
      out.read = Fd();
    if (streams[1].revents && !drain(err.read, result.err))
      err.read = Fd();
  }
  // Its streams may end long before it, or, with a grandchild that holds them, long after.
  auto cause = child.wait_for(left_ms());
  if (!cause)
    child.signal(SIGKILL);
  result.cause = cause ? *cause : child.wait();
  return result;
}

}  // namespace schedlab
