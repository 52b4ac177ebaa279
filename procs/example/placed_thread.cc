// Runs a thread on one CPU under SCHED_BATCH, and says where it ran and under what.
#include <affinity/pin.hh>
#include <procs/thread.hh>

#include <cstdio>

using namespace schedlab;

int main() {
  const unsigned cpu = affinity::thread_affinity().first();
  procs::Thread thread({.name = "placed",
                        .cpus = affinity::CpuSet{cpu},
                        .sched = procs::SchedAttr{.policy = procs::SchedPolicy::batch}},
                       [] {
                         std::printf("on CPU %u under SCHED_%s\n", affinity::current_cpu(),
                                     procs::name(procs::sched_attr().policy));
                       });
  thread.join();
}
