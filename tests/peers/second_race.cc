// Two pinned threads that add to one counter, written anew: what they lose, and what each way
// costs.
//
// usage: second_race CPU CPU plain|atomic|lock|sharded MILLISECONDS
// Prints the share of updates lost and nanoseconds an update.

#include "second.hh"

#include <pthread.h>

#include <atomic>
#include <string_view>
#include <thread>

namespace {

// Each on a page of its own.
struct Page {
  alignas(4096) volatile std::uint64_t plain = 0;
};
Page shared_counter, own_counters[2];
alignas(4096) std::atomic<std::uint64_t> atomic_counter{0};
alignas(4096) pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
alignas(4096) std::atomic<int> ready{0};
alignas(4096) std::atomic<bool> enough{false};

constexpr std::uint64_t batch = 1000;

template <typename One>
std::uint64_t until_enough(One one) {
  std::uint64_t made = 0;
  while (!enough.load(std::memory_order_relaxed)) {
    for (std::uint64_t i = 0; i < batch; ++i)
      one();
    made += batch;
  }
  return made;
}

std::uint64_t work(std::string_view way, unsigned who) {
  if (way == "atomic")
    return until_enough([] { ++atomic_counter; });
  if (way == "lock")
    return until_enough([] {
      ::pthread_mutex_lock(&mutex);
      shared_counter.plain = shared_counter.plain + 1;
      ::pthread_mutex_unlock(&mutex);
    });
  volatile std::uint64_t& counter = way == "plain" ? shared_counter.plain : own_counters[who].plain;
  return until_enough([&counter] { counter = counter + 1; });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5)
    return 2;
  const std::string_view way = argv[3];
  const std::size_t wait_ms = second::number(argv[4]);
  std::uint64_t made[2] = {};
  std::int64_t begin[2] = {}, end[2] = {};
  const auto play = [&](unsigned who) {
    second::pin(second::number(argv[1 + who]));
    ++ready;
    while (ready < 2) {
    }
    begin[who] = second::now();
    made[who] = work(way, who);
    end[who] = second::now();
  };
  std::thread other([&] { play(1); });
  std::thread one([&] { play(0); });
  const timespec wait{static_cast<time_t>(wait_ms / 1000),
                      static_cast<long>(wait_ms % 1000 * 1'000'000)};
  while (ready < 2)
    std::this_thread::yield();
  ::clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, nullptr);
  enough = true;
  one.join();
  other.join();
  const std::uint64_t all = made[0] + made[1];
  const std::uint64_t kept =
      shared_counter.plain + atomic_counter + own_counters[0].plain + own_counters[1].plain;
  const auto took = static_cast<double>(std::max(end[0], end[1]) - std::min(begin[0], begin[1]));
  std::printf("%.9f %.6f\n", static_cast<double>(all - kept) / static_cast<double>(all),
              took / static_cast<double>(all));
  return 0;
}
