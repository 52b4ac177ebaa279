#pragma once
// How a process pool is set up, what a task may ask for, and what went wrong.

#include "procs/pool_error.hh"
#include "procs/process.hh"
#include "procs/waiting.hh"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <sys/types.h>

namespace schedlab::procs {

// Why a worker ended.
enum class Ended : std::uint8_t {
  left,       // it was told to: shutdown, resize
  tasks,      // it had done its number of tasks
  rss,        // it had grown too large
  exited,     // the task ended the process
  signalled,  // by a signal that was not ours
  oom,        // by the kernel for want of memory: the cgroup counted it
  timeout,    // we killed it, its task's time being up
  killed,     // we killed it, its pool being shut down
};
std::string_view to_text(Ended ended) noexcept;

struct WorkerEnd {
  Ended how = Ended::left;
  pid_t pid = -1;
  unsigned worker = 0;
  std::string text;  // "killed by SIGKILL", "exit status 0"
};

// What happened to the pool. Told on its supervisor's thread; the callee neither blocks nor throws.
struct PoolEvent {
  enum class Kind : std::uint8_t { started, ended, retried, quarantined, broken };
  Kind kind = Kind::started;
  unsigned worker = 0;
  pid_t pid = -1;
  std::uint64_t task = 0;  // retried, quarantined
  WorkerEnd end;           // ended, retried, quarantined
  std::string text;        // in one line
};

struct ProcessPoolOptions {
  unsigned workers = 0;       // 0: as many as affinity and cgroup quota leave CPUs for
  unsigned most_workers = 0;  // for resize(); 0: `workers`
  // exec and forkserver need procs::enter in main, and give clean processes. A fork needs nothing
  // and has all that the program had in memory when it was made, also the locks that its threads
  // held: a task that meets one of those waits for ever.
  StartMethod start = StartMethod::forkserver;
  // Of workers for tasks and of threads for results.
  Waiting waiting = Waiting::adaptive;
  // Tasks that a worker has before it, the one that runs among them. More is quicker for tiny
  // tasks, which then wake nobody.
  unsigned depth = 32;
  // Larger arguments and results take blocks of the arena.
  std::size_t slot_bytes = 512;
  // Shared memory for what is large: so much for each worker's results, and as much times the
  // workers for arguments.
  std::size_t arena_bytes = std::size_t{1} << 20;
  // Tasks that are not done; one more makes submit wait, or throw QueueFull.
  std::size_t queue = 4096;
  bool refuse_when_full = false;
  // Recycling; 0: never.
  std::uint32_t tasks_per_worker = 0;
  std::uint64_t rss_growth = 0;  // bytes beyond its size after its first task
  // A worker that dies without a task to blame is replaced, later each time in a row. More such
  // deaths than `most` within the window break the pool.
  unsigned most_restarts = 16;
  std::chrono::milliseconds restart_window{10'000};
  std::chrono::milliseconds first_back_off{1};
  // How long the destructor lets tasks go on, and how long a worker may take to leave when told.
  std::chrono::milliseconds drain{30'000};
  std::chrono::milliseconds leave{2'000};
  std::function<void(const PoolEvent&)> on_event = {};
};

struct TaskOptions {
  // How often the task may begin to run. More than once means at least once: an attempt that died
  // may have had its effects.
  unsigned attempts = 1;
  // From when it begins to run; then its worker is killed. 0: no end.
  std::chrono::nanoseconds timeout{0};
};

// submit: the queue is full, and was to refuse.
struct QueueFull : PoolError {
  using PoolError::PoolError;
};
// Its workers die faster than they may be replaced.
struct PoolBroken : PoolError {
  using PoolError::PoolError;
};
// The task had begun when its worker died, as often as it may. It may have had its effects.
struct WorkerDied : PoolError {
  WorkerDied(const std::string& text, WorkerEnd ended, unsigned made)
      : PoolError(text), end(std::move(ended)), attempts(made) {}
  WorkerEnd end;  // of the last attempt
  unsigned attempts;
};
// Likewise, its time being up.
struct TaskTimeout : WorkerDied {
  using WorkerDied::WorkerDied;
};

// What the pool has seen so far.
struct PoolCounts {
  std::uint64_t submitted = 0;
  std::uint64_t resolved = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t started = 0;      // workers
  std::uint64_t died = 0;         // of a signal, an exit, a timeout
  std::uint64_t recycled = 0;     // by tasks or size
  std::uint64_t blamed = 0;       // tasks that were running when their worker died
  std::uint64_t requeued = 0;     // tasks that went back without blame
  std::uint64_t retried = 0;      // tasks that were blamed and run again
  std::uint64_t quarantined = 0;  // tasks that were blamed and failed
  std::uint64_t timeouts = 0;
};

}  // namespace schedlab::procs
