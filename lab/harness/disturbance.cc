#include "lab/harness/disturbance.hh"

#include "lab/base/clock.hh"
#include "lab/base/text.hh"
#include "lab/harness/validity.hh"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace schedlab::harness {

namespace {

constexpr double steal_limit = 0.01;  // of the window; above it the numbers are invalid
// A tick is charged whole to whoever runs when it comes, so a window's foreign time is a guess.
constexpr double foreign_limit = 0.02;
constexpr double foreign_ticks_unsure = 5;

std::int64_t tick_ns() {
  static const std::int64_t ns = 1'000'000'000 / ::sysconf(_SC_CLK_TCK);
  return ns;
}

std::int64_t own_cpu_ns() {
  std::int64_t sum = 0;
  for (const auto who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
    rusage usage{};
    ::getrusage(who, &usage);
    for (const auto& time : {usage.ru_utime, usage.ru_stime})
      sum += clock::to_ns(time);
  }
  return sum;
}

// Columns: cpuN user nice system idle iowait irq softirq steal.
std::map<unsigned, CpuTicks> cpu_ticks(const std::string& stat, const affinity::CpuSet& cpus) {
  std::map<unsigned, CpuTicks> result;
  for (const auto line : split(stat, '\n')) {
    if (!line.starts_with("cpu"))
      break;
    const auto words = words_of(line);
    const auto cpu = to_number(words[0].substr(3));
    if (!cpu || !cpus.contains(static_cast<unsigned>(*cpu)))
      continue;
    const auto column = [&](std::size_t i) {
      const auto value = i < words.size() ? to_number(words[i]) : std::nullopt;
      return static_cast<std::uint64_t>(std::max<std::int64_t>(value.value_or(0), 0));
    };
    result[static_cast<unsigned>(*cpu)] = {.busy = column(1) + column(2) + column(3),
                                           .idle = column(4) + column(5),
                                           .steal = column(8)};
  }
  return result;
}

// A core's counter is seen through each of its hardware threads, a package's through each CPU.
std::optional<std::uint64_t> hot_events(const System& system, const affinity::CpuSet& cpus) {
  std::set<std::string> counted;
  std::optional<std::uint64_t> sum;
  for (const unsigned cpu : cpus.cpus()) {
    const auto siblings = system.text(cpu_file(cpu, "topology/core_cpus_list")).value_or("");
    const auto package = system.text(cpu_file(cpu, "topology/physical_package_id")).value_or("");
    for (const auto& [owner, file] :
         {std::pair{"core " + siblings, "thermal_throttle/core_throttle_count"},
          std::pair{"package " + package, "thermal_throttle/package_throttle_count"}}) {
      const auto count = system.number(cpu_file(cpu, file));
      if (count && counted.insert(owner).second)
        sum = sum.value_or(0) + static_cast<std::uint64_t>(*count);
    }
  }
  return sum;
}

void read_memory(const System& system, SystemCounters& counters) {
  const auto vmstat = system.text("/proc/vmstat").value_or("");
  const auto in = number_of(vmstat, "pswpin");
  const auto out = number_of(vmstat, "pswpout");
  if (in && out)
    counters.swapped_pages = static_cast<std::uint64_t>(*in + *out);
  if (const auto kills = number_of(vmstat, "oom_kill"))
    counters.oom_kills = static_cast<std::uint64_t>(*kills);
}

std::optional<double> load_of(const std::string& loadavg) {
  const auto words = words_of(loadavg);
  if (words.empty())
    return std::nullopt;
  const auto dot = words[0].find('.');
  const auto whole = to_number(std::string_view(words[0]).substr(0, dot));
  if (!whole || dot == std::string::npos)
    return std::nullopt;
  const auto hundredths = to_number(words[0].substr(dot + 1)).value_or(0);
  return static_cast<double>(*whole) + static_cast<double>(hundredths) / 100;
}

// "some avg10=4.84 avg60=1.27 avg300=0.36 total=4110281"
std::optional<std::uint64_t> waiting(const std::string& pressure) {
  for (const auto& word : words_of(pressure))
    if (word.starts_with("total="))
      if (const auto us = to_number(word.substr(6)))
        return static_cast<std::uint64_t>(*us);
  return std::nullopt;
}

// What a counter that may be absent has grown by; 0 also where it fell.
std::uint64_t growth(const std::optional<std::uint64_t>& before,
                     const std::optional<std::uint64_t>& after) {
  return before && after && *after > *before ? *after - *before : 0;
}

double seconds(std::int64_t ns) {
  return static_cast<double>(ns) * 1e-9;
}

// A share as people read it: "3.2 %".
std::string percent_text(double share) {
  const auto tenths = static_cast<std::int64_t>(std::lround(share * 1000));
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " %";
}

void warn_steal(const SystemCounters& before, const SystemCounters& after, std::int64_t window,
                std::vector<Warning>& warnings) {
  std::uint64_t stolen = 0;
  std::uint64_t most = 0;
  unsigned worst_cpu = 0;
  std::size_t cpus = 0;
  for (const auto& [cpu, ticks] : after.ticks) {
    const auto first = before.ticks.find(cpu);
    if (first == before.ticks.end())
      continue;
    ++cpus;
    const auto here = ticks_between(first->second.steal, ticks.steal, window).value_or(0);
    stolen += here;
    if (here > most) {
      most = here;
      worst_cpu = cpu;
    }
  }
  if (stolen == 0)
    return;
  const double share = static_cast<double>(stolen) * static_cast<double>(tick_ns()) /
                       (static_cast<double>(window) * static_cast<double>(cpus));
  const auto severity = share > steal_limit ? Severity::invalid : Severity::noisy;
  warnings.push_back(make_warning(Code::steal,
                                  {{"ticks", stolen},
                                   {"share", share},
                                   {"worst_cpu", worst_cpu},
                                   {"worst_ticks", most},
                                   {"window_s", seconds(window)}},
                                  severity, percent_text(share) + " of the time"));
}

void warn_quota(const SystemCounters& before, const SystemCounters& after,
                std::vector<Warning>& warnings) {
  if (!before.throttling || !after.throttling)
    return;
  const auto periods = growth(before.throttling->periods, after.throttling->periods);
  if (periods == 0)
    return;
  const auto time_ns = growth(before.throttling->time_ns, after.throttling->time_ns);
  warnings.push_back(make_warning(Code::quota, {{"periods", periods}, {"throttled_ns", time_ns}},
                                  Severity::invalid,
                                  "stopped in " + std::to_string(periods) + " periods"));
}

void warn_heat(const SystemCounters& before, const SystemCounters& after,
               std::vector<Warning>& warnings) {
  if (const auto events = growth(before.hot_events, after.hot_events))
    warnings.push_back(make_warning(Code::throttle, {{"events", events}}));
}

void warn_memory(const SystemCounters& before, const SystemCounters& after,
                 std::vector<Warning>& warnings) {
  const auto pages = growth(before.swapped_pages, after.swapped_pages);
  const auto kills = growth(before.oom_kills, after.oom_kills);
  if (pages || kills)
    warnings.push_back(make_warning(Code::swap, {{"pages", pages}, {"oom_kills", kills}},
                                    std::nullopt,
                                    kills ? "the kernel killed a process for want of memory"
                                          : std::to_string(pages) + " pages moved"));
}

void warn_busy(const SystemCounters& before, const SystemCounters& after, std::int64_t window,
               std::vector<Warning>& warnings) {
  double busy_ns = 0;
  std::size_t cpus = 0;
  for (const auto& [cpu, ticks] : after.ticks) {
    const auto first = before.ticks.find(cpu);
    if (first == before.ticks.end())
      continue;
    const auto busy = ticks_between(first->second.busy, ticks.busy, window);
    if (!busy)
      return;
    busy_ns += static_cast<double>(*busy) * static_cast<double>(tick_ns());
    ++cpus;
  }
  const double foreign_ns = busy_ns - static_cast<double>(after.own_ns - before.own_ns);
  const double share = foreign_ns / (static_cast<double>(window) * static_cast<double>(cpus));
  if (cpus == 0 || share <= foreign_limit ||
      foreign_ns <= foreign_ticks_unsure * static_cast<double>(tick_ns()))
    return;
  Fields evidence = {{"foreign_share", share}, {"window_s", seconds(window)}};
  if (after.load1)
    evidence.emplace_back("load1", *after.load1);
  if (before.waiting_us && after.waiting_us)
    evidence.emplace_back("cpu_pressure_us", growth(before.waiting_us, after.waiting_us));
  warnings.push_back(make_warning(Code::busy, std::move(evidence), std::nullopt,
                                  percent_text(share) + " of the CPU time was not ours"));
}

}  // namespace

