#pragma once
// Where tasks and their results live: blocks of a few cache lines, kept for reuse. A task is made
// by one thread and ends in another, so that a free list for each thread would fill in one and stay
// empty in the other: blocks change hands by the magazine (Bonwick and Adams, "Magazines and Vmem",
// 2001), through a store that all threads share. Under AddressSanitizer every block is malloc's
// own, so that a use after its end is found.
//
// Thread rule: any block may be freed by any thread.

#include "lab/base/cache_line.hh"

#include <cstddef>
#include <cstdint>

namespace schedlab::procs {

// Of the calling thread, since it began.
struct BlockCounts {
  std::uint64_t made = 0;       // blocks handed out
  std::uint64_t from_heap = 0;  // of these, those that the heap was asked for
};

namespace detail {

inline constexpr std::size_t block_classes = 8;  // of 1 to 8 cache lines
inline constexpr std::size_t largest_block = block_classes * cache_line;
inline constexpr std::uint32_t full = 62;  // blocks in a full magazine

// Free blocks, by address and not linked through themselves: whoever takes one over from another
// CPU need not wait for it to learn of the next.
struct Magazine {
  Magazine* next = nullptr;  // in the store
  std::uint32_t count = 0;
  void* blocks[full];
};

struct BlockPool {
  struct Class {
    Magazine* current = nullptr;
    Magazine* spare = nullptr;  // full or empty
  };
  Class classes[block_classes];
  BlockCounts counts;
};
// Not of a library that is loaded later: an ordinary thread-local of position-independent code is
// found by a call, twice for each block.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local BlockPool block_pool;

// Throws std::bad_alloc.
void* refill_block(std::size_t size);
void spill_block(void* block, std::size_t size) noexcept;

constexpr std::size_t block_class(std::size_t size) noexcept {
  return (size - 1) / cache_line;
}

// A block of at least `size` bytes, at least 1, on cache lines of its own. Throws std::bad_alloc.
inline void* allocate_block(std::size_t size) {
  constexpr std::uint32_t ahead = 4;
  ++block_pool.counts.made;
  if (size <= largest_block) {
    Magazine* const magazine = block_pool.classes[block_class(size)].current;
    if (magazine && magazine->count > 0) {
      const std::uint32_t last = --magazine->count;
      if (last >= ahead)
        prefetch_to_write(magazine->blocks[last - ahead]);
      return magazine->blocks[last];
    }
  }
  return refill_block(size);
}

// Takes back what allocate_block gave for the same size.
inline void free_block(void* block, std::size_t size) noexcept {
  if (size <= largest_block) {
    Magazine* const magazine = block_pool.classes[block_class(size)].current;
    if (magazine && magazine->count < full) {
      magazine->blocks[magazine->count++] = block;
      return;
    }
  }
  spill_block(block, size);
}

}  // namespace detail

inline BlockCounts block_counts() noexcept {
  return detail::block_pool.counts;
}

}  // namespace schedlab::procs
