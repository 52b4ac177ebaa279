#pragma once
#include "affinity/placement.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/clock.hh"
#include "lab/base/keep.hh"
#include "lab/harness/document.hh"

#include <atomic>
#include <cstdint>
#include <vector>

namespace schedlab::apparatus {

// Where workers on CPUs of their own wait for each other, spinning, so that all of them begin
// within the time that a cache line takes to reach them. Never for two workers on one CPU.
class StartLine {
public:
  explicit StartLine(unsigned workers) noexcept : workers_(workers) {}

  // Called once a round by each worker; returns when all have called it in this round. A worker
  // that does not come within a second is not waited for: false, and the others began without it.
  // From then on the workers may be out of step: all_met() tells.
  bool wait() noexcept {
    const std::uint64_t ticket = arrived_.fetch_add(1, std::memory_order_acq_rel);
    const std::uint64_t all = (ticket / workers_ + 1) * workers_;
    const std::int64_t deadline = clock::now_ns() + 1'000'000'000;
    for (std::uint32_t turns = 1; arrived_.load(std::memory_order_acquire) < all; ++turns) {
      pause_cpu();
      if (turns % 1024 == 0 && clock::now_ns() > deadline) {
        given_up_.fetch_add(1, std::memory_order_relaxed);
        return false;
      }
    }
    return true;
  }

  // That nobody ever began without the others.
  [[nodiscard]] harness::Check all_met() const;

private:
  const unsigned workers_;
  // How often wait() was called, over all rounds: nothing has to be reset between them.
  alignas(line_pair) std::atomic<std::uint64_t> arrived_{0};
  std::atomic<std::uint64_t> given_up_{0};  // waits
};

// CPUs for `count` workers that spin, all different (kernel numbers); 0: as many as the placement
// has. Throws Unsupported if there are fewer, or the placement binds nobody.
std::vector<unsigned> cpus_apart(const affinity::Topology& topology,
                                 const affinity::Placement& placement, unsigned count = 0);

}  // namespace schedlab::apparatus
