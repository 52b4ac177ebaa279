#include "lab/apparatus/lock_use.hh"
#include "procs/condition.hh"
#include "procs/semaphore.hh"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include <algorithm>
#include <array>
#include <barrier>
#include <condition_variable>
#include <mutex>
#include <semaphore>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using Number = std::atomic<std::uint64_t>;

// Semaphores of three units under one name.
struct OurSemaphore {
  procs::Semaphore semaphore{3};
  void enter() noexcept { semaphore.acquire(); }
  void leave() noexcept { semaphore.release(); }
};
struct StdSemaphore {
  std::counting_semaphore<3> semaphore{3};
  void enter() noexcept { semaphore.acquire(); }
  void leave() noexcept { semaphore.release(); }
};
struct PosixSemaphore {
  sem_t semaphore;
  PosixSemaphore() { ::sem_init(&semaphore, 0, 3); }
  void enter() noexcept {
    while (::sem_wait(&semaphore) != 0) {
    }
  }
  void leave() noexcept { ::sem_post(&semaphore); }
};
struct NoSemaphore {
  void enter() noexcept {}
  void leave() noexcept {}
};

template <typename Gate>
class Limit final : public Use {
public:
  explicit Limit(const UseOptions& options) : Use(options) { assemble(); }
  ~Limit() override { dismiss(); }

