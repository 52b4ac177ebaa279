#include "procs/sched_attr.hh"

#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cassert>
#include <charconv>
#include <exception>
#include <thread>

namespace schedlab::procs {

namespace {

// The first version of the kernel's structure. Of its own name, because linux/sched/types.h and
// glibc 2.41 both define struct sched_attr.
struct KernelAttr {
  std::uint32_t size;
  std::uint32_t policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime;
  std::uint64_t deadline;
  std::uint64_t period;
};
static_assert(sizeof(KernelAttr) == 48);

constexpr std::uint64_t reset_on_fork = 1;
constexpr std::uint32_t policy_deadline = 6;
constexpr unsigned cap_sys_nice = 23;

struct PolicyName {
  SchedPolicy policy;
  std::uint32_t number;
  const char* name;
  const char* constant;
};
constexpr PolicyName policies[] = {
    {SchedPolicy::other, SCHED_OTHER, "other", "SCHED_OTHER"},
    {SchedPolicy::fifo, SCHED_FIFO, "fifo", "SCHED_FIFO"},
    {SchedPolicy::rr, SCHED_RR, "rr", "SCHED_RR"},
    {SchedPolicy::batch, SCHED_BATCH, "batch", "SCHED_BATCH"},
    {SchedPolicy::idle, SCHED_IDLE, "idle", "SCHED_IDLE"},
    {SchedPolicy::deadline, policy_deadline, "deadline", "SCHED_DEADLINE"},
};

const PolicyName& entry(SchedPolicy policy) {
  for (const auto& candidate : policies)
    if (candidate.policy == policy)
      return candidate;
  throw BadInput("scheduling policy " + std::to_string(static_cast<int>(policy)) + " is unknown");
}

bool fair(SchedPolicy policy) {
  return policy == SchedPolicy::other || policy == SchedPolicy::batch;
}

bool real_time(SchedPolicy policy) {
  return policy == SchedPolicy::fifo || policy == SchedPolicy::rr;
}

KernelAttr kernel_attr(pid_t tid) {
  KernelAttr attr{};
  check(::syscall(SYS_sched_getattr, tid, &attr, sizeof attr, 0), "sched_getattr",
        std::to_string(tid));
  return attr;
}

// 0 or errno.
int try_set(const SchedAttr& wanted, pid_t tid, std::uint64_t flags) {
  KernelAttr attr{};
  attr.size = sizeof attr;
  attr.policy = entry(wanted.policy).number;
  attr.flags = flags;
  attr.nice = fair(wanted.policy) ? wanted.nice : 0;
  attr.priority = real_time(wanted.policy) ? static_cast<std::uint32_t>(wanted.priority) : 0;
  if (!real_time(wanted.policy) && wanted.policy != SchedPolicy::idle)
    attr.runtime = wanted.runtime_ns;
  if (wanted.policy == SchedPolicy::deadline) {
    attr.deadline = wanted.deadline_ns;
    attr.period = wanted.period_ns;
  }
  return ::syscall(SYS_sched_setattr, tid, &attr, 0) == 0 ? 0 : errno;
}

void require_range(const SchedAttr& wanted) {
  if (fair(wanted.policy) && (wanted.nice < -20 || wanted.nice > 19))
    throw BadInput("niceness " + std::to_string(wanted.nice) + " is not in -20 .. 19");
  if (real_time(wanted.policy) && (wanted.priority < 1 || wanted.priority > 99))
    throw BadInput("real-time priority " + std::to_string(wanted.priority) + " is not in 1 .. 99");
  if (wanted.policy == SchedPolicy::deadline &&
      (wanted.runtime_ns < 1024 || wanted.runtime_ns > wanted.deadline_ns ||
       wanted.deadline_ns > wanted.period_ns))
    throw BadInput("a deadline reservation needs 1024 ns <= runtime <= deadline <= period");
}

rlim_t limit(int resource) {
  rlimit value{};
  check(::getrlimit(static_cast<__rlimit_resource_t>(resource), &value), "getrlimit");
  return value.rlim_cur;
}

bool has_sys_nice() {
  const auto status = read_text("/proc/thread-self/status").value_or("");
  for (const auto line : split(status, '\n')) {
    if (!line.starts_with("CapEff:"))
      continue;
    const auto digits = trim(line.substr(7));
    std::uint64_t set = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), set, 16);
    return (set >> cap_sys_nice & 1) != 0;
  }
  return false;
}

