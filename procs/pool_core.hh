#pragma once
// The parent's side of a process pool: what is queued, what is in which lane, and the supervisor
// thread. Inside the pool; programs use process_pool.hh.
//
// A task goes straight from submit into a worker's slot, and its result straight from the slot to
// the thread that waits for it: the supervisor takes part only where nobody waits, where tasks
// queue up, and where something is wrong.

#include "lab/base/fd.hh"
#include "procs/pool_start.hh"
#include "procs/pool_task.hh"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace schedlab::procs::pool {

class Core {
public:
  explicit Core(ProcessPoolOptions options);
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;
  ~Core();

  // Shuts down by the options, and joins the supervisor. Not on the supervisor's thread.
  void close();
  // Any thread. `task` has everything but its number; `arguments` are copied. Waits for room.
  void submit(const TaskRef& task, std::span<const std::byte> arguments);
  // False if it took longer than that (CLOCK_MONOTONIC).
  bool wait(Task& task, std::optional<std::int64_t> deadline_ns);
  [[nodiscard]] bool ready(Task& task);
  bool cancel(const TaskRef& task);
  [[nodiscard]] bool running(const Task& task) const noexcept;
  void on_ready(const TaskRef& task, std::unique_ptr<Callback> callback);
  void shutdown(bool cancel_pending, std::optional<std::int64_t> deadline_ns);
  void resize(unsigned workers);

  [[nodiscard]] Arena& arena() const noexcept { return *arena_; }
  [[nodiscard]] PoolCounts counts() const;
  [[nodiscard]] unsigned workers() const;
  [[nodiscard]] std::vector<pid_t> pids() const;
  pid_t kill_worker(unsigned number);
  [[nodiscard]] HoldPoint& falls_asleep() noexcept { return falls_asleep_; }

private:
  enum class Life : std::uint8_t { vacant, live, leaving };
  // A lane and the process that serves it.
  struct Worker {
    std::uint32_t lane = 0;
    Life life = Life::vacant;
    std::uint32_t generation = 0;
    std::uint64_t placed = 0;   // positions before this have been given tasks
    std::uint64_t drained = 0;  // positions before this have been emptied
    std::deque<TaskRef> tasks;  // of the positions between
    Process process;
    pid_t pid = -1;
    std::uint64_t condemned = 0;   // number of the task whose time was up
    std::int64_t kill_at_ns = 0;   // it was told to leave; 0: it was not
    bool served = false;           // it has finished a task
    unsigned idle_deaths = 0;      // in a row, without a task to blame
    std::int64_t start_at_ns = 0;  // not before
    std::uint64_t oom_before = 0;  // kills for want of memory when it was started
  };
  // What follows once the lock is free.
  struct Aftermath {
    std::vector<TaskRef> resolved;
    std::vector<std::unique_ptr<Callback>> callbacks;
    std::vector<PoolEvent> events;
    std::vector<std::uint32_t> changed;  // lanes whose sleepers have to look again
    std::vector<std::uint32_t> filled;   // lanes whose worker has more to do
  };
  using Lock = std::unique_lock<std::mutex>;

  // Under the lock.
  void await_room(Lock& lock);
  void wait_in_lane(Task& task, std::optional<std::int64_t> deadline_ns);
  [[nodiscard]] const Slot& slot_of(const Task& task) const noexcept;
  [[nodiscard]] bool lies_done(const Task& task) const noexcept;
  [[nodiscard]] bool on_supervisor() const noexcept;
  void place(Worker& worker, const TaskRef& task, std::span<const std::byte> arguments);
  void write(Slot& slot, const Task& task, std::span<const std::byte> arguments);
  [[nodiscard]] Worker* least_loaded();
  void dispatch(Aftermath& after);
  void rebalance(Aftermath& after);
  // Takes the last task of a lane back, if its worker has not taken it.
  TaskRef withdraw(Worker& worker);
  void drain(Worker& worker, Aftermath& after);
  void drain_all(Aftermath& after);
  void take_result(Worker& worker, Slot& slot, Task& task);
  void leave_lane(Worker& worker, const Task& task);
  void resolve(const TaskRef& task, Aftermath& after);
  void fail(const TaskRef& task, std::exception_ptr failure, Aftermath& after);
  void fail_all(const std::exception_ptr& failure, Aftermath& after);
  void to_pending(const TaskRef& task, bool first);
  void cancel_pending(Aftermath& after, const std::exception_ptr& why);
  // Copies them out of the slot; false if they are not what was put there.
  bool keep_arguments(const Slot& slot, Task& task);
  void note_wants();
  // A worker that ended all it had before more was wanted has rung for nobody.
  [[nodiscard]] bool result_lies_there();
  // Without the lock.
  void finish(Aftermath& after);
  void wake_sleepers(std::uint32_t lane);
  void wake_worker(Lane& lane) noexcept;
  void ring_supervisor() noexcept;

  // The supervisor (pool_supervisor.cc).
  void supervise();
  std::int64_t work(Aftermath& after);
  // These let go of the lock while a process starts.
  void start_missing(Lock& lock, Aftermath& after);
  void start_one(Worker& worker, Lock& lock, Aftermath& after);
  void start_failed(Worker& worker, const std::string& why, Aftermath& after);
  void reap(std::uint32_t lane, Aftermath& after);
  [[nodiscard]] WorkerEnd why_it_ended(Worker& worker);
  [[nodiscard]] bool oom_explains(const Worker& worker);
  void take_back(Worker& worker, const WorkerEnd& end, Aftermath& after);
  void blame(const TaskRef& task, const WorkerEnd& end, Aftermath& after);
  void note_idle_death(Worker& worker, const WorkerEnd& end, Aftermath& after);
  void restart_lane(Worker& worker);
  void break_pool(const std::string& why, Aftermath& after);
  void condemn_late(std::int64_t now, std::int64_t& next);
  void send_away(Worker& worker, std::int64_t now);
  void kill_overdue(std::int64_t now, std::int64_t& next);
  void wait_for_events(std::int64_t until_ns);

  const ProcessPoolOptions options_;
  std::shared_ptr<Arena> arena_;
  const Memory& memory_;
  Header& header_;
  std::uint32_t spins_;
  HoldPoint falls_asleep_;  // who waits in a lane has made up its mind
  Fd bell_;
  Fd epoll_;
  Starter starter_;
  const OomKills oom_ = OomKills::of_own_cgroup();
  std::uint64_t oom_seen_ = 0;  // kills that explain no further end

  mutable std::mutex mutex_;
  std::condition_variable room_;
  std::condition_variable settled_;  // shutdown waits for tasks, then for workers
  std::deque<Worker> workers_;
  unsigned wanted_ = 0;
  std::deque<TaskRef> pending_;
  std::size_t outstanding_ = 0;
  std::size_t timed_ = 0;  // outstanding tasks that have a timeout
  std::int64_t looks_at_ns_ = INT64_MAX;
  std::size_t submitters_waiting_ = 0;
  std::uint64_t next_number_ = 1;
  std::exception_ptr closed_;           // why nothing is taken any more
  bool stopping_ = false;               // workers are to leave
  bool broken_ = false;                 // none is started any more
  bool stopped_ = false;                // all have left
  std::deque<std::int64_t> deaths_ns_;  // idle ones, within the window
  std::vector<std::uint32_t> ended_;    // lanes whose process has ended
  PoolCounts counts_;
  std::thread supervisor_;
};

}  // namespace schedlab::procs::pool
