#pragma once
// What this process has open and running, to show that a test leaves nothing behind.

#include "lab/base/clock.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"
#include "tests/sanitized.hh"

#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <ostream>
#include <string>

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
// ThreadSanitizer begins a thread of its own with the first one of the program, and keeps it.
inline std::ptrdiff_t threads_left() {
  static std::ptrdiff_t kept = threads_at_first;
  std::ptrdiff_t threads = entries("/proc/self/task");
  for (int tries = 0; threads > kept && tries < 500; ++tries) {
    clock::sleep_for(1'000'000);
    threads = entries("/proc/self/task");
  }
  if (thread_sanitizer && threads == threads_at_first + 1)
    kept = threads;
  return threads - threads_at_first;
}

// The helper that ThreadSanitizer starts at its first report, also at one that is suppressed.
inline bool is_symbolizer(std::string_view pid) {
  return read_text("/proc/" + std::string(pid) + "/comm") == "llvm-symbolizer\n";
}

struct Children {
  std::ptrdiff_t helpers = 0;
  bool others = false;  // running or not yet reaped
};

inline Children children() {
  siginfo_t info{};
  Children found{0, ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0};
  if (!thread_sanitizer)
    return found;
  std::ptrdiff_t listed = 0;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task")) {
    const std::string pids = read_text(thread.path() / "children").value_or("");
    listed += std::ranges::count(pids, ' ');  // one behind each
    found.helpers += std::ranges::count_if(split(pids, ' '), is_symbolizer);
  }
  if (found.helpers > 0)
    found.others = listed > found.helpers;
  return found;
}

inline bool has_children() {
  return children().others;
}

inline Belongings belongings() {
  const Children now = children();  // a helper is behind two pipes, and alive to the end
  return {entries("/proc/self/fd") - 2 * now.helpers, threads_left(), now.others};
}

}  // namespace schedlab::testing
