#include "lab/apparatus/spawn_way.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "lab/base/futex.hh"
#include "lab/base/mapping.hh"

#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <optional>

namespace schedlab::apparatus {

namespace {

constexpr int child_status = 7;

// The child's whole life. Somebody may look at its end who has not waited for it.
void stamp(SpawnStamps& stamps) noexcept {
  stamps.begun = clock::begin();
  std::atomic_ref(stamps.ended).store(clock::end(), std::memory_order_relaxed);
}

bool reap(pid_t pid, SpawnStamps& stamps) {
  int status = 0;
  rusage used{};
  pid_t got;
  do
    got = ::wait4(pid, &status, __WALL, &used);
  while (got < 0 && errno == EINTR);
  stamps.faults = static_cast<std::uint64_t>(used.ru_minflt + used.ru_majflt);
  return got == pid && WIFEXITED(status) && WEXITSTATUS(status) == child_status;
}

void* thread_body(void* stamps) {
  stamp(*static_cast<SpawnStamps*>(stamps));
  return stamps;
}

class PosixThread final : public SpawnWay {
  void start(SpawnStamps& stamps) override {
    if (const int error = ::pthread_create(&thread_, nullptr, &thread_body, &stamps); error != 0)
      throw_errno(error, "pthread_create");
  }
  bool join(SpawnStamps& stamps) override {
    void* result = nullptr;
    return ::pthread_join(thread_, &result) == 0 && result == &stamps;
  }
  pthread_t thread_{};
};

// Nobody waits: whether it has ended by the time that the call has returned is luck, and `right`
// counts it. It is joined all the same, where nothing is clocked.
class Detached final : public SpawnWay {
public:
  ~Detached() override { wait(); }

private:
  void start(SpawnStamps&) override {
    mine_ = {};
    if (const int error = ::pthread_create(&thread_, nullptr, &thread_body, &mine_); error != 0)
      throw_errno(error, "pthread_create");
    running_ = true;
  }
  bool join(SpawnStamps&) override {
    std::atomic_ref ended(mine_.ended);
    had_ended_ = ended.load(std::memory_order_relaxed) != 0;
    return true;
  }
  [[nodiscard]] bool right(const SpawnStamps&) override {
    wait();
    return had_ended_;
  }
  void wait() {
    if (running_)
      ::pthread_join(thread_, nullptr);
    running_ = false;
  }

  pthread_t thread_{};
  SpawnStamps mine_;
  bool running_ = false;
  bool had_ended_ = false;
};

class Fork final : public SpawnWay {
  void start(SpawnStamps& stamps) override {
    pid_ = check(::fork(), "fork");
    if (pid_ == 0) {
      stamp(stamps);
      ::_exit(child_status);
    }
  }
  bool join(SpawnStamps& stamps) override { return reap(pid_, stamps); }
  pid_t pid_ = -1;
};

class Vfork final : public SpawnWay {
  void start(SpawnStamps& stamps) override {
    const pid_t pid = check(::vfork(), "vfork");
    if (pid == 0) {
      stamp(stamps);
      ::_exit(child_status);
    }
    pid_ = pid;
  }
  bool join(SpawnStamps& stamps) override { return reap(pid_, stamps); }
  pid_t pid_ = -1;
};

// A descriptor tells of the child's end: opened after a fork, or given by clone3 with the child.
class PidfdChild final : public SpawnWay {
public:
  explicit PidfdChild(bool by_clone3) : by_clone3_(by_clone3) {}

private:
  void start(SpawnStamps& stamps) override {
    int pidfd = -1;
    pid_ = by_clone3_ ? clone3(pidfd) : check(::fork(), "fork");
    if (pid_ == 0) {
      stamp(stamps);
      ::_exit(child_status);
    }
    pidfd_ = by_clone3_ ? Fd(pidfd) : open_pidfd(pid_);
    check(pidfd_.get(), "pidfd_open");
  }
  bool join(SpawnStamps& stamps) override {
    pollfd ended{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
    while (::poll(&ended, 1, -1) < 0 && errno == EINTR)
      continue;
    return reap(pid_, stamps);
  }
  static pid_t clone3(int& pidfd) {
    clone_args args{};
    args.flags = CLONE_PIDFD;
    args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
    args.exit_signal = SIGCHLD;
    return static_cast<pid_t>(check(::syscall(SYS_clone3, &args, sizeof args), "clone3"));
  }

  bool by_clone3_;
  pid_t pid_ = -1;
  Fd pidfd_;
};

// It may run on the memory and the thread pointer of its parent: it touches neither.
int clone_body(void*) {
  return child_status;
}

constexpr std::size_t stack_size = 64 * 1024;

class Clone final : public SpawnWay {
public:
  explicit Clone(int flags) : flags_(flags), stack_(Mapping::private_memory(stack_size)) {
    std::ranges::fill(stack_.bytes(), std::byte{});  // no page of it is new to the first child
  }

private:
  void start(SpawnStamps&) override {
    void* top = stack_.data() + stack_size;
    alive_.store(1, std::memory_order_relaxed);
    // The kernel clears the word, and wakes who waits on it, when the child's memory is let go.
    const int extra = is_thread() ? CLONE_CHILD_CLEARTID | CLONE_SYSVSEM : SIGCHLD;
    pid_ = check(::clone(&clone_body, top, flags_ | extra, nullptr, nullptr, nullptr, &alive_),
                 "clone");
  }
  bool join(SpawnStamps& stamps) override {
    if (!is_thread())
      return reap(pid_, stamps);
    while (alive_.load(std::memory_order_acquire) != 0)
      futex_wait(alive_, 1, true);
    return true;
  }
  [[nodiscard]] bool is_thread() const noexcept { return (flags_ & CLONE_THREAD) != 0; }

  int flags_;
  Mapping stack_;
  pid_t pid_ = -1;
  std::atomic<std::uint32_t> alive_{0};
};

// The flags of "vm+files"; nothing for another word.
std::optional<int> flags_of(std::string_view text) {
  struct Flag {
    std::string_view word;
    int bit;
  };
  constexpr int all_shared = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND;
  constexpr std::array flags = {Flag{"none", 0},
                                Flag{"all", all_shared},
                                Flag{"vm", CLONE_VM},
                                Flag{"vfork", CLONE_VFORK},
                                Flag{"fs", CLONE_FS},
                                Flag{"files", CLONE_FILES},
                                Flag{"sighand", CLONE_SIGHAND},
                                Flag{"thread", all_shared | CLONE_THREAD}};
  int all = 0;
  while (!text.empty()) {
    const auto word = text.substr(0, text.find('+'));
    const auto* flag = std::ranges::find(flags, word, &Flag::word);
    if (flag == flags.end())
      return std::nullopt;
    all |= flag->bit;
    text.remove_prefix(std::min(text.size(), word.size() + 1));
  }
  return all;
}

}  // namespace

std::unique_ptr<SpawnWay> make_task_way(std::string_view way) {
  constexpr std::string_view clone = "clone/";
  if (way == "thread")
    return std::make_unique<PosixThread>();
  if (way == "detached")
    return std::make_unique<Detached>();
  if (way == "fork")
    return std::make_unique<Fork>();
  if (way == "vfork")
    return std::make_unique<Vfork>();
  if (way == "pidfd" || way == "clone3")
    return std::make_unique<PidfdChild>(way == "clone3");
  if (way.starts_with(clone))
    if (const auto flags = flags_of(way.substr(clone.size())))
      return std::make_unique<Clone>(*flags);
  return nullptr;
}

}  // namespace schedlab::apparatus
