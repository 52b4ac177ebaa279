#pragma once
// The memory that a process pool and its workers share, and who writes what in it. Inside the pool;
// programs use process_pool.hh.
//
// Each worker has a lane: a ring of slots, and blocks for what is too large for a slot. The parent
// puts tasks into slots in order and takes results out in order; the worker goes through the slots
// in the same order. There is no lock and no index that both sides write, only each slot's state:
//
//   free -> queued        parent: the task is written
//   queued -> free        parent: takes it back
//   queued -> skipped     parent: cancelled
//   queued -> claimed     worker
//   claimed -> running    worker: it begins
//   running -> condemned  parent: time is up
//   running -> done       worker: the result is written
//   done -> free          parent: the result is taken
//
// What two may leave, both leave by compare and swap: queued and running.
//
// A worker may die between any two of its instructions. What it leaves is always one of these
// states; the parent then takes the lane back under a new generation.

#include "lab/base/cache_line.hh"
#include "procs/fault.hh"
#include "procs/sealed_memory.hh"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace schedlab::procs::pool {

enum class SlotState : std::uint32_t { free, queued, skipped, claimed, running, condemned, done };

// What a finished task left behind.
enum class ResultKind : std::uint32_t { value, threw_decoding, threw, threw_encoding };

// Why a worker ends on its own.
enum class Leaving : std::uint32_t { no, told, tasks, rss };

// Encoded bytes: in the slot itself, or in blocks of the arena.
struct Payload {
  std::uint64_t at = 0;  // offset in the arena
  std::uint64_t size = 0;
  std::uint64_t sum = 0;
};

struct alignas(cache_line) Slot {
  // The worker's from the moment when it claims the task: the parent's threads keep away from this
  // line while they wait.
  std::atomic<SlotState> state{SlotState::free};
  std::uint32_t generation = 0;
  std::uint64_t task = 0;
  std::uint64_t entry = 0;  // of the callable in the program's image
  std::uint32_t attempt = 0;
  std::uint32_t timed = 0;  // its beginning is asked for
  Payload arguments;
  std::atomic<std::int64_t> began_ns{0};  // CLOCK_MONOTONIC, if it is asked for
  // Written by the worker at the end; the number of the task, last: then the result lies here.
  alignas(cache_line) std::atomic<std::uint64_t> ended{0};
  ResultKind kind = ResultKind::value;
  std::uint32_t has_blocks = 0;  // the task made Bytes or a large result
  Payload result;
};
static_assert(sizeof(Slot) == 2 * cache_line);

struct alignas(cache_line) Lane {
  // The worker sleeps here for a task: 1 while it does.
  std::atomic<std::uint32_t> asleep{0};
  std::atomic<std::uint32_t> told_to_leave{0};
  // Tasks of the lane whose end a callback waits for.
  std::atomic<std::uint32_t> callbacks{0};
  std::uint32_t generation = 0;
  // The parent's threads sleep here for results: counts them.
  alignas(cache_line) std::atomic<std::uint32_t> results{0};
  std::atomic<std::uint32_t> sleepers{0};
  alignas(cache_line) std::atomic<std::uint32_t> ready{0};  // the generation that has started
  std::atomic<Leaving> leaving{Leaving::no};
  std::atomic<std::uint64_t> rss{0};  // bytes, when it left for its size
  FaultPoint fault;
};

struct Shape {
  std::uint32_t lanes = 0;
  std::uint32_t depth = 0;       // slots of a lane
  std::uint32_t slot_bytes = 0;  // for arguments, and as many for the result
  std::uint32_t blocks = 0;      // of a lane; the parent has lanes x blocks
};

struct Header {
  std::uint64_t magic = 0;
  Shape shape;
  std::uint32_t spins = 0;             // before a worker sleeps
  std::uint32_t tasks_per_worker = 0;  // 0: no end
  std::uint64_t rss_growth = 0;        // bytes; 0: no end
  // The supervisor sleeps; whoever turns it to 0 rings for it.
  alignas(cache_line) std::atomic<std::uint32_t> supervisor_asleep{0};
  std::atomic<std::uint32_t> refill{0};  // tasks wait for a worker that has nothing to do
  FaultPoint fault;                      // of the parent
};

