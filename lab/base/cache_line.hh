#pragma once
#include <cstddef>

namespace schedlab {

// The unit of coherence on every machine schedlab runs on.
inline constexpr std::size_t cache_line = 64;

// Data of two writers is kept this far apart: the adjacent-line prefetcher pulls lines in pairs.
// std::hardware_destructive_interference_size is not used, because it may change with -mtune.
inline constexpr std::size_t line_pair = 128;

// Asks for a line that another CPU has written, so that it is on its way while other work is done.
inline void prefetch(const void* line) noexcept {
  __builtin_prefetch(line, 0);
}
// The same, to write there: the other CPU loses it.
inline void prefetch_to_write(const void* line) noexcept {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(line)));
#else
  __builtin_prefetch(line, 1);
#endif
}

}  // namespace schedlab
