#include "procs/thread_pool.hh"

#include "affinity/limits.hh"
#include "affinity/pin.hh"
#include "lab/base/error.hh"
#include "lab/base/futex.hh"
#include "lab/base/keep.hh"
#include "procs/task_hand.hh"
#include "procs/thread.hh"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <system_error>

namespace schedlab::procs {

using detail::FutureCore;
using detail::TaskHand;
using detail::TaskLane;

namespace {

constexpr std::size_t batch = 32;  // tasks that leave a line at once

// Idle workers in one word: those asleep below, those that look for work above.
constexpr std::uint64_t asleep = 1;
constexpr std::uint64_t looking = std::uint64_t{1} << 32;
constexpr bool any_asleep(std::uint64_t idle) noexcept {
  return (idle & (looking - 1)) != 0;
}
constexpr bool any_looking(std::uint64_t idle) noexcept {
  return idle >= looking;
}

// Whoever makes the pool stands on one CPU and its only worker on the same: then nothing that one
// of them waits for happens while it spins.
Patience patience_of(const ThreadPoolOptions& options) {
  affinity::CpuSet cpus = affinity::thread_affinity();
  for (const unsigned cpu : options.cpus)
    cpus.add(cpu);
  return Patience::of(options.waiting, cpus.count() > 1);
}

}  // namespace

unsigned default_workers(const std::string& root) {
  unsigned workers = affinity::thread_affinity().count();
  if (const auto quota = affinity::cgroup_limits(root).quota_cpus)
    workers = std::min(workers, static_cast<unsigned>(std::ceil(*quota)));
  return std::max(workers, 1u);
}

struct ThreadPool::Worker {
  Worker(State& owner, unsigned number, Patience of_locks)
      : pool(&owner), index(number), own(of_locks) {}

  State* const pool;
  const unsigned index;
  TaskLane own;
  alignas(line_pair) std::atomic<std::uint32_t> bell{0};  // 0 while it may sleep
  bool marked = false;                                    // its bit among the marks is set
  std::uint32_t turns = 0;
  std::atomic<std::uint64_t> thefts{0};
  Thread thread;  // last: ends before the rest goes
};

namespace {
// Whose thread this is; null for threads of no pool.
constinit thread_local void* this_worker = nullptr;
}  // namespace

class ThreadPool::State {
public:
  explicit State(const ThreadPoolOptions& options);
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() = default;

  void enqueue(std::span<FutureCore* const> tasks);
  void help(Worker& me, FutureCore& task) noexcept;
  void shutdown(const ShutdownOptions& how);
  [[nodiscard]] unsigned workers() const noexcept { return static_cast<unsigned>(crew_.size()); }
  [[nodiscard]] ThreadPoolCounts counts() const;
  // Of idle workers, and of who waits for a future.
  [[nodiscard]] Patience patience() const noexcept { return patience_; }

private:
  void start(const ThreadPoolOptions& options);
  void serve(Worker& me) noexcept;
  FutureCore* next(Worker& me) noexcept;
  FutureCore* search(Worker& me) noexcept;
  FutureCore* steal(Worker& me) noexcept;
  bool give(FutureCore* task) noexcept;
  FutureCore* take_batch(Worker& me, TaskLane& from, std::size_t share) noexcept;
  void keep(Worker& me, std::span<FutureCore* const> tasks) noexcept;
  // Of the line of all, at once: half of what would be one's due, so that all end together.
  [[nodiscard]] std::size_t share() const noexcept { return 2 * crew_.size(); }
  void push_own(Worker& me, std::span<FutureCore* const> tasks);
  void mark(Worker& me) noexcept;
  [[nodiscard]] bool work_in_line() noexcept;
  void found_work() noexcept;
  void sleep(Worker& me) noexcept;
  void wake_for_work() noexcept;
  void wake_one() noexcept;
  void wake_all() noexcept;
  [[noreturn]] void throw_shut_down() const;
  void close_lines() noexcept;
  void cancel_pending() noexcept;

