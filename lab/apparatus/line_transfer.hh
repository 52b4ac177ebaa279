#pragma once
// Two pinned tasks on two CPUs that hand cache lines to each other, spinning: what a line costs on
// its way from the core that wrote it to the core that waits for it. The calling thread is the
// first; its partner is a thread of this process or a process that shares the lines.
//
// The lines lie on one node, written there before use, 512 bytes apart, so that no prefetcher that
// pulls pairs of lines couples them. Where a line lies decides which slice of a distributed cache
// keeps watch over it, and with that the way it takes: a sample goes through up to 16 places.

#include "lab/apparatus/team.hh"
#include "lab/harness/sample.hh"

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

namespace schedlab::apparatus {

enum class TransferKernel : std::uint8_t {
  cas,        // one line, both compare-exchange it forward (weak; acquire, relaxed on failure)
  two_lines,  // each stores to its own line (release) and loads the other's (acquire)
  message,    // one stores a stamp of its clock into a line that the other watches
};
std::string_view to_text(TransferKernel kernel) noexcept;
// "cas", "two-lines" or "message".
TransferKernel transfer_kernel(std::string_view word);

struct TransferOptions {
  TransferKernel kernel = TransferKernel::two_lines;
  TaskOptions tasks;
  unsigned first = 0;   // the caller's CPU
  unsigned second = 0;  // the partner's, another one
  affinity::CpuSet usable;
  std::optional<unsigned> node;  // where the lines have to lie, kernel number; nothing: not checked
  bool bind = false;             // put there by policy, else by the first CPU's first touch
  std::uint64_t payload = 0;     // lines that are written before and read after; not with cas
  bool pause = false;            // PAUSE after every poll, not only after thousands
  // Indexes of the metrics that a sample fills in.
  std::size_t one_way_metric = 0;    // ns from one core to the other
  std::size_t asymmetry_metric = 1;  // ns, there less back; message only
  std::size_t switches_metric = 2;   // switches of both tasks in a sample; spinning needs none
  // How long a sample may take before it throws.
  std::int64_t patience_ns = 3'000'000'000;
  // The partner falls silent after so many hand-overs of a sample: what the patience is for.
  std::uint64_t silent_after = ~std::uint64_t{0};
};

// A subject whose operation is a line there and one back. Throws Unsupported for `message` without
// a counter that all CPUs share; its samples throw std::runtime_error if they do not end in time.
std::unique_ptr<harness::Subject> make_line_transfer(const TransferOptions& options);

// The mean without the lowest and highest twentieth, which interrupts stretch. Reorders `values`,
// which are not empty.
double trimmed_mean(std::span<std::int32_t> values) noexcept;

}  // namespace schedlab::apparatus
