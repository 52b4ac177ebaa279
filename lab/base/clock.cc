#include "lab/base/clock.hh"

#include "lab/base/file.hh"

#include <string>

namespace schedlab::clock {

namespace detail {
bool use_counter = false;
double ns_per_tick = 1.0;
}  // namespace detail

namespace {

Calibration in_force;

#if defined(__x86_64__)
// One reading of both clocks, as close together as one of several tries allows.
struct Fix {
  std::uint64_t ticks;
  std::uint64_t ns;
};

Fix fix() {
  Fix best{};
  std::uint64_t narrowest = ~std::uint64_t{0};
  for (int i = 0; i < 16; ++i) {
    _mm_lfence();
    const std::uint64_t before = __rdtsc();
    const std::uint64_t ns = detail::raw_ns();
    _mm_lfence();
    const std::uint64_t after = __rdtsc();
    if (after - before >= narrowest)
      continue;
    narrowest = after - before;
    best = {before + narrowest / 2, ns};
  }
  return best;
}

// Busy, not asleep: a sleep would let the CPU change its speed under the first sample.
double calibrate(std::int64_t calibration_ns) {
  const Fix first = fix();
  while (detail::raw_ns() - first.ns < static_cast<std::uint64_t>(calibration_ns)) {
  }
  const Fix last = fix();
  return static_cast<double>(last.ns - first.ns) / static_cast<double>(last.ticks - first.ticks);
}

// Why the TSC cannot be the clock here, or empty.
std::string tsc_objection() {
  const auto cpuinfo = read_text("/proc/cpuinfo").value_or("");
  if (cpuinfo.find(" constant_tsc") == std::string::npos ||
      cpuinfo.find(" nonstop_tsc") == std::string::npos)
    return "the TSC is not invariant (constant_tsc and nonstop_tsc are not both set)";
  const auto source =
      read_text("/sys/devices/system/clocksource/clocksource0/current_clocksource").value_or("?");
  if (source != "tsc")
    return "the kernel's clocksource is " + source + ", not tsc";
  return "";
}
#endif

}  // namespace

Calibration select(std::int64_t calibration_ns) {
  Calibration chosen;
#if defined(__x86_64__)
  chosen.reason = tsc_objection();
  if (chosen.reason.empty())
    chosen = {Source::tsc, calibrate(calibration_ns), "invariant TSC, clocksource tsc"};
#elif defined(__aarch64__)
  static_cast<void>(calibration_ns);
  std::uint64_t frequency;
  asm volatile("mrs %0, cntfrq_el0" : "=r"(frequency));
  chosen = {Source::cntvct, 1e9 / static_cast<double>(frequency), "virtual counter"};
#else
  static_cast<void>(calibration_ns);
  chosen.reason = "no counter is known for this architecture";
#endif
  set(chosen);
  return chosen;
}

void set(const Calibration& calibration) noexcept {
  in_force = calibration;
  detail::use_counter = calibration.source != Source::monotonic_raw;
  detail::ns_per_tick = calibration.ns_per_tick;
}

const Calibration& current() noexcept {
  return in_force;
}

}  // namespace schedlab::clock
