#pragma once
// Threads on CPUs of their own that keep the memory busy until they are told to stop, with a pause
// between blocks that sets how busy.

#include "lab/apparatus/stream_crew.hh"

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace schedlab::apparatus {

struct MemoryLoadOptions {
  StreamMemoryOptions memory;  // its owners are the load threads
  StreamKernel kernel = StreamKernel::read;
  Stores stores = Stores::ordinary;
};

class MemoryLoad {
public:
  // Throws what its memory and its threads throw.
  explicit MemoryLoad(const MemoryLoadOptions& options);
  MemoryLoad(const MemoryLoad&) = delete;
  MemoryLoad& operator=(const MemoryLoad&) = delete;
  ~MemoryLoad();

  // Sets all threads going, with `delay_ns` between one block and the next, in whole PAUSEs;
  // returns when all have begun. They stop by themselves after `longest_s`.
  void start(std::uint64_t delay_ns);
  // Bytes that they have moved since they were made, by STREAM's rule.
  [[nodiscard]] std::uint64_t bytes() const noexcept;
  // Stops them; what the kernel says of each since its start.
  std::span<const TaskRecord> stop();
  // Of the thread that lost most: nanoseconds in which it wanted to run and did not.
  [[nodiscard]] double lost_ns() const noexcept;

  [[nodiscard]] const std::vector<std::optional<unsigned>>& places() const noexcept {
    return places_;
  }
  // How long a PAUSE takes on the slowest of their CPUs, in nanoseconds.
  [[nodiscard]] double pause_ns() const noexcept { return pause_ns_; }
  std::vector<harness::Check> checks();

  static constexpr double longest_s = 20;

private:
  struct alignas(line_pair) Thread {
    std::atomic<std::uint64_t> bytes{0};  // written by the thread
    std::uint64_t begin = 0;              // ticks of the clock
    std::uint64_t end = 0;
    double pause_ns = 0;
  };
  void play(unsigned member) noexcept;
  std::uint64_t block(StreamPart& part) noexcept;

  StreamMemory memory_;
  StreamKernel kernel_;
  StreamPass pass_;
  std::vector<std::optional<unsigned>> places_;
  std::vector<Thread> threads_;
  double pause_ns_ = 0;
  double scalar_ = 1;         // this and what follows is written before the threads start
  std::uint64_t pauses_ = 0;  // between two blocks
  alignas(line_pair) std::atomic<bool> stop_{false};
  alignas(line_pair) std::atomic<std::size_t> going_{0};
  bool running_ = false;
  std::span<const TaskRecord> records_;
  Team team_;
};

}  // namespace schedlab::apparatus
