#pragma once
// A few threads for calls that block: to_thread, and files where the driver is epoll. A loop has
// one such set of its own. Threads start when there is work and nobody idle, up to the limit; then
// work waits in line, first in, first out. They inherit the CPUs of the thread that submits, and
// take no signals.

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <sys/types.h>
#include <thread>
#include <vector>

namespace schedlab::iouring {

// Something for such a thread to do. Lives, where it is, until it ran or was withdrawn; run() may
// let its owner destroy it.
class BlockingWork {
public:
  BlockingWork() = default;
  BlockingWork(const BlockingWork&) = delete;
  BlockingWork& operator=(const BlockingWork&) = delete;

protected:
  virtual ~BlockingWork() = default;
  virtual void run() noexcept = 0;  // in a blocking thread

private:
  friend class BlockingThreads;
  BlockingWork* next_ = nullptr;  // in line
  BlockingWork* previous_ = nullptr;
  bool in_line_ = false;
};

// All members from one thread.
class BlockingThreads {
public:
  // No more than `limit` threads, at least one.
  explicit BlockingThreads(unsigned limit) noexcept;
  BlockingThreads(const BlockingThreads&) = delete;
  BlockingThreads& operator=(const BlockingThreads&) = delete;
  // Waits until all that was submitted has run.
  ~BlockingThreads();

  // Throws std::system_error if there is no thread and none can be started.
  void submit(BlockingWork& work);
  // Takes work out of the line; false if it has begun.
  [[nodiscard]] bool withdraw(BlockingWork& work) noexcept;
  // False in a forked child, which has none of the threads: there the object must be leaked.
  [[nodiscard]] bool of_this_process() const noexcept;
  // Threads that were started.
  [[nodiscard]] std::size_t size() const noexcept { return threads_.size(); }

private:
  void start_one();
  void serve() noexcept;
  void enter_line(BlockingWork& work) noexcept;
  void leave_line(BlockingWork& work) noexcept;

  const unsigned limit_;
  const pid_t process_;
  std::vector<std::thread> threads_;  // touched by the owner only
  std::mutex mutex_;
  std::condition_variable work_came_;
  BlockingWork* first_ = nullptr;  // the line, under the mutex, as all below
  BlockingWork* last_ = nullptr;
  std::size_t waiting_ = 0;  // in line
  std::size_t idle_ = 0;     // threads without work
  bool closed_ = false;
};

}  // namespace schedlab::iouring
