#pragma once
// What this process has open and running, to show that a test leaves nothing behind.

#include <sys/wait.h>

#include <ctime>
#include <filesystem>
#include <ostream>

namespace schedlab::testing {

struct Belongings {
  std::ptrdiff_t descriptors = 0;
  std::ptrdiff_t threads = 0;  // besides those it began with
  bool children = false;       // running or not yet reaped

  friend bool operator==(const Belongings&, const Belongings&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Belongings& have) {
    return out << have.descriptors << " descriptors, " << have.threads << " threads, "
               << (have.children ? "children" : "no children");
  }
};

inline std::ptrdiff_t entries(const char* folder) {
  return std::distance(std::filesystem::directory_iterator(folder),
                       std::filesystem::directory_iterator());
}

// Before any test: one, or more where a sanitizer has threads of its own.
inline const std::ptrdiff_t threads_at_first = entries("/proc/self/task");

// A thread that was joined may stay in /proc for a moment, so it is looked for some times.
inline std::ptrdiff_t threads_left() {
  std::ptrdiff_t threads = entries("/proc/self/task");
  const timespec pause{0, 1'000'000};
  for (int tries = 0; threads > threads_at_first && tries < 500; ++tries) {
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
    threads = entries("/proc/self/task");
  }
  return threads - threads_at_first;
}

inline Belongings belongings() {
  siginfo_t info{};
  const int found = ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
  return {entries("/proc/self/fd"), threads_left(), found == 0};
}

}  // namespace schedlab::testing
