#pragma once
// What floods of tiny tasks have in common, whatever runs them: a task counts itself in a cell of
// its thread's own, so that it has next to no work of its own and shares no line.

#include "tests/peers/second.hh"

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace second {

struct alignas(128) Cell {
  std::atomic<std::uint64_t> tasks{0};
};
inline Cell cells[64];
inline std::atomic<unsigned> cells_taken{0};

inline void count_task() noexcept {
  thread_local Cell& mine = cells[cells_taken.fetch_add(1) % 64];
  mine.tasks.store(mine.tasks.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}
inline std::uint64_t counted() noexcept {
  std::uint64_t sum = 0;
  for (const Cell& cell : cells)
    sum += cell.tasks.load(std::memory_order_acquire);
  return sum;
}

// The tasks of a tree that hands one branch of two over and does the other.
inline std::uint64_t tree_tasks(unsigned depth) noexcept {
  return depth < 2 ? 0 : 1 + tree_tasks(depth - 1) + tree_tasks(depth - 2);
}

// usage: PROGRAM flood|tree TASKS|DEPTH WORKERS REPETITIONS. Prints the median nanoseconds a task.
// `flood(tasks)` submits so many and returns when all have run; `tree(depth)` gives the number of
// leaves.
template <typename Flood, typename Tree>
int measure_tasks(const std::string& what, std::size_t size, std::size_t repetitions, Flood flood,
                  Tree tree) {
  std::vector<double> seen;
  for (std::size_t i = 0; i < repetitions; ++i) {
    const std::uint64_t before = counted();
    const auto begin = now();
    std::uint64_t tasks = size;
    if (what == "flood") {
      flood(size);
    } else {
      tasks = tree_tasks(static_cast<unsigned>(size));
      if (tree(static_cast<unsigned>(size)) != tasks + 1)
        return 1;
    }
    seen.push_back(static_cast<double>(now() - begin) / static_cast<double>(tasks));
    if (what == "flood" && counted() - before != size)
      return 1;
  }
  std::printf("%.2f\n", median(seen, [](double value) { return value; }));
  return 0;
}

}  // namespace second
