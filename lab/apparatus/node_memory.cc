#include "lab/apparatus/node_memory.hh"

#include "lab/apparatus/start_line.hh"
#include "lab/apparatus/stream.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/error.hh"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;

// One line in four, so that no prefetcher brings the next one along; a window of pages that the
// TLB holds, so that its misses are one load's in sixteen.
constexpr ChaseOptions far_chase = {.stride = 256, .pattern = Pattern::page_local};
constexpr std::uint64_t warm_loads = 512;
// Interleaving begins anywhere, and pages may be short on a node for a moment.
constexpr double shared_tolerance = 0.01;

#if defined(__x86_64__)
bool has_flush_opt() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_CLFLUSHOPT) != 0;
}
// Unlike clflush it need not wait for the one before it.
[[gnu::target("clflushopt")]] void flush_opt(const std::byte* begin,
                                             const std::byte* end) noexcept {
  for (const std::byte* line = begin; line < end; line += cache_line)
    _mm_clflushopt(const_cast<std::byte*>(line));
}
#endif

void flush_line(const void* line) noexcept {
#if defined(__x86_64__)
  _mm_clflush(line);
#elif defined(__aarch64__)
  asm volatile("dc civac, %0" : : "r"(line) : "memory");
#else
  static_cast<void>(line);
#endif
}

void wait_for_flushes() noexcept {
#if defined(__x86_64__)
  _mm_mfence();
#elif defined(__aarch64__)
  asm volatile("dsb sy" : : : "memory");
#endif
}

class MemoryChase : public harness::Subject {
public:
  MemoryChase(const LoopOptions& options, std::shared_ptr<NodeMemory> memory)
      : options_(options), memory_(std::move(memory)) {
    memory_->make();
    at_ = memory_->start();
  }

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    Sample sample;
    sample.operations = operations;
    const auto window_begin = clock::begin();
    witness_.begin();
    // Never a whole lap at once: its second would find the lines of the first.
    const std::uint64_t most = std::max<std::uint64_t>(memory_->places() / 2, 1);
    for (std::uint64_t left = operations; left > 0;) {
      const std::uint64_t loads = std::min(left, most);
      sample.elapsed_ns += stretch(loads);
      left -= loads;
    }
    const TaskRecord record = witness_.end();
    sample.proof = prove(record, options_.cpu, clock::ns(window_begin, clock::end()), true);
    sample.values[options_.metric] = sample.elapsed_ns / static_cast<double>(operations);
    return sample;
  }

  std::vector<Check> checks() override { return memory_->checks(); }

private:
  double stretch(std::uint64_t loads) {
    const Link* const first = at_;
    const Link* const warm = walk(first, warm_loads);
    const auto begin = clock::begin();
    at_ = walk(warm, loads);
    keep(at_);
    const auto end = clock::end();
    if (can_flush())
      flush(first, warm_loads + loads);
    return clock::ns(begin, end);
  }

  LoopOptions options_;
  std::shared_ptr<NodeMemory> memory_;
  const Link* at_ = nullptr;
  Witness witness_;
};

// What a reader says of a pass.
struct alignas(line_pair) Desk {
  std::uint64_t begin = 0;  // ticks
  std::uint64_t end = 0;
  std::uint64_t sum = 0;
  bool alone = false;  // another reader did not come to the start
};

class MemoryRead : public harness::Subject {
public:
  MemoryRead(const MemoryReadOptions& options, std::shared_ptr<NodeMemory> memory)
      : options_(options), places_(options.cpus.begin(), options.cpus.end()),
        memory_(made(std::move(memory))), desks_(options.cpus.size()),
        line_(static_cast<unsigned>(options.cpus.size())),
        pass_(stream_pass(StreamKernel::read, Stores::ordinary)), expected_(sums()),
        team_({}, places_, options.usable,
              [this](unsigned reader, std::uint64_t) { read(reader); }) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(std::nullopt, options_.usable);
    Sample sample;
    sample.operations = operations;
    for (std::uint64_t i = 0; i < operations; ++i) {
      team_.start(1);
      const auto records = team_.finish();
      const double span_ns = look_at_desks();
      sample.elapsed_ns += span_ns;
      add(prove(records, places_, span_ns, false), sample.proof);
    }
    sample.values[options_.metric] =
        static_cast<double>(options_.bytes * operations) / sample.elapsed_ns * 1e9;
    return sample;
  }

  std::vector<Check> checks() override {
    std::vector<Check> checks = memory_->checks();
    checks.push_back({"passes that read what is there", passes_, right_, right_ == passes_});
    checks.push_back({"passes that began together", passes_, together_, together_ == passes_});
    return checks;
  }

