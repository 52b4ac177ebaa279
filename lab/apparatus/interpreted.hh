#pragma once
// Tasks that run a program of the bytecode machine: one after the other, as threads under an
// interpreter lock or without it, or as processes with a lock each. The interpreter that shares its
// lock counts references plainly, the one without a lock as PEP 703 does.

#include "affinity/placement.hh"
#include "lab/harness/sample.hh"
#include "procs/bytecode.hh"

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

enum class Spread : std::uint8_t { serial, threads, processes };

struct InterpretedOptions {
  Spread spread = Spread::threads;
  procs::LockRule rule = procs::LockRule::interval;
  std::int64_t interval_ns = 5'000'000;
  unsigned tasks = 1;
  std::int64_t loops = 0;      // each task counts to this
  std::uint64_t block = 0;     // bytes that C code hashes in each turn of the loop; 0: none
  bool release = false;        // other threads may have the lock while it hashes
  std::vector<unsigned> cpus;  // kernel numbers; the tasks may run on any of them
  affinity::CpuSet usable;
  // Indexes of the metrics that a sample fills in.
  std::size_t time = 0;      // ns, from the first task's begin to the last one's end
  std::size_t running = 1;   // CPU time of the tasks as a multiple of that
  std::size_t held = 2;      // how long a lock was held, summed, as a multiple of it
  std::size_t switches = 3;  // times that a lock went from one thread to another
  std::size_t turns = 4;     // the same for each interval that passed; `interval` and threads only
  std::size_t waits = 5;     // times that a lock was found held
};

// A subject whose operation is one run of all tasks. The checks: each result, and that the holders
// of a lock never overlapped. Throws Unsupported, std::system_error.
std::unique_ptr<harness::Subject> make_interpreted(const InterpretedOptions& options);

// The CPUs that a placement names by location, or all usable ones.
std::vector<unsigned> named_cpus(const affinity::Topology& topology,
                                 const affinity::Placement& placement);

// Names of the checks, for those who judge by them.
inline constexpr std::string_view results_check = "results that are not the number counted to";
inline constexpr std::string_view overlaps_check = "turns that overlapped another holder's";

}  // namespace schedlab::apparatus
