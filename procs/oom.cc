#include "procs/oom.hh"

#include "affinity/limits.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"

#include <fcntl.h>

#include <array>

namespace schedlab::procs {

namespace {

// The answer to a search through all mounts. A thread's own: a lock could be held at a fork.
struct Found {
  std::string root;
  std::string membership;  // as /proc/self/cgroup had it
  std::string path;        // empty: nothing counts
};
thread_local std::optional<Found> found;

}  // namespace

OomKills OomKills::of_own_cgroup(const std::string& root) {
  OomKills kills;
  std::string membership = read_text(root + "/proc/self/cgroup").value_or("");
  const bool known = found && found->root == root && found->membership == membership;
  if (known && found->path.empty())
    return kills;
  if (known)
    kills.file_ = Fd(::open(found->path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!kills.file_) {
    found = {root, std::move(membership), affinity::oom_kill_file(root).value_or("")};
    kills.file_ = Fd(::open(found->path.c_str(), O_RDONLY | O_CLOEXEC));
  }
  kills.path_ = found->path;
  return kills;
}

std::optional<std::uint64_t> OomKills::count() const {
  std::array<char, 1024> block;
  const auto got = file_ ? ::pread(file_.get(), block.data(), block.size(), 0) : -1;
  if (got <= 0)
    return std::nullopt;
  const auto number = number_behind({block.data(), static_cast<std::size_t>(got)}, "oom_kill ");
  return number && *number >= 0 ? std::optional(static_cast<std::uint64_t>(*number)) : std::nullopt;
}

}  // namespace schedlab::procs
