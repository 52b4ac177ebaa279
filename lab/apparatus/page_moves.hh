#pragma once
// What it costs to move pages that are there from one node to another.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>

namespace schedlab::apparatus {

struct PageMoveOptions {
  std::uint64_t pages = 256;  // base pages, moved all at once
  unsigned from = 0;          // nodes, kernel numbers
  unsigned to = 0;
  bool stay = false;  // the control: calls that find every page where it is to be
  unsigned cpu = 0;   // of the task that calls
  affinity::CpuSet usable;
  std::size_t metric = 0;        // gets nanoseconds for a page and one way
  std::size_t moved_metric = 1;  // gets the pages that one call moved, on average
};

// An operation is there and back: two calls. Before each sample the pages go there and back once,
// not clocked, and are looked for by address on both nodes; checks() says how many were not found.
//
// With move_pages: pages of this process. The call itself also reports where each page is.
std::unique_ptr<harness::Subject> make_page_mover(const PageMoveOptions& options);
// With migrate_pages: all that a process of its own has on the node, these pages and what else it
// is made of. How many move is counted in its numa_maps, and the time is divided by that.
std::unique_ptr<harness::Subject> make_process_mover(const PageMoveOptions& options);

}  // namespace schedlab::apparatus
