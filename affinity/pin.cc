#include "affinity/pin.hh"

#include "affinity/limits.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"

#include <algorithm>
#include <cassert>
#include <hwloc/bitmap.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

namespace schedlab::affinity {

namespace {

constexpr std::size_t first_words = 16;       // 1024 CPUs
constexpr std::size_t last_words = 1u << 15;  // more CPUs than any kernel is built for

std::string described(const CpuSet& cpus) {
  return cpus.empty() ? "no CPU" : (cpus.count() == 1 ? "CPU " : "CPUs ") + cpus.list();
}

// What was asked for, beside what there is, for an error message.
std::string subject(const CpuSet& wanted) {
  std::string text = described(wanted);
  if (const auto online = read_text("/sys/devices/system/cpu/online"))
    text += "; online: " + *online;
  if (const auto cpuset = cgroup_limits().cpuset)
    text += "; the cgroup allows " + cpuset->list();
  return text;
}

}  // namespace

// The raw system calls, because libc's mask has a fixed size and hwloc asks for a topology.
CpuSet thread_affinity(pid_t tid) {
  for (std::size_t words = first_words;; words *= 2) {
    std::vector<unsigned long> mask(words);
    const long got = ::syscall(SYS_sched_getaffinity, tid, words * sizeof mask[0], mask.data());
    const int error = errno;  // naming the subject may change it
    if (got < 0 && (error != EINVAL || words >= last_words))
      throw_errno(error, "sched_getaffinity", tid == 0 ? "" : "thread " + std::to_string(tid));
    if (got < 0)
      continue;
    CpuSet cpus;
    for (unsigned cpu = 0; cpu < words * 8 * sizeof mask[0]; ++cpu)
      if (mask[cpu / (8 * sizeof mask[0])] >> (cpu % (8 * sizeof mask[0])) & 1)
        cpus.add(cpu);
    return cpus;
  }
}

void bind_thread(pid_t tid, const CpuSet& cpus) {
  const int needed = hwloc_bitmap_nr_ulongs(cpus.hwloc());
  assert(needed >= 0);
  std::vector<unsigned long> mask(std::max<std::size_t>(1, static_cast<std::size_t>(needed)));
  hwloc_bitmap_to_ulongs(cpus.hwloc(), static_cast<unsigned>(mask.size()), mask.data());
  const long set = ::syscall(SYS_sched_setaffinity, tid, mask.size() * sizeof mask[0], mask.data());
  const int error = errno;  // naming the subject may change it
  if (set < 0)
    throw_errno(error, "sched_setaffinity", subject(cpus));
  const CpuSet granted = thread_affinity(tid);
  if (granted != cpus)
    throw Unsupported("asked for " + described(cpus) + ", the kernel granted " +
                      described(granted) + "; name only CPUs that the cgroup allows and that are " +
                      "online (schedlab topology shows them)");
}

unsigned current_cpu() noexcept {
  return static_cast<unsigned>(::sched_getcpu());
}

Pin::Pin(unsigned cpu) : Pin(CpuSet{cpu}) {}

Pin::Pin(const CpuSet& cpus) : before_(thread_affinity()) {
  const auto undo = [this] {
    try {
      bind_thread(0, before_);
    } catch (...) {  // the first error is the one to tell
    }
  };
  try {
    bind_thread(0, cpus);
  } catch (...) {
    undo();
    throw;
  }
  const unsigned cpu = current_cpu();
  if (cpus.contains(cpu))
    return;
  undo();
  throw Unsupported("bound to " + described(cpus) + ", but running on CPU " + std::to_string(cpu) +
                    "; this kernel or emulator does not honour sched_setaffinity");
}

Pin::~Pin() {
  try {
    bind_thread(0, before_);
  } catch (...) {  // the cgroup has shrunk meanwhile: the kernel has then moved the thread itself
  }
}

void require_this_machine(const Topology& topology) {
  if (topology.foreign())
    throw Unsupported("this topology describes another machine (" + topology.shape() +
                      "): a placement can be shown but nothing can be pinned; leave the topology " +
                      "input out to use this machine");
}

}  // namespace schedlab::affinity
