// Many tasks and many kills: pool_soak TASKS KILLS [fork|exec|forkserver]
//
// Workers are killed from outside at any moment and at random steps of the protocol. Every other
// task may begin once only, the others fifty times. Each begin is written down by the task. Ends
// with 1 if a result was lost or wrong, or a task began more often than it may.

#include "lab/base/clock.hh"
#include "lab/base/random.hh"
#include "lab/base/text.hh"
#include "procs/enter.hh"
#include "tests/pool_tasks.hh"

#include <cstdio>
#include <deque>
#include <string_view>

using namespace schedlab;
using namespace schedlab::procs;
using testing::Journal;
using testing::journalled;

namespace {

constexpr std::size_t under_way = 1000;
constexpr unsigned workers = 3;
constexpr unsigned many_attempts = 50;

struct Soak {
  std::uint64_t tasks;
  std::uint64_t kills;
  ProcessPool pool;
  Journal journal;
  Random random{20};
  std::deque<ProcessFuture<std::size_t>> futures = {};
  std::uint64_t collected = 0;
  std::uint64_t died = 0;
  std::uint64_t wrong = 0;

  Soak(std::uint64_t task_count, std::uint64_t kill_count, StartMethod start)
      : tasks(task_count), kills(kill_count),
        pool({.workers = workers,
              .start = start,
              .arena_bytes = task_count * sizeof(unsigned) / workers + (1 << 20),
              .most_restarts = 1'000'000'000,
              .first_back_off = std::chrono::milliseconds(0)}),
        journal(pool, task_count) {}

  static bool once(std::uint64_t task) { return task % 2 == 0; }

  void collect() {
    auto future = std::move(futures.front());
    futures.pop_front();
    const std::uint64_t task = collected++;
    try {
      wrong += future.get() == task ? 0 : 1;
    } catch (const WorkerDied&) {
      ++died;
      wrong += once(task) ? 0 : 1;
    }
  }

  void kill() {
    const auto worker = static_cast<unsigned>(random.below(workers));
    if (random.below(2) == 0) {
      pool.kill_worker(worker);
      return;
    }
    const auto first = static_cast<std::uint64_t>(Step::woken);
    const auto last = static_cast<std::uint64_t>(Step::announced);
    pool.worker_fault(worker).arm(static_cast<Step>(first + random.below(last - first + 1)),
                                  static_cast<std::uint32_t>(1 + random.below(3)));
  }

  void run() {
    std::uint64_t next_kill = 0;
    for (std::uint64_t task = 0; task < tasks; ++task) {
      const TaskOptions options{.attempts = once(task) ? 1 : many_attempts};
      futures.push_back(pool.submit_with<journalled>(options, journal.bytes(), task));
      // Behind its time: what was asked for last may not have happened yet.
      if (task >= next_kill) {
        next_kill += std::max<std::uint64_t>(tasks / kills / 2, 1);
        if (pool.counts().died * tasks < kills * (task + tasks / 10))
          kill();
      }
      if (futures.size() >= under_way)
        collect();
    }
    while (!futures.empty())
      collect();
    while (pool.counts().died < kills)
      kill_more();
  }

  // Until as many have died as were asked for.
  void kill_more() {
    pool.kill_worker(static_cast<unsigned>(random.below(workers)));
    pool.submit_with<testing::add>({.attempts = many_attempts}, 1, 1).get();
  }

  [[nodiscard]] std::uint64_t begun_too_often() const {
    std::uint64_t count = 0;
    for (std::uint64_t task = 0; task < tasks; ++task)
      count += journal.starts(task) > (once(task) ? 1u : many_attempts) ? 1 : 0;
    return count;
  }
};

std::uint64_t number(const char* text) {
  return static_cast<std::uint64_t>(to_number(text).value_or(1));
}

}  // namespace

int main(int argc, char** argv) {
  enter(argc, argv);
  const std::uint64_t tasks = argc > 1 ? number(argv[1]) : 20'000;
  const std::uint64_t kills = argc > 2 ? number(argv[2]) : 200;
  const std::string_view word = argc > 3 ? argv[3] : "forkserver";
  const auto start = word == "fork"   ? StartMethod::fork
                     : word == "exec" ? StartMethod::exec
                                      : StartMethod::forkserver;
  const std::int64_t begin = clock::now_ns();
  Soak soak(tasks, kills, start);
  soak.run();
  const double seconds = static_cast<double>(clock::now_ns() - begin) * 1e-9;
  const PoolCounts counts = soak.pool.counts();
  const std::uint64_t often = soak.begun_too_often();
  const std::uint64_t lost = counts.submitted - counts.resolved;
  std::printf(
      "%llu tasks, %llu workers died (%llu of their tasks failed, %llu ran again, %llu went "
      "back unblamed), %llu wrong, %llu lost, %llu begun too often, %.1f s\n",
      static_cast<unsigned long long>(tasks), static_cast<unsigned long long>(counts.died),
      static_cast<unsigned long long>(soak.died), static_cast<unsigned long long>(counts.retried),
      static_cast<unsigned long long>(counts.requeued), static_cast<unsigned long long>(soak.wrong),
      static_cast<unsigned long long>(lost), static_cast<unsigned long long>(often), seconds);
  return soak.wrong == 0 && lost == 0 && often == 0 && counts.died >= kills ? 0 : 1;
}
