#include "lab/apparatus/floors.hh"

#include "lab/apparatus/loop.hh"
#include "lab/base/futex.hh"
#include "lab/base/keep.hh"

#include <sys/syscall.h>
#include <unistd.h>

namespace schedlab::apparatus {

namespace {

void clock_pairs(std::uint64_t operations) noexcept {
  for (std::uint64_t i = 0; i < operations; ++i) {
    keep(clock::begin());
    keep(clock::end());
  }
}

// getppid cannot be answered without entering the kernel.
void null_syscalls(std::uint64_t operations) noexcept {
  for (std::uint64_t i = 0; i < operations; ++i)
    ::syscall(SYS_getppid);
}

void empty_wakes(std::uint64_t operations) noexcept {
  std::atomic<std::uint32_t> word{0};
  for (std::uint64_t i = 0; i < operations; ++i)
    futex_wake(word, 1, false);
}

}  // namespace

harness::SeriesPlan floor_series(const std::string& name, unsigned cpu) {
  harness::SeriesPlan series;
  series.name = name;
  series.group = "floors";
  series.params = {{"floor", name.substr(name.find('/') + 1)}};
  series.relation = "same-pu";
  series.cpus = {cpu};
  series.floor = true;
  return series;
}

std::vector<harness::SeriesPlan> common_floors(unsigned cpu, const affinity::CpuSet& usable,
                                               std::size_t metric) {
  std::vector<harness::SeriesPlan> floors;
  const auto add = [&](const std::string& name, auto body) {
    auto series = floor_series("floor/" + name, cpu);
    series.make = [=] { return make_loop({cpu, usable, metric}, body); };
    floors.push_back(std::move(series));
  };
  add("clock pair", clock_pairs);
  add("null syscall", null_syscalls);
  add("futex wake, nobody waits", empty_wakes);
  return floors;
}

}  // namespace schedlab::apparatus
