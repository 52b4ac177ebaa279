#include "lab/apparatus/harm.hh"

#include "lab/apparatus/memory_cage.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/keep.hh"
#include "lab/base/mapping.hh"
#include "procs/thread.hh"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

namespace schedlab::apparatus {

namespace {

using harness::Check;
using harness::Sample;

constexpr std::size_t state_bytes = 64 * 1024;
constexpr unsigned char kept = 0x5a;
constexpr unsigned char changed = 0xa5;
constexpr int hopeless_ms = 20'000;
constexpr int exit_of_harm = 7;
constexpr int exit_of_survivor = 0;
constexpr int not_caged = 9;
constexpr int descriptors_looked_at = 1024;

// What a scene leaves to whoever watches it from outside.
struct Report {
  std::atomic<std::int64_t> harmed_ns{0};  // just before the harm; 0: it did not come to it
  std::int64_t told_ns = 0;                // when the starter knew
  std::atomic<bool> survived{false};
  std::uint64_t changed_bytes = 0;
  int left = 0;
  char cause[64] = {};
};

// Not by /proc/self/fd, which who cannot be dumped may not read.
int open_descriptors() noexcept {
  int open = 0;
  for (int fd = 0; fd < descriptors_looked_at; ++fd)
    open += ::fcntl(fd, F_GETFD) >= 0;
  return open;
}

// A death here is expected: it writes no core file and its last words go nowhere.
void die_quietly() noexcept {
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  const rlimit small_stack{1 << 20, 1 << 20};
  ::setrlimit(RLIMIT_STACK, &small_stack);
  for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGCHLD})
    std::signal(number, SIG_DFL);
  const Fd nothing(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  ::dup2(nothing.get(), STDERR_FILENO);
}

[[gnu::noinline]] unsigned dig(unsigned depth) noexcept {
  volatile unsigned char room[4096];
  room[0] = static_cast<unsigned char>(depth);
  if (depth == ~0u)
    return 0;
  return dig(depth + 1) + room[0];
}

void write_where_forbidden() noexcept {
  void* page = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *static_cast<volatile char*>(page) = 1;
}

void throw_out() {
  throw std::runtime_error("nobody catches this");
}

void do_harm(Harm harm) noexcept {
  switch (harm) {
  case Harm::none:
    return;
  case Harm::leak:
    for (int i = 0; i < leaked_descriptors; ++i)
      static_cast<void>(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return;
  case Harm::write:
    return write_where_forbidden();
  case Harm::stack:
    keep(dig(0));
    return;
  case Harm::abort:
    std::abort();
  case Harm::except:
    return throw_out();
  case Harm::exit:
    ::_exit(exit_of_harm);
  case Harm::kill:
    ::syscall(SYS_tgkill, ::getpid(), ::syscall(SYS_gettid), SIGKILL);
    return;
  case Harm::memory:
    return use_up_memory(4 * cage_bytes);
  }
}

// Runs in the forked process that starts the task.
class Starter {
public:
  Starter(const HarmOptions& options, const MemoryCage* cage, Report& report)
      : options_(options), cage_(cage), report_(report) {
    std::ranges::fill(state_, kept);
  }

  int run() {
    die_quietly();
    stand_on(options_.cpu, options_.usable);
    const int before = open_descriptors();
    if (options_.kind == TaskKind::threads) {
      procs::Thread task({.name = "task", .cpus = {}, .sched = {}}, [this] { act(); });
      task.join();
      tell("it ended");
    } else {
      Child task = Child::fork([this] {
        act();
        return 0;
      });
      tell(task.wait().text());
    }
    report_.left = open_descriptors() - before;
    report_.changed_bytes = static_cast<std::uint64_t>(
        std::ranges::count_if(state_, [](unsigned char byte) { return byte != kept; }));
    report_.survived.store(true, std::memory_order_release);
    return exit_of_survivor;
  }

private:
  void act() noexcept {
    if (cage_ && !cage_->enter())
      ::_exit(not_caged);
    std::memset(state_.data(), changed, state_.size());
    keep(state_.data());
    report_.harmed_ns.store(clock::now_ns(), std::memory_order_release);
    do_harm(options_.harm);
  }

  void tell(const std::string& cause) noexcept {
    report_.told_ns = clock::now_ns();
    std::strncpy(report_.cause, cause.c_str(), sizeof report_.cause - 1);
  }

  const HarmOptions& options_;
  const MemoryCage* cage_;
  Report& report_;
  std::array<unsigned char, state_bytes> state_;
};

class HarmScenes : public harness::Subject {
public:
  explicit HarmScenes(const HarmOptions& options)
      : options_(options), memory_(Mapping::shared_memory(sizeof(Report))) {
    if (options.harm == Harm::memory)
      cage_.emplace(cage_bytes);
  }

  Sample sample(std::uint64_t operations) override {
    Sample sample;
    sample.operations = operations;
    std::uint64_t alive = 0;
    double changed_bytes = 0, left = 0, told_ns = 0;
    const auto begin = clock::begin();
    for (std::uint64_t i = 0; i < operations; ++i) {
      const Report& report = play();
      told_ns +=
          static_cast<double>(report.told_ns - report.harmed_ns.load(std::memory_order_acquire));
      if (!report.survived.load(std::memory_order_acquire))
        continue;
      ++alive;
      changed_bytes += static_cast<double>(report.changed_bytes);
      left += report.left;
    }
    sample.elapsed_ns = clock::ns(begin, clock::end());
    const auto scenes = static_cast<double>(operations);
    sample.values[options_.alive] = static_cast<double>(alive) / scenes;
    sample.values[options_.told] = told_ns / scenes;
    if (alive > 0) {
      const auto survivors = static_cast<double>(alive);
      sample.values[options_.changed] = changed_bytes / (survivors * state_bytes);
      sample.values[options_.left] = left / survivors;
    }
    return sample;
  }

  std::vector<Check> checks() override {
    std::vector<Check> checks = {
        {"scenes in which it came to the harm", scenes_, harmed_, harmed_ == scenes_},
        {"scenes that ended alike", scenes_, alike_, alike_ == scenes_},
        {std::string(cause_check), expected_cause(), cause_, cause_ == expected_cause()}};
    if (cage_) {
      const std::uint64_t kills = cage_->oom_kills();
      checks.push_back(
          {"kills for want of memory that the cgroup counted", scenes_, kills, kills == scenes_});
    }
    return checks;
  }

private:
  // Of whatever died: the task, or all of the process that it was a thread of.
  [[nodiscard]] std::string expected_cause() const {
    switch (options_.harm) {
    case Harm::none:
    case Harm::leak:
      return options_.kind == TaskKind::threads ? "it ended" : "exit status 0";
    case Harm::write:
    case Harm::stack:
      return "killed by SIGSEGV";
    case Harm::abort:
    case Harm::except:
      return "killed by SIGABRT";
    case Harm::exit:
      return "exit status " + std::to_string(exit_of_harm);
    case Harm::kill:
    case Harm::memory:
      break;
    }
    return "killed by SIGKILL";
  }

  const Report& play() {
    Report& report = *new (memory_.data()) Report;
    const MemoryCage* cage = cage_ ? &*cage_ : nullptr;
    Child starter = Child::fork([&] {
      try {
        return Starter(options_, cage, report).run();
      } catch (const std::exception&) {
        return not_caged;
      }
    });
    const auto cause = starter.wait_for(hopeless_ms);
    const std::int64_t now = clock::now_ns();
    if (!report.survived.load(std::memory_order_acquire)) {
      report.told_ns = now;
      std::strncpy(report.cause, cause ? cause->text().c_str() : "hangs", sizeof report.cause - 1);
    }
    ++scenes_;
    harmed_ += report.harmed_ns.load(std::memory_order_relaxed) != 0;
    if (scenes_ == 1)
      cause_ = report.cause;
    alike_ += cause_ == report.cause;
    return report;
  }

  HarmOptions options_;
  Mapping memory_;
  std::optional<MemoryCage> cage_;
  std::uint64_t scenes_ = 0;
  std::uint64_t harmed_ = 0;
  std::uint64_t alike_ = 0;
  std::string cause_;
};

constexpr std::array<std::string_view, 9> harm_names = {
    "none", "leak", "write", "stack", "abort", "exception", "exit", "kill", "memory"};
constexpr std::array<Harm, 9> harms = {Harm::none,  Harm::leak,  Harm::write,
                                       Harm::stack, Harm::abort, Harm::except,
                                       Harm::exit,  Harm::kill,  Harm::memory};

}  // namespace

std::string_view to_text(Harm harm) noexcept {
  return harm_names[static_cast<std::size_t>(harm)];
}

std::span<const Harm> all_harms() noexcept {
  return harms;
}

std::unique_ptr<harness::Subject> make_harm(const HarmOptions& options) {
  return std::make_unique<HarmScenes>(options);
}

}  // namespace schedlab::apparatus
