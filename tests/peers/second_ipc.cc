// A second method for ipc_latency, of plain libc: two processes send each other messages of one
// size over two pipes or two socket pairs, one each way, or over one socket pair both ways, with
// read and write and nothing around them. Prints the median over fresh pairs of processes of the
// nanoseconds of a round trip, by CLOCK_MONOTONIC_RAW over all round trips, and of the context
// switches of both for one, as getrusage counts them.
//
//   second_ipc CPU CPU pipe|socketpair|both-ways SIZE ROUNDS REPETITIONS
#include "tests/peers/second.hh"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <string_view>

using namespace second;

namespace {

struct Plan {
  std::size_t cpus[2];
  bool socket;
  bool both_ways;
  std::size_t size;
  std::size_t rounds;
};

struct Reading {
  double round_trip;
  double switches;
};

struct Ends {
  int in;
  int out;
};

void send(int fd, const char* from, std::size_t size) {
  for (std::size_t done = 0; done < size;)
    done += static_cast<std::size_t>(must(::write(fd, from + done, size - done), "write"));
}

void receive(int fd, char* to, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const long got = must(::read(fd, to + done, size - done), "read");
    if (got == 0)
      std::exit(1);
    done += static_cast<std::size_t>(got);
  }
}

void open_ends(const Plan& plan, Ends& first, Ends& other) {
  int there[2], back[2];
  for (int* const pair : {there, back})
    must(plan.socket ? ::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) : ::pipe(pair), "two ends");
  if (plan.both_ways) {
    first = {there[0], there[0]};
    other = {there[1], there[1]};
    ::close(back[0]);
    ::close(back[1]);
    return;
  }
  first = {back[0], there[1]};
  other = {there[0], back[1]};
}

void answer(const Plan& plan, Ends ends, std::size_t rounds) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  pin(plan.cpus[1]);
  std::vector<char> message(plan.size);
  for (std::size_t i = 0; i < rounds; ++i) {
    receive(ends.in, message.data(), message.size());
    send(ends.out, message.data(), message.size());
  }
}

Reading measure(const Plan& plan) {
  const std::size_t warm = plan.rounds / 10 + 10;
  Ends own, other;
  open_ends(plan, own, other);
  const pid_t child = static_cast<pid_t>(must(::fork(), "fork"));
  if (child == 0) {
    answer(plan, other, warm + plan.rounds);
    ::_exit(0);
  }
  pin(plan.cpus[0]);
  std::vector<char> message(plan.size, 'm');
  const auto round_trips = [&](std::size_t rounds) {
    for (std::size_t i = 0; i < rounds; ++i) {
      send(own.out, message.data(), message.size());
      receive(own.in, message.data(), message.size());
    }
  };
  const long before = switches_so_far() + switches_so_far(RUSAGE_CHILDREN);
  round_trips(warm);
  const std::int64_t begin = now(CLOCK_MONOTONIC_RAW);
  round_trips(plan.rounds);
  const std::int64_t end = now(CLOCK_MONOTONIC_RAW);
  int status = 0;
  must(::waitpid(child, &status, 0), "waitpid");
  const long after = switches_so_far() + switches_so_far(RUSAGE_CHILDREN);
  for (const int fd : {own.in, own.out, other.in, other.out})
    ::close(fd);  // one that stands twice is closed twice, which does nothing
  if (status != 0)
    std::exit(1);
  return {static_cast<double>(end - begin) / static_cast<double>(plan.rounds),
          static_cast<double>(after - before) / static_cast<double>(warm + plan.rounds)};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7)
    return 2;
  const std::string_view way = argv[3];
  const bool both_ways = way == "both-ways";
  const Plan plan{{number(argv[1]), number(argv[2])},
                  both_ways || way == "socketpair",
                  both_ways,
                  number(argv[4]),
                  number(argv[5])};
  const std::size_t repetitions = number(argv[6]);
  if ((way != "pipe" && !plan.socket) || plan.size == 0 || plan.rounds == 0 || repetitions == 0)
    return 2;
  std::vector<Reading> readings(repetitions);
  for (Reading& reading : readings)
    reading = measure(plan);
  std::printf("%.1f %.3f\n", median(readings, [](const Reading& r) { return r.round_trip; }),
              median(readings, [](const Reading& r) { return r.switches; }));
  return 0;
}
