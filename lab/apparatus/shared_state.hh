#pragma once
// The same small table, kept in two ways: shared by two threads under locks, or owned by one
// process that another one asks by messages. The caller is one of the two.

#include "lab/apparatus/team.hh"
#include "lab/harness/sample.hh"

#include <memory>
#include <optional>

namespace schedlab::apparatus {

struct SharedStateOptions {
  bool owned = false;              // by a process; else shared by threads
  std::optional<unsigned> first;   // the caller's CPU; nothing: unpinned
  std::optional<unsigned> second;  // the partner's
  affinity::CpuSet usable;
  unsigned write_percent = 10;  // of the operations; the others read
  std::size_t rate_metric = 0;  // operations a second, of both tasks together
  std::size_t p99_metric = 1;   // ns of one operation, as its caller sees it
};

// A subject whose operation is a look-up or an increment of one of 4096 entries, chosen by a fixed
// sequence. With an owner up to 16 requests are under way at once. Its check counts the increments
// that were lost.
std::unique_ptr<harness::Subject> make_shared_state(const SharedStateOptions& options);

}  // namespace schedlab::apparatus
