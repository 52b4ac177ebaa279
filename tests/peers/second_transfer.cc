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
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string_view>
#include <vector>

namespace {

constexpr int settling = 50;        // round trips before the clock starts
constexpr int round_trips = 400;    // of a sample
constexpr int boxes = 32;           // places that samples go through
constexpr std::size_t page = 4096;  // a place is a page, so that it has a slice of its own
constexpr std::size_t line = 64;

long must(long result, const char* call) {
  if (result < 0) {
    std::perror(call);
    std::exit(1);
  }
  return result;
}

std::size_t number(const char* text) {
  std::size_t value = 0;
  const char* end = text + std::strlen(text);
  if (const auto [stop, error] = std::from_chars(text, end, value);
      error != std::errc{} || stop != end)
    std::exit(2);
  return value;
}

double now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC_RAW, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

void pin(std::size_t cpu) {
  constexpr std::size_t bits = 8 * sizeof(unsigned long);
  unsigned long mask[16] = {};
  if (cpu >= 16 * bits)
    std::exit(2);
  mask[cpu / bits] = 1UL << cpu % bits;
  must(::syscall(SYS_sched_setaffinity, 0, sizeof mask, mask), "sched_setaffinity");
}

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
double play(const Work& work, std::size_t sample, int me) {
  double start = 0;
  int* const mine = cell(work, sample, me == 1);
  int* const yours = cell(work, sample, me == 0);
  int* const one = cell(work, sample, false);
  for (int i = 1; i <= settling + round_trips; ++i) {
    if (i == settling + 1 && me == 0)
      start = now();
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
    const double start = play(work, sample, 0);
    end(work, sample);
    work.results[sample] = (now() - start) / (2.0 * round_trips);
    ::pthread_barrier_wait(&barrier);
  }
  ::pthread_join(partner, nullptr);
}

void* share(std::size_t size) {
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    must(-1, "mmap");
  return memory;
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
  auto* results = static_cast<double*>(share(samples * sizeof(double)));
  for (std::size_t i = 0; i < repetitions; ++i) {
    if (must(::fork(), "fork") == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      Work work{method,
                {number(argv[1]), number(argv[2])},
                samples,
                static_cast<char*>(share(boxes * page)),
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
  std::sort(medians.begin(), medians.end());
  std::printf("%.2f %.2f\n", *std::min_element(minima.begin(), minima.end()),
              medians[medians.size() / 2]);
  return 0;
}
