#pragma once
// The measuring clock.
//
// On x86-64 with an invariant TSC that the kernel itself trusts (constant_tsc, nonstop_tsc and
// clocksource "tsc"), a span is lfence;rdtsc;lfence ... rdtscp;lfence. The fences keep the work
// inside the span; rdtscp also gives the CPU, so that a migration inside the span is seen for
// nothing. CPUID is never used: in a virtual machine it traps. On aarch64 a span is isb; mrs
// cntvct_el0. Elsewhere the clock is CLOCK_MONOTONIC_RAW, whose ticks are nanoseconds.
//
// Thread rule: clock::select() and clock::set() are called once, before threads start. All other
// functions may be called from any thread.

#include <cerrno>
#include <cstdint>
#include <string>
#include <sys/time.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace schedlab::clock {

enum class Source : std::uint8_t { monotonic_raw, tsc, cntvct };

// What the spans are read from, and how long a tick is.
struct Calibration {
  Source source = Source::monotonic_raw;
  double ns_per_tick = 1.0;
  std::string reason;  // why this source
};

// Chooses the source and, for the TSC, calibrates it against CLOCK_MONOTONIC_RAW for
// `calibration_ns` (100 ms or more for 1e-6 accuracy).
Calibration select(std::int64_t calibration_ns = 100'000'000);

// Makes a calibration the one in force; replicates take their parent's.
void set(const Calibration& calibration) noexcept;
const Calibration& current() noexcept;

// Nanoseconds, 0 or more, as the kernel takes and gives them: a time, or a length of time.
constexpr timespec to_timespec(std::int64_t ns) noexcept {
  return {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
}
constexpr std::int64_t to_ns(const timespec& time) noexcept {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}
constexpr std::int64_t to_ns(const timeval& time) noexcept {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + std::int64_t{time.tv_usec} * 1'000;
}

// A clock of the kernel in nanoseconds.
inline std::int64_t read_ns(clockid_t id) noexcept {
  timespec now;
  ::clock_gettime(id, &now);
  return to_ns(now);
}

namespace detail {
extern bool use_counter;  // the CPU's own counter, not the kernel's clock
extern double ns_per_tick;
inline std::uint64_t raw_ns() noexcept {
  return static_cast<std::uint64_t>(read_ns(CLOCK_MONOTONIC_RAW));
}
}  // namespace detail

#if defined(__aarch64__)
namespace detail {
inline std::uint64_t cntvct() noexcept {
  std::uint64_t ticks;
  asm volatile("isb; mrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
  return ticks;
}
}  // namespace detail
#endif

// Begins a span, in ticks.
inline std::uint64_t begin() noexcept {
#if defined(__x86_64__)
  if (detail::use_counter) {
    _mm_lfence();
    const std::uint64_t ticks = __rdtsc();
    _mm_lfence();
    return ticks;
  }
#elif defined(__aarch64__)
  if (detail::use_counter)
    return detail::cntvct();
#endif
  return detail::raw_ns();
}

// Ends a span, in ticks, and names the CPU it ended on (kernel number), or unknown_cpu where the
// counter does not tell. Linux keeps the number in the low 12 bits of TSC_AUX.
inline constexpr unsigned unknown_cpu = ~0u;
inline std::uint64_t end(unsigned& cpu) noexcept {
#if defined(__x86_64__)
  if (detail::use_counter) {
    unsigned aux;
    const std::uint64_t ticks = __rdtscp(&aux);
    _mm_lfence();
    cpu = aux & 0xfff;
    return ticks;
  }
#elif defined(__aarch64__)
  cpu = unknown_cpu;
  if (detail::use_counter)
    return detail::cntvct();
#endif
  cpu = unknown_cpu;
  return detail::raw_ns();
}

// Ends a span, in ticks.
inline std::uint64_t end() noexcept {
  unsigned cpu;
  return end(cpu);
}

// A difference of ticks in nanoseconds. Negative when the clock went backward.
inline double ns(std::uint64_t begin_ticks, std::uint64_t end_ticks) noexcept {
  return static_cast<double>(static_cast<std::int64_t>(end_ticks - begin_ticks)) *
         detail::ns_per_tick;
}

// Nanoseconds of CLOCK_MONOTONIC: for deadlines and budgets, not for measuring.
inline std::int64_t now_ns() noexcept {
  return read_ns(CLOCK_MONOTONIC);
}

// Sleeps until such a time, or for so long, whatever signals come meanwhile.
inline void sleep_until(std::int64_t due_ns) noexcept {
  const timespec due = to_timespec(due_ns);
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, nullptr) == EINTR) {
  }
}
inline void sleep_for(std::int64_t ns) noexcept {
  timespec left = to_timespec(ns);
  while (::clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
  }
}

// CPU time of the calling thread, and of this process, in nanoseconds: of all its threads, those of
// the kernel that work for it too.
inline std::int64_t thread_cpu_ns() noexcept {
  return read_ns(CLOCK_THREAD_CPUTIME_ID);
}
inline std::int64_t process_cpu_ns() noexcept {
  return read_ns(CLOCK_PROCESS_CPUTIME_ID);
}

}  // namespace schedlab::clock
