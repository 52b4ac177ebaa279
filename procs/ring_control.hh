#pragma once
// What the rings of one producer and one consumer have in common: the words at the head of their
// memory. No pointers, so that each process may map it where it likes. Each group of words has one
// writer and a pair of cache lines of its own.

#include "lab/base/cache_line.hh"
#include "procs/bell.hh"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace schedlab::procs {

struct RingOptions {
  // Both sides may sleep. Otherwise neither ever rings, an exchange costs no read-modify-write, and
  // who waits too long yields.
  bool sleeps = true;
  Bell::Scope scope = Bell::Scope::processes;
};

class RingControl {
public:
  // Makes an empty ring at the head of `memory`, which is aligned to a pair of cache lines and is
  // zeros or may be overwritten. `capacity`, in items, is a power of two. Throws BadInput if it is
  // none or the memory too small.
  static RingControl& make(std::span<std::byte> memory, std::size_t item_size, std::size_t capacity,
                           const RingOptions& options);
  // A ring that somebody else made there. Throws Unsupported if it is none, or one of other items.
  static RingControl& attach(std::span<std::byte> memory, std::size_t item_size);
  // Memory for the words and the items.
  static std::size_t bytes(std::size_t item_size, std::size_t capacity) noexcept {
    return sizeof(RingControl) + item_size * capacity;
  }

  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] bool sleeps() const noexcept { return sleeps_ != 0; }
  [[nodiscard]] Bell* items_bell() noexcept { return sleeps() ? &items : nullptr; }
  [[nodiscard]] Bell* room_bell() noexcept { return sleeps() ? &room : nullptr; }
  [[nodiscard]] std::byte* slots() noexcept { return reinterpret_cast<std::byte*>(this + 1); }

  static constexpr std::uint32_t by_producer = 1;
  static constexpr std::uint32_t by_consumer = 2;
  [[nodiscard]] bool closed(std::uint32_t by) const noexcept {
    return closed_.load(std::memory_order_acquire) & by;
  }
  void close(std::uint32_t by) noexcept;

private:
  RingControl(std::uint32_t item_size, std::uint64_t capacity, const RingOptions& options) noexcept
      : item_size_(item_size), capacity_(capacity), sleeps_(options.sleeps), items(options.scope),
        room(options.scope) {}

  std::atomic<std::uint32_t> magic_{0};  // last of all to be written
  std::uint32_t item_size_;
  std::uint64_t capacity_;
  std::uint32_t sleeps_;
  std::atomic<std::uint32_t> closed_{0};

public:
  // How many items were ever written, and read; neither ever goes back.
  alignas(line_pair) std::atomic<std::uint64_t> tail{0};  // by the producer
  alignas(line_pair) std::atomic<std::uint64_t> head{0};  // by the consumer
  alignas(line_pair) Bell items;                          // the producer rings, the consumer sleeps
  alignas(line_pair) Bell room;                           // the other way round
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free,
              "processes share no locks of the library's");

}  // namespace schedlab::procs
