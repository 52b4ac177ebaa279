#include "lab/apparatus/smallest_program.hh"
#include "lab/apparatus/spawn_way.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "lab/base/mapping.hh"
#include "procs/fork_server.hh"
#include "procs/process.hh"
#include "procs/sealed_memory.hh"

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <optional>

extern char** environ;

namespace schedlab::apparatus {

namespace {

// A program that is executed and ends.
class Program : public SpawnWay {
public:
  // "" stands for the smallest.
  explicit Program(const std::string& path) {
    if (path.empty())
      smallest_.emplace();
    path_ = path.empty() ? smallest_->path() : path;
    status_ = path.empty() ? smallest_program_status : 0;
  }

protected:
  bool join(SpawnStamps& stamps) final {
    int status = 0;
    rusage used{};
    pid_t got;
    do
      got = ::wait4(pid_, &status, 0, &used);
    while (got < 0 && errno == EINTR);
    stamps.faults = static_cast<std::uint64_t>(used.ru_minflt + used.ru_majflt);
    return got == pid_ && WIFEXITED(status) && WEXITSTATUS(status) == status_;
  }
  // In the child.
  [[noreturn]] void become() noexcept {
    ::execve(path_.c_str(), arguments_.data(), environ);
    ::_exit(127);
  }
  pid_t pid_ = -1;
  std::string path_;
  std::string name_ = "program";
  std::array<char*, 2> arguments_ = {name_.data(), nullptr};

private:
  std::optional<SmallestProgram> smallest_;
  int status_ = 0;
};

class ForkExec final : public Program {
  using Program::Program;
  void start(SpawnStamps&) override {
    pid_ = check(::fork(), "fork");
    if (pid_ == 0)
      become();
  }
};

class VforkExec final : public Program {
  using Program::Program;
  void start(SpawnStamps&) override {
    const pid_t pid = check(::vfork(), "vfork");
    if (pid == 0)
      become();
    pid_ = pid;
  }
};

class PosixSpawn final : public Program {
  using Program::Program;
  void start(SpawnStamps&) override {
    const int error =
        ::posix_spawn(&pid_, path_.c_str(), nullptr, nullptr, arguments_.data(), environ);
    if (error != 0)
      throw_errno(error, "posix_spawn", path_);
  }
};

constexpr int board_fd = 3;

// What a process of procs is given.
struct Errand {
  clock::Source source = clock::Source::monotonic_raw;
  double ns_per_tick = 1;
  std::uint64_t number = 0;
};

std::uint64_t answer_to(std::uint64_t number) noexcept {
  return number * number + 1;
}

int run_errand(std::span<const std::byte> argument) {
  Errand errand;
  if (argument.size() != sizeof errand)
    return 1;
  std::memcpy(&errand, argument.data(), sizeof errand);
  clock::set({errand.source, errand.ns_per_tick, ""});
  const std::uint64_t begun = clock::begin();
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const Mapping board = Mapping::of_file(Fd(board_fd), sizeof(SpawnStamps));
  SpawnStamps& stamps = *board.as<SpawnStamps>();
  stamps.begun = begun;
  stamps.faults = static_cast<std::uint64_t>(used.ru_minflt + used.ru_majflt);
  stamps.answer = answer_to(errand.number);
  stamps.ended = clock::end();
  return 0;
}

class ByProcs final : public SpawnWay {
public:
  explicit ByProcs(procs::StartMethod method)
      : board_(procs::SealedMemory::make(sizeof(SpawnStamps), "spawn-board")) {
    options_.method = method;
    options_.name = "errand";
    options_.despite_threads = true;  // a sanitizer's; this process holds no lock but its own
    options_.fds = {{board_.fd().get(), board_fd}};
    if (method == procs::StartMethod::forkserver) {
      server_.emplace();
      options_.server = &*server_;
    }
  }

private:
  void start(SpawnStamps&) override {
    new (board_.data()) SpawnStamps;
    const auto& clock = clock::current();
    const Errand errand{clock.source, clock.ns_per_tick, ++number_};
    process_ = procs::Process::start<run_errand>(options_, std::as_bytes(std::span(&errand, 1)));
  }
  bool join(SpawnStamps& stamps) override {
    const bool well = process_.wait().success();
    stamps = *board_.as<SpawnStamps>();
    return well;
  }
  [[nodiscard]] bool right(const SpawnStamps& stamps) override {
    return stamps.answer == answer_to(number_);
  }

  procs::SealedMemory board_;
  std::optional<procs::ForkServer> server_;
  procs::ProcessOptions options_;
  procs::Process process_;
  std::uint64_t number_ = 0;
};

}  // namespace

std::unique_ptr<SpawnWay> make_program_way(std::string_view way) {
  if (way == "spawn")
    return std::make_unique<PosixSpawn>("");
  if (way == "fork-exec")
    return std::make_unique<ForkExec>("");
  if (way == "vfork-exec")
    return std::make_unique<VforkExec>("");
  if (way == "vfork-exec-dynamic")
    return std::make_unique<VforkExec>("/bin/true");
  for (const auto method :
       {procs::StartMethod::fork, procs::StartMethod::exec, procs::StartMethod::forkserver})
    if (way == "procs/" + std::string(to_text(method)))
      return std::make_unique<ByProcs>(method);
  return nullptr;
}

}  // namespace schedlab::apparatus
