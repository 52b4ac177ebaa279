#pragma once
// The part of pool_kills that runs out of memory: a program of its own, which enters a cage before
// it makes its pool.

#include "lab/apparatus/pool_kills.hh"

#include <memory>

namespace schedlab::apparatus {

// Starts the program for each sample. Checks beside what the program found that the cgroup counted
// as many kills as workers died.
std::unique_ptr<harness::Subject> make_pool_in_cage(const PoolKillOptions& options);

// The pool itself, in this process.
std::unique_ptr<harness::Subject> make_pool_here(const PoolKillOptions& options);

}  // namespace schedlab::apparatus
