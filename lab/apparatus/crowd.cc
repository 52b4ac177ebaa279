#include "lab/apparatus/crowd.hh"

#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "lab/harness/statistics.hh"
#include "procs/condition.hh"
#include "procs/event.hh"
#include "procs/semaphore.hh"

#include <poll.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <condition_variable>
#include <mutex>
#include <semaphore>
#include <stdexcept>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;

// Long enough for those who wait to have fallen asleep.
constexpr std::int64_t moment_ns = 60'000;

// Ways to tell. A round is told once; reset() comes when all have heard it.
struct ByEvent {
  procs::Event event;
  void tell(std::uint64_t) noexcept { event.set(); }
  void hear(std::uint64_t) noexcept { event.wait(); }
  void reset() noexcept { event.reset(); }
};

struct ByEventfd {
  Fd fd{check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")};
  void tell(std::uint64_t) noexcept { ::eventfd_write(fd.get(), 1); }
  void hear(std::uint64_t) noexcept {
    pollfd wanted{fd.get(), POLLIN, 0};
    while (::poll(&wanted, 1, -1) != 1) {
    }
  }
  void reset() noexcept {
    eventfd_t count;
    ::eventfd_read(fd.get(), &count);
  }
};

template <typename Lock, typename Wait>
struct ByCondition {
  Lock lock;
  Wait wait{lock};
  std::uint64_t told = 0;
  void tell(std::uint64_t round) noexcept {
    std::unique_lock held(lock);
    told = round;
    wait.tell_all(held);
  }
  void hear(std::uint64_t round) noexcept {
    std::unique_lock held(lock);
    while (told < round)
      wait.wait(held);
  }
  void reset() noexcept {}
};

struct Requeueing : procs::Condition {
  using Condition::Condition;
  void tell_all(std::unique_lock<procs::Mutex>& held) noexcept { notify_all(held); }
};
struct StdCondition : std::condition_variable {
  explicit StdCondition(std::mutex&) {}
  void tell_all(std::unique_lock<std::mutex>&) noexcept { notify_all(); }
};
// Without going over: all who sleep are woken, and run into the lock.
class WakingAll {
public:
  explicit WakingAll(procs::Mutex&) {}
  void wait(std::unique_lock<procs::Mutex>& held) noexcept {
    const std::uint32_t seen = told_.load(std::memory_order_relaxed);
    held.unlock();
    procs::futex::wait(told_, seen, procs::Sharing::threads);
    held.lock();
  }
  void tell_all(std::unique_lock<procs::Mutex>&) noexcept {
    told_.fetch_add(1, std::memory_order_release);
    procs::futex::wake(&told_, INT_MAX, procs::Sharing::threads);
  }

private:
  procs::futex::Word told_{0};
};

std::uint64_t switches_so_far() noexcept {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return static_cast<std::uint64_t>(usage.ru_nvcsw + usage.ru_nivcsw);
}

template <typename Way>
class Crowd final : public Crew {
public:
  explicit Crowd(const CrowdOptions& options)
      : Crew(options.crew), options_(options), ears_(count() - 1), meet_(count()) {
    assemble();
  }
  ~Crowd() override { dismiss(); }

  std::vector<Check> checks() override {
    std::uint64_t heard = 0;
    for (const auto& ear : ears_)
      heard += ear.rounds;
    const std::uint64_t expected = told_ * ears_.size();
    return {{"tellings heard", expected, heard, heard == expected}};
  }

private:
  struct alignas(line_pair) Ear {
    std::uint64_t at = 0;  // ticks
    std::uint64_t rounds = 0;
    std::uint64_t switches = 0;
  };

  std::uint64_t prepare(std::uint64_t operations) override {
    latencies_.assign(operations, 0);
    for (auto& ear : ears_)
      ear.switches = 0;
    return operations;
  }
  void work(unsigned member) noexcept override {
    for (auto& latency : latencies_) {
      if (member > 0)
        hear(ears_[member - 1]);
      else
        tell();
      meet_.arrive_and_wait();
      if (member == 0)
        latency = settle();
      meet_.arrive_and_wait();
    }
  }
  void tell() noexcept {
    clock::sleep_for(moment_ns);
    told_at_ = clock::begin();
    way_.tell(++told_);
  }
  void hear(Ear& ear) noexcept {
    const std::uint64_t before = switches_so_far();
    way_.hear(++ear.rounds);
    ear.at = clock::end();
    ear.switches += switches_so_far() - before;
  }
  double settle() noexcept {
    way_.reset();
    std::uint64_t last = told_at_;
    for (const auto& ear : ears_)
      last = std::max(last, ear.at);
    return clock::ns(told_at_, last);
  }
  void fill(Sample& sample, const Span&) override {
    double switches = 0;
    for (const auto& ear : ears_)
      switches += static_cast<double>(ear.switches);
    const auto heard = static_cast<double>(latencies_.size() * ears_.size());
    sample.values[options_.latency] = harness::median(latencies_);
    sample.values[options_.switches] = switches / heard;
  }

