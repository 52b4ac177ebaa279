#include "lab/apparatus/memory_load.hh"

#include "lab/base/clock.hh"
#include "lab/base/keep.hh"

#include <algorithm>
#include <cmath>
#include <utility>

namespace schedlab::apparatus {

namespace {

// What a PAUSE takes here: the fastest of some runs, since the others were interrupted.
double time_pause() noexcept {
  constexpr int pauses = 500;
  double best = 1e9;
  for (int run = 0; run < 7; ++run) {
    const auto begin = clock::begin();
    for (int i = 0; i < pauses; ++i)
      pause_cpu();
    best = std::min(best, clock::ns(begin, clock::end()) / pauses);
  }
  return std::max(best, 0.1);
}

}  // namespace

MemoryLoad::MemoryLoad(const MemoryLoadOptions& options)
    : memory_(options.memory), kernel_(options.kernel),
      pass_(stream_pass(options.kernel, options.stores)), places_(options.memory.places()),
      threads_(places_.size()),
      team_({}, places_, options.memory.usable, [this](unsigned member, std::uint64_t rounds) {
        if (rounds == 0)
          threads_[member].pause_ns = time_pause();
        else
          play(member);
      }) {
  team_.start(0);
  team_.finish();
  for (const auto& thread : threads_)
    pause_ns_ = std::max(pause_ns_, thread.pause_ns);
}

MemoryLoad::~MemoryLoad() {
  stop();
}

void MemoryLoad::start(std::uint64_t delay_ns) {
  stop();
  pauses_ = static_cast<std::uint64_t>(std::round(static_cast<double>(delay_ns) / pause_ns_));
  pauses_ = std::max<std::uint64_t>(pauses_, delay_ns > 0 ? 1 : 0);
  scalar_ = memory_.next_scalar();
  stop_.store(false, std::memory_order_relaxed);
  going_.store(0, std::memory_order_relaxed);
  running_ = true;
  team_.start(1);
  // A thread that is kept off its CPU for a second shows in lost_ns().
  const std::int64_t deadline = clock::now_ns() + 1'000'000'000;
  while (going_.load(std::memory_order_acquire) < threads_.size() && clock::now_ns() < deadline)
    pause_cpu();
}

// One chunk of each array; for `read` all three are read, so that the memory is used whole.
std::uint64_t MemoryLoad::block(StreamPart& part) noexcept {
  const std::size_t chunk = part.take();
  const StreamArrays arrays = part.chunk(chunk);
  keep(pass_(arrays, scalar_));
  if (kernel_ != StreamKernel::read) {
    part.expect(chunk, expected_result(kernel_, scalar_, stream_c));
    return arrays.count * stream_bytes(kernel_);
  }
  keep(pass_({arrays.b, nullptr, nullptr, arrays.count}, scalar_));
  keep(pass_({arrays.c, nullptr, nullptr, arrays.count}, scalar_));
  return 3 * arrays.count * stream_bytes(kernel_);
}

void MemoryLoad::play(unsigned member) noexcept {
  Thread& me = threads_[member];
  StreamPart& part = memory_.part(member);
  const std::uint64_t pauses = pauses_;
  const std::int64_t deadline = clock::now_ns() + static_cast<std::int64_t>(longest_s * 1e9);
  std::uint64_t bytes = me.bytes.load(std::memory_order_relaxed);
  me.begin = clock::begin();
  going_.fetch_add(1, std::memory_order_acq_rel);
  for (std::uint64_t turn = 1; !stop_.load(std::memory_order_relaxed); ++turn) {
    bytes += block(part);
    me.bytes.store(bytes, std::memory_order_relaxed);
    for (std::uint64_t i = 0; i < pauses; ++i)
      pause_cpu();
    if (turn % 4096 == 0 && clock::now_ns() > deadline)
      break;
  }
  me.end = clock::end();
}

std::uint64_t MemoryLoad::bytes() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& thread : threads_)
    sum += thread.bytes.load(std::memory_order_relaxed);
  return sum;
}

std::span<const TaskRecord> MemoryLoad::stop() {
  if (!running_)
    return records_;
  stop_.store(true, std::memory_order_relaxed);
  running_ = false;
  records_ = team_.finish();
  return records_;
}

double MemoryLoad::lost_ns() const noexcept {
  double lost = 0;
  for (std::size_t i = 0; i < records_.size(); ++i)
    lost = std::max(lost, clock::ns(threads_[i].begin, threads_[i].end) -
                              static_cast<double>(records_[i].cpu_ns));
  return lost;
}

std::vector<harness::Check> MemoryLoad::checks() {
  return memory_.checks();
}

}  // namespace schedlab::apparatus