  const std::string name_;
  const Patience patience_;
  TaskLane shared_;  // from outside
  // A bit for each worker whose own line may have something in it, so that thieves need not look
  // at all lines of a large machine.
  std::vector<std::atomic<std::uint64_t>> marks_;
  alignas(line_pair) std::atomic<std::uint64_t> idle_{0};
  TaskHand hand_;
  alignas(line_pair) std::atomic<bool> closed_{false};  // what is in line is the last
  std::atomic<bool> cancels_{false};                    // and does not run
  // A lock of a line is held for some ten nanoseconds.
  [[nodiscard]] static Patience of_locks() {
    return Patience::of(Waiting::adaptive, spinning_helps());
  }
  mutable std::mutex sleep_mutex_;
  std::vector<Worker*> sleepers_;              // who slept last is woken first: its caches are warm
  ThreadPoolCounts counts_;                    // but for the thefts
  std::mutex end_mutex_;                       // joins once
  std::vector<std::unique_ptr<Worker>> crew_;  // last: its threads use the rest
};

ThreadPool::State::State(const ThreadPoolOptions& options)
    : name_(options.name), patience_(patience_of(options)), shared_(of_locks()) {
  const unsigned workers = options.workers ? options.workers : default_workers();
  marks_ = std::vector<std::atomic<std::uint64_t>>((workers + 63) / 64);
  sleepers_.reserve(workers);
  crew_.reserve(workers);
  for (unsigned i = 0; i < workers; ++i)
    crew_.push_back(std::make_unique<Worker>(*this, i, of_locks()));
  try {
    start(options);
  } catch (...) {
    shutdown({.wait = true, .cancel_pending = true});
    throw;
  }
}

void ThreadPool::State::start(const ThreadPoolOptions& options) {
  std::vector<Future<void>> begun;
  const SignalsBlocked quiet;
  for (auto& worker : crew_) {
    ThreadOptions how{.name = name_ + "/" + std::to_string(worker->index)};
    if (!options.cpus.empty())
      how.cpus = affinity::CpuSet{options.cpus[worker->index % options.cpus.size()]};
    auto ready = std::make_shared<Promise<void>>();
    begun.push_back(ready->future());
    try {
      worker->thread = Thread(how, [this, &me = *worker, &options, ready] {
        try {
          this_worker = &me;
          if (options.initialiser)
            options.initialiser(me.index);
        } catch (...) {
          ready->set_exception(std::current_exception());
          return;
        }
        ready->set_value();
        serve(me);
      });
    } catch (const std::system_error& refusal) {
      if (refusal.code() != std::errc::resource_unavailable_try_again)
        throw;
      throw Unsupported("thread " + std::to_string(worker->index + 1) + " of " +
                        std::to_string(crew_.size()) + " of " + name_ +
                        " was refused: " + refusal.code().message() + " (" + task_limits() +
                        "); ask for fewer workers, or raise the limit (ulimit -u)");
    }
  }
  for (auto& one : begun)
    one.wait();  // all, because an initialiser uses the options
  for (auto& one : begun)
    one.get();
}

void ThreadPool::State::enqueue(std::span<FutureCore* const> tasks) {
  auto* const me = static_cast<Worker*>(this_worker);
  if (me && me->pool == this)
    push_own(*me, tasks);
  else if (tasks.size() == 1 && give(tasks.front()))
    return;
  else if (!shared_.push(tasks))
    throw_shut_down();
  wake_for_work();
}

void ThreadPool::State::throw_shut_down() const {
  throw PoolShutDown("no work after shutdown() of " + name_);
}

// To a worker that looks for work, but not past others that stand in line.
bool ThreadPool::State::give(FutureCore* task) noexcept {
  return hand_.is_open() && shared_.looks_empty() && !closed_.load(std::memory_order_acquire) &&
         hand_.give(task);
}

void ThreadPool::State::push_own(Worker& me, std::span<FutureCore* const> tasks) {
  if (!me.own.push(tasks))
    throw_shut_down();
  mark(me);
}

// After the push: a thief that does not see the mark yet was there before the work was.
void ThreadPool::State::mark(Worker& me) noexcept {
  if (me.marked)
    return;
  me.marked = true;
  marks_[me.index / 64].fetch_or(std::uint64_t{1} << me.index % 64, std::memory_order_seq_cst);
}

void ThreadPool::State::serve(Worker& me) noexcept {
  while (FutureCore* const task = next(me)) {
    if (cancels_.load(std::memory_order_relaxed)) {
      task->cancel();
    } else if (task->start()) {
      task->run();
      task->finish_and_release();
      continue;
    }
    task->release();
  }
}

// The next task; null when the pool is shut down and no line has any.
FutureCore* ThreadPool::State::next(Worker& me) noexcept {
  // Work that begets work must not keep out for ever what comes from outside.
  if (++me.turns % 64 == 0 && !shared_.looks_empty() && me.own.has_room(batch)) {
    std::array<FutureCore*, batch> taken;
    keep(me, std::span(taken).first(shared_.take(taken, share())));
  }
  if (FutureCore* const task = me.own.pop())
    return task;
  if (FutureCore* const task = take_batch(me, shared_, share()))
    return task;
  return search(me);
}

// As one that looks, while it looks.
FutureCore* ThreadPool::State::search(Worker& me) noexcept {
  idle_.fetch_add(looking, std::memory_order_seq_cst);
  bool open = false;  // the hand, by this worker
  for (std::uint32_t asked = 0;; ++asked) {
    const bool last = closed_.load(std::memory_order_acquire);  // before looking
    const bool asks = asked < patience_.spins || patience_.spins == Patience::forever;
    FutureCore* task = open ? hand_.take() : nullptr;
    open = open && !task;
    // What was given came before what is in line, and after what was taken out of it.
    if (open && (last || !asks || !shared_.looks_empty())) {
      task = hand_.shut();
      open = false;
    }
    if (!task && !open)
      task = take_batch(me, shared_, share());
    if (!task)
      task = steal(me);
    if (open && task) {
      open = false;
      if (FutureCore* const given = hand_.shut())
        keep(me, std::span(&given, 1));
    }
    if (task) {
      found_work();
      return task;
    }
    if (last) {
      idle_.fetch_sub(looking, std::memory_order_seq_cst);
      return nullptr;
    }
    if (asks) {
      open = open || hand_.open();
      pause_cpu();
    } else {
      sleep(me);
      asked = 0;
    }
  }
}

FutureCore* ThreadPool::State::steal(Worker& me) noexcept {
  if (me.marked) {
    me.marked = false;
    marks_[me.index / 64].fetch_and(~(std::uint64_t{1} << me.index % 64),
                                    std::memory_order_seq_cst);
  }
  const std::size_t words = marks_.size();
  for (std::size_t i = 0; i < words; ++i) {
    const std::size_t word = (me.index / 64 + i) % words;
    for (auto marks = marks_[word].load(std::memory_order_seq_cst); marks != 0;
         marks &= marks - 1) {
      Worker& other = *crew_[word * 64 + static_cast<unsigned>(std::countr_zero(marks))];
      if (FutureCore* const task = take_batch(me, other.own, 2)) {
        me.thefts.store(me.thefts.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        return task;
      }
    }
  }
  return nullptr;
}

// Takes some from a line: the first to do now, the rest into one's own.
FutureCore* ThreadPool::State::take_batch(Worker& me, TaskLane& from, std::size_t share) noexcept {
  std::array<FutureCore*, batch> taken;
  const std::size_t count = from.take(taken, share);
  if (count == 0)
    return nullptr;
  keep(me, std::span(taken).subspan(1, count - 1));
  return taken.front();
}

void ThreadPool::State::keep(Worker& me, std::span<FutureCore* const> tasks) noexcept {
  if (tasks.empty())
    return;
  me.own.put(tasks);
  mark(me);
}

// By the locks of the lines: who pushes later sees what the caller told of itself before.
bool ThreadPool::State::work_in_line() noexcept {
  if (!shared_.empty())
    return true;
  for (std::size_t word = 0; word < marks_.size(); ++word)
    for (auto marks = marks_[word].load(std::memory_order_seq_cst); marks != 0; marks &= marks - 1)
      if (!crew_[word * 64 + static_cast<unsigned>(std::countr_zero(marks))]->own.empty())
        return true;
  return false;
}

// Who pushed while one worker was looking woke nobody: the last that looked sees to the rest.
void ThreadPool::State::found_work() noexcept {
  const auto before = idle_.fetch_sub(looking, std::memory_order_seq_cst);
  if (!any_looking(before - looking) && any_asleep(before) && work_in_line())
    wake_one();
}

// Returns as one that looks, as it came.
void ThreadPool::State::sleep(Worker& me) noexcept {
  {
    const std::lock_guard lock(sleep_mutex_);
    me.bell.store(0, std::memory_order_relaxed);
    sleepers_.push_back(&me);
    idle_.fetch_add(asleep - looking, std::memory_order_seq_cst);
    ++counts_.sleeps;
  }
  // Who pushed before it was counted among those asleep saw nobody to wake.
  if (work_in_line() || closed_.load(std::memory_order_seq_cst)) {
    const std::lock_guard lock(sleep_mutex_);
    if (const auto self = std::ranges::find(sleepers_, &me); self != sleepers_.end()) {
      sleepers_.erase(self);
      idle_.fetch_add(looking - asleep, std::memory_order_seq_cst);
      return;
    }
  }
  while (me.bell.load(std::memory_order_acquire) == 0)
    futex_wait(me.bell, 0, false);
}

void ThreadPool::State::wake_for_work() noexcept {
  const auto idle = idle_.load(std::memory_order_seq_cst);
  if (any_asleep(idle) && !any_looking(idle))
    wake_one();
}

void ThreadPool::State::wake_one() noexcept {
  Worker* woken = nullptr;
  {
    const std::lock_guard lock(sleep_mutex_);
    if (sleepers_.empty() || any_looking(idle_.load(std::memory_order_seq_cst)))
      return;
    woken = sleepers_.back();
    sleepers_.pop_back();
    idle_.fetch_add(looking - asleep, std::memory_order_seq_cst);
    ++counts_.wakes;
    woken->bell.store(1, std::memory_order_release);
  }
  futex_wake(woken->bell, 1, false);
}

void ThreadPool::State::wake_all() noexcept {
  const std::lock_guard lock(sleep_mutex_);
  for (Worker* const worker : sleepers_) {
    idle_.fetch_add(looking - asleep, std::memory_order_seq_cst);
    worker->bell.store(1, std::memory_order_release);
    futex_wake(worker->bell, 1, false);
  }
  sleepers_.clear();
}

// The waiting thread does it, and takes it out of its line where that is easy; else whoever comes
// to it finds it begun.
void ThreadPool::State::help(Worker& me, FutureCore& task) noexcept {
  if (!task.start())
    return;
  const bool out = me.own.take_back(&task);
  const Context of_its_own;
  const WithinContext apart(of_its_own);
  task.run();
  if (out)
    task.finish_and_release();
  else
    task.finish();
}

void ThreadPool::State::close_lines() noexcept {
  shared_.close();
  for (auto& worker : crew_)
    worker->own.close();
}

void ThreadPool::State::cancel_pending() noexcept {
  const auto cancel_all = [](TaskLane& line) {
    while (FutureCore* const task = line.pop())
      drop(std::span(&task, 1));
  };
  cancel_all(shared_);
  for (auto& worker : crew_)
    cancel_all(worker->own);
}

void ThreadPool::State::shutdown(const ShutdownOptions& how) {
  const auto* const me = static_cast<Worker*>(this_worker);
  if (how.wait && me && me->pool == this)
    throw std::system_error(EDEADLK, std::generic_category(),
                            "a worker of " + name_ + " waits for its own end");
  close_lines();
  if (how.cancel_pending) {
    cancels_.store(true, std::memory_order_relaxed);
    cancel_pending();
  }
  closed_.store(true, std::memory_order_seq_cst);
  wake_all();
  if (!how.wait)
    return;
  const std::lock_guard lock(end_mutex_);
  for (auto& worker : crew_)
    if (worker->thread.joinable())
      worker->thread.join();
}

ThreadPoolCounts ThreadPool::State::counts() const {
  const std::lock_guard lock(sleep_mutex_);
  ThreadPoolCounts counts = counts_;
  for (const auto& worker : crew_)
    counts.thefts += worker->thefts.load(std::memory_order_relaxed);
  return counts;
}

ThreadPool::ThreadPool(const ThreadPoolOptions& options)
    : state_(std::make_unique<State>(options)), patience_(state_->patience()) {}

ThreadPool::~ThreadPool() {
  state_->shutdown({});
}

void ThreadPool::enqueue(std::span<FutureCore* const> tasks) {
  try {
    state_->enqueue(tasks);
  } catch (...) {
    drop(tasks);
    throw;
  }
}

void ThreadPool::drop(std::span<FutureCore* const> tasks) noexcept {
  for (FutureCore* const task : tasks)
    if (task) {
      task->cancel();
      task->release();
    }
}

void ThreadPool::shutdown(ShutdownOptions how) {
  state_->shutdown(how);
}

unsigned ThreadPool::workers() const noexcept {
  return state_->workers();
}

ThreadPoolCounts ThreadPool::counts() const {
  return state_->counts();
}

void detail::help_in_pool(const void* pool, FutureCore& task) noexcept {
  auto* const me = static_cast<ThreadPool::Worker*>(this_worker);
  if (me && me->pool == pool)
    me->pool->help(*me, task);
}

}  // namespace schedlab::procs
