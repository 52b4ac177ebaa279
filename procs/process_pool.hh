#pragma once
// Workers in processes of their own. A worker that dies, of whatever, costs the task that it was
// running one attempt, and nobody else anything; it is replaced.
//
//   int main(int argc, char** argv) {
//     procs::enter(argc, argv);
//     procs::ProcessPool pool({.workers = 4});
//     auto area = pool.submit<triangle_area>(3.0, 4.0, 5.0);
//     use(area.get());
//   }
//
// What may be sent: see codec.hh; large memory: bytes.hh; exceptions: remote_error.hh; policies and
// errors: pool_options.hh. The task is named when it is compiled and runs in a process that knows
// the same program, not this process's state.
//
// A future: get() throws what the task threw, or WorkerDied, TaskTimeout (its last attempt began
// and did not end), DecodeError (the result is not what its type says), PoolShutDown, PoolBroken,
// FutureCancelled. Arguments that cannot be encoded fail the future, not submit.
//
// Thread rule: any thread may use the pool and different futures. Callbacks run on the thread that
// ends the task, often the pool's supervisor.

#include "procs/bytes.hh"
#include "procs/codec.hh"
#include "procs/future.hh"
#include "procs/pool_core.hh"
#include "procs/pool_options.hh"
#include "procs/pool_worker.hh"

#include <chrono>
#include <concepts>
#include <cstddef>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace schedlab::procs {

namespace pool {

// Gives the parent's Bytes their places and takes their ownership along.
class TaskHost final : public BytesHost {
public:
  TaskHost(Core& core, Task& task) : core_(core), task_(task) {}
  Bytes make(std::size_t size) override;
  std::uint64_t send(const Bytes& bytes) override;
  Bytes receive(std::uint64_t at, std::uint64_t size) override;

private:
  Core& core_;
  Task& task_;
};

// Submits what `write` encodes; what it throws becomes the task's failure.
template <typename Write>
TaskRef submit(Core& core, std::uint64_t entry, const TaskOptions& options, Write write);
TaskRef submit_encoded(Core& core, const TaskRef& task, const Encoder& encoder);
void fail_at_once(Task& task) noexcept;

// Rethrows what the task left instead of a value, once.
void throw_failure(Task& task);

// What F is called with: of a function its parameters, of another callable what was given.
template <typename F, typename... Given>
struct Signature {
  using Arguments = std::tuple<std::decay_t<Given>...>;
};
template <typename R, typename... Parameters, typename... Given>
struct Signature<R (*)(Parameters...), Given...> {
  using Arguments = std::tuple<std::decay_t<Parameters>...>;
};
template <typename R, typename... Parameters, typename... Given>
struct Signature<R (*)(Parameters...) noexcept, Given...> {
  using Arguments = std::tuple<std::decay_t<Parameters>...>;
};

template <auto F, typename Arguments>
using ResultOf = decltype(std::apply(F, std::declval<Arguments>()));

template <auto F, typename Arguments>
void function_entry(Call& call) {
  auto arguments = decode<Arguments>(call.arguments);
  call_and_encode<ResultOf<F, Arguments>>(
      call, [&]() -> decltype(auto) { return std::apply(F, std::move(arguments)); });
}

template <typename Work>
void object_entry(Call& call) {
  auto work = decode<Work>(call.arguments);
  call_and_encode<std::invoke_result_t<Work&>>(call, work);
}

}  // namespace pool

// The result of a task in a process pool. Movable; the last value is taken by get().
template <typename T>
class [[nodiscard]] ProcessFuture {
public:
  using Value = T;
  ProcessFuture() = default;
  ProcessFuture(std::shared_ptr<pool::Core> core, pool::TaskRef task) noexcept
      : core_(std::move(core)), task_(std::move(task)) {}

  [[nodiscard]] bool valid() const noexcept { return task_ != nullptr; }
  // Done, failed or cancelled: get does not wait.
  [[nodiscard]] bool ready() const noexcept { return core_->ready(*task_); }
  [[nodiscard]] FutureState state() const noexcept {
    const bool running = core_->running(*task_);  // first: not any more is not not yet
    if (core_->ready(*task_))
      return task_->cancelled.load() ? FutureState::cancelled : FutureState::done;
    return running ? FutureState::running : FutureState::pending;
  }
  // True if no worker had taken it: then it will never run.
  bool cancel() { return core_->cancel(task_); }

