#pragma once
// Threads that do I/O beside threads that compute, all under one interpreter lock: how long does it
// take a thread that waited without the lock to get it back?

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"
#include "procs/interpreter_lock.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

namespace schedlab::apparatus {

enum class IoOperation : std::uint8_t {
  timer,  // a sleep: the lock is given up once
  // A byte through sockets to another thread, which answers after a while: it is given up for both
  // calls, of which only the second one waits.
  echo,
};

struct ConvoyOptions {
  procs::LockRule rule = procs::LockRule::interval;
  std::int64_t interval_ns = 5'000'000;
  unsigned io_threads = 1;
  unsigned cpu_threads = 0;  // that only compute
  IoOperation operation = IoOperation::timer;
  std::int64_t sleep_ns = 0;    // of a timer
  std::int64_t compute_ns = 0;  // about so much bytecode before each operation
  bool release = true;          // around the operation; else it is done with the lock
  std::optional<unsigned> cpu;  // of all of them, kernel number; nothing: any of `cpus`
  affinity::CpuSet cpus;
  affinity::CpuSet usable;
  // Indexes of the metrics that a sample fills in.
  std::size_t latency = 0;   // ns: median of an operation, the lock taken again
  std::size_t p99 = 1;       // of 299 operations and more
  std::size_t wait = 2;      // ns of an operation spent waiting for the lock
  std::size_t expiries = 3;  // intervals that passed in it
  std::size_t rate = 4;      // operations of all I/O threads in a second
  std::size_t progress = 5;  // turns of the loops of those that compute, in a second
  std::size_t running = 6;   // CPU time of all of them as a share of the time
};

// A subject whose operation is one of each I/O thread. Throws Unsupported, std::system_error.
std::unique_ptr<harness::Subject> make_convoy(const ConvoyOptions& options);

// One thread that interprets a loop, with a lock that nobody else wants.
class Alone {
public:
  explicit Alone(procs::LockRule rule);
  ~Alone();
  // Turns of the loop, in chunks of a thousand and as many as are left.
  void run(std::uint64_t turns) noexcept;

private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

// The turns of the loop of count_to() that take about so long here. Found once for each process.
std::int64_t loops_for(double length_ns);

}  // namespace schedlab::apparatus
