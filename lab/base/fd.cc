#include "lab/base/fd.hh"

#include "lab/base/error.hh"

#include <fcntl.h>
#include <sys/syscall.h>

namespace schedlab {

Pipe make_pipe() {
  int ends[2];
  check(::pipe2(ends, O_CLOEXEC), "pipe2");
  return {Fd(ends[0]), Fd(ends[1])};
}

Fd open_pidfd(pid_t pid) noexcept {
  return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

}  // namespace schedlab
