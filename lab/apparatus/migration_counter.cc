#include "lab/apparatus/migration_counter.hh"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>

namespace schedlab::apparatus {

std::optional<std::uint64_t> migrations_in(std::string_view sched) noexcept {
  constexpr std::string_view key = "se.nr_migrations";
  const auto at = sched.find(key);
  if (at == std::string_view::npos)
    return std::nullopt;
  const auto digits = sched.find_first_not_of(" :", at + key.size());
  if (digits == std::string_view::npos)
    return std::nullopt;
  std::uint64_t count = 0;
  const auto read = std::from_chars(sched.data() + digits, sched.data() + sched.size(), count);
  // Without what follows the number it may have been cut off.
  const bool whole = read.ec == std::errc{} && read.ptr != sched.data() + sched.size();
  return whole ? std::optional(count) : std::nullopt;
}

MigrationCounter::MigrationCounter()
    : sched_(::open("/proc/thread-self/sched", O_RDONLY | O_CLOEXEC)) {}

std::optional<std::uint64_t> MigrationCounter::read() const noexcept {
  std::array<char, 4096> text;  // the count stands among the first lines
  const auto got = ::pread(sched_.get(), text.data(), text.size(), 0);
  return got > 0 ? migrations_in({text.data(), static_cast<std::size_t>(got)}) : std::nullopt;
}

}  // namespace schedlab::apparatus
