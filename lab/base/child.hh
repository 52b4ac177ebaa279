#pragma once
// One child process: how it starts, how its end is seen, and that it never outlives us.
//
// Death of the parent. A child holds the read end of a pipe whose only write end the parent owns;
// the descriptor is set to deliver SIGKILL when that end closes (F_SETSIG), so a child dies with
// its parent however that died, without a thread, a poll or a cooperating program, and the setting
// survives exec. PR_SET_PDEATHSIG is not used: it fires when the *thread* that forked ends.
//
// Thread rule: an object belongs to one thread at a time; different objects are independent.

#include "lab/base/fd.hh"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <sys/types.h>
#include <utility>
#include <vector>

namespace schedlab {

// How a process ended.
struct ExitCause {
  enum class Kind : unsigned char { exited, signalled };
  Kind kind = Kind::exited;
  int value = 0;  // exit status or signal number
  bool core_dumped = false;

  [[nodiscard]] bool success() const noexcept { return kind == Kind::exited && value == 0; }
  // "exit status 3", "killed by SIGKILL".
  [[nodiscard]] std::string text() const;
};

struct SpawnOptions {
  // Descriptors the child gets, as {ours, number in the child}; 0, 1 and 2 are inherited unless
  // mapped. Everything else of ours is close-on-exec.
  std::vector<std::pair<int, int>> fds = {};
  // Added to our environment, or replacing it there: {"NAME", "value"}.
  std::vector<std::pair<std::string, std::string>> environment = {};
  // Signals a terminal sends to the whole group do not reach the child.
  bool own_group = false;
  // CPUs of the child, as the words of a kernel mask; it is on them, as read back, before it loads
  // the program or runs its body. Empty: ours.
  std::vector<unsigned long> cpu_mask = {};
};

class Child {
public:
  Child() = default;
  Child(Child&&) noexcept = default;
  // Assigning to a child that still runs kills and reaps it first.
  Child& operator=(Child&& other) noexcept;
  // Kills and reaps a child that was not waited for.
  ~Child();

  // Runs a program, with no signal blocked. argv[0] is its path, looked up in PATH if it has no
  // slash. Throws std::system_error if it cannot be started, also when exec itself failed. Our page
  // tables are not copied, however large we are; the calling thread stands still meanwhile.
  static Child exec(const std::vector<std::string>& argv, const SpawnOptions& options = {});
  // Runs `body` in a forked copy of this process and ends it with the returned status, without
  // running destructors or flushing streams of ours. The body must not throw.
  static Child fork(const std::function<int()>& body);
  // The same in a copy that has the descriptors of the options, 0, 1 and 2, and no other of ours.
  // `body` is not run, and the exit status is 127, where they or the CPUs cannot be had.
  static Child fork(const SpawnOptions& options, const std::function<int()>& body);

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  // Becomes readable when the child ends; -1 once it has been waited for.
  [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }

  void signal(int number) const noexcept;
  // Blocks until the child has ended, and reaps it.
  ExitCause wait();
  // As wait, but gives up after `timeout_ms`; the child then still runs.
  std::optional<ExitCause> wait_for(int timeout_ms);

private:
  Child(pid_t pid, Fd pidfd, Fd lifeline)
      : pid_(pid), pidfd_(std::move(pidfd)), lifeline_(std::move(lifeline)) {}
  // `in_child` gets the number of its lifeline.
  static Child start(bool share_memory, const std::function<void(int)>& in_child, int keep_clear);

  pid_t pid_ = -1;
  Fd pidfd_;
  Fd lifeline_;  // the write end: closing it kills the child
};

// What a program printed and how it ended.
struct Output {
  ExitCause cause;
  std::string out;
  std::string err;
};

// Runs a program to its end with empty standard input, and collects both its streams. Kills it
// after `timeout_ms`.
Output capture(const std::vector<std::string>& argv, const SpawnOptions& options = {},
               int timeout_ms = 60'000);

// The path of the running program, for starting it again.
inline constexpr const char* self_exe = "/proc/self/exe";

}  // namespace schedlab
