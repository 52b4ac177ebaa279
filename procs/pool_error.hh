#pragma once
// What pools of threads and of processes refuse alike, for callers that know either.

#include <stdexcept>

namespace schedlab::procs {

// The pool, or what became of a task in it.
struct PoolError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// submit: the pool is shut down. A future of a process pool: it was before the task could run.
struct PoolShutDown : PoolError {
  using PoolError::PoolError;
};

}  // namespace schedlab::procs
