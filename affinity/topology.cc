#include "affinity/topology.hh"

#include "affinity/handle.hh"
#include "affinity/pin.hh"
#include "affinity/read_tree.hh"
#include "affinity/synthetic.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstdlib>
#include <hwloc.h>
#include <set>
#include <unistd.h>

namespace schedlab::affinity {

namespace {

// An environment variable for a scope, unless the user has set it.
class Default {
public:
  Default(const char* variable, const char* value)
      : variable_(::getenv(variable) ? nullptr : variable) {
    if (variable_)
      check(::setenv(variable_, value, 1), "setenv", variable_);
  }
  Default(const Default&) = delete;
  Default& operator=(const Default&) = delete;
  ~Default() {
    if (variable_)
      ::unsetenv(variable_);
  }

private:
  const char* variable_;
};

// What a variable holds; null where it is unset or empty.
const char* set_variable(const char* name) {
  const char* value = ::getenv(name);
  return value && *value ? value : nullptr;
}

void refuse_too_large(const std::string& description) {
  if (described_pus(description) > max_described_pus)
    throw BadInput("'" + description + "': describes more than " +
                   std::to_string(max_described_pus) + " PUs, the most that are taken");
}

// hwloc says "Invalid argument" where it finds no CPU.
[[noreturn]] void throw_not_loaded(int error) {
  const char* root = set_variable("HWLOC_FSROOT");
  const std::string folder = (root ? root : "") + std::string("/sys/devices/system/cpu");
  if (::access((folder + "/cpu0/topology").c_str(), F_OK) == 0)
    throw_errno(error, "hwloc_topology_load");
  throw Unsupported(folder + ": has no topology of the CPUs, so that none can be chosen; " +
                    "mount it: mount -t sysfs sysfs /sys");
}

constexpr std::size_t max_xml = 64u << 20;

constexpr std::array<const char*, 9> relation_names = {
    "same-pu", "smt", "l2", "l3", "die", "numa", "package", "remote", "unpinned"};

Relation relate(const Cpu& a, const Cpu& b) {
  const auto shared = [&](int Cpu::*object) { return a.*object >= 0 && a.*object == b.*object; };
  if (a.os == b.os)
    return Relation::same_pu;
  if (shared(&Cpu::core))
    return Relation::smt;
  if (shared(&Cpu::l2))
    return Relation::l2;
  if (shared(&Cpu::l3))
    return Relation::l3;
  if (shared(&Cpu::die))
    return Relation::die;
  if (shared(&Cpu::numa))
    return Relation::numa;
  return shared(&Cpu::package) ? Relation::package : Relation::remote;
}

std::string count_of(std::size_t count, const std::string& what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::string size_text(std::uint64_t bytes) {
  return bytes >= 1u << 20 ? std::to_string(bytes >> 20) + " MiB"
                           : std::to_string(bytes >> 10) + " KiB";
}

// ", 2 x L3 32 MiB" for the outermost level of cache; all sizes where they differ.
std::string outer_cache(const std::vector<Cache>& caches) {
  int level = 0;
  for (const auto& cache : caches)
    level = std::max(level, cache.type == 'i' ? 0 : cache.level);
  std::size_t count = 0;
  std::set<std::uint64_t> sizes;
  for (const auto& cache : caches)
    if (cache.level == level && cache.type != 'i') {
      ++count;
      sizes.insert(cache.size);
    }
  std::string text;
  if (count > 0)
    text = ", " + (count > 1 ? std::to_string(count) + " x " : "") + "L" + std::to_string(level);
  for (const auto size : sizes)
    text += (size == *sizes.begin() ? " " : "/") + size_text(size);
  return text;
}

}  // namespace

const char* name(Relation relation) {
  return relation_names[static_cast<std::size_t>(relation)];
}

std::optional<Relation> relation_from(std::string_view name) {
  const auto found = std::find(relation_names.begin(), relation_names.end(), name);
  if (found == relation_names.end())
    return std::nullopt;
  return static_cast<Relation>(found - relation_names.begin());
}

struct Topology::Data {
  Handle topology;
  bool foreign = false;
  std::vector<Kind> kinds;
  std::vector<Cpu> cpus;
  std::vector<int> by_os;  // index into cpus, -1 for a number without a CPU
  std::vector<Cache> caches;
  std::vector<Node> nodes;
  std::vector<std::uint64_t> node_distances;
  CpuSet online, offline, allowed, affinity, usable;