private:
  static std::shared_ptr<NodeMemory> made(std::shared_ptr<NodeMemory> memory) {
    memory->make();
    return memory;
  }

  [[nodiscard]] std::span<const std::byte> chunk(std::size_t index) const noexcept {
    return memory_->bytes().subspan(index * options_.bytes, options_.bytes);
  }
  // The words of the chunk in turn that a reader takes.
  [[nodiscard]] std::span<double> part(unsigned reader) const noexcept {
    const auto bytes = chunk(turn_);
    const std::size_t count = bytes.size() / sizeof(double);
    const std::size_t first = count * reader / places_.size();
    const std::size_t last = count * (reader + 1) / places_.size();
    // The kernels take arrays that may be written; a read writes none of them.
    auto* words = const_cast<double*>(reinterpret_cast<const double*>(bytes.data()));
    return {words + first, last - first};
  }

  // What each chunk's words add up to.
  [[nodiscard]] std::vector<std::uint64_t> sums() const {
    std::vector<std::uint64_t> sums(memory_->bytes().size() / options_.bytes);
    for (std::size_t i = 0; i < sums.size(); ++i)
      for (std::size_t at = 0; at < options_.bytes; at += sizeof(std::uint64_t)) {
        std::uint64_t word;
        std::memcpy(&word, chunk(i).data() + at, sizeof word);
        sums[i] += word;
      }
    flush_lines(memory_->bytes());
    return sums;
  }

  void read(unsigned reader) noexcept {
    Desk& desk = desks_[reader];
    const auto words = part(reader);
    desk.alone = !line_.wait();
    desk.begin = clock::begin();
    desk.sum = pass_({words.data(), nullptr, nullptr, words.size()}, 0);
    desk.end = clock::end();
    flush_lines(std::as_bytes(words));
  }

  // From the first start to the last end, in nanoseconds.
  double look_at_desks() noexcept {
    std::uint64_t sum = 0;
    for (const Desk& desk : desks_)
      sum += desk.sum;
    ++passes_;
    right_ += sum == expected_[turn_] ? 1u : 0u;
    turn_ = turn_ + 1 == expected_.size() ? 0 : turn_ + 1;
    together_ += std::ranges::none_of(desks_, &Desk::alone) ? 1u : 0u;
    return clock::ns(std::ranges::min(desks_, {}, &Desk::begin).begin,
                     std::ranges::max(desks_, {}, &Desk::end).end);
  }

  MemoryReadOptions options_;
  std::vector<std::optional<unsigned>> places_;
  std::shared_ptr<NodeMemory> memory_;
  std::vector<Desk> desks_;
  StartLine line_;
  StreamPass pass_;
  std::vector<std::uint64_t> expected_;  // the sum of each chunk
  std::size_t turn_ = 0;                 // the chunk that is read next
  std::uint64_t passes_ = 0;
  std::uint64_t right_ = 0;
  std::uint64_t together_ = 0;
  Team team_;
};

}  // namespace

void flush_lines(std::span<const std::byte> memory) noexcept {
  const std::byte* const end = memory.data() + memory.size();
#if defined(__x86_64__)
  static const bool opt = has_flush_opt();
  if (opt) {
    flush_opt(memory.data(), end);
    wait_for_flushes();
    return;
  }
#endif
  for (const std::byte* line = memory.data(); line < end; line += cache_line)
    flush_line(line);
  wait_for_flushes();
}

void NodeMemory::make() {
  if (failure_)
    std::rethrow_exception(failure_);
  if (start_)
    return;
  try {
    memory_ = Mapping::private_memory(options_.size);
    if (::madvise(memory_.data(), memory_.size(), MADV_NOHUGEPAGE) < 0 && errno != EINVAL)
      throw_errno(errno, "madvise", "MADV_NOHUGEPAGE");
    affinity::set_memory_policy(memory_.bytes(), options_.policy, options_.nodes);
    stand_on(options_.writer, options_.usable);
    start_ = write_chase(memory_.bytes(), far_chase);
    flush_lines(memory_.bytes());
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
}

std::uint64_t NodeMemory::places() const noexcept {
  return chase_length(memory_.size(), far_chase);
}

std::vector<Check> NodeMemory::checks() const {
  const auto nodes = affinity::nodes_of(memory_.bytes());
  std::vector<Check> checks;
  for (const auto& [node, share] : options_.shares) {
    const double expected = share * static_cast<double>(nodes.size());
    const auto seen = static_cast<double>(std::ranges::count(nodes, static_cast<int>(node)));
    const double tolerance = share < 1 ? 1 + shared_tolerance * expected : 0;
    checks.push_back({fmt::format("pages on node P#{}", node), std::round(expected), seen,
                      std::abs(seen - expected) <= tolerance});
  }
  return checks;
}

std::unique_ptr<harness::Subject> make_memory_chase(const LoopOptions& loop,
                                                    const std::shared_ptr<NodeMemory>& memory) {
  return std::make_unique<MemoryChase>(loop, memory);
}

std::unique_ptr<harness::Subject> make_memory_read(const MemoryReadOptions& options,
                                                   const std::shared_ptr<NodeMemory>& memory) {
  return std::make_unique<MemoryRead>(options, memory);
}

}  // namespace schedlab::apparatus
