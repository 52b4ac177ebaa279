// What a future asks of the pool.

#include "lab/base/clock.hh"
#include "lab/base/futex.hh"
#include "lab/base/keep.hh"
#include "procs/future.hh"
#include "procs/pool_core.hh"

#include <algorithm>

namespace schedlab::procs::pool {

const Slot& Core::slot_of(const Task& task) const noexcept {
  return memory_.slot(task.lane.load(std::memory_order_relaxed), task.position.load());
}

// Of a worker that died before it said so, the supervisor sees to the result.
bool Core::lies_done(const Task& task) const noexcept {
  const Slot& slot = slot_of(task);
  if (slot.ended.load() != task.number)
    return false;
  prefetch_to_write(&slot.state);
  prefetch(memory_.result_space(slot).data());
  return true;
}

bool Core::ready(Task& task) {
  if (task.phase.load() == Phase::placed && lies_done(task)) {
    Aftermath after;
    {
      const Lock lock(mutex_);
      drain(workers_[task.lane.load()], after);
      dispatch(after);
      note_wants();
    }
    finish(after);
  }
  return task.phase.load() == Phase::resolved;
}

namespace {

// What is left until a deadline, for the kernel.
struct Left {
  explicit Left(std::optional<std::int64_t> deadline_ns) {
    if (!deadline_ns)
      return;
    time = clock::to_timespec(std::max<std::int64_t>(*deadline_ns - clock::now_ns(), 0));
    until = &time;
  }
  timespec time{};
  const timespec* until = nullptr;
};

}  // namespace

void Core::wait_in_lane(Task& task, std::optional<std::int64_t> deadline_ns) {
  const std::uint32_t number = task.lane.load(std::memory_order_relaxed);
  Lane& lane = memory_.lane(number);
  const Slot* slot = nullptr;
  for (std::uint32_t asked = 0; asked < spins_; ++asked) {
    if (asked % 256 == 0)
      slot = &slot_of(task);  // it may have been put elsewhere meanwhile
    if (slot->ended.load() == task.number ||
        task.phase.load(std::memory_order_relaxed) != Phase::placed)
      return;
    if (deadline_ns && asked % 1024 == 1023 && clock::now_ns() >= *deadline_ns)
      return;
    pause_cpu();
    if (asked == Patience::forever - 1)
      asked = 0;
  }
  const Left left(deadline_ns);
  falls_asleep_.reach();
  lane.sleepers.fetch_add(1);
  const std::uint32_t seen = lane.results.load();
  // Whoever has moved it to another lane meanwhile may have found nobody to wake here. The phase is
  // stored after the lane, and loaded before it.
  const bool placed = task.phase.load() == Phase::placed;
  if (placed && task.lane.load() == number && !lies_done(task))
    futex_wait(lane.results, seen, true, left.until);
  lane.sleepers.fetch_sub(1);
}

bool Core::wait(Task& task, std::optional<std::int64_t> deadline_ns) {
  while (!ready(task)) {
    if (deadline_ns && clock::now_ns() >= *deadline_ns)
      return false;
    if (task.phase.load() == Phase::placed) {
      wait_in_lane(task, deadline_ns);
      continue;
    }
    const Left left(deadline_ns);
    task.sleepers.fetch_add(1);
    futex_wait(task.phase, Phase::pending, false, left.until);
    task.sleepers.fetch_sub(1);
  }
  return true;
}

bool Core::running(const Task& task) const noexcept {
  if (task.phase.load() != Phase::placed)
    return false;
  const Slot& slot = slot_of(task);
  const SlotState state = slot.state.load();
  return slot.task == task.number && state >= SlotState::claimed;
}

bool Core::cancel(const TaskRef& task) {
  Aftermath after;
  {
    const Lock lock(mutex_);
    const std::uint32_t phase = task->phase.load();
    if (phase == Phase::resolved)
      return false;
    if (phase == Phase::pending) {
      std::erase(pending_, task);
    } else {
      Worker& worker = workers_[task->lane.load()];
      auto queued = SlotState::queued;
      if (!memory_.slot(worker.lane, task->position.load())
               .state.compare_exchange_strong(queued, SlotState::skipped))
        return false;
      leave_lane(worker, *task);
      *std::ranges::find(worker.tasks, task) = nullptr;
      after.changed.push_back(worker.lane);
    }
    task->cancelled.store(true);
    ++counts_.cancelled;
    fail(task, std::make_exception_ptr(FutureCancelled()), after);
    note_wants();
  }
  finish(after);
  return true;
}

void Core::on_ready(const TaskRef& task, std::unique_ptr<Callback> callback) {
  Aftermath after;
  {
    const Lock lock(mutex_);
    const std::uint32_t phase = task->phase.load();
    if (phase == Phase::resolved) {
      after.callbacks.push_back(std::move(callback));
    } else {
      if (phase == Phase::placed && task->callbacks.empty())
        memory_.lane(task->lane.load()).callbacks.fetch_add(1);
      task->callbacks.push_back(std::move(callback));
      if (phase == Phase::placed)  // it may have ended before its worker could know
        drain(workers_[task->lane.load()], after);
      dispatch(after);
      note_wants();
    }
  }
  finish(after);
}

}  // namespace schedlab::procs::pool
