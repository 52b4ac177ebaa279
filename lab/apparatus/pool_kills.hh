#pragma once
// A process pool whose workers, or whose parent, are killed on purpose; its tasks write down
// themselves how often each was begun.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"
#include "procs/fault.hh"
#include "procs/process.hh"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

// Who is killed, and how.
enum class PoolKill : std::uint8_t {
  at_step,  // a worker, by itself at a step of the protocol
  outside,  // a worker, by another process at a random moment
  poison,   // every worker that runs a certain task, which may begin three times
  timeout,  // the worker of a task whose time is up
  memory,   // by the kernel, for want of memory: every worker that runs a certain task
  parent,   // the program that has the pool, at a step of its own; at a worker's: while its workers
            // run tasks
};

// Indices of the lab's metrics. All but the first and the last are counts of a sample.
struct PoolKillMetrics {
  std::size_t recovery = 0;  // ns from the kill until the worker's successor begins a task; of a
                             // program, from when its end was seen until no process is left
  std::size_t kills = 0;
  std::size_t lost = 0;     // tasks that were not resolved, or wrongly
  std::size_t doubled = 0;  // tasks that began more often than they may
  std::size_t hurt = 0;     // tasks that failed though their worker was not killed
  std::size_t unnamed = 0;  // failures that name another worker or cause
  std::size_t left = 0;     // processes that are left of a killed program
  std::size_t late = 0;     // ns by which a timeout struck late
};

// Names of the checks that one task too many fails, for those who judge by them.
inline constexpr std::string_view harmless_check =
    "tasks lost, begun twice, hurt or blamed wrongly";
inline constexpr std::string_view nobody_left_check = "processes left of killed programs";

struct PoolKillOptions {
  affinity::CpuSet usable;  // the CPUs of all
  PoolKill how = PoolKill::at_step;
  procs::Step step = procs::Step::running;
  procs::StartMethod start = procs::StartMethod::forkserver;
  std::uint64_t kills = 1;  // of an operation; of poison and memory, the tasks that die of them
  std::uint64_t seed = 1;   // of random moments
  PoolKillMetrics metrics;
};

// Two workers. Checks that every kill landed, and that none of the counts of what must not happen
// is above 0.
// With `memory` a sample is a program with a pool in a MemoryCage of pool_cage_bytes; throws
// Unsupported where there can be none.
std::unique_ptr<harness::Subject> make_pool_kills(const PoolKillOptions& options);

// Several times what a program with an idle pool takes.
inline constexpr std::uint64_t pool_cage_bytes = std::uint64_t{64} << 20;
// Why no pool can be killed for want of memory here; empty if one can.
std::string pool_cage_refusal();

}  // namespace schedlab::apparatus
