#include "lab/base/fd.hh"

#include "lab/base/error.hh"

#include <fcntl.h>

namespace schedlab {

Pipe make_pipe() {
  int ends[2];
  check(::pipe2(ends, O_CLOEXEC), "pipe2");
  return {Fd(ends[0]), Fd(ends[1])};
}

}  // namespace schedlab
