#include "lab/apparatus/idle_tasks.hh"

#include "lab/apparatus/task_memory.hh"
#include "lab/apparatus/team.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/futex.hh"
#include "lab/base/text.hh"
#include "procs/fork_server.hh"
#include "procs/process.hh"
#include "procs/thread.hh"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <climits>
#include <string>
#include <vector>

namespace schedlab::apparatus {

namespace {

constexpr std::uint64_t most_steps = 8;

// Idle tasks of one kind. What they hold beside this process is what add() and held() say.
class Sleepers {
public:
  Sleepers() = default;
  Sleepers(const Sleepers&) = delete;
  Sleepers& operator=(const Sleepers&) = delete;
  virtual ~Sleepers() = default;
  virtual void add() = 0;  // returns when it sleeps, or is about to
  virtual void held(MemoryUse& sum) const = 0;
  // Lets them end; how many did as they should.
  virtual std::uint64_t dismiss() = 0;
};

class SleepingThreads final : public Sleepers {
public:
  explicit SleepingThreads(std::uint64_t most) { threads_.reserve(most); }
  ~SleepingThreads() override { dismiss(); }

  void add() override {
    threads_.emplace_back(procs::ThreadOptions{.name = "idle", .cpus = {}, .sched = {}}, [this] {
      while (go_.load(std::memory_order_acquire) == 0)
        futex_wait(go_, 0, false);
      ended_.fetch_add(1, std::memory_order_relaxed);
    });
  }
  void held(MemoryUse&) const override {}
  std::uint64_t dismiss() override {
    go_.store(1, std::memory_order_release);
    futex_wake(go_, INT_MAX, false);
    for (auto& thread : threads_)
      thread.join();
    threads_.clear();
    return ended_.load(std::memory_order_relaxed);
  }

private:
  std::atomic<std::uint32_t> go_{0};
  std::atomic<std::uint64_t> ended_{0};
  std::vector<procs::Thread> threads_;
};

constexpr int go_fd = 3;

// Until the other end of its pipe is closed.
int sleep_until_let_go(std::span<const std::byte>) {
  char word;
  return ::read(go_fd, &word, 1) == 0 ? 0 : 1;
}

class SleepingProcesses final : public Sleepers {
public:
  SleepingProcesses(procs::StartMethod method, std::uint64_t most) : go_(make_pipe()) {
    processes_.reserve(most);
    options_.method = method;
    options_.name = "idle";
    options_.despite_threads = true;  // a sanitizer's; this process holds no lock but its own
    options_.fds = {{go_.read.get(), go_fd}};
    if (method == procs::StartMethod::forkserver) {
      server_.emplace();
      options_.server = &*server_;
    }
  }
  void add() override { processes_.push_back(procs::Process::start<sleep_until_let_go>(options_)); }
  void held(MemoryUse& sum) const override {
    for (const auto& process : processes_)
      if (const auto use = memory_use(process.pid()))
        sum += *use;
    // It maps what its children map, and its share falls as they come.
    if (server_)
      if (const auto use = memory_use(server_->pid()))
        sum += *use;
  }
  std::uint64_t dismiss() override {
    go_.write = Fd();
    std::uint64_t well = 0;
    for (auto& process : processes_)
      well += process.wait().success();
    processes_.clear();
    return well;
  }

private:
  Pipe go_;
  std::optional<procs::ForkServer> server_;
  procs::ProcessOptions options_;
  std::vector<procs::Process> processes_;
};

std::unique_ptr<Sleepers> make_sleepers(const std::string& kind, std::uint64_t most) {
  if (kind == "threads")
    return std::make_unique<SleepingThreads>(most);
  for (const auto method :
       {procs::StartMethod::fork, procs::StartMethod::exec, procs::StartMethod::forkserver})
    if (kind == to_text(method))
      return std::make_unique<SleepingProcesses>(method, most);
  throw std::invalid_argument("no such kind of idle task: " + kind);
}

class IdleTasks final : public harness::Subject {
public:
  IdleTasks(std::string_view kind, const IdleOptions& options) : kind_(kind), options_(options) {
    if (!memory_use(::getpid()))
      throw Unsupported("/proc/self/smaps_rollup tells nothing here; Linux 4.14 and later do");
    make_sleepers(kind_, 1);
  }

