#pragma once
// Ways to have a number of blocks read or written (or nothing done, by NOP) with so many requests
// under way at a time: by system calls, by blocking threads, through a driver or a loop of the
// library, or through a ring by liburing alone. All ask for the same blocks in the same order, into
// memory of their own that was written before.

#include "iouring/driver.hh"
#include "lab/apparatus/data_file.hh"
#include "lab/apparatus/witness.hh"
#include "lab/harness/document.hh"
#include "lab/harness/histogram.hh"

#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace schedlab::apparatus {

enum class Action : std::uint8_t { nop, read, write };

struct BlockIoOptions {
  std::shared_ptr<const DataFile> file;  // null for NOPs
  Action action = Action::read;
  bool direct = false;
  bool random = true;
  CacheState cache = CacheState::as_it_is;  // what the file is brought to before it is used
  unsigned depth = 1;                       // requests under way at a time
  int nop_result = 0;        // not 0: NOPs through a ring fail with it (-errno), for tests
  unsigned timed_every = 0;  // every which request is timed, and a read one looked at; 0: none
};

// The order of blocks: ascending, or a fixed permutation of all of them, again and again.
class BlockOrder {
public:
  // `blocks` is a power of two.
  BlockOrder(std::uint64_t blocks, bool random) noexcept
      : mask_(blocks - 1), random_(random),
        shift_(static_cast<unsigned>(std::bit_width(mask_)) / 2 + 1) {}
  // Each step is reversible within the mask, so that no block comes twice in a round.
  [[nodiscard]] std::uint64_t at(std::uint64_t number) const noexcept {
    std::uint64_t block = number & mask_;
    if (!random_)
      return block;
    block = (block * 0x9e3779b97f4a7c15) & mask_;
    block ^= block >> shift_;
    block = (block * 0xbf58476d1ce4e5b9) & mask_;
    block ^= block >> shift_;
    return (block * 0x94d049bb133111eb) & mask_;
  }

private:
  std::uint64_t mask_;
  bool random_;
  unsigned shift_;
};

struct BlockIoCounts {
  std::uint64_t requests = 0;
  std::uint64_t calls = 0;   // system calls for them, by whatever thread
  std::uint64_t failed = 0;  // ended short or with an error
  std::uint64_t looked = 0;  // read blocks that were looked at
  std::uint64_t wrong = 0;   // of these, blocks with another's stamp
  int error = 0;             // of the last that failed: errno, 0 for a short one
};

// Built, used and destroyed by one thread, with the helpers it makes.
class BlockIo {
public:
  BlockIo() = default;
  BlockIo(const BlockIo&) = delete;
  BlockIo& operator=(const BlockIo&) = delete;
  virtual ~BlockIo() = default;

  // Has so many requests done and clocks them: nanoseconds. Throws only if the machine is broken.
  virtual double run(std::uint64_t requests) = 0;
  virtual BlockIoCounts counts() = 0;
  // Nanoseconds of those that were timed, since it was last cleared.
  virtual harness::Histogram& latencies() = 0;
  // Waits until its helpers sleep, so that they do not disturb who comes next.
  virtual void settle() noexcept {}
  // CPU time that the last run took, where this knows better than a look at all tasks from outside.
  [[nodiscard]] virtual std::optional<double> cpu_ns() const { return {}; }
  // What it can prove of itself.
  virtual std::vector<harness::Check> checks() { return {}; }
};

// One after the other by preadv2 or pwritev2, with these RWF_ flags; NOP is getppid. Throws
// Unsupported where the file system reads with no such flags.
std::unique_ptr<BlockIo> make_call_io(const BlockIoOptions& options, int flags);

// `depth` threads on a CPU, each of which takes the next block and calls preadv2 or pwritev2.
std::unique_ptr<BlockIo> make_thread_io(const BlockIoOptions& options, unsigned cpu);

// Through a driver of the library; `registered`: buffers and file are made known to it beforehand.
// Throws Unsupported where the driver does not work, or does not take them.
std::unique_ptr<BlockIo> make_driver_io(const BlockIoOptions& options, iouring::DriverChoice choice,
                                        bool registered);

// `depth` coroutines in a loop, each of which awaits one request after the other.
std::unique_ptr<BlockIo> make_loop_io(const BlockIoOptions& options, iouring::DriverChoice choice);

struct RingIoOptions {
  bool registered = false;
  std::optional<unsigned> polling_cpu = {};  // SQPOLL: where the kernel's thread looks for entries
};

// By liburing alone. Throws Unsupported where io_uring does not work.
std::unique_ptr<BlockIo> make_ring_io(const BlockIoOptions& options, const RingIoOptions& ring);

namespace detail {

// What the ways share: memory for each request under way, the order, the books.
class BlockDesk {
public:
  explicit BlockDesk(const BlockIoOptions& options);

  struct Slot {
    std::byte* area = nullptr;
    std::uint64_t block = 0;
    std::uint64_t begun = 0;  // ticks; 0: not timed
  };

  // The next request of a run, in this slot.
  void begin(Slot& slot) noexcept {
    const std::uint64_t number = next_++;
    slot.block = order_.at(number);
    slot.begun = every_ > 0 && number % every_ == 0 ? now() : 0;
    if (options_.action == Action::write)
      stamp(slot);
  }
  // It ended, with what the call would return or -errno.
  void end(const Slot& slot, int result) noexcept {
    if (result != expected_)
      fail(result);
    if (slot.begun != 0)
      look(slot);
  }

  [[nodiscard]] const BlockIoOptions& options() const noexcept { return options_; }
  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] std::uint32_t length() const noexcept { return block_size; }
  [[nodiscard]] std::vector<Slot>& slots() noexcept { return slots_; }
  [[nodiscard]] std::span<std::byte> memory() const noexcept { return memory_.bytes(); }
  [[nodiscard]] harness::Histogram& latencies() noexcept { return latencies_; }
  [[nodiscard]] std::uint64_t next() const noexcept { return next_; }
  void skip_to(std::uint64_t number) noexcept { next_ = number; }
  BlockIoCounts counts;

private:
  static std::uint64_t now() noexcept;
  static void stamp(Slot& slot) noexcept;
  void look(const Slot& slot) noexcept;
  void fail(int result) noexcept;

  BlockIoOptions options_;
  BlockOrder order_;
  std::uint64_t every_;
  int expected_;  // result of a request that went well
  int fd_ = -1;
  std::uint64_t next_ = 0;
  Mapping memory_;
  std::vector<Slot> slots_;
  harness::Histogram latencies_;
};

// One block by preadv2 or pwritev2 with these RWF_ flags, a NOP by getppid: the result, or -errno.
int transfer(const BlockDesk& desk, const BlockDesk::Slot& slot, int flags) noexcept;

}  // namespace detail

}  // namespace schedlab::apparatus
