// A second method for switch_footprint, of plain libc: processes on one CPU pass a token that
// counts its own hops down around a ring of pipes. Whoever sees the first and the last timed hop
// reads CLOCK_MONOTONIC; no process counts laps. The control is a ring of one. Each repetition has
// fresh processes. Prints the medians of hop, alone, and of their difference, in nanoseconds.
//
//   second_footprint CPU RING SIZE STRIDE REPETITIONS
#include "tests/peers/second.hh"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

using namespace second;

namespace {

constexpr std::int64_t warm_laps = 8;
constexpr std::int64_t pilot_hops = 500;
constexpr double repetition_ns = 40e6;

struct Token {
  std::int64_t left;
  std::int64_t timed;
  std::int64_t start;
};

struct Pipe {
  int in = -1;
  int out = -1;
};

struct Work {
  std::size_t size;
  std::size_t stride;
};

struct Hop {
  double ns;
  double switches;
};

struct Reading {
  Hop hop;
  Hop alone;
};

Pipe make_pipe() {
  int ends[2];
  must(::pipe(ends), "pipe");
  return {ends[0], ends[1]};
}

void walk(volatile std::byte* set, Work work) {
  for (std::size_t at = 0; at < work.size; at += work.stride) {
    auto* word = reinterpret_cast<volatile std::uint64_t*>(set + at);
    *word = *word + 1;
  }
}

[[noreturn]] void be_member(int in, int out, int result, Work work) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::byte* set = nullptr;
  if (work.size > 0) {
    void* place = map(work.size, MAP_PRIVATE);
    ::madvise(place, work.size, MADV_NOHUGEPAGE);
    set = static_cast<std::byte*>(place);
  }
  Token token{};
  while (::read(in, &token, sizeof token) == sizeof token) {
    if (token.left == token.timed)
      token.start = now();
    if (token.left == 0) {
      const std::int64_t took = now() - token.start;
      must(::write(result, &took, sizeof took), "write");
      continue;
    }
    walk(set, work);
    --token.left;
    must(::write(out, &token, sizeof token), "write");
  }
  ::_exit(1);
}

Hop ring_hop(std::size_t members, Work work, std::int64_t hops) {
  const long switches = switches_so_far(RUSAGE_CHILDREN);
  std::vector<Pipe> pipes(members);
  std::generate(pipes.begin(), pipes.end(), make_pipe);
  const Pipe result = make_pipe();
  std::vector<pid_t> pids;
  for (std::size_t i = 0; i < members; ++i) {
    const auto pid = static_cast<pid_t>(must(::fork(), "fork"));
    if (pid == 0)
      be_member(pipes[i].in, pipes[(i + 1) % members].out, result.out, work);
    pids.push_back(pid);
  }
  const Token token{hops + warm_laps * static_cast<std::int64_t>(members), hops, 0};
  must(::write(pipes[0].out, &token, sizeof token), "write");
  ::close(result.out);
  std::int64_t took = 0;
  if (::read(result.in, &took, sizeof took) != sizeof took)
    std::exit(1);
  for (const pid_t pid : pids)
    ::kill(pid, SIGKILL);
  for (const pid_t pid : pids)
    ::waitpid(pid, nullptr, 0);
  for (const Pipe& pipe : pipes) {
    ::close(pipe.in);
    ::close(pipe.out);
  }
  ::close(result.in);
  return {static_cast<double>(took) / static_cast<double>(hops),
          static_cast<double>(switches_so_far(RUSAGE_CHILDREN) - switches) /
              static_cast<double>(token.left)};
}

std::int64_t hops_for(double hop) {
  return std::max(pilot_hops, static_cast<std::int64_t>(repetition_ns / hop));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6)
    return 2;
  pin(number(argv[1]));
  const sched_param priority{};
  must(::sched_setscheduler(0, SCHED_BATCH, &priority), "sched_setscheduler");
  const std::size_t members = number(argv[2]);
  const Work work{number(argv[3]), number(argv[4])};
  const std::size_t repetitions = number(argv[5]);
  if (members == 0 || work.stride < sizeof(std::uint64_t) || repetitions == 0)
    return 2;
  const std::int64_t ring_hops = hops_for(ring_hop(members, work, pilot_hops).ns);
  const std::int64_t alone_hops = hops_for(ring_hop(1, work, pilot_hops).ns);
  std::vector<Reading> readings(repetitions);
  for (Reading& reading : readings)
    reading = {ring_hop(members, work, ring_hops), ring_hop(1, work, alone_hops)};
  std::printf("%.1f %.1f %.1f %.3f\n", median(readings, [](const Reading& r) { return r.hop.ns; }),
              median(readings, [](const Reading& r) { return r.alone.ns; }),
              median(readings, [](const Reading& r) { return r.hop.ns - r.alone.ns; }),
              median(readings, [](const Reading& r) { return r.hop.switches; }));
  return 0;
}
