#include "lab/harness/environment_parts.hh"

#include "affinity/limits.hh"
#include "lab/base/text.hh"
#include "lab/harness/launcher.hh"

#include <nlohmann/json.hpp>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <time.h>

#include <array>
#include <cmath>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace schedlab::harness {

namespace {

using nlohmann::ordered_json;

constexpr std::string_view kernel_sysctl = "/proc/sys/kernel/";

// What the kernel names itself, from files, so that a made-up tree can have its own.
void add_version(Section& section) {
  section.text("release", "/proc/sys/kernel/osrelease");
  section.text("version", "/proc/sys/kernel/version");
  const auto version = section.files().text("/proc/sys/kernel/version").value_or("");
  std::string model = "not in its version";
  for (const auto* word : {"PREEMPT_DYNAMIC", "PREEMPT_RT", "PREEMPT_LAZY", "PREEMPT"})
    if (version.find(word) != std::string::npos) {
      model = word;
      break;
    }
  if (model.starts_with("PREEMPT"))
    section.set("preempt", model);
  else
    section.set("preempt", "none or voluntary");
  section.choice("preempt_mode", "/sys/kernel/debug/sched/preempt");
}

// The coarse clocks step once a tick.
void add_tick(Section& section) {
  timespec step{};
  if (section.files().live() && ::clock_getres(CLOCK_MONOTONIC_COARSE, &step) == 0 &&
      step.tv_nsec > 0)
    section.set("hz", std::lround(1e9 / static_cast<double>(step.tv_nsec)));
  else
    section.missing("hz", "not measured");
}

ordered_json mitigations(const System& system) {
  const std::string folder = "/sys/devices/system/cpu/vulnerabilities";
  ordered_json found = ordered_json::object();
  for (const auto& name : system.names(folder))
    if (const auto text = system.text(folder + "/" + name))
      found[name] = *text;
  return found;
}

#if defined(__x86_64__)
// The twelve letters of CPUID leaf 0x40000000. CPUID traps here; nothing is being measured yet.
std::string hypervisor_signature() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx >> 31))
    return "";
  __cpuid(0x40000000, eax, ebx, ecx, edx);
  std::array<char, 13> letters{};
  for (std::size_t i = 0; const unsigned part : {ebx, ecx, edx})
    std::memcpy(&letters[4 * i++], &part, 4);
  return letters.data();
}
#else
std::string hypervisor_signature() {
  return "";
}
#endif

std::string hypervisor_name(const std::string& signature) {
  for (const auto& [text, name] : {std::pair{"KVMKVMKVM", "kvm"},
                                   {"VMwareVMware", "vmware"},
                                   {"Microsoft Hv", "hyperv"},
                                   {"XenVMMXenVMM", "xen"},
                                   {"TCGTCGTCGTCG", "qemu"},
                                   {"bhyve bhyve ", "bhyve"},
                                   {"ACRNACRNACRN", "acrn"},
                                   {"prl hyperv", "parallels"}})
    if (signature.starts_with(text))
      return name;
  return signature.empty() ? "unnamed" : signature;
}

// "none", a name, or "unnamed" for one that the CPU admits and does not name.
std::string hypervisor(const System& system) {
  const auto signature = system.live() ? hypervisor_signature() : "";
  if (!signature.empty())
    return hypervisor_name(signature);
  if (const auto type = system.text("/sys/hypervisor/type"))
    return *type;
  const auto info = system.text("/proc/cpuinfo").value_or("");
  const auto flags = value_of(info, "flags").value_or("");
  return (" " + flags + " ").find(" hypervisor ") == std::string::npos ? "none" : "unnamed";
}

std::optional<std::uint64_t> bytes(const std::string& meminfo, std::string_view key) {
  const auto kib = number_of(meminfo, key);
  return kib ? std::optional(static_cast<std::uint64_t>(*kib) * 1024) : std::nullopt;
}

void add_rlimits(Section& section) {
  ordered_json limits = ordered_json::object();
  for (const auto& [name, resource] : {std::pair{"memlock", RLIMIT_MEMLOCK},
                                       {"nofile", RLIMIT_NOFILE},
                                       {"nproc", RLIMIT_NPROC},
                                       {"rtprio", RLIMIT_RTPRIO},
                                       {"nice", RLIMIT_NICE}}) {
    rlimit limit{};
    if (::getrlimit(resource, &limit) != 0)
      continue;
    limits[name] =
        limit.rlim_cur == RLIM_INFINITY ? ordered_json("unlimited") : ordered_json(limit.rlim_cur);
  }
  section.set("rlimits", limits);
}

void add_cgroup(Section& section) {
  const auto limits = affinity::cgroup_limits(section.files().root());
  const std::string none = "no cgroup sets it";
  section.set("cgroup_version", limits.version);
  section.set("cgroup_path", limits.path);
  section.set_or("quota_cpus", limits.quota_cpus, none);
  const auto& cpuset = limits.cpuset;
  section.set_or("cpuset", cpuset ? std::optional(cpuset->list()) : std::nullopt, none);
  section.set_or("memory_nodes", limits.memory_nodes, none);
  section.set_or("memory_max", limits.memory_max, none);
  section.set_or("pids_max", limits.pids_max, none);
}

