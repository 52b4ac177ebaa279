#pragma once
// How often the kernel has moved a task to another CPU.

#include "lab/base/fd.hh"

#include <cstdint>
#include <optional>
#include <string_view>

namespace schedlab::apparatus {

// The number of migrations in the text of /proc/<pid>/sched, or nothing if it does not say.
std::optional<std::uint64_t> migrations_in(std::string_view sched) noexcept;

// Counts for the thread that built it; any thread may read. A reading costs some microseconds and
// belongs outside the clocked span.
class MigrationCounter {
public:
  MigrationCounter();
  // Since the task began; nothing where the kernel does not tell (before Linux 6.15 it takes
  // CONFIG_SCHED_DEBUG).
  [[nodiscard]] std::optional<std::uint64_t> read() const noexcept;

private:
  Fd sched_;
};

}  // namespace schedlab::apparatus
