#include "procs/task_lane.hh"

#include <algorithm>
#include <bit>
#include <mutex>

namespace schedlab::procs::detail {

TaskLane::TaskLane(Patience patience)
    : mutex_(Sharing::threads, patience),
      ring_(std::make_unique_for_overwrite<FutureCore*[]>(least_room)) {}

bool TaskLane::empty() noexcept {
  const std::lock_guard lock(mutex_);
  return first_ == last_;
}

void TaskLane::grow(std::size_t wanted) {
  const std::size_t room = std::bit_ceil(wanted);
  auto larger = std::make_unique_for_overwrite<FutureCore*[]>(room);
  const std::uint64_t size = last_ - first_;
  for (std::uint64_t i = 0; i < size; ++i)
    larger[i] = at(first_ + i);
  ring_ = std::move(larger);
  mask_ = room - 1;
  first_ = 0;
  last_ = size;
}

bool TaskLane::push(std::span<FutureCore* const> tasks) {
  const std::lock_guard lock(mutex_);
  if (closed_)
    return false;
  const std::size_t wanted = last_ - first_ + tasks.size();
  if (wanted > mask_ + 1)
    grow(wanted);
  append(tasks);
  return true;
}

void TaskLane::put(std::span<FutureCore* const> tasks) noexcept {
  const std::lock_guard lock(mutex_);
  append(tasks);
}

bool TaskLane::has_room(std::size_t tasks) noexcept {
  const std::lock_guard lock(mutex_);
  return last_ - first_ + tasks <= mask_ + 1;
}

void TaskLane::append(std::span<FutureCore* const> tasks) noexcept {
  for (FutureCore* const task : tasks)
    at(last_++) = task;
  publish();
}

FutureCore* TaskLane::pop() noexcept {
  if (looks_empty())
    return nullptr;
  const std::lock_guard lock(mutex_);
  if (first_ == last_)
    return nullptr;
  FutureCore* const task = pop_locked();
  publish();
  return task;
}

std::size_t TaskLane::take(std::span<FutureCore*> room, std::size_t share) noexcept {
  if (looks_empty())
    return 0;
  std::size_t count = 0;
  {
    const std::lock_guard lock(mutex_);
    count = std::min<std::size_t>((last_ - first_ + share - 1) / share, room.size());
    for (std::size_t i = 0; i < count; ++i)
      room[i] = pop_locked();
    publish();
  }
  for (FutureCore* const task : room.first(count))
    prefetch_to_write(task);  // most were written on another CPU
  return count;
}

bool TaskLane::take_back(FutureCore* task) noexcept {
  FutureCore* stale[8];
  std::size_t dropped = 0;
  bool found = false;
  {
    const std::lock_guard lock(mutex_);
    while (!found && first_ != last_ && dropped < std::size(stale)) {
      FutureCore* const newest = at(last_ - 1);
      found = newest == task;
      if (!found && newest->state() == FutureState::pending)
        break;
      --last_;
      if (!found)
        stale[dropped++] = newest;
    }
    publish();
  }
  for (std::size_t i = 0; i < dropped; ++i)
    stale[i]->release();
  return found;
}

void TaskLane::close() noexcept {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

}  // namespace schedlab::procs::detail