const char* policy_name(int policy) {
  switch (policy & ~SCHED_RESET_ON_FORK) {
  case SCHED_OTHER:
    return "other";
  case SCHED_FIFO:
    return "fifo";
  case SCHED_RR:
    return "rr";
  case SCHED_BATCH:
    return "batch";
  case SCHED_IDLE:
    return "idle";
  default:
    return "another";
  }
}

const char* clock_name(clock::Source source) {
  switch (source) {
  case clock::Source::tsc:
    return "tsc";
  case clock::Source::cntvct:
    return "cntvct";
  case clock::Source::monotonic_raw:
    break;
  }
  return "CLOCK_MONOTONIC_RAW";
}

}  // namespace

void add_kernel(Section section) {
  add_version(section);
  add_tick(section);
  section.text("command_line", "/proc/cmdline");
  section.set("mitigations", mitigations(section.files()));
  section.text("sched_ext", "/sys/kernel/sched_ext/state");
  section.number("base_slice_ns", "/sys/kernel/debug/sched/base_slice_ns");
  for (const auto* name :
       {"sched_autogroup_enabled", "sched_rt_runtime_us", "sched_rt_period_us", "numa_balancing",
        "perf_event_paranoid", "randomize_va_space", "nmi_watchdog", "tainted"})
    section.number(name, std::string(kernel_sysctl) + name);
  section.choice("lockdown", "/sys/kernel/security/lockdown");
  section.choice("transparent_hugepage", "/sys/kernel/mm/transparent_hugepage/enabled");
  section.choice("transparent_hugepage_defrag", "/sys/kernel/mm/transparent_hugepage/defrag");
}

void add_virt(Section section) {
  section.set("hypervisor", hypervisor(section.files()));
  const auto where = container(section.files());
  section.set("container", where.empty() ? "none" : where);
  section.text("product", "/sys/class/dmi/id/product_name");
  const auto stat = section.files().text("/proc/stat").value_or("");
  const auto total = words_of(value_of(stat, "cpu").value_or(""));
  section.set_or("steal_ticks", total.size() > 7 ? to_number(total[7]) : std::nullopt,
                 "/proc/stat has no such column");
}

void add_memory(Section section) {
  const auto info = section.files().text("/proc/meminfo").value_or("");
  const std::string none = "/proc/meminfo has no such line";
  section.set_or("total", bytes(info, "MemTotal"), none);
  section.set_or("available", bytes(info, "MemAvailable"), none);
  section.set_or("swap_total", bytes(info, "SwapTotal"), none);
  section.set_or("swap_free", bytes(info, "SwapFree"), none);
  section.set_or("hugepages", number_of(info, "HugePages_Total"), none);
  section.set_or("hugepage_size", bytes(info, "Hugepagesize"), none);
}

void add_clock(Section section, const clock::Calibration& calibration) {
  const std::string folder = "/sys/devices/system/clocksource/clocksource0/";
  section.text("source", folder + "current_clocksource");
  const auto available = section.files().text(folder + "available_clocksource");
  ordered_json names = ordered_json::array();
  for (const auto& name : words_of(available.value_or("")))
    names.push_back(name);
  section.set("available", names);
  section.set("measured_with", clock_name(calibration.source));
  section.set("reason", calibration.reason);
  section.set("ns_per_tick", calibration.ns_per_tick);
}

// What bounds the channels between processes, beside memlock.
void add_channel_limits(Section& section) {
  section.number("pipe_max_size", "/proc/sys/fs/pipe-max-size");
  section.number("mq_msg_max", "/proc/sys/fs/mqueue/msg_max");
  section.number("mq_msgsize_max", "/proc/sys/fs/mqueue/msgsize_max");
  section.number("unix_max_dgram_qlen", "/proc/sys/net/unix/max_dgram_qlen");
  section.number("socket_buffer_default", "/proc/sys/net/core/wmem_default");
}

void add_limits(Section section, const affinity::Topology& topology) {
  section.set("usable_cpus", topology.usable().count());
  add_cgroup(section);
  const auto status = section.files().text("/proc/self/status").value_or("");
  const std::string none = "/proc/self/status has no such line";
  section.set_or("capabilities", value_of(status, "CapEff"), none);
  section.set_or("seccomp", number_of(status, "Seccomp"), none);
  const auto map = words_of(section.files().text("/proc/self/uid_map").value_or(""));
  section.set_or("user_namespace",
                 map.size() >= 3 ? std::optional(map[2] != "4294967295") : std::nullopt,
                 section.files().objection("/proc/self/uid_map"));
  add_channel_limits(section);
  if (!section.files().live())
    return;
  struct statvfs shm {};
  section.set_or("shm_size",
                 ::statvfs("/dev/shm", &shm) == 0 ? std::optional(shm.f_frsize * shm.f_blocks)
                                                  : std::nullopt,
                 "/dev/shm is not there");
  section.set("sched_policy", policy_name(::sched_getscheduler(0)));
  add_rlimits(section);
}

void add_io_uring(Section section) {
  section.number("disabled", "/proc/sys/kernel/io_uring_disabled");
}

}  // namespace schedlab::harness
