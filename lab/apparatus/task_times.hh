#pragma once
// The CPU time of all tasks of this process over a window: the calling thread, and all others,
// among which are the threads that the kernel makes for it (io_uring's workers and its submission
// thread are tasks of their owner's thread group).

#include <cstdint>
#include <dirent.h>
#include <memory>
#include <sys/types.h>
#include <vector>

namespace schedlab::apparatus {

struct CpuTimes {
  std::int64_t own_ns = 0;     // of the calling thread
  std::int64_t others_ns = 0;  // of all others, also those that began within the window
};

// CPU time of a task of this process up to this moment; -1 if there is none of that number. The
// clock of the whole process would be behind by up to a tick for tasks that are running elsewhere.
std::int64_t task_cpu_ns(pid_t task) noexcept;

// For the thread that built it. begin and end cost some microseconds for each task and belong
// outside the clocked span. What a task used that ended within the window is not seen.
class TaskTimes {
public:
  // Throws std::system_error without /proc.
  TaskTimes();
  void begin();
  [[nodiscard]] CpuTimes end();

private:
  struct Task {
    pid_t id;
    std::int64_t cpu_ns;
  };
  struct Close {
    void operator()(DIR* folder) const noexcept { ::closedir(folder); }
  };
  void list();

  pid_t self_;
  std::unique_ptr<DIR, Close> folder_;
  std::vector<pid_t> listed_;
  std::vector<Task> before_;
  std::int64_t own_before_ = 0;
};

}  // namespace schedlab::apparatus
