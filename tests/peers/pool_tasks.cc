// Floods of tiny tasks in procs/thread_pool.hh; see pool_tasks.hh.
#include "tests/peers/pool_tasks.hh"

#include "procs/thread_pool.hh"

using namespace schedlab::procs;

namespace {

std::uint64_t leaves(ThreadPool& pool, unsigned depth) {
  if (depth < 2)
    return 1;
  auto other = pool.submit([&pool, depth] { return leaves(pool, depth - 1); });
  const std::uint64_t mine = leaves(pool, depth - 2);
  return mine + other.get();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5)
    return 2;
  ThreadPool pool({.workers = static_cast<unsigned>(second::number(argv[3]))});
  return second::measure_tasks(
      argv[1], second::number(argv[2]), second::number(argv[4]),
      [&pool](std::size_t tasks) {
        const std::uint64_t all = second::counted() + tasks;
        for (std::size_t i = 0; i < tasks; ++i)
          static_cast<void>(pool.submit([] { second::count_task(); }));
        const timespec pause{0, 20'000};
        while (second::counted() < all)
          ::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
      },
      [&pool](unsigned depth) {
        return pool.submit([&pool, depth] { return leaves(pool, depth); }).get();
      });
}
