#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "procs/pool_core.hh"
#include "procs/thread.hh"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <csignal>

namespace schedlab::procs::pool {
namespace {

constexpr std::uint64_t bell_event = ~std::uint64_t{0};
constexpr std::int64_t longest_back_off_ns = 1'000'000'000;

Shape shape_of(const ProcessPoolOptions& options) {
  Shape shape;
  shape.lanes = std::max(options.workers, options.most_workers);
  shape.depth = std::max(options.depth, 1u);
  shape.slot_bytes = static_cast<std::uint32_t>((options.slot_bytes + 63) / 64 * 64);
  shape.blocks = static_cast<std::uint32_t>((options.arena_bytes + block_size - 1) / block_size);
  return shape;
}

std::int64_t ns(std::chrono::milliseconds time) {
  return std::chrono::nanoseconds(time).count();
}

PoolEvent event(PoolEvent::Kind kind, unsigned worker, pid_t pid, std::string text) {
  PoolEvent made;
  made.kind = kind;
  made.worker = worker;
  made.pid = pid;
  made.text = std::move(text);
  return made;
}

}  // namespace

Core::Core(ProcessPoolOptions options)
    : options_(std::move(options)), arena_(std::make_shared<Arena>(shape_of(options_))),
      memory_(arena_->memory()), header_(memory_.header()),
      spins_(Patience::of(options_.waiting).spins),
      bell_(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")),
      epoll_(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")), starter_(options_.start),
      wanted_(options_.workers) {
  header_.spins = spins_;
  header_.tasks_per_worker = options_.tasks_per_worker;
  header_.rss_growth = options_.rss_growth;
  epoll_event bell{.events = EPOLLIN, .data = {.u64 = bell_event}};
  check(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, bell_.get(), &bell), "epoll_ctl");
  for (std::uint32_t lane = 0; lane < memory_.shape().lanes; ++lane)
    workers_.emplace_back().lane = lane;
  // The first ones while this process may still have one thread: a fork is then without dangers.
  Aftermath after;
  Lock lock(mutex_);
  start_one(workers_.front(), lock, after);
  if (workers_.front().life == Life::vacant)
    throw PoolError(after.events.back().text);
  start_missing(lock, after);
  lock.unlock();
  const SignalsBlocked inherited;
  supervisor_ = std::thread([this, events = std::move(after.events)]() mutable {
    ::pthread_setname_np(::pthread_self(), "process pool");
    Aftermath begin;
    begin.events = std::move(events);
    finish(begin);
    supervise();
  });
}

Core::~Core() {
  close();
}

void Core::close() {
  if (!supervisor_.joinable())
    return;
  shutdown(false, clock::now_ns() + ns(options_.drain));
  supervisor_.join();
}

void Core::supervise() {
  for (;;) {
    header_.supervisor_asleep.store(1);
    Aftermath after;
    const std::int64_t until = work(after);
    finish(after);
    {
      const Lock lock(mutex_);
      if (stopped_)
        return;
    }
    wait_for_events(until);
  }
}

// Everything that is to be done now; gives when to look again.
std::int64_t Core::work(Aftermath& after) {
  Lock lock(mutex_);
  for (const auto lane : ended_)
    reap(lane, after);
  ended_.clear();
  drain_all(after);
  const std::int64_t now = clock::now_ns();
  std::int64_t next = INT64_MAX;
  if (timed_ > 0)
    condemn_late(now, next);
  for (Worker& worker : workers_)
    if (worker.life == Life::live && (stopping_ || worker.lane >= wanted_))
      send_away(worker, now);
  kill_overdue(now, next);
  if (!stopping_ && !broken_)
    start_missing(lock, after);
  if (!stopping_ && !broken_)
    for (const Worker& worker : workers_)
      if (worker.life == Life::vacant && worker.lane < wanted_)
        next = std::min(next, worker.start_at_ns);
  dispatch(after);
  rebalance(after);
  note_wants();
  if (!pending_.empty() && result_lies_there())
    next = now;
  looks_at_ns_ = next;
  stopped_ = stopping_ && std::ranges::all_of(workers_, [](const Worker& worker) {
               return worker.life == Life::vacant;
             });
  if (stopped_)
    settled_.notify_all();
  return next;
}

void Core::wait_for_events(std::int64_t until_ns) {
  int timeout_ms = -1;
  if (until_ns != INT64_MAX) {
    const std::int64_t left = std::max<std::int64_t>(until_ns - clock::now_ns(), 0);
    timeout_ms = static_cast<int>(std::min<std::int64_t>((left + 999'999) / 1'000'000, 60'000));
  }
  std::array<epoll_event, 16> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), timeout_ms);
  for (int i = 0; i < count; ++i) {
    const std::uint64_t what = events[static_cast<std::size_t>(i)].data.u64;
    eventfd_t rung = 0;
    if (what == bell_event)
      ::eventfd_read(bell_.get(), &rung);
    else
      ended_.push_back(static_cast<std::uint32_t>(what));
  }
}

// --- workers begin

void Core::restart_lane(Worker& worker) {
  worker.placed = 0;
  worker.drained = 0;
  worker.tasks.clear();
  worker.condemned = 0;
  worker.kill_at_ns = 0;
  worker.served = false;
  ++worker.generation;
  for (std::uint32_t i = 0; i < memory_.shape().depth; ++i)
    memory_.slot(worker.lane, i).state.store(SlotState::free);
  Lane& lane = memory_.lane(worker.lane);
  lane.asleep.store(0);
  lane.told_to_leave.store(0);
  lane.callbacks.store(0);
  lane.leaving.store(Leaving::no);
}

void Core::start_one(Worker& worker, Lock& lock, Aftermath& after) {
  restart_lane(worker);
  worker.oom_before = oom_.count().value_or(0);
  std::string why;
  lock.unlock();
  try {
    worker.process = starter_.start(memory_, bell_, worker.lane, worker.generation);
    epoll_event ended{.events = EPOLLIN, .data = {.u64 = worker.lane}};
    check(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, worker.process.pidfd(), &ended), "epoll_ctl");
  } catch (const std::exception& error) {
    why = error.what();
    worker.process = Process();
  }
  lock.lock();
  if (!why.empty()) {
    start_failed(worker, why, after);
    return;
  }
  worker.pid = worker.process.pid();
  worker.life = Life::live;
  ++counts_.started;
  header_.fault.reach(Step::respawned);
  after.events.push_back(event(PoolEvent::Kind::started, worker.lane, worker.pid,
                               "worker " + std::to_string(worker.pid) + " has started"));
}

