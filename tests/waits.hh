#pragma once
// Waits of tests for what other threads and processes do: they end when it is so, not after a time.

#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/file.hh"

#include <cstdint>
#include <filesystem>
#include <string>
#include <unistd.h>

namespace schedlab::testing {

// No test waits longer than this for anything: then it fails instead.
inline constexpr int most_ms = 20'000;

inline std::int64_t watchdog_ns() {
  return clock::now_ns() + most_ms * std::int64_t{1'000'000};
}

template <typename Condition>
bool comes_true(Condition condition) {
  const std::int64_t deadline_ns = watchdog_ns();
  while (!condition()) {
    if (clock::now_ns() > deadline_ns)
      return false;
    clock::sleep_for(100'000);
  }
  return true;
}

// Of a task, by its folder in /proc, as the kernel shows it: R, S, T; ? if it has ended.
inline char state_of(const std::filesystem::path& task) {
  const std::string stat = read_text(task / "stat").value_or("");
  const auto name_end = stat.rfind(')');
  return name_end != std::string::npos && name_end + 2 < stat.size() ? stat[name_end + 2] : '?';
}
inline char state_of(pid_t task) {
  return state_of("/proc/" + std::to_string(task));
}

// Until a thread, of any process, sleeps.
inline bool asleep(pid_t task) {
  return comes_true([&] { return state_of(task) == 'S'; });
}
inline bool asleep(const Child& child) {
  return asleep(child.pid());
}

// Until a process has so many threads, not counting the caller, and they all sleep. Looks twice:
// one that slept at the first look may just be waking another.
inline bool at_rest(pid_t process, unsigned threads) {
  const std::string tasks = "/proc/" + std::to_string(process) + "/task";
  const auto rests = [&] {
    unsigned sleeping = 0;
    std::error_code gone;
    for (const auto& task : std::filesystem::directory_iterator(tasks, gone)) {
      if (task.path().filename() == std::to_string(::gettid()))
        continue;
      if (state_of(task.path()) != 'S')
        return false;
      ++sleeping;
    }
    return sleeping >= threads;
  };
  return comes_true([&] { return rests() && rests(); });
}

// Whether a child ends by itself, and well.
inline bool ends_well(Child& child) {
  const auto cause = child.wait_for(most_ms);
  return cause && cause->success();
}

}  // namespace schedlab::testing
