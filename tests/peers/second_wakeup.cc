// A second method for switch_cost, of plain libc: two processes take turns by one shared futex word
// that counts the hand-overs (its parity says whose turn it is), or by a token in two pipes. One
// hand-over is CLOCK_MONOTONIC's time over the hand-overs. Prints the median over fresh processes
// of the nanoseconds and of the context switches of a hand-over.
//
//   second_wakeup CPU CPU futex|pipe HANDOVERS REPETITIONS
#include "tests/peers/second.hh"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string_view>
#include <vector>

using namespace second;

namespace {

constexpr std::uint32_t warm = 64;

struct Shared {
  std::atomic<std::uint32_t> turn{0};
  std::int64_t took = 0;
  std::atomic<long> switches{0};
};

struct Plan {
  std::size_t cpus[2];
  bool pipe;
  std::uint32_t end;
};

struct Pipes {
  int ends[2][2];
};

struct Reading {
  double ns;
  double switches;
};

/// Waits for the turns of one parity and hands each over. The clock is read by the task that has
/// the even turns, the first timed one and the last.
class Turns {
public:
  Turns(Shared& shared, const Pipes& pipes, const Plan& plan, std::uint32_t parity)
      : shared_(shared), in_(pipes.ends[parity][0]), out_(pipes.ends[1 - parity][1]), plan_(plan),
        parity_(parity) {}

  void run() {
    std::int64_t start = 0;
    long switches = 0;
    for (std::uint32_t turn = parity_; turn <= plan_.end + parity_; turn += 2) {
      await(turn);
      if (turn == warm + parity_) {
        start = now();
        switches = switches_so_far();
      }
      if (turn == plan_.end)
        shared_.took = now() - start;
      if (turn == plan_.end + parity_)
        shared_.switches += switches_so_far() - switches;
      pass(turn + 1);
    }
  }

private:
  void await(std::uint32_t turn) {
    if (plan_.pipe) {
      std::uint32_t token = 0;
      if (turn > 0 && (::read(in_, &token, sizeof token) != sizeof token || token != turn))
        ::_exit(1);
      return;
    }
    for (;;) {
      const std::uint32_t seen = shared_.turn.load(std::memory_order_acquire);
      if (seen == turn)
        return;
      ::syscall(SYS_futex, &shared_.turn, FUTEX_WAIT, seen, nullptr, nullptr, 0);
    }
  }

  void pass(std::uint32_t turn) {
    if (plan_.pipe) {
      must(::write(out_, &turn, sizeof turn), "write");
      return;
    }
    shared_.turn.store(turn, std::memory_order_release);
    ::syscall(SYS_futex, &shared_.turn, FUTEX_WAKE, 1, nullptr, nullptr, 0);
  }

  Shared& shared_;
  int in_;
  int out_;
  const Plan& plan_;
  std::uint32_t parity_;
};

Reading hand_over(const Plan& plan) {
  void* page = map(sizeof(Shared), MAP_SHARED);
  auto* shared = new (page) Shared;
  Pipes pipes{};
  for (auto& ends : pipes.ends)
    must(::pipe(ends), "pipe");
  for (std::uint32_t parity = 0; parity < 2; ++parity) {
    if (must(::fork(), "fork") > 0)
      continue;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin(plan.cpus[parity]);
    Turns(*shared, pipes, plan, parity).run();
    ::_exit(0);
  }
  for (int i = 0; i < 2; ++i) {
    int status = 0;
    must(::wait(&status), "wait");
    if (status != 0)
      std::exit(1);
  }
  const double handovers = plan.end - warm;
  const Reading reading{static_cast<double>(shared->took) / handovers,
                        static_cast<double>(shared->switches) / handovers};
  for (const auto& ends : pipes.ends)
    for (const int end : ends)
      ::close(end);
  ::munmap(page, sizeof(Shared));
  return reading;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6)
    return 2;
  const std::string_view mechanism = argv[3];
  const auto pairs = static_cast<std::uint32_t>(number(argv[4]) / 2);
  const std::size_t repetitions = number(argv[5]);
  if ((mechanism != "futex" && mechanism != "pipe") || pairs == 0 || repetitions == 0)
    return 2;
  const Plan plan{{number(argv[1]), number(argv[2])}, mechanism == "pipe", warm + 2 * pairs};
  std::vector<Reading> readings(repetitions);
  for (Reading& reading : readings)
    reading = hand_over(plan);
  std::printf("%.1f %.3f\n", median(readings, [](const Reading& r) { return r.ns; }),
              median(readings, [](const Reading& r) { return r.switches; }));
  return 0;
}
