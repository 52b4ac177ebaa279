#pragma once
// A process that runs a function of this program, started in one of three ways, and how it ended.
//
//   fork        a copy of this process as it is now. Refused where there are other threads: their
//               locks would stay locked in the copy for ever.
//   exec        this program executed afresh (/proc/self/exe), without copying page tables: the
//               time it takes does not depend on how much memory the parent has. Needs
//               procs::enter() at the head of main.
//   forkserver  a copy of a ForkServer, a small process without threads: see fork_server.hh.
//
// All three give the child the same: its argument, the descriptors of the list, and 0, 1 and 2. A
// forked child also has a copy of the memory, and should not count on it.
//
// No process outlives the one that started it, however that ended: each holds a lifeline
// (lab/base/child.hh), and so do its own children.

#include "affinity/cpu_set.hh"
#include "lab/base/child.hh"
#include "procs/callable.hh"
#include "procs/oom.hh"

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>
#include <vector>

namespace schedlab::procs {

enum class StartMethod : std::uint8_t { fork, exec, forkserver };
// "fork", "exec", "forkserver".
std::string_view to_text(StartMethod method) noexcept;

class ForkServer;
namespace detail {
struct Order;
}

struct ProcessOptions {
  StartMethod method = StartMethod::exec;
  std::string name = {};                      // at most 15 bytes, shown by ps; empty: the caller's
  std::optional<affinity::CpuSet> cpus = {};  // before the program is loaded, read back
  // Descriptors the child gets, as {ours, number in the child}. There, they are close-on-exec.
  std::vector<std::pair<int, int>> fds = {};
  const ForkServer* server = nullptr;  // for StartMethod::forkserver
  bool despite_threads = false;        // fork although there are other threads
  int start_within_ms = 10'000;        // kills it, and throws, if it is not running by then
};

// How a process ended, and why.
struct Ending {
  enum class Why : std::uint8_t {
    exited,         // by itself, with the status of `cause`
    threw,          // the body did; `detail` is what it said, the status 1
    signalled,      // by the signal of `cause`
    out_of_memory,  // by SIGKILL, while the cgroup counted a kill for want of memory
    timed_out,      // killed by end_within
    unknown,        // its forkserver ended first, and the kernel tells only parents
  };
  Why why = Why::exited;
  ExitCause cause = {};
  std::string detail = {};

  [[nodiscard]] bool success() const noexcept { return why == Why::exited && cause.success(); }
  // "exit status 3", "killed by SIGSEGV", "killed by SIGKILL; its memory cgroup counted ...".
  [[nodiscard]] std::string text() const;
};

// Thread rule: an object belongs to one thread at a time; different objects are independent, also
// those of one forkserver.
class Process {
public:
  // Gives the exit status. What it throws ends the process, and is told by its ending.
  using Body = int(std::span<const std::byte> argument);

  Process();
  // Returns when the child is about to call the body. Throws, and leaves no child: Unsupported
  // where the way is closed (no enter(), threads before a fork, another build, the CPUs not to be
  // had), std::system_error (EAGAIN: RLIMIT_NPROC or pids.max, EMFILE, ENOMEM, EBADF).
  Process(const ProcessOptions& options, const CallableId& body,
          std::span<const std::byte> argument = {});
  // The same for a function named at compile time.
  template <auto CapturesNothing>
  static Process start(const ProcessOptions& options, std::span<const std::byte> argument = {}) {
    return {options, callable<Body, CapturesNothing>(), argument};
  }
  Process(Process&&) noexcept;
  // Kill and reap a process that was not waited for.
  Process& operator=(Process&& other) noexcept;
  ~Process();

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  // Becomes readable when the process ends; -1 once it has been waited for.
  [[nodiscard]] int pidfd() const noexcept;
  void signal(int number) const noexcept;

  // Blocks until it has ended, and reaps it. Called once.
  Ending wait();
  // As wait, but gives up after `timeout_ms`; the process then still runs.
  std::optional<Ending> wait_for(int timeout_ms);
  // As wait, but kills it after `timeout_ms`.
  Ending end_within(int timeout_ms);

private:
  struct Served;  // the part of one that a forkserver has started
  void start_served(const detail::Order& order, const ProcessOptions& options, const Fd& pipe);
  void await_start(const ProcessOptions& options);
  void explain_signal(Ending& ending) const;

  pid_t pid_ = -1;
  Child child_;  // of fork and exec
  std::unique_ptr<Served> served_;
  Fd told_;  // what it says of itself
  OomKills oom_;
  std::optional<std::uint64_t> oom_before_;
  bool timed_out_ = false;
};

}  // namespace schedlab::procs
