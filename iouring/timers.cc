#include "iouring/timers.hh"

#include "lab/base/clock.hh"

#include <algorithm>
#include <limits>

namespace schedlab::iouring {

namespace {
constexpr std::size_t children = 4;
}

std::int64_t from_now(std::chrono::nanoseconds time) noexcept {
  std::int64_t due_ns = 0;
  const bool beyond = __builtin_add_overflow(clock::now_ns(), time.count(), &due_ns);
  return beyond ? std::numeric_limits<std::int64_t>::max() : due_ns;
}

bool Timers::before(const Timer& a, const Timer& b) noexcept {
  return a.due_ns_ != b.due_ns_ ? a.due_ns_ < b.due_ns_ : a.order_ < b.order_;
}

void Timers::put(Timer* timer, std::size_t place) noexcept {
  heap_[place] = timer;
  timer->place_ = place;
}

void Timers::sift_up(std::size_t place) noexcept {
  Timer* const timer = heap_[place];
  while (place > 0) {
    const std::size_t parent = (place - 1) / children;
    if (!before(*timer, *heap_[parent]))
      break;
    put(heap_[parent], place);
    place = parent;
  }
  put(timer, place);
}

void Timers::sift_down(std::size_t place) noexcept {
  Timer* const timer = heap_[place];
  for (;;) {
    const std::size_t first = place * children + 1;
    if (first >= heap_.size())
      break;
    std::size_t least = first;
    const std::size_t end = std::min(first + children, heap_.size());
    for (std::size_t child = first + 1; child < end; ++child)
      if (before(*heap_[child], *heap_[least]))
        least = child;
    if (!before(*heap_[least], *timer))
      break;
    put(heap_[least], place);
    place = least;
  }
  put(timer, place);
}

void Timers::set(Timer& timer, std::int64_t due_ns) {
  unset(timer);
  heap_.push_back(&timer);
  timer.due_ns_ = std::max(due_ns, expiring_ns_);
  timer.order_ = next_order_++;
  sift_up(heap_.size() - 1);
}

void Timers::unset(Timer& timer) noexcept {
  const std::size_t place = timer.place_;
  if (place == Timer::nowhere)
    return;
  timer.place_ = Timer::nowhere;
  Timer* const last = heap_.back();
  heap_.pop_back();
  if (last == &timer)
    return;
  put(last, place);
  sift_up(place);
  sift_down(last->place_);
}

std::size_t Timers::expire(std::int64_t now_ns) noexcept {
  const std::uint64_t set_before = next_order_;
  std::size_t count = 0;
  expiring_ns_ = now_ns;
  while (!heap_.empty() && first_ns() <= now_ns && heap_.front()->order_ < set_before) {
    Timer& timer = *heap_.front();
    unset(timer);
    timer.expired();
    ++count;
  }
  expiring_ns_ = always;
  return count;
}

}  // namespace schedlab::iouring
