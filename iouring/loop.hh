#pragma once
// The event loop: one for each thread that wants one, made, run and destroyed by that thread. A
// turn hands all new requests over and collects completions in one system call or two, lets timers
// expire that are due, takes what other threads posted, and runs what is ready. Nothing is resumed
// from within another coroutine's wait, so that no stack grows and ready tasks run in order.

#include "iouring/driver.hh"
#include "iouring/task.hh"
#include "iouring/timers.hh"

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace schedlab::iouring {

class FixedBuffers;
class FixedFiles;

// Coroutines that are ready, first in, first out.
class ReadyQueue {
public:
  [[nodiscard]] bool empty() const noexcept { return head_ == tail_; }
  [[nodiscard]] std::size_t size() const noexcept { return tail_ - head_; }
  void push(std::coroutine_handle<> coroutine) {
    if (size() == ring_.size())
      grow(size() + 1);
    ring_[tail_++ & (ring_.size() - 1)] = coroutine;
  }
  // Makes room, so that so many pushes do not throw.
  void reserve(std::size_t count) {
    if (size() + count > ring_.size())
      grow(size() + count);
  }
  // Not empty.
  std::coroutine_handle<> pop() noexcept { return ring_[head_++ & (ring_.size() - 1)]; }

private:
  void grow(std::size_t least);
  std::vector<std::coroutine_handle<>> ring_;  // a power of two
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
};

// Work that another thread gives to a loop; it runs there once, and must live until then.
class Posted {
public:
  Posted() = default;
  Posted(const Posted&) = delete;
  Posted& operator=(const Posted&) = delete;

protected:
  virtual ~Posted() = default;
  virtual void posted() noexcept = 0;  // in the loop's thread; may destroy the object

private:
  friend class Loop;
  Posted* next_ = nullptr;
};

// A coroutine that kept its loop from everything else.
struct Stall {
  std::int64_t took_ns = 0;
  std::source_location where;  // where its task was started
  // The code of the coroutine that was resumed, for addr2line; of several tasks that were started
  // at one place, as by gather, this tells which. It may have gone on in those that await it.
  const void* code = nullptr;
};

struct LoopOptions {
  DriverOptions driver = {};
  // A coroutine that runs longer than this without a wait is reported; 0: nobody looks, which
  // saves two clock readings a resume.
  std::int64_t stall_ns = 0;
  std::function<void(const Stall&)> on_stall = {};  // what it throws ends all tasks and the run
};

struct LoopCounts {
  std::uint64_t turns = 0;
  std::uint64_t resumes = 0;
  std::uint64_t timers = 0;  // expired
  std::uint64_t posts = 0;   // from other threads
  std::uint64_t tasks = 0;   // started
};

namespace detail {

// The task that run() was given.
struct MainTask : TaskState {
  bool done = false;
};

// The sets that a loop's driver knows, or null.
struct FixedSets {
  FixedBuffers* buffers = nullptr;
  FixedFiles* files = nullptr;
};

// A task that create_task started; in its loop's list until it has ended.
struct StartedTask : TaskState {
  StartedTask* previous = nullptr;
  StartedTask* next = nullptr;
  void (*destroy)(StartedTask&) noexcept = nullptr;
};

}  // namespace detail

class Loop {
public:
  // Throws Unsupported where the driver that was asked for cannot run.
  explicit Loop(const LoopOptions& options = {});
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  // No task may be alive; run() has seen to that.
  ~Loop();

  // The loop that this thread is running, or null.
  static Loop* current() noexcept { return current_; }

  // Runs a task to its end and gives its result or throws what it threw. Tasks that are then still
  // alive are cancelled and waited for. Not from within a task.
  //
  // If the kernel refuses to wait (a filter put in force meanwhile, a descriptor closed by others),
  // all tasks are cancelled, what they wait for ends, and what they begin from then on fails with
  // the same errno. When all have ended, the refusal is thrown as std::system_error, unless the run
  // was failing already; also by each further run(), which runs nothing.
  template <typename T>
  T run(Task<T> task, std::source_location where = std::source_location::current()) {
    detail::MainTask main;
    main.started = where;
    task.handle().promise().state = &main;
    run_to_end(main, task.handle());
    return task.handle().promise().take();
  }

  [[nodiscard]] Driver& driver() noexcept { return *driver_; }
  [[nodiscard]] Timers& timers() noexcept { return timers_; }
  [[nodiscard]] LoopCounts counts() const noexcept { return counts_; }

  // Resumes a coroutine in the next turn. Loop's thread.
  void ready(std::coroutine_handle<> coroutine) { ready_.push(coroutine); }
  // Makes room for so many, so that ready() does not throw.
  void reserve_ready(std::size_t count) { ready_.reserve(count); }
  // Runs work in the loop's thread. Any thread, as long as the loop lives; its destructor waits for
  // calls that are under way.
  void post(Posted& work) noexcept;
  template <typename F>
  requires std::is_nothrow_invocable_v<F>
  void post(F function) {
    struct Call final : Posted {
      explicit Call(F&& wanted) : function(std::move(wanted)) {}
      void posted() noexcept override {
        const std::unique_ptr<Call> self(this);
        function();
      }
      F function;
    };
    post(*new Call(std::move(function)));
  }

  // Threads for calls that block, at most DriverOptions::blocking_threads. Loop's thread.
  [[nodiscard]] BlockingThreads& blocking_threads() noexcept { return *blocking_; }

  // For FixedBuffers and FixedFiles.
  [[nodiscard]] detail::FixedSets& fixed_sets() noexcept { return fixed_sets_; }

  // For create_task.
  void add(detail::StartedTask& task) noexcept;
  void remove(detail::StartedTask& task) noexcept;
  // Destroys a task that has ended when nothing of it is running any more.
  void bury(detail::StartedTask& task) noexcept;

private:
  void run_to_end(detail::MainTask& main, std::coroutine_handle<> first);
  void enter();
  void turn();
  void end_all(detail::MainTask& main) noexcept;
  void run_ready();
  void resume_watched(std::coroutine_handle<> coroutine);
  bool run_posted() noexcept;
  void wait();
  void wait_for_driver(std::int64_t timeout_ns);
  void cancel_all() noexcept;
  void bury_all() noexcept;

  static constinit thread_local Loop* current_;

  LoopOptions options_;
  std::unique_ptr<BlockingThreads> blocking_;
  std::unique_ptr<Driver> driver_;
  ReadyQueue ready_;
  Timers timers_;
  detail::FixedSets fixed_sets_;
  detail::StartedTask* tasks_ = nullptr;
  detail::StartedTask* ended_ = nullptr;  // to be buried
  bool closing_ = false;                  // tasks started now are cancelled at once
  std::exception_ptr refused_;            // what the driver's wait threw
  LoopCounts counts_;
  alignas(64) std::atomic<Posted*> posted_{nullptr};  // last first
  std::atomic<bool> asleep_{false};
  std::atomic<unsigned> posting_{0};  // threads within post()
};

}  // namespace schedlab::iouring
