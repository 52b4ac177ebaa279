#pragma once
#include <cstddef>

namespace schedlab {

// The unit of coherence on every machine schedlab runs on.
inline constexpr std::size_t cache_line = 64;

// Data of two writers is kept this far apart: the adjacent-line prefetcher pulls lines in pairs.
// std::hardware_destructive_interference_size is not used, because it may change with -mtune.
inline constexpr std::size_t line_pair = 128;

}  // namespace schedlab
