#pragma once
// The locks that labs compare, ours and those of the C library, by name and each with a grip: what
// one thread takes and leaves the lock by.

#include "procs/fair_mutex.hh"
#include "procs/mcs_lock.hh"
#include "procs/mutex.hh"
#include "procs/pi_mutex.hh"
#include "procs/robust_mutex.hh"
#include "procs/ticket_lock.hh"

#include <pthread.h>

#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace schedlab::apparatus {

// How often a lock asks that can spin.
struct LockOptions {
  procs::Patience patience = {};
};

// Nothing: the control.
struct NoLock {
  explicit NoLock(const LockOptions&) {}
  void lock() noexcept {}
  void unlock() noexcept {}
};

struct StdMutex : std::mutex {
  explicit StdMutex(const LockOptions&) {}
};

// A mutex of glibc with an attribute.
class PthreadMutex {
public:
  template <typename SetAttribute>
  explicit PthreadMutex(SetAttribute set) {
    pthread_mutexattr_t attributes;
    ::pthread_mutexattr_init(&attributes);
    set(&attributes);
    ::pthread_mutex_init(&mutex_, &attributes);
    ::pthread_mutexattr_destroy(&attributes);
  }
  void lock() noexcept { ::pthread_mutex_lock(&mutex_); }
  void unlock() noexcept { ::pthread_mutex_unlock(&mutex_); }

private:
  pthread_mutex_t mutex_;
};
// Spins for a while before it sleeps.
struct AdaptivePthreadMutex : PthreadMutex {
  explicit AdaptivePthreadMutex(const LockOptions&)
      : PthreadMutex(
            [](auto* set) { ::pthread_mutexattr_settype(set, PTHREAD_MUTEX_ADAPTIVE_NP); }) {}
};
struct PiPthreadMutex : PthreadMutex {
  explicit PiPthreadMutex(const LockOptions&)
      : PthreadMutex(
            [](auto* set) { ::pthread_mutexattr_setprotocol(set, PTHREAD_PRIO_INHERIT); }) {}
};

struct SharedPthreadMutex : PthreadMutex {
  explicit SharedPthreadMutex(const LockOptions&)
      : PthreadMutex(
            [](auto* set) { ::pthread_mutexattr_setpshared(set, PTHREAD_PROCESS_SHARED); }) {}
};

class PthreadSpinLock {
public:
  explicit PthreadSpinLock(const LockOptions&) { ::pthread_spin_init(&lock_, 0); }
  void lock() noexcept { ::pthread_spin_lock(&lock_); }
  void unlock() noexcept { ::pthread_spin_unlock(&lock_); }

private:
  pthread_spinlock_t lock_;
};

struct PlainMutex : procs::Mutex {
  explicit PlainMutex(const LockOptions&) {}
};
struct SpinningMutex : procs::Mutex {
  explicit SpinningMutex(const LockOptions& options)
      : Mutex(procs::Sharing::threads, options.patience) {}
};
struct SharedMutex : procs::Mutex {
  explicit SharedMutex(const LockOptions&) : Mutex(procs::Sharing::processes) {}
};
struct OurFairMutex : procs::FairMutex {
  explicit OurFairMutex(const LockOptions&) {}
};
struct OurTicketLock : procs::TicketLock {
  explicit OurTicketLock(const LockOptions& options) : TicketLock(options.patience) {}
};
struct OurMcsLock : procs::McsLock {
  explicit OurMcsLock(const LockOptions& options) : McsLock(options.patience) {}
};
struct OurRobustMutex : procs::RobustMutex {
  explicit OurRobustMutex(const LockOptions&) {}
};
struct OurPiMutex : procs::PiMutex {
  explicit OurPiMutex(const LockOptions&) {}
};

template <typename Lock>
class Grip {
public:
  explicit Grip(Lock& lock) noexcept : lock_(lock) {}
  void lock() noexcept { lock_.lock(); }
  void unlock() noexcept { lock_.unlock(); }

private:
  Lock& lock_;
};
template <>
class Grip<OurMcsLock> : public procs::McsPlace {
public:
  using McsPlace::McsPlace;
};

inline constexpr std::string_view lock_kinds[] = {
    "none",   "std",        "pthread-adaptive", "pthread-pi", "pthread-shared", "pthread-spin",
    "mutex",  "mutex-spin", "mutex-shared",     "fair",       "ticket",         "mcs",
    "robust", "pi"};

// Those that never sleep: not for more threads than CPUs, not even with a yield in between.
inline bool always_spins(std::string_view kind) noexcept {
  return kind == "pthread-spin";
}

// Calls `visit` with the type that a name stands for.
template <typename Visit>
auto with_lock_kind(std::string_view kind, Visit visit) {
  if (kind == "none")
    return visit(std::type_identity<NoLock>());
  if (kind == "std")
    return visit(std::type_identity<StdMutex>());
  if (kind == "pthread-adaptive")
    return visit(std::type_identity<AdaptivePthreadMutex>());
  if (kind == "pthread-pi")
    return visit(std::type_identity<PiPthreadMutex>());
  if (kind == "pthread-shared")
    return visit(std::type_identity<SharedPthreadMutex>());
  if (kind == "pthread-spin")
    return visit(std::type_identity<PthreadSpinLock>());
  if (kind == "mutex")
    return visit(std::type_identity<PlainMutex>());
  if (kind == "mutex-spin")
    return visit(std::type_identity<SpinningMutex>());
  if (kind == "mutex-shared")
    return visit(std::type_identity<SharedMutex>());
  if (kind == "fair")
    return visit(std::type_identity<OurFairMutex>());
  if (kind == "ticket")
    return visit(std::type_identity<OurTicketLock>());
  if (kind == "mcs")
    return visit(std::type_identity<OurMcsLock>());
  if (kind == "robust")
    return visit(std::type_identity<OurRobustMutex>());
  if (kind == "pi")
    return visit(std::type_identity<OurPiMutex>());
  throw std::logic_error("no such lock: " + std::string(kind));
}

}  // namespace schedlab::apparatus