  explicit Data(Handle loaded);
};

Topology::Data::Data(Handle loaded)
    : topology(std::move(loaded)), foreign(!hwloc_topology_is_thissystem(topology.get())),
      kinds(read_kinds(topology.get())), cpus(read_cpus(topology.get(), kinds)),
      caches(read_caches(topology.get())), nodes(read_nodes(topology.get())),
      node_distances(read_node_distances(topology.get())) {
  const auto set = [](hwloc_const_cpuset_t cpuset) { return CpuSet::from_hwloc(cpuset); };
  online = set(hwloc_topology_get_topology_cpuset(topology.get()));
  offline = set(hwloc_topology_get_complete_cpuset(topology.get())) - online;
  allowed = set(hwloc_topology_get_allowed_cpuset(topology.get()));
  affinity = foreign ? online : thread_affinity();
  usable = allowed & affinity & online;
  for (std::size_t i = 0; i < cpus.size(); ++i) {
    by_os.resize(std::max<std::size_t>(by_os.size(), cpus[i].os + 1), -1);
    by_os[cpus[i].os] = static_cast<int>(i);
  }
}

Topology Topology::machine() {
  // Left to itself, hwloc would silently take this machine for a description it cannot read.
  if (const char* path = set_variable("HWLOC_XMLFILE"))
    return from_xml(path);
  if (const char* description = set_variable("HWLOC_SYNTHETIC"))
    return from_synthetic(description);
  const Default quiet("HWLOC_HIDE_ERRORS", "2");
  const Default components("HWLOC_COMPONENTS", "linux,stop");
  Handle handle = make_topology();
  if (hwloc_topology_load(handle.get()) < 0)
    throw_not_loaded(errno);
  return Topology(std::make_unique<Data>(std::move(handle)));
}

Topology Topology::from_xml(const std::string& path) {
  const Default quiet("HWLOC_HIDE_ERRORS", "2");
  const std::string text = read_input(path, max_xml);
  Handle handle = make_topology();
  // hwloc counts the terminating zero.
  if (hwloc_topology_set_xmlbuffer(handle.get(), text.c_str(), static_cast<int>(text.size() + 1)) <
          0 ||
      hwloc_topology_load(handle.get()) < 0)
    throw BadInput(path + ": is no topology that hwloc can read here: XML of version 2, as " +
                   "lstopo --of xml writes");
  return Topology(std::make_unique<Data>(std::move(handle)));
}

Topology Topology::from_synthetic(const std::string& description) {
  refuse_too_large(description);
  const Default quiet("HWLOC_HIDE_ERRORS", "2");
  Handle handle = make_topology();
  if (hwloc_topology_set_synthetic(handle.get(), description.c_str()) < 0 ||
      hwloc_topology_load(handle.get()) < 0)
    throw BadInput("'" + description + "': is not a synthetic topology such as " +
                   "'pack:2 l3:1 core:4 pu:2'");
  return Topology(std::make_unique<Data>(std::move(handle)));
}

Topology Topology::from_input(const std::string& input) {
  if (::access(input.c_str(), F_OK) == 0)
    return from_xml(input);
  refuse_too_large(input);
  try {
    return from_synthetic(input);
  } catch (const BadInput&) {
    throw BadInput("'" + input + "': is neither a file nor a synthetic topology such as " +
                   "'pack:2 l3:1 core:4 pu:2'");
  }
}

Topology::Topology(std::unique_ptr<Data> data) : data_(std::move(data)) {}
Topology::Topology(Topology&&) noexcept = default;
Topology& Topology::operator=(Topology&&) noexcept = default;
Topology::~Topology() = default;

bool Topology::foreign() const noexcept {
  return data_->foreign;
}
const std::vector<Cpu>& Topology::cpus() const noexcept {
  return data_->cpus;
}
const std::vector<Cache>& Topology::caches() const noexcept {
  return data_->caches;
}
const std::vector<Node>& Topology::nodes() const noexcept {
  return data_->nodes;
}
const std::vector<Kind>& Topology::kinds() const noexcept {
  return data_->kinds;
}
const std::vector<std::uint64_t>& Topology::node_distances() const noexcept {
  return data_->node_distances;
}
const CpuSet& Topology::online() const noexcept {
  return data_->online;
}
const CpuSet& Topology::offline() const noexcept {
  return data_->offline;
}
const CpuSet& Topology::allowed() const noexcept {
  return data_->allowed;
}
const CpuSet& Topology::affinity() const noexcept {
  return data_->affinity;
}
const CpuSet& Topology::usable() const noexcept {
  return data_->usable;
}
hwloc_topology* Topology::hwloc() const noexcept {
  return data_->topology.get();
}

const Cpu* Topology::find(unsigned os) const noexcept {
  if (os >= data_->by_os.size() || data_->by_os[os] < 0)
    return nullptr;
  return &data_->cpus[static_cast<std::size_t>(data_->by_os[os])];
}

Relation Topology::relation(unsigned os_a, unsigned os_b) const {
  const Cpu* a = find(os_a);
  const Cpu* b = find(os_b);
  assert(a && b);
  return relate(*a, *b);
}

std::string Topology::label(unsigned os) const {
  const Cpu* cpu = find(os);
  return "L#" + (cpu ? std::to_string(cpu->logical) : "-") + "(P#" + std::to_string(os) + ")";
}

std::string Topology::shape() const {
  const auto count = [&](hwloc_obj_type_t type) { return objects_in_tree(hwloc(), type).size(); };
  std::string text;
  if (const auto packages = count(HWLOC_OBJ_PACKAGE))
    text += count_of(packages, "package") + ", ";
  if (const auto dies = count(HWLOC_OBJ_DIE))
    text += count_of(dies, "die") + ", ";
  text += count_of(nodes().size(), "node") + ", ";
  if (const auto cores = count(HWLOC_OBJ_CORE))
    text += count_of(cores, "core") + ", ";
  return text + count_of(cpus().size(), "PU") + outer_cache(caches());
}

std::uint64_t Topology::cache_size(unsigned os, int level) const {
  std::uint64_t size = 0;
  for (const auto& cache : caches())
    if (cache.level == level && cache.type != 'i' && cache.cpus.contains(os))
      size = std::max(size, cache.size);
  return size;
}

std::string Topology::xml() const {
  return xml_of(hwloc());
}

}  // namespace schedlab::affinity
