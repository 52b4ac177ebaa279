// Says whether io_uring works here, and if not, what would change that.
#include <iouring/probe.hh>

#include <cstdio>

int main() {
  const auto found = schedlab::iouring::probe();
  if (!found.usable) {
    std::printf("no io_uring: %s\nfix: %s\n", found.cause.c_str(), found.fix.c_str());
    return 77;
  }
  std::printf("io_uring works: %zu operations, rings of up to %u entries, set up with %s\n",
              found.opcodes.size(), found.largest_ring,
              schedlab::iouring::setup_names(found.setup_flags).c_str());
}
