#pragma once
// The queue between processes that the tutorials use, as CPython builds it: a pipe with a lock at
// each end, a semaphore that bounds it, and in each putting process a list of its own with a thread
// that feeds the pipe from it. put() therefore never waits for the pipe, and an item is encoded by
// the feeder, before it takes the lock.
//
// The trap. A process that has put more than the pipe holds (64 KiB) cannot end before somebody
// gets: its end waits for the feeder, and the feeder for the pipe. Whoever waits for that process
// before it gets waits for ever. The remedy is the order: get first, then wait. join_feeder_for()
// is that wait, with a bound.
//
// Killed processes. The locks are robust: who finds one whose holder died within a message declares
// the queue broken, because what follows in the pipe is the rest of that message; otherwise it goes
// on. Who waits within a message, or for a place, looks ten times a second whether that has
// happened. CPython's locks are not robust, and everybody waits for ever. A getter that dies
// between the pipe and the semaphore takes one place with it; put() has a deadline for that.
//
// Thread rule: put() and get() may be called from any thread. Construction, join() and destruction
// belong to one.

#include "lab/base/fd.hh"
#include "lab/base/mapping.hh"
#include "procs/channel.hh"
#include "procs/thread.hh"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

namespace schedlab::procs {

class FeederQueue {
public:
  using Bytes = std::vector<std::byte>;
  // Gives the bytes of an item. Runs in the feeder; an item whose encoding throws is dropped, and
  // counted.
  using Encode = std::function<Bytes()>;

  static constexpr std::size_t unbounded = 0;
  // At most `bound` items between put() and get(). Throws std::system_error.
  explicit FeederQueue(std::size_t bound = unbounded);
  FeederQueue(const FeederQueue&) = delete;
  FeederQueue& operator=(const FeederQueue&) = delete;
  // What the feeder has not written by then is lost. To lose nothing: close() and join_feeder().
  ~FeederQueue();

  // This process puts only, or gets only, from now on. A process that gets must join, or it keeps
  // the pipe open for putters that have died.
  void join(Side side) noexcept;

  // Never waits for the pipe. done; timed_out if there is no place by then; broken.
  Outcome put(Encode item, std::int64_t deadline_ns = never);
  Outcome put(Bytes item, std::int64_t deadline_ns = never);
  // done, timed_out, broken; closed once all putters have closed, gone if one died before.
  Outcome get(Bytes& item, std::int64_t deadline_ns = never);

  // Nothing more is put by this process; its feeder ends when all is written.
  void close();
  // Waits until the feeder has written all: for ever, if nobody gets. After close().
  void join_feeder();
  // The same, but gives up; false: it is still writing.
  bool join_feeder_for(std::int64_t timeout_ns);

  // Items of this process whose encoding failed.
  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_; }
  // Of this process.
  [[nodiscard]] Traffic traffic(Side side) const noexcept;

private:
  struct Shared;
  class Held;
  // Written by the feeder, or under the lock of the end; read by anybody.
  struct Counts {
    std::atomic<std::uint64_t> kernel_bytes{0};
    std::atomic<std::uint64_t> calls{0};
  };
  [[nodiscard]] Shared& shared() const noexcept;
  Outcome take_place(std::int64_t deadline_ns) noexcept;
  [[nodiscard]] bool writer_died() noexcept;
  void feed();
  void count_as_putter() noexcept;
  Outcome write_message(const Bytes& bytes) noexcept;
  Outcome write_all(const std::byte* from, std::size_t size) noexcept;
  Outcome wait_for_message(std::int64_t deadline_ns) noexcept;
  Outcome read_body(Bytes& item, std::uint64_t length) noexcept;
  Outcome read_all(std::byte* to, std::size_t size) noexcept;
  Outcome at_end_of_stream() const noexcept;

  Mapping memory_;
  Pipe pipe_;
  Fd stop_;  // an eventfd of this process's feeder: it is to leave, whatever it has not written
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Encode> items_;  // put and not yet taken by the feeder
  bool putter_ = false;       // counted as one
  bool closing_ = false;
  bool fed_ = false;  // the feeder has ended
  std::atomic<std::uint64_t> dropped_{0};
  std::atomic<bool> stopping_{false};
  Counts sent_;
  Counts received_;
  Thread feeder_;  // started by the first put; last: it uses the rest
};

}  // namespace schedlab::procs
