#pragma once
// The way past the line: a worker that looks for work opens the hand, and who has a task puts it
// in. Two cache lines change hands less than by the line and the count of who is idle.

#include "lab/base/cache_line.hh"
#include "procs/future.hh"

#include <atomic>
#include <cstdint>

namespace schedlab::procs::detail {

class alignas(line_pair) TaskHand {
public:
  // From any thread: is it open? May lag behind.
  [[nodiscard]] bool is_open() noexcept {
    prefetch_to_write(&word_);
    return word_.load(std::memory_order_relaxed) == open_word;
  }
  // From any thread: false if it is not open (any more).
  bool give(FutureCore* task) noexcept {
    auto seen = open_word;
    return word_.compare_exchange_strong(seen, reinterpret_cast<std::uintptr_t>(task),
                                         std::memory_order_release, std::memory_order_relaxed);
  }

  // For the calling thread, which takes what is given, or shuts it; false if it is another's.
  bool open() noexcept {
    auto seen = shut_word;
    return word_.load(std::memory_order_relaxed) == shut_word &&
           word_.compare_exchange_strong(seen, open_word, std::memory_order_relaxed);
  }
  // What was given, which shuts it; null if nothing was, and it stays open.
  FutureCore* take() noexcept {
    const auto seen = word_.load(std::memory_order_acquire);
    if (seen == open_word)
      return nullptr;
    word_.store(shut_word, std::memory_order_relaxed);
    return reinterpret_cast<FutureCore*>(seen);
  }
  // Shuts it; what was given in the last moment, or null.
  FutureCore* shut() noexcept {
    auto seen = open_word;
    const bool empty = word_.compare_exchange_strong(seen, shut_word, std::memory_order_relaxed);
    return empty ? nullptr : take();
  }

private:
  static constexpr std::uintptr_t shut_word = 0;
  static constexpr std::uintptr_t open_word = 1;  // else a task
  std::atomic<std::uintptr_t> word_{shut_word};
};

}  // namespace schedlab::procs::detail
