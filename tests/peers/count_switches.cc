// Does one long sample of a ping-pong and prints how many switches it should need, how many the
// proof counted task by task, and how many the whole process made from its start, so that another
// tool can be asked the same.
//
//   count_switches MECHANISM threads|processes CPU OPERATIONS
#include "affinity/topology.hh"
#include "lab/apparatus/ping_pong.hh"
#include "lab/base/text.hh"

#include <sys/resource.h>

#include <cstdio>
#include <span>

using namespace schedlab;

namespace {

long switches_of(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  return usage.ru_nvcsw + usage.ru_nivcsw;
}

}  // namespace

int main(int argc, char** argv) {
  const std::span args(argv, static_cast<std::size_t>(argc));
  if (args.size() != 5)
    return 2;
  const auto cpu = static_cast<unsigned>(to_number(args[3]).value());
  apparatus::PingPongOptions options;
  options.tasks.kind = apparatus::task_kind(args[2]);
  options.first = options.second = cpu;
  options.usable = affinity::Topology::machine().usable();
  harness::Sample sample;
  {
    const auto subject = apparatus::make_ping_pong(args[1], options);
    sample = subject->sample(static_cast<std::uint64_t>(to_number(args[4]).value()));
  }
  std::printf("%llu %llu %ld\n", static_cast<unsigned long long>(sample.proof.expected_switches),
              static_cast<unsigned long long>(sample.proof.counted_switches),
              switches_of(RUSAGE_SELF) + switches_of(RUSAGE_CHILDREN));
}
