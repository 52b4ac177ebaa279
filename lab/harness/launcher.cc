#include "lab/harness/launcher.hh"

#include "lab/base/text.hh"

#include <cstdlib>
#include <span>

namespace schedlab::harness {

namespace {

struct Told {
  const char* key;
  const char* variable;
};

// Recognised by the first variable. In this order: Slurm starts MPI programs too.
struct Known {
  const char* kind;
  std::span<const Told> told;
};
constexpr Told slurm[] = {{"job", "SLURM_JOB_ID"},          {"step", "SLURM_STEP_ID"},
                          {"rank", "SLURM_PROCID"},         {"size", "SLURM_NTASKS"},
                          {"nodes", "SLURM_JOB_NUM_NODES"}, {"cpu_bind", "SLURM_CPU_BIND"}};
constexpr Told openmpi[] = {{"rank", "OMPI_COMM_WORLD_RANK"}, {"size", "OMPI_COMM_WORLD_SIZE"}};
constexpr Told mpich[] = {{"rank", "PMI_RANK"}, {"size", "PMI_SIZE"}};
constexpr Known launchers[] = {{"slurm", slurm}, {"openmpi", openmpi}, {"mpich", mpich}};

// systemd-run names its units run-r<id>.service, run-p<pid>-i<id>.scope, run-u<number>.service.
bool in_transient_unit(const System& system) {
  const auto cgroups = system.text("/proc/self/cgroup").value_or("");
  for (const auto line : split(cgroups, '\n')) {
    const auto unit = line.substr(line.rfind('/') + 1);
    if (unit.starts_with("run-") && (unit.ends_with(".service") || unit.ends_with(".scope")))
      return true;
  }
  return false;
}

const char* environment(const char* name) {
  return std::getenv(name);
}

}  // namespace

Fields launcher(const System& system, const Lookup& lookup) {
  Fields fields = {{"kind", "none"}};
  if (lookup("SSH_CONNECTION"))
    fields[0].second = "ssh";
  if (in_transient_unit(system))
    fields[0].second = "systemd-run";
  for (const auto& known : launchers) {
    if (!lookup(known.told.front().variable))
      continue;
    fields[0].second = known.kind;
    for (const auto& [key, variable] : known.told)
      if (const char* value = lookup(variable))
        fields.emplace_back(key, value);
    break;
  }
  if (const auto inside = container(system, lookup); !inside.empty())
    fields.emplace_back("container", inside);
  return fields;
}

Fields launcher(const System& system) {
  return launcher(system, environment);
}

std::string container(const System& system, const Lookup& lookup) {
  if (lookup("KUBERNETES_SERVICE_HOST"))
    return "kubernetes";
  if (system.exists("/.dockerenv"))
    return "docker";
  if (system.exists("/run/.containerenv"))
    return "podman";
  // Set by systemd-nspawn, LXC and Podman for what they start.
  if (const char* name = lookup("container"))
    return name;
  if (const auto name = system.text("/run/systemd/container"))
    return *name;
  const auto cgroups = system.text("/proc/self/cgroup").value_or("");
  for (const auto& [part, name] : {std::pair{"/kubepods", "kubernetes"},
                                   {"/docker", "docker"},
                                   {"/libpod", "podman"},
                                   {"/lxc", "lxc"}})
    if (cgroups.find(part) != std::string::npos)
      return name;
  return "";
}

std::string container(const System& system) {
  return container(system, environment);
}

}  // namespace schedlab::harness
