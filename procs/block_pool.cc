#include "procs/block_pool.hh"

#include <mutex>
#include <new>
#include <utility>

namespace schedlab::procs::detail {

constinit thread_local BlockPool block_pool;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool keeps_blocks = false;
#elif defined(__has_feature)
constexpr bool keeps_blocks = !__has_feature(address_sanitizer);
#else
constexpr bool keeps_blocks = true;
#endif

// More bytes of a class are given back to the heap, and are dear when they are wanted again: half a
// million tasks in line fit.
constexpr std::size_t most_bytes = std::size_t{64} << 20;
constexpr std::size_t most_kept(std::size_t index) noexcept {
  return most_bytes / (full * (index + 1) * cache_line);
}

// The magazines that no thread holds.
struct Store {
  struct Class {
    std::mutex mutex;
    Magazine* filled = nullptr;
    Magazine* emptied = nullptr;
    std::size_t kept = 0;  // of those filled
  };
  Class classes[block_classes];
};
constinit Store store;

void free_to_heap(void* block) noexcept {
  ::operator delete (block, std::align_val_t{cache_line});
}

void empty_to_heap(Magazine& magazine) noexcept {
  while (magazine.count > 0)
    free_to_heap(magazine.blocks[--magazine.count]);
}

void put(Magazine*& list, Magazine* magazine) noexcept {
  magazine->next = std::exchange(list, magazine);
}
Magazine* get(Magazine*& list) noexcept {
  Magazine* const first = list;
  if (first)
    list = first->next;
  return first;
}

// Gives a full magazine for an empty one; null where there is no memory for one.
Magazine* change_full(std::size_t index, Magazine* magazine) noexcept {
  Store::Class& shelf = store.classes[index];
  if (magazine) {
    {
      const std::lock_guard lock(shelf.mutex);
      if (shelf.kept < most_kept(index)) {
        put(shelf.filled, std::exchange(magazine, nullptr));
        ++shelf.kept;
        magazine = get(shelf.emptied);
      }
    }
    if (magazine)
      empty_to_heap(*magazine);
  }
  return magazine ? magazine : new (std::nothrow) Magazine;
}

// Gives an empty magazine for a full one; null where none is kept, and then it stays.
Magazine* change_empty(std::size_t index, Magazine* magazine) noexcept {
  Store::Class& shelf = store.classes[index];
  const std::lock_guard lock(shelf.mutex);
  Magazine* const filled = get(shelf.filled);
  if (filled) {
    --shelf.kept;
    if (magazine)
      put(shelf.emptied, magazine);
  }
  return filled;
}

// Set when a thread ends: from then on it keeps nothing.
constinit thread_local bool over = false;

// What a thread has at its end goes to the store where it is a full magazine, else to the heap.
struct ThreadEnd {
  ~ThreadEnd() {
    over = true;
    for (std::size_t index = 0; index < block_classes; ++index)
      for (Magazine** const slot :
           {&block_pool.classes[index].current, &block_pool.classes[index].spare}) {
        Magazine* magazine = std::exchange(*slot, nullptr);
        if (magazine && magazine->count == full)
          magazine = change_full(index, magazine);
        if (magazine)
          empty_to_heap(*magazine);
        delete magazine;
      }
  }
};

// May this block be kept? The first time in a thread, what clears up at its end is registered.
bool keeps(std::size_t size) noexcept {
  if (!keeps_blocks || size > largest_block || over)
    return false;
  static thread_local const ThreadEnd at_thread_end;
  return true;
}

}  // namespace

void* refill_block(std::size_t size) {
  if (keeps(size)) {
    auto& [current, spare] = block_pool.classes[block_class(size)];
    if (spare && spare->count > 0)
      std::swap(current, spare);
    else if (Magazine* const filled = change_empty(block_class(size), current))
      current = filled;
    if (current && current->count > 0)
      return current->blocks[--current->count];
  }
  ++block_pool.counts.from_heap;
  // Whole classes, because any block of the class may get this memory later.
  const std::size_t lines = block_class(size) + 1;
  return ::operator new (lines* cache_line, std::align_val_t{cache_line});
}

void spill_block(void* block, std::size_t size) noexcept {
  if (!keeps(size)) {
    free_to_heap(block);
    return;
  }
  auto& [current, spare] = block_pool.classes[block_class(size)];
  if (current && spare && spare->count == 0) {
    std::swap(current, spare);
  } else {
    Magazine* const empty = change_full(block_class(size), std::exchange(spare, nullptr));
    spare = std::exchange(current, empty);
  }
  if (current)
    current->blocks[current->count++] = block;
  else
    free_to_heap(block);
}

}  // namespace schedlab::procs::detail
