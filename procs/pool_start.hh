#pragma once
// How a pool's workers are started. Inside the pool.

#include "procs/fork_server.hh"
#include "procs/pool_memory.hh"
#include "procs/process.hh"

#include <optional>

namespace schedlab::procs::pool {

// Belongs to one thread.
class Starter {
public:
  explicit Starter(StartMethod how) noexcept : how_(how) {}
  // Returns when the worker is about to serve its lane. Throws as Process does. A forkserver is
  // started with the first worker, and again if it died.
  Process start(const Memory& memory, const Fd& bell, std::uint32_t lane, std::uint32_t generation);

private:
  StartMethod how_;
  std::optional<ForkServer> server_;
};

}  // namespace schedlab::procs::pool
