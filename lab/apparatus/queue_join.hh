#pragma once
// The tutorials' example: a child puts into a queue, and its parent waits for the child before it
// gets, or gets first. Bounded: the parent gives up waiting, gets, and waits again.

#include "lab/harness/sample.hh"

#include <cstddef>
#include <memory>

namespace schedlab::apparatus {

struct QueueJoinOptions {
  std::size_t bytes = 0;         // of the item
  bool get_first = false;        // else the parent waits for the child first
  std::size_t ended_metric = 0;  // 1 if the child ended while the parent waited for it, else 0
};

// A subject whose operation is one child. Its check: the item arrived in the end, and the child
// ended.
std::unique_ptr<harness::Subject> make_queue_join(const QueueJoinOptions& options);

}  // namespace schedlab::apparatus
