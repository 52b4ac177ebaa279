// Blocking threads: each takes the next block and waits for it. They share a counter and nothing
// else; all are called by one futex and the last one to end wakes the caller, so that what is
// clocked, from the first that begins to the last that ends, is the reading and not the calling.

#include "lab/apparatus/block_io.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/futex.hh"
#include "procs/thread.hh"

#include <algorithm>
#include <atomic>
#include <climits>
#include <limits>

namespace schedlab::apparatus {

namespace {

using detail::BlockDesk;
using detail::transfer;

class ThreadIo final : public BlockIo {
public:
  ThreadIo(const BlockIoOptions& options, unsigned cpu) : first_(0), members_(options.depth) {
    BlockIoOptions one = options;
    one.depth = 1;
    for (Member& member : members_)
      member.desk = std::make_unique<BlockDesk>(one);
    try {
      for (Member& member : members_)
        member.thread =
            procs::Thread({.name = "reader", .cpus = affinity::CpuSet{cpu}, .sched = {}},
                          [this, &member] { serve(member); });
    } catch (...) {
      dismiss();
      throw;
    }
  }
  ~ThreadIo() override { dismiss(); }

  double run(std::uint64_t requests) override {
    next_.store(first_, std::memory_order_relaxed);
    last_ = first_ = first_ + requests;
    left_.store(static_cast<std::uint32_t>(members_.size()), std::memory_order_relaxed);
    call();
    for (std::uint32_t left; (left = left_.load(std::memory_order_acquire)) > 0;)
      futex_wait(left_, left, false);
    std::uint64_t begin = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t end = 0;
    cpu_ns_ = 0;
    for (const Member& member : members_) {
      if (member.taken > 0) {
        begin = std::min(begin, member.begin);
        end = std::max(end, member.end);
      }
      cpu_ns_ += static_cast<double>(member.cpu_ns);
    }
    return clock::ns(begin, end);
  }

  BlockIoCounts counts() override {
    BlockIoCounts all;
    for (const Member& member : members_) {
      const BlockIoCounts& one = member.desk->counts;
      all.requests += one.requests;
      all.calls += one.calls;
      all.failed += one.failed;
      all.looked += one.looked;
      all.wrong += one.wrong;
      all.error = one.error != 0 ? one.error : all.error;
    }
    return all;
  }
  harness::Histogram& latencies() override {
    latencies_.clear();
    for (Member& member : members_) {
      latencies_.merge(member.desk->latencies());
      member.desk->latencies().clear();
    }
    return latencies_;
  }
  [[nodiscard]] std::optional<double> cpu_ns() const override { return cpu_ns_; }

private:
  struct alignas(line_pair) Member {
    std::unique_ptr<BlockDesk> desk;
    // Of the last run; written by the member before it counts itself out.
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::uint64_t taken = 0;
    std::int64_t cpu_ns = 0;
    procs::Thread thread;
  };

  void call() noexcept {
    called_.fetch_add(1, std::memory_order_release);
    futex_wake(called_, INT_MAX, false);
  }

  void dismiss() noexcept {
    leave_.store(true, std::memory_order_relaxed);
    call();
    for (Member& member : members_)
      member.thread = {};
  }

  void serve(Member& member) noexcept {
    std::uint32_t heard = 0;
    for (;;) {
      while (called_.load(std::memory_order_acquire) == heard)
        futex_wait(called_, heard, false);
      ++heard;
      if (leave_.load(std::memory_order_relaxed))
        return;
      work(member);
      // Pairs with the acquire load in run().
      if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1)
        futex_wake(left_, 1, false);
    }
  }

  void work(Member& member) noexcept {
    BlockDesk& desk = *member.desk;
    BlockDesk::Slot& slot = desk.slots().front();
    const std::int64_t cpu_before = clock::thread_cpu_ns();
    member.begin = clock::begin();
    member.taken = 0;
    for (std::uint64_t number; (number = next_.fetch_add(1, std::memory_order_relaxed)) < last_;
         ++member.taken) {
      desk.skip_to(number);
      desk.begin(slot);
      desk.end(slot, transfer(desk, slot, 0));
    }
    member.end = clock::end();
    member.cpu_ns = clock::thread_cpu_ns() - cpu_before;
    desk.counts.requests += member.taken;
    desk.counts.calls += member.taken;
  }

  std::uint64_t first_;     // number of the next run's first request
  std::uint64_t last_ = 0;  // behind the present run's last; written before the members are called
  double cpu_ns_ = 0;
  harness::Histogram latencies_;
  alignas(line_pair) std::atomic<std::uint64_t> next_{0};
  alignas(line_pair) std::atomic<std::uint32_t> called_{0};
  std::atomic<bool> leave_{false};
  alignas(line_pair) std::atomic<std::uint32_t> left_{0};
  std::vector<Member> members_;
};

}  // namespace

std::unique_ptr<BlockIo> make_thread_io(const BlockIoOptions& options, unsigned cpu) {
  return std::make_unique<ThreadIo>(options, cpu);
}

}  // namespace schedlab::apparatus
