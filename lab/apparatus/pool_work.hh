#pragma once
// What a thread pool is asked to do in measurements: one task there and back, floods of tiny tasks,
// pieces of work of a length. And the same by hand, without a pool.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"
#include "procs/waiting.hh"

#include <cstdint>
#include <memory>
#include <optional>

namespace schedlab::apparatus {

struct RoundTripOptions {
  procs::Waiting waiting = procs::Waiting::block;
  std::optional<unsigned> submitter;  // its CPU; nothing: unpinned
  std::optional<unsigned> worker;     // likewise
  affinity::CpuSet usable;
  std::size_t metric = 0;  // ns from before submit until get has given the value
  std::size_t wakes = 1;   // of the worker, for one task
};

// A subject whose operation is submit and get, with a pool of one worker.
std::unique_ptr<harness::Subject> make_pool_round_trip(const RoundTripOptions& options);
// The same between two threads with two words: no queue, no future, no memory, one call that both
// know. `wakes` is not filled in.
std::unique_ptr<harness::Subject> make_raw_round_trip(const RoundTripOptions& options);

enum class Flood : std::uint8_t {
  one_by_one,  // submit for each, then get for each
  at_once,     // submit_all, then get for each
  recursive,   // each task submits one and does another itself, to the leaves, and gets the first
};

struct FloodOptions {
  Flood how = Flood::one_by_one;
  std::uint64_t tasks = 10'000;
  unsigned workers = 0;  // 0: as many as the pool takes by itself
  affinity::CpuSet usable;
  std::size_t metric = 0;  // ns a task
  std::size_t wakes = 1;   // a task
};

// A subject whose operation is a flood.
std::unique_ptr<harness::Subject> make_flood(const FloodOptions& options);

struct PieceOptions {
  double length_ns = 1000;
  bool waits = false;  // a piece sleeps, and computes nothing
  unsigned workers = 1;
  std::uint64_t pieces = 64;  // in an operation
  affinity::CpuSet usable;
  std::size_t metric = 0;  // ns a piece
};

// A subject whose operation is a batch of pieces of work, by ThreadPool::map.
std::unique_ptr<harness::Subject> make_pool_pieces(const PieceOptions& options);

}  // namespace schedlab::apparatus
