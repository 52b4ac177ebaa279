#include "lab/apparatus/witness.hh"

#include "lab/base/clock.hh"

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <iterator>
#include <set>
#include <utility>

namespace schedlab::apparatus {

namespace {

// The second of the three numbers of schedstat.
std::int64_t waited_ns(const Fd& schedstat) noexcept {
  std::array<char, 96> text;
  const auto got = ::pread(schedstat.get(), text.data(), text.size(), 0);
  const char* end = text.data() + (got > 0 ? got : 0);
  std::uint64_t on_cpu = 0;
  const auto first = std::from_chars(text.data(), end, on_cpu);
  std::int64_t waited = -1;
  if (first.ec == std::errc{} && first.ptr != end)
    std::from_chars(first.ptr + 1, end, waited);
  return waited;
}

}  // namespace

Witness::Witness() : schedstat_(::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)) {}

void Witness::read(TaskRecord& record) const noexcept {
  rusage usage;
  ::getrusage(RUSAGE_THREAD, &usage);
  record.voluntary = static_cast<std::uint64_t>(usage.ru_nvcsw);
  record.involuntary = static_cast<std::uint64_t>(usage.ru_nivcsw);
  record.waited_ns = waited_ns(schedstat_);
  record.cpu_ns = clock::thread_cpu_ns();
  record.cpu_after = static_cast<unsigned>(::sched_getcpu());
}

void Witness::begin() noexcept {
  read(start_);
}

TaskRecord Witness::end() noexcept {
  TaskRecord now;
  read(now);
  now.voluntary -= start_.voluntary;
  now.involuntary -= start_.involuntary;
  now.cpu_ns -= start_.cpu_ns;
  now.waited_ns = start_.waited_ns < 0 ? -1 : now.waited_ns - start_.waited_ns;
  now.cpu_before = start_.cpu_after;
  return now;
}

harness::Proof prove(std::span<const TaskRecord> tasks,
                     std::span<const std::optional<unsigned>> places, double wall_ns, bool busy,
                     bool sharing) {
  harness::Proof proof;
  proof.wall_ns = wall_ns;
  double on_cpu_ns = 0;
  std::set<unsigned> seen;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const TaskRecord& task = tasks[i];
    proof.counted_switches += task.switches();
    if (!sharing && task.waited_ns > 0)
      proof.waited_ns += static_cast<double>(task.waited_ns);
    on_cpu_ns += static_cast<double>(task.cpu_ns);
    seen.insert({task.cpu_before, task.cpu_after});
    if (places[i] && (task.cpu_before != *places[i] || task.cpu_after != *places[i]))
      proof.on_cpu = false;
  }
  proof.cpus.assign(seen.begin(), seen.end());
  if (busy)
    proof.foreign_ns = wall_ns - on_cpu_ns;
  return proof;
}

harness::Proof prove(const TaskRecord& task, std::optional<unsigned> place, double wall_ns,
                     bool busy) {
  return prove(std::span(&task, 1), std::span(&std::as_const(place), 1), wall_ns, busy);
}

bool all_apart(std::span<const std::optional<unsigned>> places) {
  std::set<unsigned> seen;
  return std::ranges::all_of(
      places, [&](const auto& place) { return place && seen.insert(*place).second; });
}

void add(const harness::Proof& window, harness::Proof& all) {
  const bool first = all.wall_ns == 0;
  all.on_cpu = all.on_cpu && window.on_cpu;
  all.expected_switches += window.expected_switches;
  all.most_switches += window.most_switches;
  all.counted_switches += window.counted_switches;
  all.wall_ns += window.wall_ns;
  all.waited_ns += window.waited_ns;
  all.foreign_ns = first ? window.foreign_ns : all.foreign_ns + window.foreign_ns;
  std::vector<unsigned> seen;
  std::ranges::set_union(all.cpus, window.cpus, std::back_inserter(seen));
  all.cpus = std::move(seen);
}

}  // namespace schedlab::apparatus
