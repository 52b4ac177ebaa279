#pragma once
// Threads that do what is submitted to them, with the semantics of Python's ThreadPoolExecutor.
//
// Work from outside stands in one line, first in, first out, from which a worker takes several at a
// time; work that a task submits stands in its worker's own line; who has none steals. A worker
// that finds nothing asks for a while, as the way to wait says, then sleeps until there is work:
// nobody is woken while another one is looking, and one of those that look is handed its task past
// the line.
//
// A task may wait for tasks of its own pool: Future::wait does one that nobody has begun in the
// waiting thread, so that a pool of one does not stand still. Waiting by other means (a condition,
// a channel) for a task that is still in line is the deadlock that it always was.
//
// A task sees the context (lab/base/context.hh) of whoever submitted it, as it was then.

#include "lab/base/context.hh"
#include "procs/futures.hh"
#include "procs/pool_error.hh"
#include "procs/task_lane.hh"
#include "procs/waiting.hh"

#include <concepts>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace schedlab::procs {

namespace detail {
// Does a pending task of the pool at once if this thread is one of its workers.
void help_in_pool(const void* pool, FutureCore& task) noexcept;
}  // namespace detail

// CPUs of which this process may use a share: of its affinity, and of its cgroup's quota, rounded
// up; at least 1. `root` stands before /proc and /sys, for tests.
unsigned default_workers(const std::string& root = "");

struct ThreadPoolOptions {
  std::string name = "pool";        // worker 3 is "pool/3", as ps -L shows it
  unsigned workers = 0;             // 0: default_workers()
  std::vector<unsigned> cpus = {};  // worker i stands on the i-th of them, in turns; none: anywhere
  Waiting waiting = Waiting::adaptive;  // of idle workers, and of who waits for a future
  // Runs first in each worker; what it throws, the constructor throws.
  std::function<void(unsigned worker)> initialiser = {};
};

struct ShutdownOptions {
  bool wait = true;             // until all has run
  bool cancel_pending = false;  // what nobody has begun
};

// How often, since it began.
struct ThreadPoolCounts {
  std::uint64_t sleeps = 0;  // a worker went to sleep
  std::uint64_t wakes = 0;   // one was woken for work
  std::uint64_t thefts = 0;  // one took work from another's line
};

// All members from any thread, but the destructor.
class ThreadPool {
public:
  // Starts all workers. Throws Unsupported if a thread is refused (and says by what), what placing
  // them throws, what the initialiser throws; then no thread is left.
  explicit ThreadPool(const ThreadPoolOptions& options = {});
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  // Waits until all that was submitted has run.
  ~ThreadPool();

  // Does `work()` in a worker. Dropping the future does not stop it. Throws PoolShutDown,
  // std::bad_alloc, and what moving the work throws.
  template <typename F>
  requires std::invocable<F&> Future<std::invoke_result_t<F&>> submit(F work) {
    auto future = make_task(std::move(work));
    detail::FutureCore* const task = &future.core();
    enqueue(std::span(&task, 1));
    return future;
  }

  // Submits all at once: the line is locked once, and as many workers are woken as are of use. All
  // or none. Throws as submit().
  template <std::ranges::input_range Works>
  auto submit_all(Works&& works) {
    using F = std::ranges::range_value_t<Works>;
    std::vector<Future<std::invoke_result_t<F&>>> futures;
    std::vector<detail::FutureCore*> tasks;
    if constexpr (std::ranges::sized_range<Works>) {
      futures.reserve(std::ranges::size(works));
      tasks.reserve(std::ranges::size(works));
    }
    try {
      for (auto&& work : works) {
        tasks.push_back(nullptr);
        futures.emplace_back();  // while there is no task yet that would be lost
        futures.back() = make_task(F(std::forward<decltype(work)>(work)));
        tasks.back() = &futures.back().core();
      }
    } catch (...) {
      drop(tasks);
      throw;
    }
    enqueue(tasks);
    return futures;
  }

  // f(item) for each, the results in the order of the items. At most `window` are submitted and not
  // yet given (0: all at once). If one throws, the others are cancelled, those under way are waited
  // for, and the first exception in order is thrown.
  template <std::ranges::input_range Items, typename F>
  auto map(Items&& items, F f, std::size_t window = 0) {
    using T = std::invoke_result_t<F&, std::ranges::range_reference_t<Items>>;
    std::vector<std::remove_cvref_t<T>> results;
    map_each(
        std::forward<Items>(items), std::move(f),
        [&](T result) { results.push_back(std::move(result)); }, window);
    return results;
  }
  // The same, and each result goes to `sink(result)` in the calling thread.
  template <std::ranges::input_range Items, typename F, typename Sink>
  void map_each(Items&& items, F f, Sink sink, std::size_t window = 0);

