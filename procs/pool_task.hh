#pragma once
// One task as the parent's side of a process pool knows it. Inside the pool.

#include "procs/pool_memory.hh"
#include "procs/pool_options.hh"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace schedlab::procs::pool {

// The arena with what of its blocks is in use by the parent.
class Arena : public std::enable_shared_from_this<Arena> {
public:
  explicit Arena(const Shape& shape);

  [[nodiscard]] const Memory& memory() const noexcept { return memory_; }
  // Blocks for arguments; null if there is no room.
  std::shared_ptr<const void> take(std::size_t size, std::span<std::byte>& bytes);
  // The runs that a task of this lane left, each as an owner, but for the one at this offset, which
  // is given back.
  std::vector<std::shared_ptr<const void>> adopt(std::uint32_t lane, std::uint64_t task,
                                                 std::uint64_t without);
  // Gives back all blocks of a lane that the parent has not adopted: their worker is dead.
  void sweep(std::uint32_t lane);

private:
  std::shared_ptr<const void> hold(std::size_t block);
  void release(std::size_t block) noexcept;
  [[nodiscard]] Blocks owner_of(std::size_t block) const noexcept;

  Memory memory_;
  std::recursive_mutex mutex_;  // an owner that cannot be made releases its blocks at once
  std::vector<bool> held_;      // by block, for the first of a run
};

// A callback and what it carries.
class Callback {
public:
  Callback() = default;
  Callback(const Callback&) = delete;
  Callback& operator=(const Callback&) = delete;
  virtual ~Callback() = default;
  virtual void run() noexcept = 0;
};

// Where a task is; a number, because the kernel compares it.
struct Phase {
  static constexpr std::uint32_t pending = 0;
  static constexpr std::uint32_t placed = 1;
  static constexpr std::uint32_t resolved = 2;
};

struct Task {
  // Set by submit.
  std::uint64_t number = 0;
  std::uint64_t entry = 0;
  TaskOptions options;
  Payload payload;                                 // of arguments that lie in blocks
  std::vector<std::byte> arguments;                // of those that do not, while it has no slot
  std::shared_ptr<const void> payload_hold;        // their blocks
  std::vector<std::shared_ptr<const void>> holds;  // of Bytes among arguments and in the result

  // The parent's threads sleep on `phase` while the task is pending; its place is where they look
  // while it is in a lane.
  std::atomic<std::uint32_t> phase{Phase::pending};
  std::atomic<std::uint32_t> sleepers{0};
  std::atomic<std::uint32_t> lane{0};
  std::atomic<std::uint64_t> position{0};
  std::atomic<bool> cancelled{false};

  // Under the pool's lock until resolved, then still.
  unsigned attempts = 0;  // that have begun and failed
  std::vector<std::unique_ptr<Callback>> callbacks;
  ResultKind kind = ResultKind::value;
  std::vector<std::byte> result;
  std::exception_ptr failure;  // there is no result
  pid_t pid = -1;              // of the worker
};

using TaskRef = std::shared_ptr<Task>;

}  // namespace schedlab::procs::pool
