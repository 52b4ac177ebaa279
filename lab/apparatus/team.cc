#include "lab/apparatus/team.hh"

#include "affinity/pin.hh"
#include "lab/base/cache_line.hh"
#include "lab/base/error.hh"
#include "lab/base/futex.hh"

#include <climits>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace schedlab::apparatus {

// Shared by the caller and the members.
struct Team::Desk {
  // Raised by the caller to start a role; the members sleep on it.
  alignas(line_pair) std::atomic<std::uint32_t> call{0};
  std::uint64_t rounds = 0;  // written before `call` is raised
  bool leave = false;        // likewise
  // Members that have played the role (at first: that are in place). The caller sleeps on it.
  alignas(line_pair) std::atomic<std::uint32_t> done{0};
  std::atomic<bool> misplaced{false};
  char reason[256] = {};

  // One record for each member lies behind the desk.
  TaskRecord* records() noexcept { return reinterpret_cast<TaskRecord*>(this + 1); }
};

namespace {

// A member process that dies in the middle of a role would leave its partner asleep for ever.
// While a team of processes exists, such a death ends this process.
std::atomic<int> teams_of_processes{0};

extern "C" void member_died(int, siginfo_t* info, void*) {
  const bool dismissed = info->si_code == CLD_EXITED && info->si_status == 0;
  if (teams_of_processes.load() == 0 || dismissed)
    return;
  constexpr std::string_view message = "a partner process of a measurement was killed\n";
  static_cast<void>(!::write(STDERR_FILENO, message.data(), message.size()));
  ::_exit(1);
}

void watch_for_deaths() {
  struct sigaction action {};
  action.sa_sigaction = member_died;
  action.sa_flags = SA_SIGINFO | SA_NOCLDSTOP | SA_RESTART;
  ::sigaction(SIGCHLD, &action, nullptr);
}

}  // namespace

std::string_view to_text(TaskKind kind) noexcept {
  return kind == TaskKind::threads ? "threads" : "processes";
}

TaskKind task_kind(std::string_view word) {
  return word == "threads" ? TaskKind::threads : TaskKind::processes;
}

void stand_on(std::optional<unsigned> cpu, const affinity::CpuSet& usable) {
  const affinity::CpuSet wanted = cpu ? affinity::CpuSet{*cpu} : usable;
  if (affinity::thread_affinity() == wanted)
    return;
  try {
    affinity::bind_thread(0, wanted);
  } catch (const Unsupported&) {
    // Bound, but read back differently: somebody else moves us about. The sample's proof tells.
  }
}

TaskScope::TaskScope(const TaskOptions& options) {
  if (options.slack_ns > 0)
    slack_.emplace(options.slack_ns);
  if (options.policy == procs::SchedPolicy::other)
    return;
  const procs::SchedAttr before = procs::sched_attr();
  procs::SchedAttr wanted{.policy = options.policy};
  if (options.policy == procs::SchedPolicy::fifo)
    wanted.priority = 1;
  else
    wanted.nice = before.nice;
  procs::set_sched_attr(wanted);
  before_ = before;
}

TaskScope::~TaskScope() {
  if (!before_)
    return;
  try {
    procs::set_sched_attr(*before_);
  } catch (const std::exception&) {
    // The way back from batch and fifo is open to everybody; the process is about to end anyway.
  }
}

Team::Team(const TaskOptions& options, std::vector<std::optional<unsigned>> places,
           const affinity::CpuSet& usable, Role role)
    : options_(options), places_(std::move(places)), role_(std::move(role)),
      shared_(Mapping::shared_memory(sizeof(Desk) + places_.size() * sizeof(TaskRecord))) {
  new (shared_.data()) Desk;
  if (options.kind == TaskKind::processes) {
    watch_for_deaths();
    ++teams_of_processes;
  }
  try {
    for (unsigned i = 0; i < places_.size(); ++i)
      add(i, usable);
    finish();
    if (desk().misplaced)
      throw Unsupported(desk().reason);
  } catch (...) {
    dismiss();
    throw;
  }
}

Team::~Team() {
  dismiss();
}

void Team::add(unsigned index, const affinity::CpuSet& usable) {
  if (options_.kind == TaskKind::threads) {
    threads_.emplace_back(procs::ThreadOptions{.name = "member", .cpus = {}, .sched = {}},
                          [this, index, usable] { member(index, usable); });
    return;
  }
  processes_.push_back(Child::fork([this, index, &usable] {
    std::signal(SIGCHLD, SIG_DFL);
    member(index, usable);
    return 0;
  }));
}

void Team::dismiss() {
  desk().leave = true;
  desk().call.fetch_add(1, std::memory_order_release);
  futex_wake(desk().call, INT_MAX, true);
  for (auto& thread : threads_)
    thread.join();
  for (auto& process : processes_)
    process.wait();
  if (options_.kind == TaskKind::processes)
    --teams_of_processes;
}

void Team::member(unsigned index, const affinity::CpuSet& usable) {
  Desk& desk = this->desk();
  std::optional<TaskScope> scope;
  try {
    stand_on(places_[index], usable);
    scope.emplace(options_);
  } catch (const std::exception& failure) {
    if (!desk.misplaced.exchange(true))  // the first one tells
      std::snprintf(desk.reason, sizeof desk.reason, "%s", failure.what());
  }
  Witness witness;
  std::uint32_t heard = 0;
  for (;;) {
    // Pairs with the acquire load in finish().
    desk.done.fetch_add(1, std::memory_order_release);
    futex_wake(desk.done, 1, true);
    while (desk.call.load(std::memory_order_acquire) == heard)
      futex_wait(desk.call, heard, true);
    ++heard;
    if (desk.leave)
      return;
    witness.begin();
    role_(index, desk.rounds);
    desk.records()[index] = witness.end();
  }
}

void Team::start(std::uint64_t rounds) {
  Desk& desk = this->desk();
  desk.done.store(0, std::memory_order_relaxed);
  desk.rounds = rounds;
  desk.call.fetch_add(1, std::memory_order_release);
  futex_wake(desk.call, INT_MAX, true);
}

std::span<const TaskRecord> Team::finish() {
  Desk& desk = this->desk();
  const auto all = static_cast<std::uint32_t>(places_.size());
  for (;;) {
    const std::uint32_t done = desk.done.load(std::memory_order_acquire);
    if (done == all)
      return {desk.records(), all};
    futex_wait(desk.done, done, true);
  }
}

}  // namespace schedlab::apparatus
