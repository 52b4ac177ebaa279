#include "iouring/subprocess.hh"

#include "iouring/gather.hh"
#include "iouring/perform.hh"

#include <fcntl.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <tuple>

namespace schedlab::iouring {

namespace {

// The child's standard descriptors, and those of our ends that are pipes.
class Ends {
public:
  explicit Ends(SpawnOptions& spawn) : spawn_(spawn) {}

  // Gives our end of a pipe, if there is one.
  Fd connect(Stdio how, int number) {
    if (how == Stdio::inherit)
      return {};
    if (how == Stdio::out) {
      spawn_.fds.emplace_back(out_, number);
      return {};
    }
    if (how == Stdio::null) {
      const int fd = ::open("/dev/null", (number == 0 ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
      keep(Fd(check(fd, "open", "/dev/null")), number);
      return {};
    }
    Pipe pipe = make_pipe();
    keep(std::move(number == 0 ? pipe.read : pipe.write), number);
    return std::move(number == 0 ? pipe.write : pipe.read);
  }

private:
  void keep(Fd fd, int number) {
    spawn_.fds.emplace_back(fd.get(), number);
    if (number == 1)
      out_ = fd.get();
    kept_.push_back(std::move(fd));
  }

  SpawnOptions& spawn_;
  std::vector<Fd> kept_;  // until the child has them
  int out_ = 1;
};

[[noreturn]] void no_pipe(const char* name) {
  throw_errno(EBADF, "no pipe", name);
}

}  // namespace

Process::Process(const std::vector<std::string>& argv, const ProcessOptions& options) {
  SpawnOptions spawn;
  spawn.environment = options.environment;
  spawn.own_group = options.own_group;
  Ends ends(spawn);
  Fd in = ends.connect(options.in == Stdio::out ? Stdio::inherit : options.in, 0);
  Fd out = ends.connect(options.out == Stdio::out ? Stdio::inherit : options.out, 1);
  Fd err = ends.connect(options.err, 2);
  child_ = Child::exec(argv, spawn);
  if (in)
    in_ = std::make_unique<InPipe>(std::move(in));
  if (out)
    out_ = std::make_unique<OutPipe>(std::move(out), "standard output");
  if (err)
    err_ = std::make_unique<OutPipe>(std::move(err), "standard error");
}

Writer& Process::in() const {
  if (!in_)
    no_pipe("standard input");
  return in_->writer;
}

Reader& Process::out() const {
  if (!out_)
    no_pipe("standard output");
  return out_->reader;
}

Reader& Process::err() const {
  if (!err_)
    no_pipe("standard error");
  return err_->reader;
}

Task<> Process::close_in() {
  if (!in_)
    co_return;
  co_await in_->writer.flush();
  const std::unique_ptr<InPipe> pipe = std::move(in_);
  co_await pipe->descriptor.close();
}

// 0 once the child has ended, without reaping it, or -errno. So nothing is lost when cancelled.
Task<int> Process::ended(std::chrono::nanoseconds limit) {
  siginfo_t info{};
  const int result = co_await perform({.op = Op::wait_child,
                                       .fd = child_.pid(),
                                       .flags = WEXITED | WNOWAIT,
                                       .address = &info,
                                       .timeout_ns = limit.count()});
  co_return std::min(result, 0);
}

Task<ExitCause> Process::wait() {
  if (!cause_) {
    const int result = co_await ended({});
    if (!cause_) {  // another task may have been first
      check_kernel(result, "waitid", std::to_string(pid()));
      cause_ = child_.wait();
    }
  }
  co_return *cause_;
}

Task<std::optional<ExitCause>> Process::wait_for(std::chrono::nanoseconds limit) {
  if (!cause_) {
    const int result = co_await ended(std::max(limit, std::chrono::nanoseconds(1)));
    if (!cause_ && result == -ETIME)
      co_return std::nullopt;
    if (!cause_) {
      check_kernel(result, "waitid", std::to_string(pid()));
      cause_ = child_.wait();
    }
  }
  co_return cause_;
}

void Process::signal(int number) const noexcept {
  if (!cause_)
    child_.signal(number);
}

Task<ExitCause> Process::terminate(std::chrono::nanoseconds grace) {
  signal(SIGTERM);
  const std::optional<ExitCause> cause = co_await wait_for(grace);
  if (cause)
    co_return *cause;
  kill();
  const ExitCause killed = co_await wait();
  co_return killed;
}

Task<> Process::feed(std::string input) {
  if (!in_)
    co_return;
  try {
    in_->writer.write(input);
    co_await close_in();
  } catch (const std::system_error& error) {
    if (error.code().value() != EPIPE)
      throw;
    in_.reset();
  }
}

Task<std::string> Process::collect(OutPipe* pipe, std::size_t limit) {
  if (!pipe)
    co_return std::string();
  std::string all = co_await pipe->reader.read_all(limit);
  co_return all;
}

Task<Communicated> Process::communicate(std::string input, std::size_t limit) {
  auto done = co_await gather(feed(std::move(input)), collect(out_.get(), limit),
                              collect(err_.get(), limit));
  const ExitCause cause = co_await wait();
  co_return Communicated{cause, std::move(std::get<1>(done)), std::move(std::get<2>(done))};
}

}  // namespace schedlab::iouring
