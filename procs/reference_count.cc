#include "procs/reference_count.hh"

#include <cassert>

namespace schedlab::procs {

std::int64_t BiasedCount::value() const noexcept {
  const std::uint32_t local = local_.load();
  if (local == immortal)
    return immortal;
  const std::int64_t shared = shared_.load();
  return local + (shared >> 2) - ((shared & state_bits) == queued ? 1 : 0);
}

bool BiasedCount::drop_last_local() noexcept {
  std::int64_t shared = shared_.load(std::memory_order_acquire);
  if (shared == split)
    return true;  // nobody else ever counted, or all of it came back
  // Before the state says so: whoever finds it merged must not take the owner for one.
  owner_.store(nobody, std::memory_order_relaxed);
  std::int64_t joined = 0;
  do {
    joined = (shared & ~state_bits) | merged;
  } while (!shared_.compare_exchange_weak(shared, joined, std::memory_order_acq_rel,
                                          std::memory_order_acquire));
  return joined == merged;
}

bool BiasedCount::drop_shared() noexcept {
  std::int64_t shared = shared_.load(std::memory_order_relaxed);
  std::int64_t next = 0;
  bool to_owner = false;
  // Read before the count is given up: after that the object may be gone.
  const std::uint32_t owner = owner_.load(std::memory_order_relaxed);
  CountedThreads& threads = *threads_;
  do {
    // The first one that would go below zero leaves its reference to the queue.
    to_owner = shared == split;
    next = to_owner ? queued : shared - one;
  } while (!shared_.compare_exchange_weak(shared, next, std::memory_order_acq_rel,
                                          std::memory_order_relaxed));
  if (to_owner) {
    assert(owner !=
           nobody);  // merging begins where the owner's count is 0: somebody has shared one
    threads.put(*this, owner);
    return false;
  }
  return next == merged;
}

bool BiasedCount::merge(std::int64_t extra) noexcept {
  const std::int64_t more = local_.load(std::memory_order_relaxed) + extra;
  owner_.store(nobody, std::memory_order_relaxed);
  local_.store(0, std::memory_order_relaxed);
  std::int64_t shared = shared_.load(std::memory_order_relaxed);
  std::int64_t joined = 0;
  do {
    joined = (((shared >> 2) + more) * one) | merged;
  } while (!shared_.compare_exchange_weak(shared, joined, std::memory_order_acq_rel,
                                          std::memory_order_relaxed));
  return joined == merged;
}

CountedThreads::Queue& CountedThreads::open(std::uint32_t& number) {
  const std::scoped_lock guard(mutex_);
  queues_.push_back(std::make_unique<Queue>());
  number = static_cast<std::uint32_t>(queues_.size());  // from 1: 0 is nobody
  return *queues_.back();
}

void CountedThreads::put(BiasedCount& count, std::uint32_t owner) noexcept {
  {
    const std::scoped_lock guard(mutex_);
    Queue& queue = *queues_[owner - 1];
    if (!queue.closed) {
      queue.counts.push_back(&count);
      queue.waiting.store(true, std::memory_order_relaxed);
      return;
    }
  }
  // The owner left through the same mutex: its count stands still, and is seen.
  if (count.merge(-1) && count.last_)
    count.last_(count, count.context_);
}

CountedThread::CountedThread(CountedThreads& threads)
    : threads_(threads), queue_(threads.open(number_)) {}

CountedThread::~CountedThread() {
  {
    const std::scoped_lock guard(threads_.mutex_);
    queue_.closed = true;
  }
  process();
}

bool CountedThread::process() noexcept {
  std::vector<BiasedCount*> counts;
  {
    const std::scoped_lock guard(threads_.mutex_);
    counts.swap(queue_.counts);
    queue_.waiting.store(false, std::memory_order_relaxed);
  }
  for (BiasedCount* count : counts)
    if (count->merge(-1) && count->last_)
      count->last_(*count, count->context_);
  return !counts.empty();
}

}  // namespace schedlab::procs