void Core::start_missing(Lock& lock, Aftermath& after) {
  const std::int64_t now = clock::now_ns();
  for (Worker& worker : workers_)
    if (worker.life == Life::vacant && worker.lane < wanted_ && worker.start_at_ns <= now &&
        !broken_)
      start_one(worker, lock, after);
}

// The others go on; if there are none, nobody is served.
void Core::start_failed(Worker& worker, const std::string& why, Aftermath& after) {
  const std::string text =
      "a worker cannot be started: " + why + " (" + task_limits() + "; see ulimit -u)";
  WorkerEnd end;
  end.worker = worker.lane;
  end.text = text;
  note_idle_death(worker, end, after);
  after.events.push_back(event(PoolEvent::Kind::ended, worker.lane, -1, text));
}

// --- workers end

void Core::send_away(Worker& worker, std::int64_t now) {
  Lane& lane = memory_.lane(worker.lane);
  worker.life = Life::leaving;
  // When the pool ends, what still runs has had its time.
  worker.kill_at_ns = stopping_ && !worker.tasks.empty() ? now : now + ns(options_.leave);
  lane.told_to_leave.store(1);
  wake_worker(lane);
}

void Core::kill_overdue(std::int64_t now, std::int64_t& next) {
  for (Worker& worker : workers_) {
    if (worker.life != Life::leaving)
      continue;
    // While the pool goes on, a task that runs may end.
    if (!stopping_ && !worker.tasks.empty())
      continue;
    if (worker.kill_at_ns <= now)
      worker.process.signal(SIGKILL);
    else
      next = std::min(next, worker.kill_at_ns);
  }
}

