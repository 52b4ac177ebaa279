// Floods of tiny tasks in oneTBB: task_group, whose caller helps when it waits; see pool_tasks.hh.
#include "tests/peers/pool_tasks.hh"

#include <tbb/global_control.h>
#include <tbb/task_group.h>

namespace {

std::uint64_t leaves(unsigned depth) {
  if (depth < 2)
    return 1;
  std::uint64_t other = 0;
  tbb::task_group group;
  group.run([&other, depth] { other = leaves(depth - 1); });
  const std::uint64_t mine = leaves(depth - 2);
  group.wait();
  return mine + other;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5)
    return 2;
  const tbb::global_control threads(tbb::global_control::max_allowed_parallelism,
                                    second::number(argv[3]));
  tbb::task_group group;
  return second::measure_tasks(
      argv[1], second::number(argv[2]), second::number(argv[4]),
      [&group](std::size_t tasks) {
        for (std::size_t i = 0; i < tasks; ++i)
          group.run([] { second::count_task(); });
        group.wait();
      },
      leaves);
}
