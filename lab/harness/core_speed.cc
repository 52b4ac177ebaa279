#include "lab/harness/core_speed.hh"

#include "lab/base/clock.hh"

#include <algorithm>
#include <cstdint>

namespace schedlab::harness {

namespace {

constexpr unsigned chain = 16;
constexpr unsigned loops = 12'000;

// Register to register: additions of a constant are folded away by the renamer of some cores.
inline std::uint64_t sixteen_additions(std::uint64_t x) noexcept {
  for (unsigned i = 0; i < chain; ++i) {
#if defined(__x86_64__)
    asm volatile("add %0, %0" : "+r"(x) : : "cc");
#elif defined(__aarch64__)
    asm volatile("add %0, %0, %0" : "+r"(x));
#else
    asm volatile("" : "+r"(x));
    x += x;
#endif
  }
  return x;
}

double try_once() noexcept {
  std::uint64_t x = 1;
  const auto start = clock::begin();
  for (unsigned i = 0; i < loops; ++i) {
    x = sixteen_additions(x);
    asm volatile("" : "+r"(x));
  }
  return clock::ns(start, clock::end());
}

}  // namespace

double core_mhz() {
  double fastest = try_once();
  for (int i = 0; i < 20; ++i)
    fastest = std::min(fastest, try_once());
  return fastest > 0 ? 1e3 * chain * loops / fastest : 0;
}

}  // namespace schedlab::harness
