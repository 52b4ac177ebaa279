#pragma once
// Records that are killed in the middle of being written: what a reader finds afterwards.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

enum class Writing : std::uint8_t {
  memory,            // over the last record, in shared memory
  memory_published,  // into the other one of two places, then its number is stored
  file_pieces,       // over the last record, by a pwrite for each 4 KiB, as a buffered stream does
  file,              // over the last record, by one pwrite
  file_renamed,      // into a new file, then that is renamed over the last one
};
std::string_view to_text(Writing writing) noexcept;

struct TornRecordOptions {
  Writing writing = Writing::memory;
  std::optional<unsigned> writer = {};  // kernel number; nothing: anywhere
  std::optional<unsigned> killer = {};
  affinity::CpuSet usable;
  std::string folder = {};  // of the files
  std::uint64_t seed = 0;
  std::size_t torn = 0;  // metric: share of kills that left a torn record
};

inline constexpr std::size_t record_bytes = 64 * 1024;

// An operation is a process that writes records of 64 KiB, each of one number throughout, as long
// again waiting as writing, and that is killed (SIGKILL) at a moment drawn from the seed. Then the
// last record is read. The checks say that each child died of the kill and, for the ways that
// publish, that nothing was torn.
// Throws Unsupported where the folder takes no file.
std::unique_ptr<harness::Subject> make_torn_record(const TornRecordOptions& options);

}  // namespace schedlab::apparatus
