#pragma once
// A cgroup of our own, for what is to meet a limit without anybody else's harm.

#include <filesystem>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

// Made below this process's own cgroup, v1 or v2, for one controller; goes with its object. If this
// process is killed, the next cage takes away what it left. Belongs to one thread.
class Cage {
public:
  // `controller`: "memory", "cpu". Throws Unsupported, with the reason, where none can be made.
  explicit Cage(std::string_view controller);
  Cage(const Cage&) = delete;
  Cage& operator=(const Cage&) = delete;
  // All members must have ended.
  ~Cage();

  // Writes a file of the cgroup, and reads it back. Throws Unsupported.
  void set(const std::string& file, const std::string& value) const;

  // Puts the calling process, all its threads, into it for good; false, with errno, if that is
  // refused. Async-signal-safe.
  [[nodiscard]] bool enter() const noexcept { return enter(members_); }
  // The same for a process that is executed afresh and is given the name of the file.
  [[nodiscard]] static bool enter(const std::string& members) noexcept;
  // The file that a process writes itself into.
  [[nodiscard]] const std::string& members() const noexcept { return members_; }

  // Of cgroups: 1 or 2.
  [[nodiscard]] int version() const noexcept { return version_; }
  [[nodiscard]] const std::filesystem::path& folder() const noexcept { return folder_; }

private:
  int version_ = 0;
  std::filesystem::path folder_;
  std::string members_;
};

}  // namespace schedlab::apparatus