  // What the samples lacked of the entries that were asked for is made up for here.
  std::vector<Check> checks() override {
    while (entries_ < options_.number)
      sample(std::min<std::uint64_t>(options_.number - entries_, 10'000));
    const auto most = most_.load();
    const bool gated = options_.way != "none";
    return {{"entries", options_.number, entries_, entries_ >= options_.number},
            {"the most inside at a time", gated ? "up to 3" : "any", most, !gated || most <= 3}};
  }

private:
  void work(unsigned member) noexcept override {
    for (std::uint64_t i = 0; i < share_; ++i) {
      gate_.enter();
      const unsigned now = inside_.fetch_add(1, std::memory_order_relaxed) + 1;
      unsigned seen = most_.load(std::memory_order_relaxed);
      while (seen < now && !most_.compare_exchange_weak(seen, now, std::memory_order_relaxed)) {
      }
      if (i % 32 == member % 32)
        ::sched_yield();  // others come in meanwhile, also on one CPU
      inside_.fetch_sub(1, std::memory_order_relaxed);
      gate_.leave();
    }
    tallies_[member].done = share_;
  }
  void fill(Sample& sample, const Span& span) override {
    Use::fill(sample, span);
    entries_ += sample.operations;
    sample.values[options_.wrong] = harness::not_measured;
    sample.values[options_.inside] = most_.load();
  }

  alignas(line_pair) Gate gate_;
  alignas(line_pair) std::atomic<unsigned> inside_{0};
  std::atomic<unsigned> most_{0};
  std::uint64_t entries_ = 0;
};

// Ways to wait for a place and for an item in a buffer.
struct OurConditions {
  procs::Mutex lock;
  procs::Condition not_full{lock};
  procs::Condition not_empty{lock};
};
struct StdConditions {
  std::mutex lock;
  std::condition_variable not_full;
  std::condition_variable not_empty;
};

struct Ring {
  static constexpr std::size_t capacity = 16;
  std::array<std::uint64_t, capacity> slots{};
  std::uint64_t in = 0;
  std::uint64_t out = 0;
  [[nodiscard]] bool full() const noexcept { return in - out == capacity; }
  [[nodiscard]] bool empty() const noexcept { return in == out; }
  void put(std::uint64_t item) noexcept { slots[in++ % capacity] = item; }
  std::uint64_t take() noexcept { return slots[out++ % capacity]; }
};

template <typename Waits>
class ConditionBuffer {
public:
  static constexpr bool counts_spurious = true;
  void put(std::uint64_t item, Tally& tally) noexcept {
    std::unique_lock held(waits_.lock);
    for (bool woken = false; ring_.full(); woken = true) {
      tally.spurious += woken ? 1 : 0;
      waits_.not_full.wait(held);
    }
    ring_.put(item);
    held.unlock();
    waits_.not_empty.notify_one();
  }
  std::uint64_t take(Tally& tally) noexcept {
    std::unique_lock held(waits_.lock);
    for (bool woken = false; ring_.empty(); woken = true) {
      tally.spurious += woken ? 1 : 0;
      waits_.not_empty.wait(held);
    }
    const std::uint64_t item = ring_.take();
    held.unlock();
    waits_.not_full.notify_one();
    return item;
  }

private:
  Waits waits_;
  Ring ring_;
};

class SemaphoreBuffer {
public:
  static constexpr bool counts_spurious = false;
  void put(std::uint64_t item, Tally&) noexcept {
    places_.acquire();
    {
      const std::lock_guard guard(lock_);
      ring_.put(item);
    }
    items_.release();
  }
  std::uint64_t take(Tally&) noexcept {
    items_.acquire();
    std::uint64_t item = 0;
    {
      const std::lock_guard guard(lock_);
      item = ring_.take();
    }
    places_.release();
    return item;
  }

private:
  procs::Mutex lock_;
  procs::Semaphore places_{Ring::capacity};
  procs::Semaphore items_{0};
  Ring ring_;
};

template <typename Buffer>
class BoundedBuffer final : public Use {
public:
  explicit BoundedBuffer(const UseOptions& options) : Use(options) {
    tells_spurious_ = Buffer::counts_spurious;
    assemble();
  }
  ~BoundedBuffer() override { dismiss(); }
  std::vector<Check> checks() override {
    return {{"sum of the items that came out", put_.load(), taken_.load(), put_ == taken_}};
  }

private:
  void work(unsigned member) noexcept override {
    Tally tally;
    std::uint64_t sum = 0;
    for (std::uint64_t i = 1; i <= share_; ++i) {
      if (member % 2 == 0) {
        buffer_.put(i * member + i, tally);
        sum += i * member + i;
      } else {
        sum += buffer_.take(tally);
      }
    }
    (member % 2 == 0 ? put_ : taken_).fetch_add(sum, std::memory_order_relaxed);
    tally.done = member % 2 == 0 ? share_ : 0;
    tallies_[member] = tally;
  }
  std::uint64_t prepare(std::uint64_t operations) override { return Use::prepare(2 * operations); }

  alignas(line_pair) Buffer buffer_;
  Number put_{0};
  Number taken_{0};
};

struct OurMeeting {
  procs::Barrier barrier;
  explicit OurMeeting(unsigned parties) : barrier(parties) {}
  void meet() noexcept { barrier.arrive_and_wait(); }
};
struct StdMeeting {
  std::barrier<> barrier;
  explicit StdMeeting(unsigned parties) : barrier(static_cast<std::ptrdiff_t>(parties)) {}
  void meet() noexcept { barrier.arrive_and_wait(); }
};
struct PthreadMeeting {
  pthread_barrier_t barrier;
  explicit PthreadMeeting(unsigned parties) { ::pthread_barrier_init(&barrier, nullptr, parties); }
  ~PthreadMeeting() { ::pthread_barrier_destroy(&barrier); }
  PthreadMeeting(const PthreadMeeting&) = delete;
  PthreadMeeting& operator=(const PthreadMeeting&) = delete;
  void meet() noexcept { ::pthread_barrier_wait(&barrier); }
};

template <typename Place>
class Meeting final : public Use {
public:
  explicit Meeting(const UseOptions& options) : Use(options), place_(count()), rounds_(count()) {
    assemble();
  }
  ~Meeting() override { dismiss(); }
  std::vector<Check> checks() override { return {nothing_wrong("rounds that somebody was ahead")}; }

private:
  struct alignas(line_pair) Round {
    Number number{0};
  };
  std::uint64_t prepare(std::uint64_t operations) override {
    for (auto& round : rounds_)
      round.number.store(0);
    return Use::prepare(operations * count());
  }
  void work(unsigned member) noexcept override {
    Tally tally;
    const auto& neighbour = rounds_[(member + 1) % rounds_.size()].number;
    for (std::uint64_t round = 1; round <= share_; ++round) {
      rounds_[member].number.store(round, std::memory_order_relaxed);
      place_.meet();
      const auto seen = neighbour.load(std::memory_order_relaxed);
      tally.wrong += seen == round || seen == round + 1 ? 0 : 1;
    }
    tally.done = member == 0 ? share_ : 0;
    tallies_[member] = tally;
  }

  Place place_;
  std::vector<Round> rounds_;
};

}  // namespace

std::unique_ptr<harness::Subject> make_limit(const UseOptions& options) {
  if (options.way == "procs")
    return made<Limit<OurSemaphore>>(options);
  if (options.way == "std")
    return made<Limit<StdSemaphore>>(options);
  if (options.way == "sem_t")
    return made<Limit<PosixSemaphore>>(options);
  if (options.way == "none")
    return made<Limit<NoSemaphore>>(options);
  no_way(options);
}

std::unique_ptr<harness::Subject> make_bounded_buffer(const UseOptions& options) {
  if (options.way == "procs")
    return made<BoundedBuffer<ConditionBuffer<OurConditions>>>(options);
  if (options.way == "std")
    return made<BoundedBuffer<ConditionBuffer<StdConditions>>>(options);
  if (options.way == "semaphores")
    return made<BoundedBuffer<SemaphoreBuffer>>(options);
  no_way(options);
}

std::unique_ptr<harness::Subject> make_meeting(const UseOptions& options) {
  if (options.way == "procs")
    return made<Meeting<OurMeeting>>(options);
  if (options.way == "std")
    return made<Meeting<StdMeeting>>(options);
  if (options.way == "pthread")
    return made<Meeting<PthreadMeeting>>(options);
  no_way(options);
}

}  // namespace schedlab::apparatus