bool in_user_namespace() {
  const auto map = read_text("/proc/self/uid_map").value_or("");
  return !map.empty() && map.find("4294967295") == std::string::npos;
}

// Why CAP_SYS_NICE was not enough.
std::string refused_though_capable(SchedPolicy policy) {
  if (in_user_namespace())
    return ": CAP_SYS_NICE of a user namespace does not count; use a container that is not "
           "rootless, with --cap-add=SYS_NICE";
  if (policy == SchedPolicy::deadline)
    return ": the thread must be allowed on every CPU of its scheduling domain (unpin it), and "
           "kernel.sched_rt_runtime_us must not be 0";
  if (real_time(policy))
    return ": the cgroup has no real-time time; see cpu.rt_runtime_us of the cgroup and "
           "kernel.sched_rt_runtime_us";
  return ": CAP_SYS_NICE is there, so a seccomp filter refuses it; see Seccomp in "
         "/proc/self/status";
}

std::string missing_right(const SchedAttr& wanted) {
  if (has_sys_nice())
    return refused_though_capable(wanted.policy);
  const std::string help = " Next step: run it with sudo, or in a container with "
                           "--cap-add=SYS_NICE";
  if (real_time(wanted.policy))
    return ": it needs CAP_SYS_NICE or RLIMIT_RTPRIO >= " + std::to_string(wanted.priority) +
           " (it is " + std::to_string(limit(RLIMIT_RTPRIO)) + ")." + help + ", or raise rtprio " +
           "in /etc/security/limits.conf.";
  if (wanted.policy == SchedPolicy::deadline)
    return ": it needs CAP_SYS_NICE." + help + ".";
  return ": it needs CAP_SYS_NICE or RLIMIT_NICE >= " + std::to_string(20 - wanted.nice) +
         " (it is " + std::to_string(limit(RLIMIT_NICE)) + ")." + help + ", or raise nice in " +
         "/etc/security/limits.conf.";
}

[[noreturn]] void refuse(const SchedAttr& wanted, int error, pid_t tid) {
  const std::string what =
      std::string(entry(wanted.policy).constant) +
      (fair(wanted.policy) ? " with niceness " + std::to_string(wanted.nice) : std::string()) +
      " was refused";
  switch (error) {
  case EPERM:
    throw Unsupported(what + missing_right(wanted));
  case EBUSY:
    throw Unsupported(what + ": the reservation does not fit beside those that exist; ask for "
                             "less runtime, or raise kernel.sched_rt_runtime_us");
  case EINVAL:
    throw Unsupported(what + ": this kernel lacks the policy, or the period is outside "
                             "kernel.sched_deadline_period_min_us .. max_us");
  case ENOSYS:
    throw Unsupported(what + ": sched_setattr is missing or a seccomp filter hides it; in a "
                             "container allow it in the seccomp profile");
  default:
    throw_errno(error, "sched_setattr", std::to_string(tid));
  }
}

void require_granted(const SchedAttr& wanted, const SchedAttr& granted) {
  const bool same = wanted.policy == granted.policy &&
                    (!fair(wanted.policy) || wanted.nice == granted.nice) &&
                    (!real_time(wanted.policy) || wanted.priority == granted.priority) &&
                    (wanted.policy != SchedPolicy::deadline || wanted == granted);
  if (!same)
    throw Unsupported(std::string("the kernel took ") + entry(wanted.policy).constant +
                      " but set " + entry(granted.policy).constant + ", niceness " +
                      std::to_string(granted.nice) + ", priority " +
                      std::to_string(granted.priority) +
                      "; look for a daemon that changes threads (rtkit, uclamp, systemd)");
}

