#include "lab/apparatus/loopback.hh"

#include "iouring/address.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"

#include <sys/socket.h>

#include <cerrno>

namespace schedlab::apparatus {

void require_loopback() {
  // Connecting a datagram socket looks for a way and sends nothing.
  const iouring::Address anybody("127.0.0.1:9");
  const Fd socket(check(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket"));
  if (::connect(socket.get(), anybody.get(), anybody.length()) < 0)
    throw Unsupported("127.0.0.1 cannot be reached (" + errno_text(errno) + "); ip link set lo up");
}

}  // namespace schedlab::apparatus
