// A second method for speedup_scaling, of plain libc: threads and a job with a serial share.
//
// usage: second_scaling SERIAL_PERCENT LENGTH_US CPU...
//
// Each job is done by one thread and then by one thread on each CPU, in turn, 400 times. Work is a
// linear congruential generator, not a chain of additions; threads hand over by one word that
// counts jobs; the clock is CLOCK_MONOTONIC. Prints the median speedup, and the serial share that
// it speaks for.

#include "tests/peers/second.hh"

#include <atomic>
#include <thread>

namespace {

std::uint64_t generate(std::uint64_t steps, std::uint64_t value) {
  for (std::uint64_t i = 0; i < steps; ++i)
    value = value * 6364136223846793005u + 1442695040888963407u;
  return value;
}

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// A barrier that counts upwards for ever.
struct Meeting {
  std::atomic<std::uint64_t> come{0};
  void wait(std::uint64_t number, std::uint64_t of) {
    come.fetch_add(1);
    while (come.load() < number * of)
      pause();
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: second_scaling SERIAL_PERCENT LENGTH_US CPU...\n");
    return 2;
  }
  const double serial = static_cast<double>(second::number(argv[1])) / 100;
  const double length_ns = 1e3 * static_cast<double>(second::number(argv[2]));
  const auto workers = static_cast<std::uint64_t>(argc - 3);
  second::pin(second::number(argv[3]));
  volatile std::uint64_t sink = 0;
  std::int64_t quickest = INT64_MAX;
  for (int i = 0; i < 50; ++i) {
    const std::int64_t begin = second::now();
    sink = sink + generate(100'000, sink);
    quickest = std::min(quickest, second::now() - begin);
  }
  const auto steps = static_cast<std::uint64_t>(length_ns * 1e5 / static_cast<double>(quickest));
  const auto alone = static_cast<std::uint64_t>(static_cast<double>(steps) * serial);
  const std::uint64_t part = (steps - alone) / workers;
  constexpr int jobs = 400;
  Meeting begin_all, after_serial, end_all;
  std::vector<std::thread> others;
  for (std::uint64_t worker = 1; worker < workers; ++worker)
    others.emplace_back([&, worker] {
      second::pin(second::number(argv[3 + worker]));
      std::uint64_t value = worker;
      for (std::uint64_t job = 1; job <= jobs; ++job) {
        begin_all.wait(job, workers);
        after_serial.wait(job, workers);
        value = generate(part, value);
        end_all.wait(job, workers);
      }
      sink = sink + value;
    });
  std::vector<double> ratios;
  for (std::uint64_t job = 1; job <= jobs; ++job) {
    const std::int64_t start = second::now();
    sink = generate(steps, sink);
    const std::int64_t one = second::now() - start;
    begin_all.wait(job, workers);
    const std::int64_t again = second::now();
    sink = generate(alone, sink);
    after_serial.wait(job, workers);
    sink = generate(part, sink);
    end_all.wait(job, workers);
    ratios.push_back(static_cast<double>(one) / static_cast<double>(second::now() - again));
  }
  for (auto& other : others)
    other.join();
  const double speedup = second::median(ratios, [](double ratio) { return ratio; });
  const auto n = static_cast<double>(workers);
  std::printf("%.6f %.6f\n", speedup, (1 / speedup - 1 / n) / (1 - 1 / n));
}
