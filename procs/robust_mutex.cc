#include "procs/robust_mutex.hh"

#include "lab/base/error.hh"

#include <cerrno>

namespace schedlab::procs {
namespace {

// For pthread_ calls, which give their error back.
void require(int error, const char* call) {
  if (error != 0)
    throw_errno(error, call);
}

}  // namespace

RobustMutex::RobustMutex(Sharing sharing) {
  pthread_mutexattr_t attributes;
  require(::pthread_mutexattr_init(&attributes), "pthread_mutexattr_init");
  ::pthread_mutexattr_setpshared(&attributes, sharing == Sharing::threads ? PTHREAD_PROCESS_PRIVATE
                                                                          : PTHREAD_PROCESS_SHARED);
  ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  const int error = ::pthread_mutex_init(&mutex_, &attributes);
  ::pthread_mutexattr_destroy(&attributes);
  require(error, "pthread_mutex_init");
}

RobustMutex::Got RobustMutex::acquire(const timespec* until) {
  const int error = until ? ::pthread_mutex_clocklock(&mutex_, CLOCK_MONOTONIC, until)
                          : ::pthread_mutex_lock(&mutex_);
  if (error == ETIMEDOUT)
    return Got::nothing;
  if (error == EOWNERDEAD)
    return Got::orphaned;
  require(error, "pthread_mutex_lock");
  return Got::sound;
}

// Not pthread_mutex_trylock: that of glibc 2.36 answers ENOTRECOVERABLE and keeps the lock, so that
// the next one to ask sleeps for ever.
RobustMutex::Got RobustMutex::try_acquire() {
  const timespec past{};
  return acquire(&past);
}

bool RobustMutex::finish(Got got) {
  if (got == Got::orphaned) {
    unlock();  // without having been made consistent: nobody gets it any more
    throw_errno(EOWNERDEAD, "pthread_mutex_lock");
  }
  return got == Got::sound;
}

}  // namespace schedlab::procs
