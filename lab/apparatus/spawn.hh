#pragma once
// What it costs to start a task that ends at once, and to wait for its end.

#include "affinity/cpu_set.hh"
#include "lab/apparatus/ballast.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// Where the values of a start go, by index into the lab's metrics. Nanoseconds but for the last
// two; what a way does not show is not measured.
struct SpawnMetrics {
  std::size_t whole = 0;    // from the call until the end was waited for
  std::size_t blocked = 0;  // the call that starts it
  std::size_t begun = 0;    // from the call to the child's first instruction of ours
  std::size_t join = 0;     // from the child's last instruction of ours until the wait returned
  std::size_t faults = 0;   // page faults: of the child in its life; by procs, until its body
  std::size_t right = 0;    // share of starts after which all was as it should be
};

struct SpawnCostOptions {
  unsigned cpu = 0;  // kernel number; parent and child
  affinity::CpuSet usable;
  Ballast ballast = {};  // held by the parent
  SpawnMetrics metrics = {};
};

// Each starts one child and waits for it:
//
//   thread            pthread_create, pthread_join
//   detached          the control of the wait: a thread that nobody waits for at first; "right" is
//                     the share that had ended when the call returned
//   fork, vfork       and waitpid; the child ends at once
//   pidfd             fork, pidfd_open, poll, wait4
//   clone3            the same by one call that gives child and descriptor
//   clone/FLAGS       clone(2) with what is shared: none, vm, vfork, fs, files, sighand, all (but
//                     vfork), thread (all, and the process), joined by + ("vm+files")
//   spawn, fork-exec, vfork-exec   posix_spawn, or the pair of calls, of the smallest program
//   vfork-exec-dynamic   the pair for /bin/true, with its C library
//   procs/fork, procs/exec, procs/forkserver   procs::Process; the child computes what it is given
//                     and its answer is compared
std::unique_ptr<harness::Subject> make_spawn(std::string_view way, const SpawnCostOptions& options);

// The flags of the matrix, from none to those of a thread.
const std::vector<std::string_view>& clone_flag_sets();

// Why a way cannot be gone here, or empty.
std::string spawn_refusal(std::string_view way);

}  // namespace schedlab::apparatus