  harness::Sample sample(std::uint64_t operations) override {
    stand_on(options_.cpu, options_.usable);
    MemoryUse sum;
    witness_.begin();
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i)
      sum += hold();
    harness::Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = clock::ns(begin, clock::end());
    sample.proof = prove(witness_.end(), options_.cpu, sample.elapsed_ns, false);
    const double share = 1 / static_cast<double>(operations);
    sample.values[options_.resident_metric] = sum.resident * share;
    sample.values[options_.proportional_metric] = sum.proportional * share;
    sample.values[options_.own_metric] = sum.own * share;
    sample.values[options_.page_tables_metric] = sum.page_tables * share;
    sample.values[options_.threads_metric] = sum.threads * share;
    return sample;
  }

  std::vector<harness::Check> checks() override {
    return {{"that slept, and ended when they were let go", wanted_, ended_, wanted_ == ended_},
            {std::string(gone_check), harness::Value(before_), harness::Value(after_),
             before_ == after_}};
  }

private:
  // The slopes of what all hold over the number of tasks.
  MemoryUse hold() {
    ::malloc_trim(0);
    before_ = threads_now();
    std::vector<MemoryUse> held;
    std::vector<double> numbers;
    const std::uint64_t steps = std::min(most_steps, options_.most);
    {
      const auto sleepers = make_sleepers(kind_, options_.most);
      std::uint64_t now = 0;
      for (std::uint64_t step = 0; step <= steps; ++step) {
        for (; now < options_.most * step / steps; ++now)
          sleepers->add();
        MemoryUse sum = memory_use(::getpid()).value_or(MemoryUse{});
        sleepers->held(sum);
        held.push_back(sum);
        numbers.push_back(static_cast<double>(now));
      }
      ended_ += sleepers->dismiss();
      wanted_ += now;
    }
    after_ = threads_left(before_);
    return slopes(numbers, held);
  }

  static std::uint64_t threads_now() {
    return static_cast<std::uint64_t>(
        number_behind(read_text("/proc/self/status").value_or(""), "Threads:").value_or(0));
  }

  // The kernel lets a join() return before it takes the thread off its list.
  static std::uint64_t threads_left(std::uint64_t wanted) {
    constexpr int patience_ms = 1000;
    for (int ms = 0; ms < patience_ms && threads_now() > wanted; ++ms)
      clock::sleep_for(1'000'000);
    return threads_now();
  }

  static MemoryUse slopes(std::span<const double> numbers, std::span<const MemoryUse> held) {
    const auto of = [&](double MemoryUse::*member) {
      std::vector<Point> points;
      for (std::size_t i = 0; i < held.size(); ++i)
        points.push_back({numbers[i], held[i].*member});
      return slope(points);
    };
    return {{of(&MemoryUse::resident), of(&MemoryUse::proportional), of(&MemoryUse::own)},
            of(&MemoryUse::page_tables),
            of(&MemoryUse::threads)};
  }

  std::string kind_;
  IdleOptions options_;
  Witness witness_;
  std::uint64_t wanted_ = 0;
  std::uint64_t ended_ = 0;
  std::uint64_t before_ = 0;
  std::uint64_t after_ = 0;
};

}  // namespace

MemoryUse& MemoryUse::operator+=(const MemoryUse& other) noexcept {
  resident += other.resident;
  proportional += other.proportional;
  own += other.own;
  page_tables += other.page_tables;
  threads += other.threads;
  return *this;
}

std::optional<MemoryUse> memory_use(pid_t pid) {
  const auto rollup = memory_rollup(pid);
  const auto status = read_text("/proc/" + std::to_string(pid) + "/status");
  if (!rollup || !status)
    return std::nullopt;
  const auto number = [&](std::string_view key) {
    return static_cast<double>(number_behind(*status, key).value_or(0));
  };
  return MemoryUse{*rollup, 1024 * number("VmPTE:"), number("Threads:")};
}

std::unique_ptr<harness::Subject> make_idle_tasks(std::string_view kind,
                                                  const IdleOptions& options) {
  return std::make_unique<IdleTasks>(kind, options);
}

}  // namespace schedlab::apparatus