SystemCounters read_counters(const affinity::CpuSet& cpus, const System& system) {
  SystemCounters counters;
  counters.taken_ns = clock::now_ns();
  counters.own_ns = own_cpu_ns();
  counters.ticks = cpu_ticks(system.text("/proc/stat").value_or(""), cpus);
  counters.throttling = affinity::cgroup_throttling(system.root());
  counters.hot_events = hot_events(system, cpus);
  read_memory(system, counters);
  counters.load1 = load_of(system.text("/proc/loadavg").value_or(""));
  counters.waiting_us = waiting(system.text("/proc/pressure/cpu").value_or(""));
  return counters;
}

std::optional<std::uint64_t> ticks_between(std::uint64_t before, std::uint64_t after,
                                           std::int64_t window_ns) {
  // A tick may have begun before the window, and the kernel updates sleeping CPUs late.
  const auto room = static_cast<std::uint64_t>(window_ns + window_ns / 10) /
                        static_cast<std::uint64_t>(tick_ns()) +
                    2;
  if (after < before || after - before > room)
    return std::nullopt;
  return after - before;
}

std::vector<Warning> disturbances(const SystemCounters& before, const SystemCounters& after) {
  std::vector<Warning> warnings;
  const std::int64_t window = after.taken_ns - before.taken_ns;
  if (window <= 0)
    return warnings;
  warn_steal(before, after, window, warnings);
  warn_quota(before, after, warnings);
  warn_heat(before, after, warnings);
  warn_memory(before, after, warnings);
  warn_busy(before, after, window, warnings);
  return warnings;
}

}  // namespace schedlab::harness