void Core::condemn_late(std::int64_t now, std::int64_t& next) {
  for (Worker& worker : workers_) {
    if (worker.life == Life::vacant || worker.condemned != 0)
      continue;
    std::int64_t least = INT64_MAX;
    for (const TaskRef& task : worker.tasks)
      if (task && task->options.timeout.count() > 0)
        least = std::min(least, task->options.timeout.count());
    if (least == INT64_MAX)
      continue;
    const TaskRef& first = worker.tasks.front();
    Slot& slot = memory_.slot(worker.lane, worker.drained);
    auto running = SlotState::running;
    std::int64_t look_at = now + least;
    if (first && first->options.timeout.count() > 0 && slot.state.load() == running) {
      const std::int64_t over = slot.began_ns.load() + first->options.timeout.count();
      look_at = std::min(look_at, over);
      if (over <= now && slot.state.compare_exchange_strong(running, SlotState::condemned)) {
        worker.condemned = first->number;
        worker.process.signal(SIGKILL);
        continue;
      }
    }
    next = std::min(next, std::max(look_at, now));
  }
}

// A kill for want of memory explains one end, and none of a worker that was not there yet.
bool Core::oom_explains(const Worker& worker) {
  const std::uint64_t explained = std::max(oom_seen_, worker.oom_before);
  if (oom_.count().value_or(0) <= explained)
    return false;
  oom_seen_ = explained + 1;
  return true;
}

WorkerEnd Core::why_it_ended(Worker& worker) {
  const Lane& lane = memory_.lane(worker.lane);
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, worker.process.pidfd(), nullptr);
  const Ending ending = worker.process.wait();
  WorkerEnd end{.pid = worker.pid, .worker = worker.lane, .text = ending.cause.text()};
  switch (lane.leaving.load()) {
  case Leaving::told:
    end.text = "it was told to leave";
    return end;
  case Leaving::tasks:
    end.how = Ended::tasks;
    end.text = "it has done " + std::to_string(options_.tasks_per_worker) + " tasks";
    return end;
  case Leaving::rss:
    end.how = Ended::rss;
    end.text = "it has grown to " + std::to_string(lane.rss.load() >> 20) + " MiB";
    return end;
  case Leaving::no:
    break;
  }
  const bool killed = ending.cause.kind == ExitCause::Kind::signalled;
  end.how = killed ? Ended::signalled : Ended::exited;
  if (ending.why == Ending::Why::threw || ending.why == Ending::Why::unknown) {
    end.text = ending.text();
  } else if (worker.condemned != 0 && killed) {
    end.how = Ended::timeout;
  } else if (worker.life == Life::leaving && killed) {
    end.how = Ended::killed;
  } else if (killed && ending.cause.value == SIGKILL && oom_explains(worker)) {
    end.how = Ended::oom;
    end.text += ": " + oom_.path() + " counted a process that was killed for want of memory";
  }
  return end;
}

void Core::reap(std::uint32_t number, Aftermath& after) {
  Worker& worker = workers_[number];
  if (worker.life == Life::vacant)
    return;
  drain(worker, after);
  const WorkerEnd end = why_it_ended(worker);
  header_.fault.reach(Step::reaped);
  const bool left = end.how == Ended::left || end.how == Ended::killed;
  const bool recycled = end.how == Ended::tasks || end.how == Ended::rss;
  counts_.recycled += recycled ? 1 : 0;
  counts_.died += left || recycled ? 0 : 1;
  const std::uint64_t blamed = counts_.blamed;
  take_back(worker, end, after);
  arena_->sweep(number);
  worker.life = Life::vacant;
  worker.start_at_ns = 0;
  header_.fault.reach(Step::requeued);
  if (!left && !recycled && counts_.blamed == blamed)
    note_idle_death(worker, end, after);
  PoolEvent told = event(PoolEvent::Kind::ended, number, end.pid,
                         "worker " + std::to_string(end.pid) + " has ended: " + end.text);
  told.end = end;
  after.events.push_back(std::move(told));
}

