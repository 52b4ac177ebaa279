#include "procs/interpreter_lock.hh"

#include "lab/base/clock.hh"

#include <semaphore.h>

#include <bit>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <string>

namespace schedlab::procs {
namespace {

// A change of hands must not change what a call before it left in errno.
class KeepErrno {
public:
  KeepErrno() noexcept : kept_(errno) {}
  KeepErrno(const KeepErrno&) = delete;
  KeepErrno& operator=(const KeepErrno&) = delete;
  ~KeepErrno() { errno = kept_; }

private:
  int kept_;
};

void check_interval(std::int64_t interval_ns) {
  if (interval_ns < 1)
    throw std::invalid_argument("an interval is at least 1 ns");
}

}  // namespace

std::string_view to_text(LockRule rule) noexcept {
  switch (rule) {
  case LockRule::interval:
    return "interval";
  case LockRule::ticks:
    return "ticks";
  case LockRule::none:
    break;
  }
  return "none";
}

LockRule lock_rule_from(std::string_view word) {
  for (const auto rule : {LockRule::interval, LockRule::ticks, LockRule::none})
    if (to_text(rule) == word)
      return rule;
  throw std::invalid_argument("no rule of an interpreter lock: '" + std::string(word) + "'");
}

LockCounts& LockCounts::operator+=(const LockCounts& other) noexcept {
  takes += other.takes;
  waits += other.waits;
  expiries += other.expiries;
  requests += other.requests;
  gave_way += other.gave_way;
  forced += other.forced;
  withdrawn += other.withdrawn;
  held_ns += other.held_ns;
  waited_ns += other.waited_ns;
  return *this;
}

HolderTrace::HolderTrace(std::size_t most) : ring_(most) {
  assert(std::has_single_bit(most));
}

void HolderTrace::taken() noexcept {
  if (holders_.fetch_add(1, std::memory_order_acq_rel) > 0)
    overlaps_.fetch_add(1, std::memory_order_relaxed);
}

// Called before the lock is free, so that its next holder counts from 0 again. Where holders
// overlap, and only there, a turn may be overwritten by another one a whole ring later.
void HolderTrace::dropped(const Turn& turn) noexcept {
  ring_[next_.fetch_add(1, std::memory_order_acq_rel) & (ring_.size() - 1)] = turn;
  holders_.fetch_sub(1, std::memory_order_acq_rel);
}

std::vector<HolderTrace::Turn> HolderTrace::turns() const {
  const std::uint64_t count = next_.load();
  std::vector<Turn> turns;
  for (std::uint64_t i = count > ring_.size() ? count - ring_.size() : 0; i < count; ++i)
    turns.push_back(ring_[i & (ring_.size() - 1)]);
  return turns;
}

struct InterpreterLock::Parts {
  Parts() { ::sem_init(&free, 0, 1); }
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;
  ~Parts() { ::sem_destroy(&free); }

  // Rule `interval`. `locked`, and everything that a waiter asks or changes, under `mutex`.
  std::mutex mutex;
  std::condition_variable dropped;
  bool locked = false;
  // Changed under both mutexes, so that either is enough to look at it. 0: nobody yet.
  std::uint32_t last_holder = 0;
  // Taken after `mutex`, never the other way round.
  std::mutex switch_mutex;
  std::condition_variable switched;

  // Rule `ticks`: 1 while the lock is free.
  sem_t free;

