#include "lab/apparatus/pool_in_cage.hh"

#include "affinity/pin.hh"
#include "lab/apparatus/memory_cage.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/harness/tool_info.hh"
#include "procs/process.hh"
#include "procs/sealed_memory.hh"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <stdexcept>
#include <type_traits>

namespace schedlab::apparatus {
namespace {

using harness::Check;
using harness::Sample;

constexpr int memory_fd = 3;
constexpr int not_caged = 9;
constexpr int hopeless_ms = 60'000;

// What the program is told, and what it tells, in memory that both share.
struct Shared {
  procs::StartMethod start = procs::StartMethod::forkserver;
  std::uint64_t rounds = 0;
  std::array<char, 512> members = {};  // of the cage
  PoolKillMetrics metrics;
  std::array<double, harness::max_metrics> values = {};
};
static_assert(std::is_trivially_copyable_v<Shared>);

int caged_program(std::span<const std::byte>) {
  const auto memory = procs::SealedMemory::attach(Fd(memory_fd));
  auto& shared = *memory.as<Shared>();
  if (!Cage::enter(shared.members.data()))
    return not_caged;
  PoolKillOptions options;
  options.usable = affinity::thread_affinity();
  options.how = PoolKill::memory;
  options.start = shared.start;
  options.metrics = shared.metrics;
  const auto pool = make_pool_here(options);
  shared.values = pool->sample(shared.rounds).values;
  return 0;
}

class PoolInCage final : public harness::Subject {
public:
  explicit PoolInCage(const PoolKillOptions& options) : options_(options), cage_(pool_cage_bytes) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(std::nullopt, options_.usable);  // the program inherits it
    const auto memory = procs::SealedMemory::make(sizeof(Shared), "pool in a cage");
    auto& shared = *new (memory.data()) Shared;
    shared.start = options_.start;
    shared.rounds = operations * options_.kills;
    shared.metrics = options_.metrics;
    cage_.members().copy(shared.members.data(), shared.members.size() - 1);
    const auto begin = clock::begin();
    auto program = procs::Process::start<caged_program>(
        {.method = procs::StartMethod::exec, .fds = {{memory.fd().get(), memory_fd}}});
    const auto ending = program.end_within(hopeless_ms);
    if (!ending.success())
      throw std::runtime_error("a program with a process pool in a memory cgroup: " +
                               ending.text());
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.values = shared.values;
    const auto& at = options_.metrics;
    for (const std::size_t index : {at.lost, at.doubled, at.hurt, at.unnamed})
      bad_ += sample.values[index];
    kills_ += sample.values[at.kills];
    return sample;
  }

  std::vector<Check> checks() override {
    const auto counted = static_cast<double>(cage_.oom_kills());
    return {{std::string(harmless_check), 0.0, bad_, bad_ == 0},
            {"kills that the cgroup counted", kills_, counted, kills_ > 0 && counted == kills_}};
  }

private:
  PoolKillOptions options_;
  MemoryCage cage_;
  double bad_ = 0;
  double kills_ = 0;
};

}  // namespace

std::string pool_cage_refusal() {
  if (harness::tool_info().sanitizers != "none")
    return "a sanitizer takes more memory than the cgroup has";
  return memory_cage_refusal(pool_cage_bytes);
}

std::unique_ptr<harness::Subject> make_pool_in_cage(const PoolKillOptions& options) {
  return std::make_unique<PoolInCage>(options);
}

}  // namespace schedlab::apparatus