// What it had before it: back into the queue in the old order, but for the task that was running.
void Core::take_back(Worker& worker, const WorkerEnd& end, Aftermath& after) {
  after.changed.push_back(worker.lane);
  while (!worker.tasks.empty()) {
    const TaskRef task = std::move(worker.tasks.back());
    worker.tasks.pop_back();
    const Slot& slot = memory_.slot(worker.lane, --worker.placed);
    if (!task || task->phase.load() == Phase::resolved)
      continue;
    const SlotState state = slot.state.load();
    const bool begun = state == SlotState::running || state == SlotState::condemned;
    if (!keep_arguments(slot, *task)) {
      fail(task, std::make_exception_ptr(PoolError("the arguments were changed in the arena")),
           after);
    } else if (begun) {
      blame(task, end, after);
    } else if (broken_) {
      fail(task, closed_, after);
    } else {
      ++counts_.requeued;
      to_pending(task, true);
    }
  }
}

void Core::blame(const TaskRef& task, const WorkerEnd& end, Aftermath& after) {
  ++counts_.blamed;
  ++task->attempts;
  task->pid = end.pid;
  const bool timeout = end.how == Ended::timeout;
  counts_.timeouts += timeout ? 1 : 0;
  const bool again = task->attempts < task->options.attempts && !broken_;
  const std::string text =
      "task " + std::to_string(task->number) + ", attempt " + std::to_string(task->attempts) +
      " of " + std::to_string(task->options.attempts) + ": worker " + std::to_string(end.pid) +
      " " + std::string(to_text(end.how)) + ": " + end.text;
  PoolEvent told = event(again ? PoolEvent::Kind::retried : PoolEvent::Kind::quarantined,
                         end.worker, end.pid, text);
  told.task = task->number;
  told.end = end;
  after.events.push_back(std::move(told));
  if (again) {
    ++counts_.retried;
    to_pending(task, false);
    return;
  }
  ++counts_.quarantined;
  fail(task,
       timeout ? std::make_exception_ptr(TaskTimeout(text, end, task->attempts))
               : std::make_exception_ptr(WorkerDied(text, end, task->attempts)),
       after);
}

// Nobody is to blame: the next one starts later, or never.
void Core::note_idle_death(Worker& worker, const WorkerEnd& end, Aftermath& after) {
  const std::int64_t now = clock::now_ns();
  ++worker.idle_deaths;
  if (worker.idle_deaths > 1) {
    const unsigned doubled = std::min(worker.idle_deaths - 2, 20u);
    worker.start_at_ns =
        now + std::min(ns(options_.first_back_off) << doubled, longest_back_off_ns);
  }
  deaths_ns_.push_back(now);
  while (deaths_ns_.front() < now - ns(options_.restart_window))
    deaths_ns_.pop_front();
  const bool served = std::ranges::any_of(
      workers_, [](const Worker& other) { return other.life == Life::live && other.served; });
  if (deaths_ns_.size() > options_.most_restarts && !(end.pid < 0 && served))
    break_pool(std::to_string(deaths_ns_.size()) + " workers in " +
                   std::to_string(options_.restart_window.count()) +
                   " ms died with no task to blame, the last: " + end.text,
               after);
}

void Core::break_pool(const std::string& why, Aftermath& after) {
  if (broken_)
    return;
  broken_ = true;
  closed_ = std::make_exception_ptr(PoolBroken("the process pool is broken: " + why));
  after.events.push_back(event(PoolEvent::Kind::broken, 0, -1, why));
  for (; !pending_.empty(); pending_.pop_front())
    fail(pending_.front(), closed_, after);
  for (Worker& worker : workers_)
    while (const TaskRef task = withdraw(worker)) {
      after.changed.push_back(worker.lane);
      fail(task, closed_, after);
    }
  room_.notify_all();
}

}  // namespace schedlab::procs::pool