  CrowdOptions options_;
  alignas(line_pair) Way way_;
  std::vector<Ear> ears_;
  procs::Barrier meet_;
  std::uint64_t told_ = 0;
  std::uint64_t told_at_ = 0;
  std::vector<double> latencies_;
};

struct OurSemaphore {
  procs::Semaphore semaphore{0};
  void release() noexcept { semaphore.release(); }
  void acquire() noexcept { semaphore.acquire(); }
};
struct StdSemaphore {
  std::counting_semaphore<> semaphore{0};
  void release() noexcept { semaphore.release(); }
  void acquire() noexcept { semaphore.acquire(); }
};
struct PosixSemaphore {
  sem_t semaphore;
  PosixSemaphore() { ::sem_init(&semaphore, 0, 0); }
  void release() noexcept { ::sem_post(&semaphore); }
  void acquire() noexcept {
    while (::sem_wait(&semaphore) != 0) {
    }
  }
};
struct EventfdSemaphore {
  Fd fd{check(::eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE), "eventfd")};
  void release() noexcept { ::eventfd_write(fd.get(), 1); }
  void acquire() noexcept {
    eventfd_t count;
    ::eventfd_read(fd.get(), &count);
  }
};

template <typename Semaphore>
class SemaphoreWake final : public Crew {
public:
  explicit SemaphoreWake(const CrowdOptions& options) : Crew(options.crew), options_(options) {
    assemble();
  }
  ~SemaphoreWake() override { dismiss(); }

private:
  std::uint64_t prepare(std::uint64_t operations) override {
    rounds_ = (operations + 1) / 2;
    return 2 * rounds_;
  }
  void work(unsigned member) noexcept override {
    for (std::uint64_t i = 0; i < rounds_; ++i)
      if (member == 0) {
        there_.release();
        back_.acquire();
      } else {
        there_.acquire();
        back_.release();
      }
  }
  void fill(Sample& sample, const Span& span) override {
    const auto wakeups = static_cast<double>(2 * rounds_);
    sample.values[options_.latency] = span.wall_ns / wakeups;
    sample.values[options_.switches] = span.switches / wakeups;
  }

  CrowdOptions options_;
  alignas(line_pair) Semaphore there_;
  alignas(line_pair) Semaphore back_;
  std::uint64_t rounds_ = 0;
};

template <typename Subject>
std::unique_ptr<harness::Subject> made(const CrowdOptions& options) {
  return std::make_unique<Subject>(options);
}

[[noreturn]] void no_way(const CrowdOptions& options) {
  throw std::logic_error("no such way: " + options.way);
}

}  // namespace

std::unique_ptr<harness::Subject> make_crowd(const CrowdOptions& options) {
  if (options.way == "event")
    return made<Crowd<ByEvent>>(options);
  if (options.way == "eventfd")
    return made<Crowd<ByEventfd>>(options);
  if (options.way == "requeue")
    return made<Crowd<ByCondition<procs::Mutex, Requeueing>>>(options);
  if (options.way == "wake-all")
    return made<Crowd<ByCondition<procs::Mutex, WakingAll>>>(options);
  if (options.way == "std")
    return made<Crowd<ByCondition<std::mutex, StdCondition>>>(options);
  no_way(options);
}

std::unique_ptr<harness::Subject> make_semaphore_wake(const CrowdOptions& options) {
  if (options.way == "procs")
    return made<SemaphoreWake<OurSemaphore>>(options);
  if (options.way == "std")
    return made<SemaphoreWake<StdSemaphore>>(options);
  if (options.way == "sem_t")
    return made<SemaphoreWake<PosixSemaphore>>(options);
  if (options.way == "eventfd")
    return made<SemaphoreWake<EventfdSemaphore>>(options);
  no_way(options);
}

}  // namespace schedlab::apparatus
