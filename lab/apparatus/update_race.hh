#pragma once
// Tasks that all update one counter, by reading it, adding one, and writing it back, or by a way
// that loses nothing. What each did is kept apart from the counter, so that what is missing in it
// is counted and not guessed.

#include "lab/apparatus/team.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

enum class Update : std::uint8_t {
  plain,        // load; add; store: relaxed atomics, so that it is a lost update and nothing worse
  atomic,       // fetch_add
  lock,         // the plain one under a pthread mutex
  sharded,      // each task has a counter of its own; they are added up in the end
  file,         // pread; add; pwrite on one file
  file_locked,  // the same under a lock of the file (F_OFD_SETLKW)
};
std::string_view to_text(Update update) noexcept;

struct UpdateRaceOptions {
  TaskOptions tasks = {};
  std::vector<std::optional<unsigned>> places;  // of each task; nothing: anywhere
  affinity::CpuSet usable;
  Update update = Update::plain;
  std::uint32_t window = 0;        // additions, one after the other, between reading and writing
  std::uint32_t yield_one_in = 0;  // there the task also yields, with this chance; 0: never
  std::uint64_t run = 0;           // updates of each task in a run; 0: a sample is one run
  std::uint32_t skew_ns = 0;       // of runs between CPUs: each begins up to so much late
  std::uint64_t seed = 0;          // of yields and delays
  // Indexes of the metrics that a sample fills in.
  std::size_t lost = 0;   // share of the updates that are missing in the counter
  std::size_t each = 1;   // ns from first start to last end, an update; not with skew or yields
  std::size_t shows = 2;  // share of runs in which anything was lost, where there are runs
};

// An operation is an update by each task, or a run. Tasks that all have a CPU of their own begin
// together; others as the scheduler has it. The checks say that each task did what it was to do
// and, for a way that loses nothing, that nothing was lost.
std::unique_ptr<harness::Subject> make_update_race(const UpdateRaceOptions& options);

}  // namespace schedlab::apparatus
