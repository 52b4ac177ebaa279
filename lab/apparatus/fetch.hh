#pragma once
// Fetching N things over HTTP at once, by each of the ways a program can wait: the same requests
// over the same kept connections, read by the same decoder.

#include "affinity/cpu_set.hh"
#include "iouring/address.hh"
#include "iouring/driver.hh"
#include "lab/harness/sample.hh"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

enum class FetchMethod : std::uint8_t {
  sequential,  // one thread, one after the other
  threads,     // a thread for each, started for it and joined
  pool,        // as many threads, which were there before
  tasks,       // coroutines of one thread, by gather
};
std::string_view to_text(FetchMethod method) noexcept;

struct FetchMetrics {
  std::size_t batch = 0;      // nanoseconds from the first start to the last end
  std::size_t latencies = 1;  // that as a multiple of the latency, where there is one
  std::size_t cpu = 2;        // nanoseconds of CPU time of this process for one fetch
  std::size_t calls = 3;      // system calls of the loop for one fetch; tasks only
  std::size_t refused = 4;    // fetches of a batch whose connection was refused
};

// Names of the checks of a refused connection and of the words' order, for those who judge by them.
inline constexpr std::string_view refused_check = "refused connections";
inline constexpr std::string_view words_check = "words in the expected order";

struct FetchOptions {
  FetchMethod method = FetchMethod::sequential;
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;  // of tasks
  unsigned count = 1;                                               // fetches of a batch
  iouring::Address address;
  std::string host;
  std::string target;
  std::chrono::nanoseconds latency{};         // that the server adds; 0: unknown
  std::optional<iouring::Address> also = {};  // one more fetch, from there
  int expected = 200;                         // status of all but `also`; 0: any
  affinity::CpuSet cpus;                      // where the fetching threads may run
  FetchMetrics metrics;
};

// An operation is a batch. A refused connection is a result of the fetch, as a status is; it is
// tried anew by each. checks() compares what came with what was expected.
std::unique_ptr<harness::Subject> make_fetch(const FetchOptions& options);

// What a sleeper says: that it begins, or that it ends.
struct SleeperWord {
  unsigned who = 0;
  bool ends = false;
  friend bool operator==(const SleeperWord&, const SleeperWord&) = default;
};

// Together: all of them begin, then all end, each time in their order. Else each ends before the
// next begins.
bool in_order(std::span<const SleeperWord> words, unsigned count, bool together);

struct SleepOrderOptions {
  iouring::DriverChoice driver = iouring::DriverChoice::automatic;
  unsigned count = 3;
  bool together = true;  // by gather; else one after the other
  std::chrono::nanoseconds latency{};
  affinity::CpuSet cpus;
  FetchMetrics metrics;
};

// Coroutines that say that they begin, sleep, and say that they end. An operation is one run of all
// of them. checks() compares the order of their words.
std::unique_ptr<harness::Subject> make_sleep_order(const SleepOrderOptions& options);

}  // namespace schedlab::apparatus
