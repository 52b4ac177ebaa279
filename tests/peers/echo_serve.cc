// The loop of this project as an echo server, beside its peers.
//
//   echo_serve CPU io_uring|epoll|threads     prints its port and serves until it is killed
#include "lab/apparatus/echo_server.hh"
#include "tests/peers/second.hh"

#include <csignal>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <thread>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: echo_serve CPU io_uring|epoll|threads\n");
    return 2;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  int ends[2];
  second::must(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
  // Told once; never asked anything.
  std::thread([fd = ends[0]] {
    std::uint64_t port = 0;
    second::must(::read(fd, &port, sizeof port), "read");
    std::printf("%u\n", static_cast<unsigned>(port));
    std::fflush(stdout);
  }).detach();
  second::pin(second::number(argv[1]));
  schedlab::apparatus::serve_echo(schedlab::apparatus::echo_method(argv[2]), schedlab::Fd(ends[1]));
}
