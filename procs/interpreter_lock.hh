#pragma once
// One lock around a whole interpreter, as CPython has it: many threads, of which one at a time
// executes bytecode. Three rules say when the holder gives way.
//
// interval (CPython 3.2 and later, Python/ceval_gil.c). A thread that wants the lock waits for an
// interval, 5 ms unless told otherwise. Has the lock not changed hands in all of it, the waiter
// raises the drop request and waits again; the holder looks at the request where its program jumps
// back, drops the lock, and does not go on before somebody else has taken it (forced switching):
// otherwise it would be back before the waiter had woken up. A thread that takes the lock clears
// the request, whose it ever was.
//
// ticks (before 3.2, on Linux). The holder drops the lock every 100 ticks, asked or not, and takes
// it again at once. Nothing forces a switch: with a CPU for each thread the holder wins nearly
// always, and the others wake for nothing.
//
// none. Nobody waits for anybody (PEP 703 without its locks on objects).
//
// An InterpreterThread is what one thread has of a lock, and is used by that thread alone, but for
// request_exit(). A lock outlives its threads.

#include "lab/base/cache_line.hh"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace schedlab::procs {

enum class LockRule : std::uint8_t { interval, ticks, none };
std::string_view to_text(LockRule rule) noexcept;
// "interval", "ticks" or "none"; throws std::invalid_argument for another word.
LockRule lock_rule_from(std::string_view word);

// What a lock or a thread did. Of a lock: the sum over the threads that are gone.
struct LockCounts {
  std::uint64_t takes = 0;      // times the lock was taken
  std::uint64_t waits = 0;      // of them, those that found it held
  std::uint64_t expiries = 0;   // intervals that passed in a wait
  std::uint64_t requests = 0;   // expiries that raised the drop request
  std::uint64_t gave_way = 0;   // times it was dropped at a tick
  std::uint64_t forced = 0;     // drops that waited for another holder
  std::uint64_t withdrawn = 0;  // requests taken back by a thread that left
  std::int64_t held_ns = 0;     // CLOCK_MONOTONIC; 0 without InterpreterLockOptions::times
  std::int64_t waited_ns = 0;   // likewise

  LockCounts& operator+=(const LockCounts& other) noexcept;
};

// Who held a lock, in order, and whether two ever did at a time. The newest turns are kept. A turn
// is written where it ends; turns() and what overlapped may be asked for once all threads are gone.
class HolderTrace {
public:
  struct Turn {
    std::uint32_t thread = 0;   // number of the InterpreterThread in its lock, from 1
    std::int64_t taken_ns = 0;  // CLOCK_MONOTONIC
    std::int64_t dropped_ns = 0;
  };
  // `most` is a power of two.
  explicit HolderTrace(std::size_t most);

  // Oldest first.
  [[nodiscard]] std::vector<Turn> turns() const;
  // All turns, also those that are no longer kept.
  [[nodiscard]] std::uint64_t count() const noexcept { return next_.load(); }
  // Turns that began while another one lasted: 0 for every rule but `none`.
  [[nodiscard]] std::uint64_t overlaps() const noexcept { return overlaps_.load(); }

private:
  friend class InterpreterThread;
  void taken() noexcept;
  void dropped(const Turn& turn) noexcept;

  std::vector<Turn> ring_;
  alignas(line_pair) std::atomic<std::uint64_t> next_{0};
  std::atomic<std::uint64_t> overlaps_{0};
  alignas(line_pair) std::atomic<std::int32_t> holders_{0};
};

struct InterpreterLockOptions {
  LockRule rule = LockRule::interval;
  std::int64_t interval_ns = 5'000'000;
  std::uint32_t check_every = 100;  // ticks, of the rule of that name
  bool times = false;               // keep held_ns and waited_ns: two clock readings a turn
  HolderTrace* trace = nullptr;     // outlives the lock; reads the clock as well
};

class InterpreterThread;

class InterpreterLock {
public:
  // Throws std::invalid_argument for an interval or a number of ticks below 1.
  explicit InterpreterLock(const InterpreterLockOptions& options = {});
  InterpreterLock(const InterpreterLock&) = delete;
  InterpreterLock& operator=(const InterpreterLock&) = delete;
  ~InterpreterLock();

