#pragma once
// Three ways for an interpreter to count the references to an object.
//
//   PlainCount    an ordinary number: right as long as one thread at a time counts, which is what
//                 an interpreter lock sees to
//   AtomicCount   an atomic number: right for any threads, and each step costs a locked instruction
//   BiasedCount   PEP 703: the thread that made the object counts in a number of its own, without
//                 atomics; all others count in a shared, atomic one, which may go below zero. When
//                 the owner is done the two are merged. The shared count's lowest two bits say how
//                 far that has come:
//                   split    the owner's count counts
//                   queued   the shared count fell below zero: the object waits in its owner's
//                            queue, which holds the reference that was to be given up
//                   merged   only the shared count counts
//
// All three are used alike: `add(me)` and `bool drop(me)`, true for exactly one caller, who then
// owns the object alone. `me` is the calling thread's identity. A count begins at 1, held by `me`.
// An immortal one is never written again (PEP 683). add_many is for counts that nobody else knows.

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace schedlab::procs {

class CountedThread;

class PlainCount {
public:
  explicit PlainCount(const CountedThread&) noexcept {}
  void add(const CountedThread&) noexcept {
    if (const std::uint32_t count = get(); count != immortal)
      set(count + 1);
  }
  void add_many(const CountedThread&, std::uint32_t more) noexcept { set(get() + more); }
  bool drop(const CountedThread&) noexcept {
    const std::uint32_t count = get();
    if (count == immortal)
      return false;
    set(count - 1);
    return count == 1;
  }
  void make_immortal() noexcept { set(immortal); }
  [[nodiscard]] std::int64_t value() const noexcept { return get(); }

private:
  static constexpr std::uint32_t immortal = UINT32_MAX;
  [[nodiscard]] std::uint32_t get() const noexcept {
    return count_.load(std::memory_order_relaxed);
  }
  void set(std::uint32_t count) noexcept { count_.store(count, std::memory_order_relaxed); }

  // Loads and stores only, as of a plain word: threads that share it lose counts, and nothing else.
  std::atomic<std::uint32_t> count_{1};
};

class AtomicCount {
public:
  explicit AtomicCount(const CountedThread&) noexcept {}
  void add(const CountedThread&) noexcept {
    if (count_.load(std::memory_order_relaxed) != immortal)
      count_.fetch_add(1, std::memory_order_relaxed);
  }
  void add_many(const CountedThread&, std::uint32_t more) noexcept { count_ += more; }
  // What others did to the object before they gave it up is seen by the last one.
  bool drop(const CountedThread&) noexcept {
    return count_.load(std::memory_order_relaxed) != immortal &&
           count_.fetch_sub(1, std::memory_order_acq_rel) == 1;
  }
  void make_immortal() noexcept { count_.store(immortal, std::memory_order_relaxed); }
  [[nodiscard]] std::int64_t value() const noexcept { return count_.load(); }

private:
  static constexpr std::uint32_t immortal = UINT32_MAX;
  std::atomic<std::uint32_t> count_{1};
};

class BiasedCount {
public:
  explicit BiasedCount(const CountedThread& owner) noexcept;
  inline void add(const CountedThread& me) noexcept;
  // By the owner.
  void add_many(const CountedThread&, std::uint32_t more) noexcept { local_ += more; }
  inline bool drop(const CountedThread& me) noexcept;
  void make_immortal() noexcept { local_.store(immortal, std::memory_order_relaxed); }
  // Both together, less what the queue holds; of a count that nobody uses meanwhile.
  [[nodiscard]] std::int64_t value() const noexcept;

private:
  friend class CountedThread;
  friend class CountedThreads;
  // The states, and how far the shared count lies above them.
  static constexpr std::int64_t split = 0, queued = 2, merged = 3, state_bits = 3, one = 4;
  static constexpr std::uint32_t immortal = UINT32_MAX;
  static constexpr std::uint32_t nobody = 0;

  bool drop_last_local() noexcept;
  bool drop_shared() noexcept;
  // Joins the two counts and adds `extra`; true if nothing is left.
  bool merge(std::int64_t extra) noexcept;

  std::atomic<std::uint32_t> owner_;     // number of a CountedThread; `nobody` once merged
  std::atomic<std::uint32_t> local_{1};  // written by the owner only, by plain loads and stores
  std::atomic<std::int64_t> shared_{split};
  // The registry of the owner, and what is called with this when a queue finds nothing left.
  class CountedThreads* threads_;
  void (*last_)(BiasedCount&, void*) = nullptr;
  void* context_ = nullptr;

public:
  // What ends the object when the last reference is found in a queue, by the owner's
  // process_queue() or by whoever queues for an owner that is gone. To be set before others know of
  // the object.
  void on_last(void (*last)(BiasedCount&, void*), void* context) noexcept {
    last_ = last;
    context_ = context;
  }
};

// The threads that count, so that one can find the queue of another. Outlives them and what they
// count. Any thread.
class CountedThreads {
public:
  CountedThreads() = default;
  CountedThreads(const CountedThreads&) = delete;
  CountedThreads& operator=(const CountedThreads&) = delete;

private:
  friend class CountedThread;
  friend class BiasedCount;
  struct Queue {
    std::atomic<bool> waiting{false};  // has it something in it?
    bool closed = false;               // its thread is gone
    std::vector<BiasedCount*> counts;
  };
  Queue& open(std::uint32_t& number);
  void put(BiasedCount& count, std::uint32_t owner) noexcept;

  std::mutex mutex_;  // of what is in the queues
  std::vector<std::unique_ptr<Queue>> queues_;
};

// A thread's identity, and the queue of its objects that others have no more use for. Built, used
// and destroyed by that thread. Numbers are not used twice.
class CountedThread {
public:
  explicit CountedThread(CountedThreads& threads);
  CountedThread(const CountedThread&) = delete;
  CountedThread& operator=(const CountedThread&) = delete;
  // Merges what is queued. What others queue later they merge themselves.
  ~CountedThread();

  [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
  // Merges what is queued; where a program may be interrupted. True if there was something.
  bool process_queue() noexcept {
    return queue_.waiting.load(std::memory_order_relaxed) && process();
  }

private:
  friend class BiasedCount;
  bool process() noexcept;

  CountedThreads& threads_;
  std::uint32_t number_ = 0;
  CountedThreads::Queue& queue_;
};

inline BiasedCount::BiasedCount(const CountedThread& owner) noexcept
    : owner_(owner.number()), threads_(&owner.threads_) {}

inline void BiasedCount::add(const CountedThread& me) noexcept {
  const std::uint32_t local = local_.load(std::memory_order_relaxed);
  if (local == immortal)
    return;
  if (owner_.load(std::memory_order_relaxed) == me.number())
    local_.store(local + 1, std::memory_order_relaxed);
  else
    shared_.fetch_add(one, std::memory_order_relaxed);
}

inline bool BiasedCount::drop(const CountedThread& me) noexcept {
  const std::uint32_t local = local_.load(std::memory_order_relaxed);
  if (local == immortal)
    return false;
  if (owner_.load(std::memory_order_relaxed) != me.number())
    return drop_shared();
  local_.store(local - 1, std::memory_order_relaxed);
  return local == 1 && drop_last_local();
}

}  // namespace schedlab::procs
