#include "iouring/frame_pool.hh"

#include <algorithm>
#include <new>

namespace schedlab::iouring {

void release_free_frames() noexcept {
  for (detail::FreeFrame*& head : detail::frame_pool.free)
    while (detail::is_frame(head)) {
      detail::FreeFrame* const next = head->next;
      ::operator delete(head);
      head = next;
    }
}

namespace detail {

constinit thread_local FramePool frame_pool;

namespace {

struct PoolEnd {
  PoolEnd() noexcept { std::ranges::fill(frame_pool.free, no_frame()); }
  ~PoolEnd() { release_free_frames(); }
};

}  // namespace

void begin_lists() noexcept {
  static thread_local const PoolEnd at_thread_end;
}

void* frame_from_heap(std::size_t size) {
  begin_lists();
  ++frame_pool.counts.from_heap;
  // Whole classes, because any frame of the class may get this memory later.
  const std::size_t classes = (size + frame_step - 1) / frame_step;
  return ::operator new(std::max<std::size_t>(classes, 1) * frame_step);
}

void frame_to_heap(void* frame) noexcept {
  ::operator delete(frame);
}

}  // namespace detail
}  // namespace schedlab::iouring
