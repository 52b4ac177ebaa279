#include "lab/cli/noise_floor.hh"

#include "affinity/pin.hh"
#include "lab/base/clock.hh"
#include "lab/base/keep.hh"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace schedlab::cli {

namespace {

constexpr std::size_t words = 4 * 1024 * 1024 / sizeof(std::uint64_t);
constexpr unsigned reads = 4000;
constexpr unsigned calls = 200;
constexpr std::size_t blocks = 20;

// Arithmetic, reads that miss the inner caches, and system calls: what neighbours disturb.
double sample(const std::vector<std::uint64_t>& memory) {
  const auto start = clock::begin();
  std::uint64_t x = 1;
  for (unsigned i = 0; i < reads; ++i)
    x = x * 0x9e3779b97f4a7c15 + memory[(x >> 32) % words];  // each step needs the one before
  keep(x);
  for (unsigned i = 0; i < calls; ++i)
    ::syscall(SYS_getppid);
  return clock::ns(start, clock::end());
}

// The medians of consecutive blocks.
std::vector<double> block_medians(std::span<const double> samples) {
  const std::size_t count = std::min(blocks, samples.size());
  std::vector<double> medians;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t from = i * samples.size() / count;
    const std::size_t to = (i + 1) * samples.size() / count;
    medians.push_back(harness::median(samples.subspan(from, to - from)));
  }
  return medians;
}

}  // namespace

NoiseFloor measure_noise_floor(unsigned cpu, std::int64_t budget_ns) {
  const affinity::Pin pin(cpu);
  std::vector<std::uint64_t> memory(words);
  for (std::size_t i = 0; i < words; ++i)
    memory[i] = i;
  const std::int64_t deadline = clock::now_ns() + budget_ns;
  for (int i = 0; i < 20; ++i)
    sample(memory);
  std::vector<double> series[2];
  for (bool turned = false; series[0].empty() || clock::now_ns() < deadline; turned = !turned) {
    series[turned].push_back(sample(memory));
    series[!turned].push_back(sample(memory));
  }
  NoiseFloor floor = noise_floor(series[0], series[1]);
  floor.cpu = cpu;
  return floor;
}

NoiseFloor noise_floor(std::span<const double> first, std::span<const double> second) {
  NoiseFloor floor;
  floor.pairs = first.size();
  std::vector<double> all(first.begin(), first.end());
  all.insert(all.end(), second.begin(), second.end());
  floor.sample_ns = harness::median(all);
  floor.tail = harness::quantile(all, 0.99) / floor.sample_ns;
  floor.ratio = harness::paired_ratio(block_medians(first), block_medians(second));
  if (const auto& interval = floor.ratio.interval)
    floor.smallest_difference = std::max(std::abs(interval->low - 1), std::abs(interval->high - 1));
  return floor;
}

}  // namespace schedlab::cli
