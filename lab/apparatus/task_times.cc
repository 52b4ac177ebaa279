#include "lab/apparatus/task_times.hh"

#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/text.hh"

#include <time.h>
#include <unistd.h>

#include <algorithm>

namespace schedlab::apparatus {

std::int64_t task_cpu_ns(pid_t task) noexcept {
  // The kernel's encoding of "the scheduler's clock of one thread" (clock_getres(2), NOTES), which
  // pthread_getcpuclockid makes too, but not for tasks that pthreads does not know.
  constexpr unsigned scheduled = 2, per_thread = 4;
  const auto id =
      static_cast<clockid_t>(~static_cast<unsigned>(task) << 3 | scheduled | per_thread);
  timespec used{};
  if (::clock_gettime(id, &used) != 0)
    return -1;
  return clock::to_ns(used);
}

TaskTimes::TaskTimes() : self_(::gettid()), folder_(::opendir("/proc/self/task")) {
  if (!folder_)
    throw_errno(errno, "opendir", "/proc/self/task");
}

void TaskTimes::list() {
  listed_.clear();
  ::rewinddir(folder_.get());
  while (const dirent* const entry = ::readdir(folder_.get()))
    if (const auto id = to_number(entry->d_name); id && *id != self_)
      listed_.push_back(static_cast<pid_t>(*id));
}

void TaskTimes::begin() {
  list();
  before_.clear();
  for (const pid_t id : listed_)
    before_.push_back({id, std::max<std::int64_t>(task_cpu_ns(id), 0)});
  own_before_ = clock::thread_cpu_ns();
}

CpuTimes TaskTimes::end() {
  CpuTimes used{.own_ns = clock::thread_cpu_ns() - own_before_, .others_ns = 0};
  list();
  for (const pid_t id : listed_) {
    const std::int64_t now = task_cpu_ns(id);
    const auto known = std::ranges::find(before_, id, &Task::id);
    const std::int64_t before = known == before_.end() ? 0 : known->cpu_ns;
    used.others_ns += std::max<std::int64_t>(now - before, 0);
  }
  return used;
}

}  // namespace schedlab::apparatus
