#pragma once
// A process is killed while it has a lock that processes share, and another one asks for it.

#include "lab/harness/sample.hh"

#include <memory>
#include <string>

namespace schedlab::apparatus {

struct DeadOwnerOptions {
  std::string way;  // "robust", "mutex", "semaphore"
  // Indexes of the metrics that a sample fills in.
  std::size_t latency = 0;  // ns: from the kill until the lock is had and mended; "robust"
  std::size_t lost = 1;     // of a million owners that were killed, those whose lock was lost
};

// An operation is an owner that is killed with two words half changed. The owner is a forked
// process; the memory is a sealed memfd. "robust": the next one gets the lock and the news, and
// mends the words. The others wait a few ms in vain. Checked: the
// robust lock came back every time, whole again, and the others never.
std::unique_ptr<harness::Subject> make_dead_owner(const DeadOwnerOptions& options);

}  // namespace schedlab::apparatus
