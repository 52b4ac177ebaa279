#include "lab/apparatus/dead_owner.hh"

#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/harness/statistics.hh"
#include "procs/event.hh"
#include "procs/mutex.hh"
#include "procs/robust_mutex.hh"
#include "procs/sealed_memory.hh"
#include "procs/semaphore.hh"

#include <unistd.h>

#include <csignal>
#include <vector>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using namespace std::chrono_literals;

// Longer than any wake-up here takes; who has not got it by then never will.
constexpr auto in_vain = 3ms;

struct Shared {
  procs::RobustMutex robust{procs::Sharing::processes};
  procs::Mutex mutex{procs::Sharing::processes};
  procs::Semaphore semaphore{1, procs::Sharing::processes};
  procs::Event owned{procs::Sharing::processes};
  std::atomic<std::uint64_t> first{0};
  std::atomic<std::uint64_t> second{0};
};

class DeadOwner final : public harness::Subject {
public:
  explicit DeadOwner(const DeadOwnerOptions& options)
      : options_(options), memory_(procs::SealedMemory::make(sizeof(Shared), "dead_owner")) {}

  Sample sample(std::uint64_t operations) override {
    std::vector<double> latencies;
    std::uint64_t lost = 0;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      const double latency = kill_one();
      if (latency < 0)
        ++lost;
      else
        latencies.push_back(latency);
    }
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.values[options_.lost] =
        1e6 * static_cast<double>(lost) / static_cast<double>(operations);
    if (!latencies.empty())
      sample.values[options_.latency] = harness::median(latencies);
    killed_ += operations;
    lost_ += lost;
    return sample;
  }

  std::vector<Check> checks() override {
    const std::uint64_t expected = options_.way == "robust" ? 0 : killed_;
    return {{"owners killed", "some", killed_, killed_ > 0},
            {"locks lost with their owners", expected, lost_, lost_ == expected},
            {"words left torn", 0, torn_, torn_ == 0}};
  }

private:
  // Nanoseconds until the lock was had, or below 0 if it was lost.
  double kill_one() {
    auto& shared = *new (memory_.data()) Shared;
    Child owner = Child::fork([&shared, this] {
      own(shared);
      return 0;
    });
    shared.owned.wait();
    const auto begin = clock::begin();
    owner.signal(SIGKILL);
    const bool got = ask(shared);
    const double latency = clock::ns(begin, clock::end());
    owner.wait();
    if (!got)
      return -1;
    torn_ += shared.first.load() == shared.second.load() ? 0 : 1;
    shared.robust.unlock();
    return latency;
  }

  void own(Shared& shared) const {
    if (options_.way == "robust")
      shared.robust.lock();
    else if (options_.way == "mutex")
      shared.mutex.lock();
    else
      shared.semaphore.acquire();
    shared.first.fetch_add(1);
    shared.owned.set();
    for (;;)
      ::pause();
  }

  bool ask(Shared& shared) const {
    if (options_.way == "robust")
      return shared.robust.try_lock_for(1s, [&] { shared.second.store(shared.first.load()); });
    if (options_.way == "mutex")
      return shared.mutex.try_lock_for(in_vain);
    return shared.semaphore.try_acquire_for(in_vain);
  }

  DeadOwnerOptions options_;
  procs::SealedMemory memory_;
  std::uint64_t killed_ = 0;
  std::uint64_t lost_ = 0;
  std::uint64_t torn_ = 0;
};

}  // namespace

std::unique_ptr<harness::Subject> make_dead_owner(const DeadOwnerOptions& options) {
  return std::make_unique<DeadOwner>(options);
}

}  // namespace schedlab::apparatus
