#pragma once
// The small files of /proc and /sys, and how their text is laid out.

#include "affinity/cpu_set.hh"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::harness {

// Reads below a root, which stands before /proc and /sys; tests give a made-up tree. May be used
// from any thread.
class System {
public:
  explicit System(std::string root = "") : root_(std::move(root)) {}

  [[nodiscard]] const std::string& root() const noexcept { return root_; }
  // Is this the machine itself, so that system calls tell about the same thing as the files?
  [[nodiscard]] bool live() const noexcept { return root_.empty(); }

  // A file without white space around it; nothing if it cannot be read or is empty.
  [[nodiscard]] std::optional<std::string> text(std::string_view path) const;
  [[nodiscard]] std::optional<std::int64_t> number(std::string_view path) const;
  // A CPU list; nothing if there is no such file.
  [[nodiscard]] std::optional<affinity::CpuSet> cpus(std::string_view path) const;
  // Why text() gave nothing: "/sys/x: No such file or directory".
  [[nodiscard]] std::string objection(std::string_view path) const;
  [[nodiscard]] bool exists(std::string_view path) const;
  // The names in a folder, sorted; none if there is no such folder.
  [[nodiscard]] std::vector<std::string> names(std::string_view folder) const;

private:
  std::string root_;
};

// The value in a line "key: value" or "key value"; of the first line with that key.
std::optional<std::string> value_of(std::string_view text, std::string_view key);
// The same as a number; a unit behind it ("kB") is ignored.
std::optional<std::int64_t> number_of(std::string_view text, std::string_view key);

// The choice that is in force in "always [madvise] never"; the whole text without brackets.
std::string chosen(std::string_view text);

// The words of a text, at spaces of any kind.
std::vector<std::string> words_of(std::string_view text);

// "/sys/devices/system/cpu/cpu3/" + rest.
std::string cpu_file(unsigned cpu, std::string_view rest);

}  // namespace schedlab::harness
