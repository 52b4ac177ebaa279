#pragma once
// What the second methods share: errors end the program, numbers are whole. Plain libc, nothing of
// what they are compared with.

#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

namespace second {

// The result of a libc call that says -1 on an error; then exit status 1.
inline long must(long result, const char* call) {
  if (result < 0) {
    std::perror(call);
    std::exit(1);
  }
  return result;
}

// A decimal argument; exit status 2 for anything else.
inline std::size_t number(const char* text) {
  std::size_t value = 0;
  const char* end = text + std::strlen(text);
  if (const auto [stop, error] = std::from_chars(text, end, value);
      error != std::errc{} || stop != end)
    std::exit(2);
  return value;
}

// A clock in nanoseconds.
inline std::int64_t now(clockid_t clock = CLOCK_MONOTONIC) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec;
}

// A mask of one CPU, by the kernel's number; exit status 2 above 1023.
struct OneCpu {
  explicit OneCpu(std::size_t cpu) {
    constexpr std::size_t bits = 8 * sizeof words[0];
    if (cpu >= 8 * sizeof words)
      std::exit(2);
    words[cpu / bits] = 1UL << cpu % bits;
  }
  unsigned long words[16] = {};
};

// Moves the calling thread to a CPU.
inline void pin(const OneCpu& mask) {
  must(::syscall(SYS_sched_setaffinity, 0, sizeof mask.words, mask.words), "sched_setaffinity");
}
inline void pin(std::size_t cpu) {
  pin(OneCpu(cpu));
}

// Zeroed pages, MAP_PRIVATE or MAP_SHARED with children.
inline void* map(std::size_t bytes, int kind) {
  void* const memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    must(-1, "mmap");
  return memory;
}

// Context switches of this process, or with RUSAGE_CHILDREN of those that were waited for.
inline long switches_so_far(int who = RUSAGE_SELF) {
  rusage usage{};
  ::getrusage(who, &usage);
  return usage.ru_nvcsw + usage.ru_nivcsw;
}

// The median of what `value` gives for each reading; there must be one.
template <typename Reading, typename Value>
double median(const std::vector<Reading>& readings, Value value) {
  std::vector<double> values(readings.size());
  std::transform(readings.begin(), readings.end(), values.begin(), value);
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace second
