// A second method for cache_bandwidth: STREAM's four kernels as plain loops that the compiler
// vectorises as it likes, with STREAM's own rules: three static-like arrays, each worker its slice,
// NTIMES passes of all four kernels one after another, the first left out, bytes by STREAM's count,
// the values checked at the end. Threads of plain pthreads, a spinning barrier before and after
// each kernel, CLOCK_MONOTONIC read by the first. Prints for copy, scale, add and triad the best
// and the median rate in MB/s (1e6).
//
//   second_stream BYTES_OF_EACH_ARRAY NTIMES CPU [CPU...]
#include "tests/peers/second.hh"

#include <pthread.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cmath>

namespace {

constexpr std::size_t kernels = 4;
constexpr double scalar = 3.0;
constexpr double words[kernels] = {2, 2, 3, 3};

struct Arrays {
  double* a;
  double* b;
  double* c;
  std::size_t count;
};

struct Crew {
  Arrays arrays;
  std::size_t times;
  std::vector<std::size_t> cpus;
  std::atomic<std::size_t> arrived{0};
  std::vector<std::array<double, kernels>> seconds;  // of each pass

  void meet() {
    const std::size_t all = (arrived.fetch_add(1) / cpus.size() + 1) * cpus.size();
    while (arrived.load(std::memory_order_acquire) < all) {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  }
};

struct Worker {
  Crew* crew;
  std::size_t index;
};

[[gnu::noinline]] void copy(const double* __restrict a, double* __restrict c, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    c[i] = a[i];
}
[[gnu::noinline]] void scale(double* __restrict b, const double* __restrict c, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    b[i] = scalar * c[i];
}
[[gnu::noinline]] void add(const double* __restrict a, const double* __restrict b,
                           double* __restrict c, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    c[i] = a[i] + b[i];
}
[[gnu::noinline]] void triad(double* __restrict a, const double* __restrict b,
                             const double* __restrict c, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i)
    a[i] = b[i] + scalar * c[i];
}

void pass(const Arrays& mine, std::size_t kernel) {
  if (kernel == 0)
    copy(mine.a, mine.c, mine.count);
  else if (kernel == 1)
    scale(mine.b, mine.c, mine.count);
  else if (kernel == 2)
    add(mine.a, mine.b, mine.c, mine.count);
  else
    triad(mine.a, mine.b, mine.c, mine.count);
}

void* work(void* argument) {
  const auto& worker = *static_cast<const Worker*>(argument);
  Crew& crew = *worker.crew;
  second::pin(crew.cpus[worker.index]);
  const std::size_t slice = crew.arrays.count / crew.cpus.size();
  const std::size_t first = slice * worker.index;
  const Arrays mine = {crew.arrays.a + first, crew.arrays.b + first, crew.arrays.c + first, slice};
  for (std::size_t i = 0; i < slice; ++i) {
    mine.a[i] = 1.0;
    mine.b[i] = 2.0;
    mine.c[i] = 0.0;
  }
  for (std::size_t time = 0; time < crew.times; ++time)
    for (std::size_t kernel = 0; kernel < kernels; ++kernel) {
      crew.meet();
      const std::int64_t begin = worker.index == 0 ? second::now() : 0;
      pass(mine, kernel);
      crew.meet();
      if (worker.index == 0)
        crew.seconds[time][kernel] = static_cast<double>(second::now() - begin) * 1e-9;
    }
  return nullptr;
}

// STREAM's: the three values, taken through as many rounds, against the mean of what is there.
bool valid(const Arrays& arrays, std::size_t times) {
  double a = 1.0, b = 2.0, c = 0.0;
  for (std::size_t time = 0; time < times; ++time) {
    c = a;
    b = scalar * c;
    c = a + b;
    a = b + scalar * c;
  }
  double error = 0;
  for (std::size_t i = 0; i < arrays.count; ++i)
    error += std::abs(arrays.a[i] / a - 1) + std::abs(arrays.b[i] / b - 1) +
             std::abs(arrays.c[i] / c - 1);
  return error / static_cast<double>(arrays.count) < 1e-13;
}

double* allocate(std::size_t bytes) {
  void* const memory = second::map(bytes, MAP_PRIVATE);
  second::must(::madvise(memory, bytes, MADV_NOHUGEPAGE), "madvise");
  return static_cast<double*>(memory);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4)
    return 2;
  Crew crew;
  const std::size_t bytes = second::number(argv[1]);
  crew.times = second::number(argv[2]);
  for (int i = 3; i < argc; ++i)
    crew.cpus.push_back(second::number(argv[i]));
  if (crew.times < 2)
    return 2;
  crew.arrays = {allocate(bytes), allocate(bytes), allocate(bytes),
                 bytes / sizeof(double) / crew.cpus.size() * crew.cpus.size()};
  crew.seconds.resize(crew.times);
  std::vector<Worker> workers;
  for (std::size_t i = 0; i < crew.cpus.size(); ++i)
    workers.push_back({&crew, i});
  std::vector<pthread_t> threads(workers.size());
  for (std::size_t i = 0; i < workers.size(); ++i)
    second::must(-::pthread_create(&threads[i], nullptr, work, &workers[i]), "pthread_create");
  for (const pthread_t thread : threads)
    ::pthread_join(thread, nullptr);
  if (!valid(crew.arrays, crew.times)) {
    std::fputs("the arrays do not hold what they must\n", stderr);
    return 1;
  }
  crew.seconds.erase(crew.seconds.begin());
  for (std::size_t kernel = 0; kernel < kernels; ++kernel) {
    const double moved = words[kernel] * 8e-6 * static_cast<double>(crew.arrays.count);
    const auto rate = [&](const auto& seconds) { return moved / seconds[kernel]; };
    double best = 0;
    for (const auto& seconds : crew.seconds)
      best = std::max(best, rate(seconds));
    std::printf("%.1f %.1f\n", best, second::median(crew.seconds, rate));
  }
  return 0;
}
