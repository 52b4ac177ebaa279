#include "lab/apparatus/task_cost.hh"

#include "iouring/event.hh"
#include "iouring/frame_pool.hh"
#include "iouring/gather.hh"
#include "iouring/run_in_executor.hh"
#include "iouring/sleep.hh"
#include "iouring/task_group.hh"
#include "iouring/to_thread.hh"
#include "lab/apparatus/looped.hh"
#include "lab/base/error.hh"
#include "lab/base/keep.hh"

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;
using iouring::Task;

[[gnu::noinline]] Task<std::uint64_t> give(std::uint64_t value) {
  co_return value;
}

// Batches of tasks. What is clocked, and whose frames are counted, is what batch() puts between
// begin() and end().
class Batches : public Looped {
public:
  explicit Batches(const TaskCostOptions& options, bool busy = true)
      : Looped({.cpu = options.cpu,
                .usable = options.usable,
                .driver = options.driver,
                .blocking_threads = 1,
                .busy = busy}),
        options_(options) {}

  std::vector<Check> checks() override {
    return {{"tasks that did what they should", wanted_, done_, wanted_ == done_}};
  }

protected:
  virtual Task<> batch(std::uint64_t tasks) = 0;
  void begin() noexcept {
    bytes_ = iouring::frame_counts().bytes;
    begin_ = clock::begin();
  }
  void end() noexcept {
    elapsed_ns_ += clock::ns(begin_, clock::end());
    frame_bytes_ += iouring::frame_counts().bytes - bytes_;
  }
  void did(std::uint64_t tasks) noexcept { done_ += tasks; }
  [[nodiscard]] const TaskCostOptions& options() const noexcept { return options_; }

private:
  Task<> play(std::uint64_t operations, Sample& sample) final {
    elapsed_ns_ = 0;
    frame_bytes_ = 0;
    for (std::uint64_t i = 0; i < operations; ++i)
      co_await batch(options_.tasks);
    const auto tasks = operations * options_.tasks;
    wanted_ += tasks;
    sample.elapsed_ns = elapsed_ns_;
    sample.values[options_.time_metric] = elapsed_ns_ / static_cast<double>(tasks);
    if (frame_bytes_ > 0 && options_.frame_metric)
      sample.values[*options_.frame_metric] =
          static_cast<double>(frame_bytes_) / static_cast<double>(tasks);
  }

  TaskCostOptions options_;
  std::uint64_t begin_ = 0;
  std::uint64_t bytes_ = 0;
  double elapsed_ns_ = 0;
  std::uint64_t frame_bytes_ = 0;
  std::uint64_t wanted_ = 0;
  std::uint64_t done_ = 0;
};

class Create final : public Batches {
  using Batches::Batches;
  Task<> batch(std::uint64_t tasks) override {
    begin();
    for (std::uint64_t i = 0; i < tasks; ++i) {
      const Task<std::uint64_t> task = give(i);
      keep(task.handle().address());
    }
    end();
    did(tasks);
    co_return;
  }
};

class Await final : public Batches {
  using Batches::Batches;
  Task<> batch(std::uint64_t tasks) override {
    std::uint64_t sum = 0;
    begin();
    for (std::uint64_t i = 0; i < tasks; ++i)
      sum += co_await give(1);
    end();
    did(sum);
  }
};

class Resume final : public Batches {
  using Batches::Batches;
  Task<> batch(std::uint64_t tasks) override {
    const auto before = loop().counts().resumes;
    begin();
    for (std::uint64_t i = 0; i < tasks; ++i)
      co_await iouring::yield();
    end();
    did(loop().counts().resumes - before);
  }
};

class Start final : public Batches {
  using Batches::Batches;
  Task<> batch(std::uint64_t tasks) override {
    running_.reserve(tasks);
    std::uint64_t sum = 0;
    begin();
    for (std::uint64_t i = 0; i < tasks; ++i)
      running_.push_back(iouring::create_task(give(1)));
    for (auto& running : running_)
      sum += co_await running;
    running_.clear();
    end();
    did(sum);
  }
  std::vector<iouring::Running<std::uint64_t>> running_;
};

class Gather final : public Batches {
  using Batches::Batches;
  Task<> batch(std::uint64_t tasks) override {
    std::uint64_t sum = 0;
    begin();
    {
      std::vector<Task<std::uint64_t>> all;
      all.reserve(tasks);
      for (std::uint64_t i = 0; i < tasks; ++i)
        all.push_back(give(1));
      const auto values = co_await iouring::gather(std::move(all));
      for (const auto value : values)
        sum += value;
    }
    end();
    did(sum);
  }
};

class Group final : public Batches {
  using Batches::Batches;
  Task<> batch(std::uint64_t tasks) override {
    ended_ = 0;
    begin();
    auto body = [this, tasks](iouring::TaskGroup& group) { return start(group, tasks); };
    co_await iouring::TaskGroup::run(std::move(body));
    end();
    did(ended_);
  }
  Task<> start(iouring::TaskGroup& group, std::uint64_t tasks) {
    for (std::uint64_t i = 0; i < tasks; ++i)
      group.start(count());
    co_return;
  }
  Task<> count() {
    ++ended_;
    co_return;
  }
  std::uint64_t ended_ = 0;
};