  // Waits in the way of the pool's options.
  void wait() { core_->wait(*task_, std::nullopt); }
  // False if it took longer.
  [[nodiscard]] bool wait_for(std::chrono::nanoseconds most) {
    return core_->wait(*task_, detail::deadline_after(most));
  }
  // Waits, then gives the value, once.
  T get() {
    wait();
    const pool::TaskRef task = std::move(task_);
    pool::throw_failure(*task);
    pool::TaskHost host(*core_, *task);
    const pool::HostScope scope(host);
    Decoder decoder(task->result);
    if constexpr (std::is_void_v<T>) {
      decoder.finish();
    } else {
      T value = decode<T>(decoder);
      decoder.finish();
      return value;
    }
  }
  // Workers that died in it so far.
  [[nodiscard]] unsigned failed_attempts() const noexcept { return task_->attempts; }

  // Runs `callback()` once: on the thread that ends the task, or at once. It neither blocks nor
  // throws.
  template <typename F>
  void on_ready(F callback) noexcept {
    struct Kept final : pool::Callback {
      explicit Kept(F&& function) : call(std::move(function)) {}
      void run() noexcept override { call(); }
      F call;
    };
    core_->on_ready(task_, std::make_unique<Kept>(std::move(callback)));
  }

private:
  std::shared_ptr<pool::Core> core_;
  pool::TaskRef task_;
};

// A function and its arguments as one piece of work, for run_in and for lists of work.
template <auto F, typename... Arguments>
class BoundTask {
public:
  explicit BoundTask(std::tuple<Arguments...> arguments) : arguments_(std::move(arguments)) {}
  decltype(auto) operator()() { return std::apply(F, std::move(arguments_)); }
  void encode(Encoder& encoder) const { procs::encode(encoder, arguments_); }
  static BoundTask decode(Decoder& decoder) {
    return BoundTask(procs::decode<std::tuple<Arguments...>>(decoder));
  }

private:
  std::tuple<Arguments...> arguments_;
};

template <auto F, typename... Given>
auto bind_task(Given&&... given) {
  using Arguments = typename pool::Signature<decltype(F), Given...>::Arguments;
  return [&]<typename... Parts>(std::type_identity<std::tuple<Parts...>>) {
    return BoundTask<F, Parts...>(Arguments(std::forward<Given>(given)...));
  }(std::type_identity<Arguments>());
}

class ProcessPool {
public:
  // Throws PoolError, Unsupported or std::system_error if not one worker can be started.
  explicit ProcessPool(ProcessPoolOptions options = {});
  ProcessPool(const ProcessPool&) = delete;
  ProcessPool& operator=(const ProcessPool&) = delete;
  ~ProcessPool();

  // Runs F(arguments...) in a worker. F is a function or a lambda without captures. Throws
  // QueueFull, PoolShutDown, PoolBroken.
  template <auto F, typename... Given>
  auto submit(Given&&... given) {
    return submit_with<F>(TaskOptions(), std::forward<Given>(given)...);
  }
  template <auto F, typename... Given>
  auto submit_with(const TaskOptions& options, Given&&... given) {
    using Arguments = typename pool::Signature<decltype(F), Given...>::Arguments;
    using Result = std::remove_cv_t<pool::ResultOf<F, Arguments>>;
    static_assert(!std::is_reference_v<Result>,
                  "a reference means nothing in another process: return the value");
    if constexpr (!std::is_void_v<Result>)
      detail::require_encodable<Result>();
    const auto write = [&](Encoder& encoder) {
      if constexpr (std::is_same_v<Arguments, std::tuple<std::decay_t<Given>...>>)
        (encode(encoder, given), ...);
      else
        encode(encoder, Arguments(std::forward<Given>(given)...));
    };
    constexpr auto entry = &pool::function_entry<F, Arguments>;
    return ProcessFuture<Result>(core_,
                                 pool::submit(*core_, pool::number_of<entry>(), options, write));
  }
  // Runs work() in a worker: a BoundTask, a lambda without captures, or another callable that can
  // be encoded. Makes the pool an Executor.
  template <typename Work>
  requires std::invocable<Work&>
  auto submit(Work work, const TaskOptions& options = {}) {
    using Result = std::remove_cv_t<std::invoke_result_t<Work&>>;
    static_assert(!std::is_reference_v<Result>,
                  "a reference means nothing in another process: return the value");
    detail::require_encodable<Work>();
    constexpr auto entry = &pool::object_entry<Work>;
    return ProcessFuture<Result>(core_,
                                 pool::submit(*core_, pool::number_of<entry>(), options,
                                              [&](Encoder& encoder) { encode(encoder, work); }));
  }
  // F of each element, results in order; all are submitted before the first is waited for. Throws
  // what the first that failed threw, once none is pending any more.
  template <auto F, typename Range>
  auto map(const Range& range, const TaskOptions& options = {});

