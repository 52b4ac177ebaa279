#include "lab/harness/steal.hh"

#include "lab/base/text.hh"

#include <fcntl.h>

#include <algorithm>

namespace schedlab::harness {

namespace {

constexpr std::size_t steal_column = 8;  // after the name: user nice system idle iowait irq softirq

std::uint64_t column(std::string_view line, std::size_t wanted) {
  std::size_t seen = 0;
  for (const auto word : split(line, ' ')) {
    if (word.empty())
      continue;
    if (seen++ == wanted)
      return static_cast<std::uint64_t>(std::max<std::int64_t>(to_number(word).value_or(0), 0));
  }
  return 0;
}

}  // namespace

std::uint64_t steal_ticks(std::string_view proc_stat, std::span<const unsigned> cpus) {
  std::uint64_t sum = 0;
  while (proc_stat.starts_with("cpu")) {
    const auto end = std::min(proc_stat.find('\n'), proc_stat.size());
    const auto line = proc_stat.substr(0, end);
    const auto cpu = to_number(line.substr(3, line.find(' ') - 3));
    const bool wanted =
        cpu ? std::ranges::find(cpus, static_cast<unsigned>(*cpu)) != cpus.end() : cpus.empty();
    if (wanted)
      sum += column(line, steal_column);
    proc_stat.remove_prefix(std::min(end + 1, proc_stat.size()));
  }
  return sum;
}

StealReader::StealReader() : stat_(::open("/proc/stat", O_RDONLY | O_CLOEXEC)) {
  text_.resize(1 << 16);
  if (ticks({}) == 0)
    stat_ = Fd();
}

std::uint64_t StealReader::ticks(std::span<const unsigned> cpus) {
  auto got = ::pread(stat_.get(), text_.data(), text_.size(), 0);
  while (got == static_cast<ssize_t>(text_.size())) {  // some thousand CPUs
    text_.resize(2 * text_.size());
    got = ::pread(stat_.get(), text_.data(), text_.size(), 0);
  }
  if (got <= 0)
    return 0;
  return steal_ticks(std::string_view(text_).substr(0, static_cast<std::size_t>(got)), cpus);
}

}  // namespace schedlab::harness
