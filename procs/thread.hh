#pragma once
#include "affinity/cpu_set.hh"
#include "procs/sched_attr.hh"

#include <csignal>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

namespace schedlab::procs {

struct ThreadOptions {
  std::string name = {};                      // at most 15 bytes, shown by ps -L; longer is cut
  std::optional<affinity::CpuSet> cpus = {};  // pinned before `body` runs, read back
  std::optional<SchedAttr> sched = {};        // set before `body` runs, read back
};

// A thread that starts where and how it was told to. The constructor returns when the thread is in
// place, and throws what placing it threw (then no thread is left): std::system_error, Unsupported.
// `body` runs once placing has succeeded, and not before. Joined by the destructor. An object
// belongs to one thread at a time.
class Thread {
public:
  Thread() = default;
  Thread(const ThreadOptions& options, std::function<void()> body);
  Thread(Thread&&) noexcept = default;
  Thread& operator=(Thread&&) noexcept = default;
  ~Thread() = default;

  // The kernel's number of the thread; valid until it is joined.
  [[nodiscard]] pid_t tid() const noexcept { return tid_; }
  // Waits for the end and rethrows what the body threw, once. A failure that nobody joins for is
  // dropped by the destructor.
  void join();
  [[nodiscard]] bool joinable() const noexcept { return thread_.joinable(); }

private:
  struct Start;
  pid_t tid_ = -1;
  std::shared_ptr<std::exception_ptr> failure_;
  std::jthread thread_;  // last: joined before the rest goes
};

// While it lives, threads that the calling one starts take no signals, but for those of their own
// faults: signals are for the program's own threads.
class SignalsBlocked {
public:
  SignalsBlocked() noexcept;
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked();

private:
  sigset_t before_;
};

// What may have refused a thread or a process, with its value: for messages.
std::string task_limits();

}  // namespace schedlab::procs
