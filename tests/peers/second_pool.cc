// A second method for pool_dispatch: a question and its answer between two threads on two words,
// by futex, in plain libc and with CLOCK_MONOTONIC.
//
// usage: second_pool CPU CPU block|adaptive|spin TRIPS REPETITIONS
//
// Prints the nanoseconds of a trip. "adaptive" asks 200 times before it sleeps, "spin" for ever;
// who is asked wakes only one that says it sleeps, and "block" always wakes.

#include "tests/peers/second.hh"

#include <linux/futex.h>
#include <pthread.h>

#include <atomic>
#include <string>

namespace {

using namespace second;

struct Word {
  alignas(128) std::atomic<unsigned> value{0};
  std::atomic<unsigned> asleep{0};
};

struct Pair {
  Word question;
  Word answer;
  std::size_t cpus[2];
  unsigned trips = 0;
  long asks = 0;  // before sleeping; below 0: for ever
  bool always_wakes = false;
};

void put(Word& word, unsigned value, bool always) {
  word.value.store(value);
  if (always || word.asleep.load() != 0)
    ::syscall(SYS_futex, &word.value, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

void await(Word& word, unsigned value, long asks) {
  for (long i = 0; asks < 0 || i < asks; ++i) {
    if (word.value.load() == value)
      return;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  word.asleep.store(1);
  while (word.value.load() != value)
    ::syscall(SYS_futex, &word.value, FUTEX_WAIT_PRIVATE, value - 1, nullptr, nullptr, 0);
  word.asleep.store(0);
}

void* answer(void* shared) {
  Pair& pair = *static_cast<Pair*>(shared);
  pin(pair.cpus[1]);
  for (unsigned i = 1; i <= pair.trips; ++i) {
    await(pair.question, i, pair.asks);
    put(pair.answer, i, pair.always_wakes);
  }
  return nullptr;
}

double trips(Pair& pair, unsigned first, unsigned count) {
  const auto begin = now();
  for (unsigned i = first; i < first + count; ++i) {
    put(pair.question, i, pair.always_wakes);
    await(pair.answer, i, pair.asks);
  }
  return static_cast<double>(now() - begin) / count;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6)
    return 2;
  static Pair pair;
  pair.cpus[0] = number(argv[1]);
  pair.cpus[1] = number(argv[2]);
  const std::string how = argv[3];
  if (how != "block" && how != "adaptive" && how != "spin")
    return 2;
  const bool apart = pair.cpus[0] != pair.cpus[1];
  if (how == "spin" && !apart)
    return 2;
  pair.asks = !apart || how == "block" ? 0 : how == "adaptive" ? 200 : -1;
  pair.always_wakes = how == "block";
  const auto count = static_cast<unsigned>(number(argv[4]));
  const auto repetitions = static_cast<unsigned>(number(argv[5]));
  constexpr unsigned warm_up = 100;
  pair.trips = warm_up + count * repetitions;
  pthread_t thread;
  if (::pthread_create(&thread, nullptr, &answer, &pair) != 0)
    return 1;
  pin(pair.cpus[0]);
  trips(pair, 1, warm_up);
  std::vector<double> seen;
  for (unsigned i = 0; i < repetitions; ++i)
    seen.push_back(trips(pair, 1 + warm_up + i * count, count));
  ::pthread_join(thread, nullptr);
  std::printf("%.1f\n", median(seen, [](double value) { return value; }));
}
