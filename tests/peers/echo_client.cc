// The client of io_echo against any echo server on this machine.
//
//   echo_client CPU PORT SERVER_PID CONNECTIONS SIZE MILLISECONDS
//
// Prints messages a second, ns of the server's CPU for a message, the share of the time in which
// that CPU worked, p50 and p99 of the round trips in ns.
#include "lab/apparatus/echo_load.hh"
#include "lab/apparatus/echo_server.hh"
#include "lab/base/clock.hh"
#include "tests/peers/second.hh"

#include <algorithm>
#include <exception>

using namespace schedlab;

namespace {

// As many messages as take so long.
void measure(apparatus::EchoLoad& load, unsigned connections, pid_t server, double wanted_ns) {
  harness::Histogram round_trips;
  const std::uint64_t first = 50 * std::uint64_t{connections} + 1000;
  std::int64_t begin = second::now();
  load.run(first, round_trips);
  const double each_ns = static_cast<double>(second::now() - begin) / static_cast<double>(first);
  const auto count = std::max(first, static_cast<std::uint64_t>(wanted_ns / each_ns));
  round_trips.clear();
  const std::int64_t cpu = apparatus::process_cpu_ns(server);
  begin = second::now();
  load.run(count, round_trips);
  const auto took = static_cast<double>(second::now() - begin);
  const auto spent = static_cast<double>(apparatus::process_cpu_ns(server) - cpu);
  const double tick = clock::current().ns_per_tick;
  std::printf("%.1f %.2f %.4f %.0f %.0f\n", 1e9 * static_cast<double>(count) / took,
              spent / static_cast<double>(count), spent / took, round_trips.percentile(0.5) * tick,
              round_trips.percentile(0.99) * tick);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 7) {
    std::fprintf(stderr, "usage: echo_client CPU PORT SERVER_PID CONNECTIONS SIZE MILLISECONDS\n");
    return 2;
  }
  second::pin(second::number(argv[1]));
  clock::set(clock::select());
  const auto connections = static_cast<unsigned>(second::number(argv[4]));
  const auto load =
      apparatus::make_echo_load({.port = static_cast<std::uint16_t>(second::number(argv[2])),
                                 .connections = connections,
                                 .size = second::number(argv[5])});
  measure(*load, connections, static_cast<pid_t>(second::number(argv[3])),
          1e6 * static_cast<double>(second::number(argv[6])));
} catch (const std::exception& failure) {
  std::fprintf(stderr, "echo_client: %s\n", failure.what());
  return 1;
}