  // No more work comes in: submit() throws. What was submitted still runs, or is cancelled. Again
  // and from several threads at once: all wait. Throws std::system_error (EDEADLK) if a worker of
  // the pool is to wait for its own end.
  void shutdown(ShutdownOptions how = {});

  [[nodiscard]] unsigned workers() const noexcept;
  [[nodiscard]] ThreadPoolCounts counts() const;

private:
  struct Worker;
  class State;
  friend void detail::help_in_pool(const void* pool, detail::FutureCore& task) noexcept;

  template <typename F>
  auto make_task(F work);
  // Takes the tasks' second references over.
  void enqueue(std::span<detail::FutureCore* const> tasks);
  static void drop(std::span<detail::FutureCore* const> tasks) noexcept;

  std::unique_ptr<State> state_;
  Patience patience_;  // of who waits for a future
};

namespace detail {

// A task of a pool: its work, and its outcome.
template <typename T, typename F>
class PoolTask final : public FutureValue<T> {
public:
  PoolTask(const void* pool, Patience patience, F&& work)
      : FutureValue<T>(patience, 2), pool_(pool), work_(std::move(work)) {}
  ~PoolTask() override = default;

  void run() noexcept override {
    try {
      if constexpr (std::is_void_v<T>) {
        (*work_)();
        this->put_value();
      } else {
        this->put_value((*work_)());
      }
    } catch (...) {
      this->put_error(std::current_exception());
    }
    work_.reset();  // what it holds is free before its end is seen
  }
  void help() noexcept override { help_in_pool(pool_, *this); }

private:
  void dispose() noexcept override { dispose_core(this); }

  const void* const pool_;
  std::optional<F> work_;
};

}  // namespace detail

template <typename F>
auto ThreadPool::make_task(F work) {
  using T = std::invoke_result_t<F&>;
  if (auto context = Context::current(); !context.empty()) [[unlikely]]
    return Future<T>(detail::make_core<detail::PoolTask<T, InContext<F>>>(
        state_.get(), patience_, InContext<F>{std::move(context), std::move(work)}));
  return Future<T>(
      detail::make_core<detail::PoolTask<T, F>>(state_.get(), patience_, std::move(work)));
}

template <std::ranges::input_range Items, typename F, typename Sink>
void ThreadPool::map_each(Items&& items, F f, Sink sink, std::size_t window) {
  using Item = std::ranges::range_reference_t<Items>;
  // What is in the list stays where it is; what is only passing by is kept.
  using Kept = std::conditional_t<std::is_lvalue_reference_v<Item>, std::remove_reference_t<Item>*,
                                  std::remove_cvref_t<Item>>;
  const auto call = [&f](Kept& item) -> decltype(auto) {
    if constexpr (std::is_lvalue_reference_v<Item>)
      return f(*item);
    else
      return f(std::move(item));
  };
  const auto keep_item = [](Item&& item) -> Kept {
    if constexpr (std::is_lvalue_reference_v<Item>)
      return &item;
    else
      return Kept(std::forward<Item>(item));
  };
  auto next = std::ranges::begin(items);
  const auto end = std::ranges::end(items);
  const auto submit_next = [&] {
    auto future = submit([&call, item = keep_item(*next)]() mutable { return call(item); });
    ++next;
    return future;
  };
  std::vector<decltype(submit_next())> line;  // by number, modulo its size
  std::size_t given = 0;
  const auto give_up = [&] {
    for (auto& future : line)
      if (future.valid())
        future.cancel();
    for (auto& future : line)
      if (future.valid())
        future.wait();
  };
  try {
    for (; next != end && (window == 0 || line.size() < window);)
      line.push_back(submit_next());
    for (bool more = !line.empty(); more; ++given) {
      auto& oldest = line[given % line.size()];
      if constexpr (std::is_void_v<typename std::remove_reference_t<decltype(oldest)>::Value>)
        oldest.get();
      else
        sink(oldest.get());
      oldest = {};
      if (next != end)
        oldest = submit_next();
      more = line[(given + 1) % line.size()].valid();
    }
  } catch (...) {
    give_up();
    throw;
  }
}

}  // namespace schedlab::procs