class Cancel final : public Batches {
  using Batches::Batches;
  Task<> batch(std::uint64_t tasks) override {
    running_.reserve(tasks);
    for (std::uint64_t i = 0; i < tasks; ++i)
      running_.push_back(iouring::create_task(wait()));
    co_await iouring::yield();  // now all wait
    cancelled_ = 0;
    begin();
    for (auto& running : running_)
      running.cancel();
    for (auto& running : running_)
      co_await running;
    end();
    running_.clear();
    did(cancelled_);
  }
  Task<> wait() {
    try {
      co_await never_.wait();
    } catch (const iouring::Cancelled&) {
      ++cancelled_;
    }
  }
  iouring::Event never_;
  std::uint64_t cancelled_ = 0;
  std::vector<iouring::Running<>> running_;
};

class ToThread final : public Batches {
public:
  explicit ToThread(const TaskCostOptions& options)
      : Batches(options, false), own_thread_(::syscall(SYS_gettid)) {}

private:
  Task<> batch(std::uint64_t tasks) override {
    if (!placed_)
      co_await place();
    std::uint64_t elsewhere = 0;
    begin();
    for (std::uint64_t i = 0; i < tasks; ++i) {
      auto call = iouring::to_thread([] { return ::syscall(SYS_gettid); });
      const long thread = co_await call;
      elsewhere += thread != own_thread_;
    }
    end();
    did(elsewhere);
  }
  // There is one blocking thread, so that what the first call does to it holds for the next.
  Task<> place() {
    const unsigned cpu = options().thread_on.value_or(options().cpu);
    auto call = iouring::to_thread([this, cpu] { stand_on(cpu, options().usable); });
    co_await call;
    placed_ = true;
  }
  long own_thread_;
  bool placed_ = false;
};

// An executor that does work at once, in the caller's thread.
class AtOnce {
public:
  template <typename T>
  class Future {
  public:
    explicit Future(T value) : value_(std::move(value)) {}
    [[nodiscard]] bool ready() const noexcept { return true; }
    template <typename F>
    void on_ready(F callback) noexcept {
      callback();
    }
    T get() { return std::move(value_); }

  private:
    T value_;
  };
  template <typename F>
  auto submit(F work) {
    return Future<std::invoke_result_t<F&>>(work());
  }
};
static_assert(Executor<AtOnce>);

class RunIn final : public Batches {
  using Batches::Batches;
  Task<> batch(std::uint64_t tasks) override {
    AtOnce executor;
    std::uint64_t sum = 0;
    begin();
    for (std::uint64_t i = 0; i < tasks; ++i) {
      auto call = iouring::run_in(executor, [] { return std::uint64_t{1}; });
      sum += co_await call;
    }
    end();
    did(sum);
  }
};

void* end_at_once(void*) {
  return nullptr;
}

void one_thread() {
  pthread_t thread;
  if (const int error = ::pthread_create(&thread, nullptr, &end_at_once, nullptr); error != 0)
    throw_errno(error, "pthread_create");
  ::pthread_join(thread, nullptr);
}

void one_process() {
  const pid_t child = check(::fork(), "fork");
  if (child == 0)
    ::_exit(0);
  int status = 0;
  check(::waitpid(child, &status, 0), "waitpid");
}

// Threads or processes that end at once, one after the other, on the caller's CPU.
class Kernel final : public harness::Subject {
public:
  Kernel(void (*one)(), const TaskCostOptions& options) : one_(one), options_(options) {}

  Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    witness_.begin();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i)
      one_();
    const auto end = clock::end();
    const TaskRecord record = witness_.end();
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, end);
    // Not busy: the CPU time of those that ended is not the caller's.
    sample.proof = prove(record, options_.cpu, sample.elapsed_ns, false);
    sample.values[options_.time_metric] = sample.elapsed_ns / static_cast<double>(operations);
    return sample;
  }

private:
  void (*one_)();
  TaskCostOptions options_;
  Witness witness_;
};

}  // namespace

const std::vector<std::string_view>& task_costs() {
  static const std::vector<std::string_view> names = {"create", "await",  "resume", "start",
                                                      "gather", "group",  "cancel", "to-thread",
                                                      "run-in", "thread", "process"};
  return names;
}

bool is_of_tasks(std::string_view what) noexcept {
  return what != "thread" && what != "process";
}

std::unique_ptr<harness::Subject> make_task_cost(std::string_view what,
                                                 const TaskCostOptions& options) {
  if (what == "create")
    return std::make_unique<Create>(options);
  if (what == "await")
    return std::make_unique<Await>(options);
  if (what == "resume")
    return std::make_unique<Resume>(options);
  if (what == "start")
    return std::make_unique<Start>(options);
  if (what == "gather")
    return std::make_unique<Gather>(options);
  if (what == "group")
    return std::make_unique<Group>(options);
  if (what == "cancel")
    return std::make_unique<Cancel>(options);
  if (what == "to-thread")
    return std::make_unique<ToThread>(options);
  if (what == "run-in")
    return std::make_unique<RunIn>(options);
  if (what == "thread")
    return std::make_unique<Kernel>(&one_thread, options);
  if (what == "process")
    return std::make_unique<Kernel>(&one_process, options);
  throw std::logic_error("no such cost: " + std::string(what));
}

}  // namespace schedlab::apparatus
