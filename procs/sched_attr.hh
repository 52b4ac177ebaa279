#pragma once
// Scheduling attributes of a thread, with read-back: what was asked for is compared with what the
// kernel then says, and a difference is an error, not a surprise in the numbers.
//
// The calls are sched_setattr(2) and sched_getattr(2) by number, because C libraries before glibc
// 2.41 do not have them. SCHED_EXT is not offered: it takes a loaded BPF scheduler.

#include <cstdint>
#include <string>
#include <sys/types.h>

namespace schedlab::procs {

enum class SchedPolicy : std::uint8_t { other, fifo, rr, batch, idle, deadline };

// "other", "fifo", ...
const char* name(SchedPolicy policy);

struct SchedAttr {
  SchedPolicy policy = SchedPolicy::other;
  int nice = 0;      // other, batch: -20 .. 19
  int priority = 0;  // fifo, rr: 1 .. 99
  // deadline: nanoseconds, 1024 <= runtime <= deadline <= period. other, batch: runtime is the
  // EEVDF slice wished for (Linux 6.12 and later clamp it to 0.1 .. 100 ms), 0 the default.
  std::uint64_t runtime_ns = 0;
  std::uint64_t deadline_ns = 0;
  std::uint64_t period_ns = 0;

  friend bool operator==(const SchedAttr&, const SchedAttr&) = default;
};

// The attributes in force for a thread (0: the caller). The slice reads 0 before Linux 6.12, and
// later the slice in force, also where it is the default. Throws std::system_error (ESRCH), and
// Unsupported for a policy that has no name here (SCHED_EXT).
SchedAttr sched_attr(pid_t tid = 0);

// Sets them and gives back what the kernel granted; the slice of other and batch may be another
// one than asked for. Throws Unsupported naming the missing right (EPERM: which rlimit or
// capability) or the kernel's refusal (EBUSY: deadline admission), and where the kernel granted
// another policy, niceness, priority or reservation; BadInput for a value out of range;
// std::system_error for a thread that is gone. The reset-on-fork flag stays as it is. A deadline
// thread cannot start threads or processes (EAGAIN).
SchedAttr set_sched_attr(const SchedAttr& wanted, pid_t tid = 0);

// May the caller use this policy (with its lowest priority)? Tried in a thread of its own, which
// is thrown away. Empty: yes; else the reason with the next step.
std::string policy_objection(SchedPolicy policy);

// Keeps attributes on the calling thread for a scope. Built and destroyed by the same thread.
// Throws as set_sched_attr does, and Unsupported where the way back is closed: without privileges,
// leaving "idle" and lowering the niceness are refused. A thread of its own tries both ways first.
class SchedScope {
public:
  explicit SchedScope(const SchedAttr& wanted);
  SchedScope(const SchedScope&) = delete;
  SchedScope& operator=(const SchedScope&) = delete;
  ~SchedScope();

private:
  SchedAttr before_;
};

// Timer slack of the calling thread in nanoseconds, for a scope; 0 asks for the default of the
// thread, which the kernel makes 50,000 for ordinary threads. Real-time and deadline threads have
// no slack, whatever is asked for. Throws std::system_error.
class TimerSlack {
public:
  explicit TimerSlack(std::uint64_t slack_ns);
  TimerSlack(const TimerSlack&) = delete;
  TimerSlack& operator=(const TimerSlack&) = delete;
  ~TimerSlack();

private:
  std::uint64_t before_ns_;
};

}  // namespace schedlab::procs
