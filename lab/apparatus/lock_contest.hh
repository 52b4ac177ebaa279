#pragma once
// Locks of lock_kinds.hh at work: by one thread alone, by several that contend, and handed over
// between two.

#include "affinity/cpu_set.hh"
#include "lab/harness/sample.hh"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

struct ContestOptions {
  std::string kind;            // of lock_kinds
  std::vector<unsigned> cpus;  // of each thread, kernel numbers; several may have the same
  affinity::CpuSet usable;
  double critical_ns = 0;    // work under the lock
  double parallel_ns = 0;    // work between two locks
  bool clock_waits = false;  // each wait is clocked, which costs two readings a lock
  // Indexes of the metrics that a sample fills in.
  std::size_t overhead = 0;  // ns: CPU time for a lock of all threads less the work
  std::size_t rate = 1;      // locks in a second of all threads
  std::size_t handoff = 2;   // ns: from one who gives up a lock to the next who has it
  std::size_t jain = 3;      // Jain's index of the threads' locks: 1 even, 1/n all by one
  std::size_t max_wait = 4;  // ns: the longest wait of a sample; with clock_waits
  std::size_t sleeps = 5;    // voluntary context switches for a lock or hand-over
  std::size_t calls = 6;     // futex calls for the same, of locks that count them
  std::size_t lost = 7;      // additions of a contest that went missing
};

// One thread that locks and unlocks, in a process that has another one: the C library leaves out
// the atomic steps of a mutex where there is none. An operation is a lock.
std::unique_ptr<harness::Subject> make_lone_lock(const ContestOptions& options);

// Threads that lock, work, unlock, and work, until together they have locked so often as the sample
// has operations. Each lock adds one to a plain counter, and a check holds it against the locks
// that the threads counted by themselves.
std::unique_ptr<harness::Subject> make_contest(const ContestOptions& options);

// Two threads and three locks. Each holds one and waits for that of the other; woken, it gives up
// the one that the other waits for and waits for the third. So each unlock hands over to a thread
// that waits, and no third one can come between. An operation is a hand-over.
std::unique_ptr<harness::Subject> make_lock_handoff(const ContestOptions& options);

// Nothing, or why such threads do not go together: those that only spin need a CPU each.
std::string contest_objection(std::string_view kind, const std::vector<unsigned>& cpus);

// Does the kind count its futex calls?
bool counts_calls(std::string_view kind) noexcept;

}  // namespace schedlab::apparatus
