#pragma once
// A world in which one system call answers an error, or is the last, for forked children of tests.

#include <cstddef>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

namespace schedlab::testing {

// From now on `number` ends so (seccomp(2)) in this thread and in those that it starts; there is no
// way back. Gives false where seccomp is not to be had.
inline bool answer_syscall(long number, unsigned action) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof filter / sizeof *filter, filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

inline bool deny_syscall(long number, int error) {
  return answer_syscall(number, SECCOMP_RET_ERRNO | static_cast<unsigned>(error));
}
// Whoever makes the call dies of SIGSYS, just before it.
inline bool die_at_syscall(long number) {
  return answer_syscall(number, SECCOMP_RET_KILL_PROCESS);
}

}  // namespace schedlab::testing