  std::mutex counts_mutex;
  LockCounts counts;
  std::uint32_t threads = 0;
};

InterpreterLock::InterpreterLock(const InterpreterLockOptions& options)
    : options_(options), trace_(options.trace), interval_ns_(options.interval_ns),
      parts_(std::make_unique<Parts>()) {
  check_interval(options.interval_ns);
  if (options.check_every < 1)
    throw std::invalid_argument("the lock is dropped every 1 ticks or more");
  if (options.rule == LockRule::ticks)
    breaker_ = counts_ticks;
}

InterpreterLock::~InterpreterLock() = default;

void InterpreterLock::set_interval_ns(std::int64_t interval_ns) {
  check_interval(interval_ns);
  interval_ns_.store(interval_ns, std::memory_order_relaxed);
}

LockCounts InterpreterLock::counts() const {
  const std::scoped_lock guard(parts_->counts_mutex);
  return parts_->counts;
}

// The old parts are left where they are: a mutex that a lost thread holds cannot be destroyed.
void InterpreterLock::renew_after_fork(InterpreterThread& survivor) {
  static_cast<void>(parts_.release());
  parts_ = std::make_unique<Parts>();
  parts_->threads = survivor.number_;
  breaker_ = options_.rule == LockRule::ticks ? counts_ticks : 0;
  switches_ = 0;
  trace_ = nullptr;
  survivor.holds_ = false;
  survivor.counts_ = {};
  survivor.take();
}

InterpreterThread::InterpreterThread(InterpreterLock& lock)
    : lock_(lock), ticks_left_(lock.options_.check_every) {
  const std::scoped_lock guard(lock_.parts_->counts_mutex);
  number_ = ++lock_.parts_->threads;
}

InterpreterThread::~InterpreterThread() {
  if (holds_)
    drop();
  const std::scoped_lock guard(lock_.parts_->counts_mutex);
  lock_.parts_->counts += counts_;
}

bool InterpreterThread::take() noexcept {
  assert(!holds_);
  const KeepErrno keep_errno;
  if (leaving())
    return false;
  switch (lock_.rule()) {
  case LockRule::interval:
    return take_by_interval();
  case LockRule::ticks:
    take_by_semaphore();
    break;
  case LockRule::none:
    begin_turn(0, false);
    break;
  }
  if (!leaving())
    return true;
  drop();
  return false;
}

bool InterpreterThread::take_by_interval() noexcept {
  InterpreterLock::Parts& parts = *lock_.parts_;
  bool requested = false;
  std::unique_lock guard(parts.mutex);
  const bool waits = parts.locked;
  const std::int64_t asked_ns = waits && lock_.keeps_times() ? clock::now_ns() : 0;
  while (parts.locked) {
    const std::uint64_t before = lock_.switches_.load(std::memory_order_relaxed);
    const std::chrono::nanoseconds interval(lock_.interval_ns());
    const bool expired = parts.dropped.wait_for(guard, interval) == std::cv_status::timeout;
    counts_.expiries += expired;
    if (!expired || !parts.locked || lock_.switches_.load(std::memory_order_relaxed) != before)
      continue;
    if (leaving()) {
      // The holder that drops for a request waits for a next one, who may be nobody. Whoever else
      // asked will ask again. Still under the mutex: the holder cannot drop before it is read.
      if (requested) {
        lock_.breaker_.store(0, std::memory_order_relaxed);
        ++counts_.withdrawn;
      }
      return false;
    }
    lock_.breaker_.store(InterpreterLock::drop_requested, std::memory_order_relaxed);
    requested = true;
    ++counts_.requests;
  }
  {
    const std::scoped_lock switching(parts.switch_mutex);
    parts.locked = true;
    become_holder();
    parts.switched.notify_one();
  }
  lock_.breaker_.store(0, std::memory_order_relaxed);
  begin_turn(asked_ns, waits);
  guard.unlock();
  if (!leaving())
    return true;
  // Taken and given back, so that a holder who waits for a next one has seen one.
  drop();
  return false;
}

void InterpreterThread::take_by_semaphore() noexcept {
  InterpreterLock::Parts& parts = *lock_.parts_;
  const bool waits = ::sem_trywait(&parts.free) != 0;
  const std::int64_t asked_ns = waits && lock_.keeps_times() ? clock::now_ns() : 0;
  if (waits)
    while (::sem_wait(&parts.free) != 0) {
    }
  become_holder();
  begin_turn(asked_ns, waits);
}

void InterpreterThread::become_holder() noexcept {
  std::uint32_t& last = lock_.parts_->last_holder;
  if (last == number_)
    return;
  if (last != 0)  // else nobody had it before
    lock_.switches_.fetch_add(1, std::memory_order_relaxed);
  last = number_;
}

void InterpreterThread::drop() noexcept {
  assert(holds_);
  const KeepErrno keep_errno;
  end_turn();
  switch (lock_.rule()) {
  case LockRule::interval:
    drop_by_interval();
    break;
  case LockRule::ticks:
    ::sem_post(&lock_.parts_->free);
    break;
  case LockRule::none:
    break;
  }
}

void InterpreterThread::drop_by_interval() noexcept {
  InterpreterLock::Parts& parts = *lock_.parts_;
  bool requested = false;
  {
    const std::scoped_lock guard(parts.mutex);
    requested = lock_.breaker_.load(std::memory_order_relaxed) != 0;
    parts.locked = false;
    parts.dropped.notify_one();
  }
  if (!requested)
    return;
  // Who asked is still in take(), since leaving takes the request back under the mutex.
  std::unique_lock switching(parts.switch_mutex);
  if (parts.last_holder != number_)
    return;
  ++counts_.forced;
  parts.switched.wait(switching, [&] { return parts.last_holder != number_; });
}

bool InterpreterThread::give_way() noexcept {
  ticks_left_ = lock_.options_.check_every;
  ++counts_.gave_way;
  drop();
  return take();
}

void InterpreterThread::begin_turn(std::int64_t asked_ns, bool waited) noexcept {
  holds_ = true;
  ++counts_.takes;
  counts_.waits += waited;
  if (!lock_.keeps_times())
    return;
  taken_ns_ = clock::now_ns();
  if (waited)
    counts_.waited_ns += taken_ns_ - asked_ns;
  if (lock_.trace_)
    lock_.trace_->taken();
}

void InterpreterThread::end_turn() noexcept {
  holds_ = false;
  if (!lock_.keeps_times())
    return;
  const std::int64_t now_ns = clock::now_ns();
  counts_.held_ns += now_ns - taken_ns_;
  if (lock_.trace_)
    lock_.trace_->dropped({number_, taken_ns_, now_ns});
}

}  // namespace schedlab::procs