  // Memory for arguments that is not copied. Throws std::bad_alloc if there is no room (see
  // ProcessPoolOptions::arena_bytes).
  Bytes bytes(std::size_t size);

  // Takes no more work. Waits until what was taken is done, `most` at longest, then ends the
  // workers; what is not done by then fails with PoolShutDown. With `cancel` what no worker has
  // taken is cancelled at once. The destructor does this with ProcessPoolOptions::drain.
  void shutdown(std::optional<std::chrono::milliseconds> most = std::nullopt, bool cancel = false);
  // Workers that are too many leave after their task. Throws std::invalid_argument beyond
  // ProcessPoolOptions::most_workers.
  void resize(unsigned workers);

  [[nodiscard]] unsigned workers() const { return core_->workers(); }
  // Of the workers that run.
  [[nodiscard]] std::vector<pid_t> pids() const { return core_->pids(); }
  [[nodiscard]] PoolCounts counts() const { return core_->counts(); }

  // Kills what serves as this worker now, and gives its number in the kernel; -1 if it is just
  // being replaced. Hits no other process, as a kill by a number that was read earlier might.
  pid_t kill_worker(unsigned worker) { return core_->kill_worker(worker); }
  // For tests: who dies at which step. The parent's steps take the whole program.
  [[nodiscard]] FaultPoint& worker_fault(unsigned worker) const;
  [[nodiscard]] FaultPoint& parent_fault() const;
  // Likewise: who waits for a task stands still when it has looked and is about to sleep.
  [[nodiscard]] HoldPoint& waiter_hold() const noexcept { return core_->falls_asleep(); }

private:
  std::shared_ptr<pool::Core> core_;  // futures keep it too
};

template <typename Write>
pool::TaskRef pool::submit(Core& core, std::uint64_t entry, const TaskOptions& options,
                           Write write) {
  auto task = std::make_shared<Task>();
  task->entry = entry;
  task->options = options;
  std::byte first[512];
  Encoder encoder(first);
  try {
    TaskHost host(core, *task);
    const HostScope scope(host);
    write(encoder);
  } catch (...) {
    fail_at_once(*task);
    return task;
  }
  return submit_encoded(core, task, encoder);
}

template <auto F, typename Range>
auto ProcessPool::map(const Range& range, const TaskOptions& options) {
  using Future = decltype(submit_with<F>(options, *std::begin(range)));
  std::vector<Future> futures;
  for (const auto& element : range)
    futures.push_back(submit_with<F>(options, element));
  std::exception_ptr failure;
  const auto guarded = [&](auto take) {
    try {
      take();
    } catch (...) {
      if (!failure)
        for (auto& other : futures)
          if (other.valid())
            other.cancel();
      failure = failure ? failure : std::current_exception();
    }
  };
  using Value = typename Future::Value;
  if constexpr (std::is_void_v<Value>) {
    for (auto& future : futures)
      guarded([&] { future.get(); });
    if (failure)
      std::rethrow_exception(failure);
  } else {
    std::vector<Value> values;
    for (auto& future : futures)
      guarded([&] { values.push_back(future.get()); });
    if (failure)
      std::rethrow_exception(failure);
    return values;
  }
}

}  // namespace schedlab::procs
