#pragma once
// A way of block I/O as a subject: time, CPU of all tasks, calls and latencies of its requests.

#include "affinity/cpu_set.hh"
#include "lab/apparatus/block_io.hh"
#include "lab/harness/sample.hh"

#include <functional>
#include <memory>

namespace schedlab::apparatus {

// Indexes of the metrics that a sample fills in; `no_metric` for those that a lab has not.
inline constexpr std::size_t no_metric = harness::max_metrics;
struct BlockIoMetrics {
  std::size_t time = no_metric;      // ns a request
  std::size_t rate = no_metric;      // requests a second
  std::size_t cpu = no_metric;       // ns of CPU a request, all tasks of the process
  std::size_t helpers = no_metric;   // ns of that by others than the caller's thread
  std::size_t p50 = no_metric;       // ns from asking to having
  std::size_t p99 = no_metric;       // where a sample times enough
  std::size_t calls = no_metric;     // system calls a request
  std::size_t per_call = no_metric;  // requests a system call
  std::size_t device = no_metric;    // bytes from a device for each byte read
};

struct BlockIoSeries {
  BlockIoMetrics metrics;
  unsigned cpu = 0;
  affinity::CpuSet usable;
  std::shared_ptr<DataFile> file;           // null for NOPs
  CacheState cache = CacheState::as_it_is;  // brought about before each sample
  bool around_cache = false;    // O_DIRECT: what cannot be dropped does not count against a sample
  bool keeps_cpu_busy = false;  // the caller's CPU never idles, and only this process may use it
  std::unique_ptr<BlockIo> io;
};

// Throws what bringing the file's cache about throws. The subject stands on its CPU.
std::unique_ptr<harness::Subject> make_block_io_subject(BlockIoSeries series);

}  // namespace schedlab::apparatus
