#pragma once
// Where the frames of coroutines come from: a free list for each size class in each thread, so that
// a frame costs a few instructions instead of a call of malloc, and so that frames can be counted.
// A frame may be freed by another thread than the one that made it; it then changes pools. Under
// AddressSanitizer every frame is malloc's own, so that a use after its end is found.

#include <cstddef>
#include <cstdint>

namespace schedlab::iouring {

// Of the calling thread, since it began.
struct FrameCounts {
  std::uint64_t made = 0;       // frames handed out
  std::uint64_t from_heap = 0;  // of these, those that malloc was asked for
  std::uint64_t bytes = 0;      // handed out, as asked for
};

namespace detail {

inline constexpr std::size_t frame_step = 16;  // bytes from one size class to the next
inline constexpr std::size_t frame_classes = 129;
inline constexpr std::size_t largest_frame = (frame_classes - 1) * frame_step;

struct FreeFrame {
  FreeFrame* next;
};
// The lists of a thread that never had a frame end with null, those of all others with this: they
// are given back at the thread's end.
inline FreeFrame* no_frame() noexcept {
  return reinterpret_cast<FreeFrame*>(1);
}
inline bool is_frame(const FreeFrame* frame) noexcept {
  return frame > no_frame();
}

struct FramePool {
  FreeFrame* free[frame_classes] = {};
  FrameCounts counts;
};
// Not of a library that is loaded later: an ordinary thread-local of position-independent code is
// found by a call, twice for each frame.
[[gnu::tls_model("initial-exec")]] extern constinit thread_local FramePool frame_pool;

// Throws std::bad_alloc.
void* frame_from_heap(std::size_t size);
void frame_to_heap(void* frame) noexcept;
// The calling thread's lists end from now on with no_frame().
void begin_lists() noexcept;

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool pool_frames = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool pool_frames = false;
#else
inline constexpr bool pool_frames = true;
#endif
#else
inline constexpr bool pool_frames = true;
#endif

inline void* allocate_frame(std::size_t size) {
  FramePool& pool = frame_pool;
  ++pool.counts.made;
  pool.counts.bytes += size;
  if (pool_frames && size <= largest_frame) {
    FreeFrame*& head = pool.free[(size + frame_step - 1) / frame_step];
    if (FreeFrame* const frame = head; is_frame(frame)) {
      head = frame->next;
      return frame;
    }
  }
  return frame_from_heap(size);
}

inline void free_frame(void* memory, std::size_t size) noexcept {
  if (!pool_frames || size > largest_frame) {
    frame_to_heap(memory);
    return;
  }
  FreeFrame*& head = frame_pool.free[(size + frame_step - 1) / frame_step];
  if (!head) [[unlikely]]  // its first is another thread's
    begin_lists();
  auto* const frame = static_cast<FreeFrame*>(memory);
  frame->next = head;
  head = frame;
}

}  // namespace detail

inline FrameCounts frame_counts() noexcept {
  return detail::frame_pool.counts;
}

// Gives the calling thread's free frames back to the heap, as its end does.
void release_free_frames() noexcept;

}  // namespace schedlab::iouring