// Runs `body` in a thread of its own and throws what it threw.
template <typename Body>
void in_thread(Body body) {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      body();
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure)
    std::rethrow_exception(failure);
}

// The attributes that bring a thread back to `before`. The kernel does not tell a default slice
// from the same slice asked for; in a throw-away thread the default is looked up, and where it is
// the slice in force, the way back asks for the default again.
SchedAttr way_back(SchedAttr before) {
  if (!fair(before.policy) || before.runtime_ns == 0)
    return before;
  in_thread([&] {
    SchedAttr plain = before;
    plain.runtime_ns = 0;
    if (set_sched_attr(plain).runtime_ns == before.runtime_ns)
      before.runtime_ns = 0;
  });
  return before;
}

}  // namespace

const char* name(SchedPolicy policy) {
  return entry(policy).name;
}

SchedAttr sched_attr(pid_t tid) {
  const KernelAttr attr = kernel_attr(tid);
  for (const auto& candidate : policies)
    if (candidate.number == attr.policy)
      return {candidate.policy, attr.nice,     static_cast<int>(attr.priority),
              attr.runtime,     attr.deadline, attr.period};
  throw Unsupported("thread " + std::to_string(tid) + " runs under scheduling policy " +
                    std::to_string(attr.policy) +
                    ", which is not handled here; unload the "
                    "sched_ext scheduler, or start the program under SCHED_OTHER (chrt -o 0)");
}

SchedAttr set_sched_attr(const SchedAttr& wanted, pid_t tid) {
  require_range(wanted);
  const std::uint64_t flags = kernel_attr(tid).flags & reset_on_fork;
  if (const int error = try_set(wanted, tid, flags))
    refuse(wanted, error, tid);
  const SchedAttr granted = sched_attr(tid);
  require_granted(wanted, granted);
  return granted;
}

std::string policy_objection(SchedPolicy policy) {
  SchedAttr least{.policy = policy};
  if (real_time(policy))
    least.priority = 1;
  if (policy == SchedPolicy::deadline) {
    least.runtime_ns = 100'000;
    least.deadline_ns = least.period_ns = 10'000'000;
  }
  if (fair(policy))
    least.nice = sched_attr().nice;
  try {
    in_thread([&] { set_sched_attr(least); });
    return "";
  } catch (const std::exception& refusal) {
    return refusal.what();
  }
}

SchedScope::SchedScope(const SchedAttr& wanted) : before_(way_back(sched_attr())) {
  in_thread([&] {
    set_sched_attr(wanted);
    try {
      set_sched_attr(before_);
    } catch (const Unsupported& refusal) {
      throw Unsupported(std::string(name(wanted.policy)) + " could not be left again. " +
                        refusal.what() + " Or use a thread that ends there.");
    }
  });
  set_sched_attr(wanted);
}

SchedScope::~SchedScope() {
  const int error = try_set(before_, 0, kernel_attr(0).flags & reset_on_fork);
  assert(error == 0);  // the constructor has tried it
  static_cast<void>(error);
}

// By number: the library's prctl cuts the answer to an int.
TimerSlack::TimerSlack(std::uint64_t slack_ns)
    : before_ns_(static_cast<std::uint64_t>(
          check(::syscall(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0), "PR_GET_TIMERSLACK"))) {
  check(::syscall(SYS_prctl, PR_SET_TIMERSLACK, slack_ns, 0, 0, 0), "PR_SET_TIMERSLACK");
}

TimerSlack::~TimerSlack() {
  ::syscall(SYS_prctl, PR_SET_TIMERSLACK, before_ns_, 0, 0, 0);
}

}  // namespace schedlab::procs
