#pragma once
// Evidence that the kernel killed a process because memory ran out, instead of a guess from its
// SIGKILL: the cgroup counts such kills.

#include "lab/base/fd.hh"

#include <cstdint>
#include <optional>
#include <string>

namespace schedlab::procs {

// The count of the memory cgroup that the calling process is in when this is made (v1:
// memory.oom_control, v2: memory.events); a child is of the same cgroup unless somebody moves it.
//
// What it proves. A count that rose while a process lived says that one of the cgroup was killed
// for want of memory, not which; with its end by SIGKILL it is the best evidence there is. Who
// starts a process therefore reads the count just before: an older one would blame memory for what
// had happened to others by then.
class OomKills {
public:
  // Where the file lies is found once a thread, and again when the process is in another cgroup or
  // the file has gone: what a start pays is to ask which cgroup it is in, and to open the file.
  // `root` stands before /proc and /sys, for tests.
  static OomKills of_own_cgroup(const std::string& root = "");
  OomKills() = default;

  // The processes of the cgroup that were killed so far; nothing where no cgroup counts them.
  [[nodiscard]] std::optional<std::uint64_t> count() const;
  // The file that counts.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

private:
  std::string path_;
  Fd file_;
};

}  // namespace schedlab::procs
