#pragma once
#include "affinity/cpu_set.hh"
#include "affinity/topology.hh"

#include <sys/types.h>

namespace schedlab::affinity {

// Binds a thread (0: the caller) of this machine to CPUs and reads the mask back. Throws
// std::system_error (EINVAL where the cgroup or hotplug took the CPU away), or Unsupported if the
// kernel granted another mask than the one asked for.
void bind_thread(pid_t tid, const CpuSet& cpus);

// The mask in force for a thread (0: the caller).
CpuSet thread_affinity(pid_t tid = 0);

// The CPU the caller runs on now.
unsigned current_cpu() noexcept;

// Keeps the calling thread on some CPUs for a scope, then gives it its old mask back. Built and
// destroyed by the same thread. After binding, the CPU is read back.
class Pin {
public:
  explicit Pin(unsigned cpu);
  explicit Pin(const CpuSet& cpus);
  Pin(const Pin&) = delete;
  Pin& operator=(const Pin&) = delete;
  ~Pin();

private:
  CpuSet before_;
};

// Throws Unsupported if the topology describes another machine: hwloc would bind nothing and say
// that all went well.
void require_this_machine(const Topology& topology);

}  // namespace schedlab::affinity
