// A second method for core_to_core, of plain libc: two threads in a process of its own for each
// repetition, samples of some hundred round trips by CLOCK_MONOTONIC_RAW.
//
//   swap     a flag that each side swaps when it finds the other's value (__sync builtin, full
//            barriers): comparable with cas
//   mailbox  each side copies what it reads in its own box to the other's box: comparable with
//            two-lines
//   turn     a counter whose parity tells whose turn it is, watched by loads and raised by
//            fetch_add: a line is fetched to be read and once more to be written
//
// Prints the minimum and the median over all samples of one way, in ns.
//
//   second_transfer CPU CPU swap|mailbox|turn SAMPLES REPETITIONS
#include "tests/peers/second.hh"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <csignal>
#include <string_view>

using namespace second;

namespace {

constexpr int settling = 50;        // round trips before the clock starts
constexpr int round_trips = 400;    // of a sample
constexpr int boxes = 32;           // places that samples go through
constexpr std::size_t page = 4096;  // a place is a page, so that it has a slice of its own
constexpr std::size_t line = 64;

enum class Method { swap, mailbox, turn };

struct Work {
  Method method;
  std::size_t cpus[2];
  std::size_t samples;
  char* memory;
  double* results;
};

/// The line of a place: a page each, and within it another line each time.
int* cell(const Work& work, std::size_t sample, bool other) {
  const std::size_t place = sample % boxes;
  return reinterpret_cast<int*>(work.memory + place * page +
                                (5 * place + (other ? 32 : 0)) % 64 * line);
}

/// Looks until it is so. Under load two spinning threads may run by turns and never together; one
/// that sleeps now and then is let in when it wakes.
template <typename Ready>
void until(Ready ready) {
  for (int looks = 0; !ready(); ++looks)
    if (looks > 100'000) {
      const timespec nap{0, 20'000};
      ::nanosleep(&nap, nullptr);
    }
}

/// One side of a sample; `me` is 0 for the side that begins. Gives the time after the settling.
std::int64_t play(const Work& work, std::size_t sample, int me) {
  std::int64_t start = 0;
  int* const mine = cell(work, sample, me == 1);
  int* const yours = cell(work, sample, me == 0);
  int* const one = cell(work, sample, false);
  for (int i = 1; i <= settling + round_trips; ++i) {
    if (i == settling + 1 && me == 0)
      start = now(CLOCK_MONOTONIC_RAW);
    switch (work.method) {
    case Method::swap:
      until([&] { return __sync_bool_compare_and_swap(one, me, 1 - me); });
      break;
    case Method::mailbox:
      if (me == 0)
        __atomic_store_n(yours, i, __ATOMIC_SEQ_CST);
      until([&] { return __atomic_load_n(mine, __ATOMIC_SEQ_CST) == i; });
      if (me == 1)
        __atomic_store_n(yours, i, __ATOMIC_SEQ_CST);
      break;
    case Method::turn:
      until([&] { return (__atomic_load_n(one, __ATOMIC_SEQ_CST) & 1) == me; });
      __atomic_fetch_add(one, 1, __ATOMIC_SEQ_CST);
      break;
    }
  }
  return start;
}

pthread_barrier_t barrier;

/// Until the answer to the last hand-over is there.
void end(const Work& work, std::size_t sample) {
  const int* one = cell(work, sample, false);
  const int last = work.method == Method::turn ? 2 * (settling + round_trips) : 0;
  if (work.method != Method::mailbox)
    until([&] { return __atomic_load_n(one, __ATOMIC_SEQ_CST) == last; });
}

void* answer(void* argument) {
  const Work& work = *static_cast<Work*>(argument);
  pin(work.cpus[1]);
  for (std::size_t sample = 0; sample < work.samples; ++sample) {
    ::pthread_barrier_wait(&barrier);
    play(work, sample, 1);
    ::pthread_barrier_wait(&barrier);
  }
  return nullptr;
}

void measure(Work& work) {
  pin(work.cpus[0]);
  ::pthread_barrier_init(&barrier, nullptr, 2);
  pthread_t partner{};
  must(-::pthread_create(&partner, nullptr, answer, &work), "pthread_create");
  for (std::size_t sample = 0; sample < work.samples; ++sample) {
    *cell(work, sample, false) = *cell(work, sample, true) = 0;
    ::pthread_barrier_wait(&barrier);
    const std::int64_t start = play(work, sample, 0);
    end(work, sample);
    work.results[sample] =
        static_cast<double>(now(CLOCK_MONOTONIC_RAW) - start) / (2.0 * round_trips);
    ::pthread_barrier_wait(&barrier);
  }
  ::pthread_join(partner, nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6)
    return 2;
  const std::string_view word = argv[3];
  if (word != "swap" && word != "mailbox" && word != "turn")
    return 2;
  const Method method = word == "swap"      ? Method::swap
                        : word == "mailbox" ? Method::mailbox
                                            : Method::turn;
  const std::size_t samples = number(argv[4]), repetitions = number(argv[5]);
  if (samples == 0 || repetitions == 0)
    return 2;
  std::vector<double> medians, minima;
  auto* results = static_cast<double*>(map(samples * sizeof(double), MAP_SHARED));
  for (std::size_t i = 0; i < repetitions; ++i) {
    if (must(::fork(), "fork") == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      Work work{method,
                {number(argv[1]), number(argv[2])},
                samples,
                static_cast<char*>(map(boxes * page, MAP_SHARED)),
                results};
      pin(work.cpus[0]);
      std::memset(work.memory, 0, boxes * page);
      measure(work);
      ::_exit(0);
    }
    int status = 0;
    must(::wait(&status), "wait");
    if (status != 0)
      return 1;
    std::sort(results, results + samples);
    minima.push_back(results[0]);
    medians.push_back(results[samples / 2]);
  }
  std::printf("%.2f %.2f\n", *std::min_element(minima.begin(), minima.end()),
              median(medians, [](double value) { return value; }));
  return 0;
}