inline constexpr std::size_t block_size = 4096;

// Blocks of one owner, who alone takes them; the parent gives them back. The table is in the arena
// too: of a worker that died it says what was taken by which task.
class Blocks {
public:
  Blocks(std::span<std::atomic<std::uint64_t>> owners, std::size_t first) noexcept
      : owners_(owners), first_(first) {}

  // The first block of a run for `size` bytes, marked with the task; nothing if there is no room.
  std::optional<std::size_t> take(std::size_t size, std::uint64_t task) noexcept;
  // Gives back the run that begins with this block.
  void give_back(std::size_t block) noexcept;
  // Gives back all that is not in a run that begins with a held block.
  void sweep(const std::vector<bool>& held) noexcept;
  // How many blocks the run has that begins here; 0 if none does.
  [[nodiscard]] std::size_t run(std::size_t block) const noexcept;
  // The first run of a task from `from` on; nothing if there is none.
  [[nodiscard]] std::optional<std::size_t> find(std::uint64_t task,
                                                std::size_t from = 0) const noexcept;
  [[nodiscard]] bool holds(std::size_t block) const noexcept {
    return block >= first_ && block < first_ + owners_.size();
  }
  [[nodiscard]] std::size_t first() const noexcept { return first_; }
  [[nodiscard]] std::size_t size() const noexcept { return owners_.size(); }

private:
  std::span<std::atomic<std::uint64_t>> owners_;
  std::size_t first_;
};

class Memory {
public:
  Memory() = default;
  // Throws std::system_error where the machine has not that much.
  static Memory make(const Shape& shape);
  // Throws Unsupported if it is no pool's memory.
  static Memory attach(Fd fd);

  [[nodiscard]] const Fd& fd() const noexcept { return memory_.fd(); }
  [[nodiscard]] Header& header() const noexcept { return *memory_.as<Header>(); }
  // As it was when attached: what a wild write does to the arena's own copy is nobody's loss.
  [[nodiscard]] const Shape& shape() const noexcept { return shape_; }
  [[nodiscard]] Lane& lane(std::uint32_t number) const noexcept;
  // The slot of the n-th task of a lane's generation.
  [[nodiscard]] Slot& slot(std::uint32_t lane, std::uint64_t position) const noexcept;
  [[nodiscard]] std::span<std::byte> argument_space(const Slot& slot) const noexcept;
  [[nodiscard]] std::span<std::byte> result_space(const Slot& slot) const noexcept;
  // Of a lane, or with lane == shape().lanes the parent's.
  [[nodiscard]] Blocks blocks(std::uint32_t lane) const noexcept;
  [[nodiscard]] std::uint64_t offset(const std::byte* at) const noexcept {
    return static_cast<std::uint64_t>(at - memory_.data());
  }
  // Empty if that is not within the arena: who wrote it cannot be trusted.
  [[nodiscard]] std::span<std::byte> at(std::uint64_t offset, std::uint64_t size) const noexcept;
  [[nodiscard]] std::byte* block(std::size_t number) const noexcept;
  // The number of the block that begins at this offset; nothing if none does.
  [[nodiscard]] std::optional<std::size_t> block_at(std::uint64_t offset) const noexcept;

private:
  // Where the parts begin, in bytes.
  struct Parts {
    Parts() = default;
    explicit Parts(const Shape& shape) noexcept;
    std::size_t lanes = 0;
    std::size_t slots = 0;
    std::size_t spaces = 0;
    std::size_t owners = 0;
    std::size_t blocks = 0;
    std::size_t end = 0;
  };
  Memory(SealedMemory memory, const Shape& shape) noexcept
      : memory_(std::move(memory)), shape_(shape), parts_(shape) {}

  SealedMemory memory_;
  Shape shape_;
  Parts parts_;
};

// A number that any change of one word changes.
std::uint64_t checksum(std::span<const std::byte> bytes) noexcept;

}  // namespace schedlab::procs::pool