  [[nodiscard]] LockRule rule() const noexcept { return options_.rule; }
  [[nodiscard]] std::int64_t interval_ns() const noexcept {
    return interval_ns_.load(std::memory_order_relaxed);
  }
  // For waits that begin from now on. Any thread.
  void set_interval_ns(std::int64_t interval_ns);
  // How often the lock went from one thread to another; the first one has it from nobody. Any
  // thread.
  [[nodiscard]] std::uint64_t switches() const noexcept { return switches_.load(); }
  // Of the threads that are gone. Any thread.
  [[nodiscard]] LockCounts counts() const;

  // In a child that was forked while the lock was in use, by the one thread that is left there: the
  // lock is made anew, because those who may hold parts of it do not exist here. That thread holds
  // it afterwards; the other threads' counts are forgotten, and nothing is traced any more.
  void renew_after_fork(InterpreterThread& survivor);

private:
  friend class InterpreterThread;
  struct Parts;

  [[nodiscard]] bool keeps_times() const noexcept { return options_.times || trace_; }

  // What tick() looks at.
  static constexpr std::uint32_t drop_requested = 1, counts_ticks = 2;

  const InterpreterLockOptions options_;
  HolderTrace* trace_;
  std::atomic<std::int64_t> interval_ns_;
  // Read by the holder at every tick, written by a waiter under the mutex of `parts_`.
  alignas(line_pair) std::atomic<std::uint32_t> breaker_{0};
  alignas(line_pair) std::unique_ptr<Parts> parts_;
  std::atomic<std::uint64_t> switches_{0};  // written by takers, under the mutex
};

class InterpreterThread {
public:
  // Does not take the lock.
  explicit InterpreterThread(InterpreterLock& lock);
  InterpreterThread(const InterpreterThread&) = delete;
  InterpreterThread& operator=(const InterpreterThread&) = delete;
  // Drops the lock if it is held.
  ~InterpreterThread();

  // Waits until this thread holds the lock, and keeps errno. False, without the lock, once the
  // thread has been asked to leave.
  bool take() noexcept;
  // Gives the lock back, and keeps errno. It must be held.
  void drop() noexcept;
  // Where a program jumps back: gives way if it is time. False, without the lock, once the thread
  // has been asked to leave and came to know of it here.
  bool tick() noexcept {
    const std::uint32_t breaker = lock_.breaker_.load(std::memory_order_relaxed);
    if (breaker == 0) [[likely]]
      return true;
    if (breaker == InterpreterLock::counts_ticks && --ticks_left_ > 0)
      return true;
    return give_way();
  }
  [[nodiscard]] bool holds() const noexcept { return holds_; }
  // Has it leave at its next take() or change of hands. Any thread.
  void request_exit() noexcept { leaving_.store(true, std::memory_order_release); }
  [[nodiscard]] bool leaving() const noexcept { return leaving_.load(std::memory_order_acquire); }

  // From 1, in the order in which threads came to the lock.
  [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
  [[nodiscard]] const LockCounts& counts() const noexcept { return counts_; }
  [[nodiscard]] InterpreterLock& lock() const noexcept { return lock_; }

private:
  friend class InterpreterLock;
  bool give_way() noexcept;
  void become_holder() noexcept;
  bool take_by_interval() noexcept;
  void take_by_semaphore() noexcept;
  void drop_by_interval() noexcept;
  void begin_turn(std::int64_t asked_ns, bool waited) noexcept;
  void end_turn() noexcept;

  InterpreterLock& lock_;
  std::uint32_t number_ = 0;
  std::uint32_t ticks_left_;
  bool holds_ = false;
  std::atomic<bool> leaving_{false};
  std::int64_t taken_ns_ = 0;
  LockCounts counts_;
};

// Keeps the lock for a scope. Where the thread has been asked to leave, holds() of it is false.
class HoldInterpreter {
public:
  explicit HoldInterpreter(InterpreterThread& thread) noexcept : thread_(thread) { thread_.take(); }
  HoldInterpreter(const HoldInterpreter&) = delete;
  HoldInterpreter& operator=(const HoldInterpreter&) = delete;
  ~HoldInterpreter() {
    if (thread_.holds())
      thread_.drop();
  }

private:
  InterpreterThread& thread_;
};

// Lets other threads have the lock for a scope: around what waits, or computes without objects of
// the interpreter. The end of the scope waits for the lock; errno survives it.
class AllowThreads {
public:
  explicit AllowThreads(InterpreterThread& thread) noexcept : thread_(thread) { thread_.drop(); }
  AllowThreads(const AllowThreads&) = delete;
  AllowThreads& operator=(const AllowThreads&) = delete;
  ~AllowThreads() { thread_.take(); }

private:
  InterpreterThread& thread_;
};

}  // namespace schedlab::procs
