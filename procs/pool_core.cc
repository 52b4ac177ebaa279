#include "procs/pool_core.hh"

#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/futex.hh"
#include "procs/future.hh"

#include <sys/eventfd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <new>

namespace schedlab::procs::pool {

bool Core::on_supervisor() const noexcept {
  return std::this_thread::get_id() == supervisor_.get_id();
}

void Core::ring_supervisor() noexcept {
  if (header_.supervisor_asleep.exchange(0) != 0)
    ::eventfd_write(bell_.get(), 1);
}

void Core::wake_worker(Lane& lane) noexcept {
  if (lane.asleep.load() != 0) {
    lane.asleep.store(0);
    futex_wake(lane.asleep, 1, true);
  }
}

void Core::wake_sleepers(std::uint32_t number) {
  Lane& lane = memory_.lane(number);
  if (lane.sleepers.load() == 0)
    return;
  lane.results.fetch_add(1);
  futex_wake(lane.results, INT32_MAX, true);
}

// --- from submit into a slot

void Core::submit(const TaskRef& task, std::span<const std::byte> arguments) {
  Lane* filled = nullptr;
  {
    Lock lock(mutex_);
    await_room(lock);
    task->number = next_number_++;
    // Counted only once it is somewhere: until then memory may be short.
    if (Worker* const worker = pending_.empty() ? least_loaded() : nullptr) {
      place(*worker, task, arguments);
      filled = &memory_.lane(worker->lane);
    } else {
      if (!task->payload_hold)
        task->arguments.assign(arguments.begin(), arguments.end());
      pending_.push_back(task);
    }
    ++counts_.submitted;
    ++outstanding_;
    if (task->options.timeout.count() > 0) {
      ++timed_;
      if (clock::now_ns() + task->options.timeout.count() < looks_at_ns_)
        ring_supervisor();
    }
    note_wants();
    if (!filled && pending_.size() == 1 && result_lies_there())
      ring_supervisor();
  }
  if (filled)
    wake_worker(*filled);
}

void Core::await_room(Lock& lock) {
  while (!closed_ && outstanding_ >= options_.queue) {
    if (options_.refuse_when_full || on_supervisor())
      throw QueueFull(std::to_string(outstanding_) + " tasks are not done yet, and no more were "
                                                     "to wait (ProcessPoolOptions::queue)");
    ++submitters_waiting_;
    note_wants();
    Aftermath after;
    drain_all(after);
    if (after.resolved.empty() && after.filled.empty()) {
      room_.wait(lock);
    } else {
      lock.unlock();
      finish(after);
      lock.lock();
    }
    --submitters_waiting_;
  }
  if (closed_)
    std::rethrow_exception(closed_);
}

Core::Worker* Core::least_loaded() {
  Worker* best = nullptr;
  for (Worker& worker : workers_) {
    if (worker.life != Life::live || worker.tasks.size() >= options_.depth)
      continue;
    if (!best || worker.tasks.size() < best->tasks.size())
      best = &worker;
    if (best->tasks.empty())
      break;
  }
  return best;
}

void Core::write(Slot& slot, const Task& task, std::span<const std::byte> arguments) {
  slot.task = task.number;
  slot.entry = task.entry;
  slot.attempt = task.attempts + 1;
  slot.timed = task.options.timeout.count() > 0 ? 1 : 0;
  if (task.payload_hold) {
    slot.arguments = task.payload;
    return;
  }
  const auto space = memory_.argument_space(slot);
  if (!arguments.empty())
    std::memcpy(space.data(), arguments.data(), arguments.size());
  slot.arguments = {memory_.offset(space.data()), arguments.size(), checksum(arguments)};
}

void Core::place(Worker& worker, const TaskRef& task, std::span<const std::byte> arguments) {
  worker.tasks.push_back(task);  // the only thing that may throw
  Slot& slot = memory_.slot(worker.lane, worker.placed);
  write(slot, *task, arguments);
  slot.generation = worker.generation;
  task->lane.store(worker.lane, std::memory_order_relaxed);
  task->position.store(worker.placed, std::memory_order_relaxed);
  ++worker.placed;
  if (!task->callbacks.empty())
    memory_.lane(worker.lane).callbacks.fetch_add(1);
  task->phase.store(Phase::placed);
  slot.state.store(SlotState::queued);
  header_.fault.reach(Step::queued);
}

void Core::dispatch(Aftermath& after) {
  while (!pending_.empty()) {
    Worker* const worker = least_loaded();
    if (!worker)
      return;
    const TaskRef task = std::move(pending_.front());
    pending_.pop_front();
    const auto arguments = std::move(task->arguments);
    place(*worker, task, arguments);
    after.filled.push_back(worker->lane);
    if (task->sleepers.load() != 0)
      futex_wake(task->phase, INT32_MAX, false);
  }
}

void Core::note_wants() {
  bool wants = closed_ || submitters_waiting_ > 0 || !pending_.empty();
  if (outstanding_ > 1 && !wants)
    wants = std::ranges::any_of(workers_, [](const Worker& one) { return one.tasks.size() > 1; });
  if ((header_.refill.load(std::memory_order_relaxed) != 0) != wants)
    header_.refill.store(wants ? 1 : 0);
}

bool Core::result_lies_there() {
  return std::ranges::any_of(workers_, [this](const Worker& worker) {
    return !worker.tasks.empty() &&
           memory_.slot(worker.lane, worker.drained).state.load() == SlotState::done;
  });
}

// --- back from a lane into the queue

bool Core::keep_arguments(const Slot& slot, Task& task) {
  if (task.payload_hold)
    return true;
  const auto bytes = memory_.at(slot.arguments.at, slot.arguments.size);
  if (bytes.size() != slot.arguments.size || checksum(bytes) != slot.arguments.sum)
    return false;
  task.arguments.assign(bytes.begin(), bytes.end());
  return true;
}

void Core::leave_lane(Worker& worker, const Task& task) {
  if (!task.callbacks.empty())
    memory_.lane(worker.lane).callbacks.fetch_sub(1);
}

void Core::to_pending(const TaskRef& task, bool first) {
  task->phase.store(Phase::pending);
  if (first)
    pending_.push_front(task);
  else
    pending_.push_back(task);
}

TaskRef Core::withdraw(Worker& worker) {
  if (worker.tasks.empty() || !worker.tasks.back())
    return nullptr;
  Slot& slot = memory_.slot(worker.lane, worker.placed - 1);
  auto queued = SlotState::queued;
  if (!slot.state.compare_exchange_strong(queued, SlotState::free))
    return nullptr;
  TaskRef task = std::move(worker.tasks.back());
  worker.tasks.pop_back();
  --worker.placed;
  leave_lane(worker, *task);
  return task;
}

// A worker without work gets half of what waits behind the busiest one's task.
void Core::rebalance(Aftermath& after) {
  const auto idle = [&](const Worker& worker) {
    return worker.life == Life::live && worker.tasks.empty() &&
           memory_.lane(worker.lane).ready.load() == worker.generation;
  };
  if (!pending_.empty() || outstanding_ < 2 || std::ranges::none_of(workers_, idle))
    return;
  const auto busiest =
      std::ranges::max_element(workers_, {}, [](const Worker& one) { return one.tasks.size(); });
  for (std::size_t left = busiest->tasks.size() / 2; left > 0; --left) {
    const TaskRef task = withdraw(*busiest);
    if (!task)
      break;
    if (keep_arguments(memory_.slot(busiest->lane, busiest->placed), *task))
      to_pending(task, true);
    else
      fail(task, std::make_exception_ptr(PoolError("the arguments were changed in the arena")),
           after);
    after.changed.push_back(busiest->lane);
  }
  dispatch(after);
}

// --- results

void Core::take_result(Worker& worker, Slot& slot, Task& task) {
  const auto bytes = memory_.at(slot.result.at, slot.result.size);
  task.kind = slot.kind;
  task.pid = worker.pid;
  if (bytes.size() != slot.result.size || checksum(bytes) != slot.result.sum)
    task.failure = std::make_exception_ptr(
        PoolError("the result of worker " + std::to_string(worker.pid) +
                  " was changed in the arena: somebody writes where he should not"));
  else
    try {
      task.result.assign(bytes.begin(), bytes.end());
    } catch (const std::bad_alloc&) {  // as large as it is
      task.failure = std::current_exception();
    }
  if (slot.has_blocks != 0)
    for (auto& hold : arena_->adopt(worker.lane, task.number, slot.result.at))
      task.holds.push_back(std::move(hold));
}

void Core::drain(Worker& worker, Aftermath& after) {
  const std::size_t before = worker.tasks.size();
  while (!worker.tasks.empty()) {
    Slot& slot = memory_.slot(worker.lane, worker.drained);
    if (slot.state.load() != SlotState::done)
      break;
    const TaskRef task = std::move(worker.tasks.front());
    worker.tasks.pop_front();
    ++worker.drained;
    worker.served = true;
    worker.idle_deaths = 0;
    if (task && task->phase.load() != Phase::resolved) {
      leave_lane(worker, *task);
      take_result(worker, slot, *task);
      header_.fault.reach(Step::drained);
      resolve(task, after);
    }
    slot.state.store(SlotState::free, std::memory_order_release);
  }
  if (worker.tasks.size() != before)
    after.changed.push_back(worker.lane);
}

void Core::drain_all(Aftermath& after) {
  for (Worker& worker : workers_)
    drain(worker, after);
  dispatch(after);
}

void Core::resolve(const TaskRef& task, Aftermath& after) {
  --outstanding_;
  ++counts_.resolved;
  if (task->options.timeout.count() > 0)
    --timed_;
  task->payload_hold.reset();
  std::ranges::move(task->callbacks, std::back_inserter(after.callbacks));
  task->callbacks.clear();
  task->phase.store(Phase::resolved);
  after.resolved.push_back(task);
  if (submitters_waiting_ > 0)
    room_.notify_all();
  if (outstanding_ == 0)
    settled_.notify_all();
}

void Core::fail(const TaskRef& task, std::exception_ptr failure, Aftermath& after) {
  task->failure = std::move(failure);
  resolve(task, after);
}

void Core::finish(Aftermath& after) {
  for (const auto lane : after.filled)
    wake_worker(memory_.lane(lane));
  for (const auto& task : after.resolved)
    if (task->sleepers.load() != 0)
      futex_wake(task->phase, INT32_MAX, false);
  for (const auto lane : after.changed)
    wake_sleepers(lane);
  for (const auto& callback : after.callbacks)
    callback->run();
  if (options_.on_event)
    for (const auto& event : after.events)
      options_.on_event(event);
}

// --- what the pool is asked

PoolCounts Core::counts() const {
  const Lock lock(mutex_);
  return counts_;
}

unsigned Core::workers() const {
  const Lock lock(mutex_);
  return wanted_;
}

std::vector<pid_t> Core::pids() const {
  const Lock lock(mutex_);
  std::vector<pid_t> pids;
  for (const Worker& worker : workers_)
    if (worker.life != Life::vacant)
      pids.push_back(worker.pid);
  return pids;
}

pid_t Core::kill_worker(unsigned number) {
  const Lock lock(mutex_);
  const Worker& worker = workers_.at(number);
  if (worker.life == Life::vacant)
    return -1;
  worker.process.signal(SIGKILL);
  return worker.pid;
}

void Core::resize(unsigned workers) {
  {
    const Lock lock(mutex_);
    if (workers == 0 || workers > workers_.size())
      throw std::invalid_argument("a pool made for at most " + std::to_string(workers_.size()) +
                                  " workers cannot have " + std::to_string(workers));
    wanted_ = workers;
  }
  header_.supervisor_asleep.exchange(0);
  ::eventfd_write(bell_.get(), 1);
}

void Core::cancel_pending(Aftermath& after, const std::exception_ptr& why) {
  for (Worker& worker : workers_)
    while (const TaskRef task = withdraw(worker)) {
      after.changed.push_back(worker.lane);
      ++counts_.cancelled;
      task->cancelled.store(true);
      fail(task, why, after);
    }
  for (; !pending_.empty(); pending_.pop_front()) {
    ++counts_.cancelled;
    pending_.front()->cancelled.store(true);
    fail(pending_.front(), why, after);
  }
}

void Core::fail_all(const std::exception_ptr& failure, Aftermath& after) {
  for (; !pending_.empty(); pending_.pop_front())
    fail(pending_.front(), failure, after);
  for (Worker& worker : workers_)
    for (const TaskRef& task : worker.tasks)
      if (task && task->phase.load() != Phase::resolved) {
        after.changed.push_back(worker.lane);
        fail(task, failure, after);
      }
}

void Core::shutdown(bool cancel, std::optional<std::int64_t> deadline_ns) {
  Aftermath after;
  Lock lock(mutex_);
  if (!closed_)
    closed_ = std::make_exception_ptr(PoolShutDown("the process pool is shut down"));
  if (cancel)
    cancel_pending(after, std::make_exception_ptr(FutureCancelled()));
  note_wants();
  drain_all(after);
  room_.notify_all();
  lock.unlock();
  finish(after);
  ring_supervisor();
  lock.lock();

  const auto none_left = [&] { return outstanding_ == 0; };
  if (!deadline_ns)
    settled_.wait(lock, none_left);
  else
    settled_.wait_until(
        lock, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(*deadline_ns)),
        none_left);
  Aftermath left;
  fail_all(std::make_exception_ptr(PoolShutDown(
               "the process pool was shut down, and its time was over before the task's end")),
           left);
  stopping_ = true;
  lock.unlock();
  finish(left);
  header_.supervisor_asleep.exchange(0);
  ::eventfd_write(bell_.get(), 1);
  lock.lock();
  settled_.wait(lock, [&] { return stopped_; });
}

}  // namespace schedlab::procs::pool
