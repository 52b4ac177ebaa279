// Our pools for pool_second.py and process_pool_second.py:
//
//   pool_round_trip threads|processes WAITING COUNT REPETITIONS CPU [CPU]
//
// Prints ns from submit to result, of tasks sent one after the other, the median of repetitions of
// COUNT each; the caller on the first CPU, the worker on the last.

#include "affinity/pin.hh"
#include "lab/base/clock.hh"
#include "lab/base/text.hh"
#include "procs/enter.hh"
#include "procs/process_pool.hh"
#include "procs/thread_pool.hh"
#include "tests/peers/second.hh"

#include <cstdio>
#include <string_view>

using namespace schedlab;

namespace {

int following(int number) {
  return number + 1;
}

struct Trips {
  procs::Waiting waiting;
  int count;
  int repetitions;
  affinity::CpuSet both;
  unsigned here;
  unsigned there;
};

// `trip(i)` gives i + 1 by way of a worker.
template <typename Trip>
int measure(const Trips& trips, Trip trip) {
  affinity::bind_thread(0, affinity::CpuSet{trips.here});
  for (int i = 0; i < trips.count / 10; ++i)
    if (trip(i) != i + 1)
      return 1;
  std::vector<double> seen;
  for (int repetition = 0; repetition < trips.repetitions; ++repetition) {
    const std::int64_t begin = clock::now_ns();
    for (int i = 0; i < trips.count; ++i)
      if (trip(i) != i + 1)
        return 1;
    seen.push_back(static_cast<double>(clock::now_ns() - begin) / trips.count);
  }
  std::printf("%.1f\n", second::median(seen, [](double value) { return value; }));
  return 0;
}

int by_threads(const Trips& trips) {
  procs::ThreadPool pool({.workers = 1, .cpus = {trips.there}, .waiting = trips.waiting});
  return measure(trips, [&](int i) { return pool.submit([i] { return following(i); }).get(); });
}

int by_processes(const Trips& trips) {
  procs::ProcessPool pool({.workers = 1, .waiting = trips.waiting});
  affinity::bind_thread(pool.pids().front(), affinity::CpuSet{trips.there});
  return measure(trips, [&](int i) { return pool.submit<following>(i).get(); });
}

}  // namespace

int main(int argc, char** argv) {
  procs::enter(argc, argv);
  if (argc < 6)
    return 2;
  const auto number = [&](int i) { return static_cast<unsigned>(second::number(argv[i])); };
  const Trips trips{.waiting = procs::waiting_from(argv[2]),
                    .count = static_cast<int>(number(3)),
                    .repetitions = static_cast<int>(number(4)),
                    .both = affinity::CpuSet{number(5), number(argc - 1)},
                    .here = number(5),
                    .there = number(argc - 1)};
  affinity::bind_thread(0, trips.both);  // while the pool is made: it asks whether to spin
  return std::string_view(argv[1]) == "threads" ? by_threads(trips) : by_processes(trips);
}
