#include "affinity/memory.hh"

#include "lab/base/error.hh"
#include "lab/base/file.hh"
#include "lab/base/mapping.hh"
#include "lab/base/text.hh"

#include <algorithm>
#include <cstdint>
#include <numaif.h>

namespace schedlab::affinity {

namespace {

using Mask = std::vector<unsigned long>;

constexpr unsigned word_bits = 8 * sizeof(unsigned long);
constexpr std::size_t first_words = 1024 / word_bits;  // what x86-64 is built for
constexpr std::size_t last_words = 1u << 12;

// The kernel reads one bit less than it is told.
unsigned long max_node(const Mask& mask) {
  return mask.size() * word_bits + 1;
}

[[noreturn]] void fail(std::string_view call, std::string_view subject) {
  if (errno == EPERM || errno == ENOSYS)
    throw Unsupported(
        std::string(call) + ": " + errno_text(errno) +
        "; memory cannot be placed here (a container needs CAP_SYS_NICE, the kernel " +
        "CONFIG_NUMA)");
  throw_errno(errno, call, subject);
}

void require_allowed(std::span<const unsigned> nodes) {
  const auto allowed = allowed_nodes();
  for (const unsigned node : nodes)
    if (std::find(allowed.begin(), allowed.end(), node) == allowed.end())
      throw BadInput("node " + std::to_string(node) +
                     ": no such node, or not allowed; this process may allocate on node " +
                     CpuSet::from_numbers(allowed).list());
}

Mask mask_of(std::span<const unsigned> nodes) {
  Mask mask(first_words);
  for (const unsigned node : nodes) {
    mask.resize(std::max<std::size_t>(mask.size(), node / word_bits + 1));
    mask[node / word_bits] |= 1ul << (node % word_bits);
  }
  return mask;
}

// The pages that an area touches.
std::vector<void*> pages_of(std::span<const std::byte> area) {
  std::vector<void*> pages;
  if (area.empty())
    return pages;
  const auto begin = reinterpret_cast<std::uintptr_t>(area.data()) & ~(page_size() - 1);
  const auto end = reinterpret_cast<std::uintptr_t>(area.data()) + area.size();
  for (auto page = begin; page < end; page += page_size())
    pages.push_back(reinterpret_cast<void*>(page));
  return pages;
}

int mode_of(Policy policy) {
  switch (policy) {
  case Policy::bind:
    return MPOL_BIND;
  case Policy::preferred:
    return MPOL_PREFERRED;
  case Policy::interleave:
    return MPOL_INTERLEAVE;
  case Policy::first_touch:
    break;
  }
  return MPOL_LOCAL;  // not MPOL_DEFAULT, which would follow a policy of the thread
}

}  // namespace

void set_memory_policy(std::span<std::byte> area, Policy policy, std::span<const unsigned> nodes) {
  const bool local = policy == Policy::first_touch;
  if (!local && nodes.empty())
    throw BadInput("a memory policy needs a node; this process may allocate on node " +
                   CpuSet::from_numbers(allowed_nodes()).list());
  if (!local)
    require_allowed(nodes);
  const Mask mask = mask_of(local ? std::span<const unsigned>{} : nodes);
  // MPOL_LOCAL takes no mask at all.
  if (::mbind(area.data(), area.size(), mode_of(policy), local ? nullptr : mask.data(),
              local ? 0 : max_node(mask), 0) < 0)
    fail("mbind",
         std::to_string(area.size()) + " bytes, node " + CpuSet::from_numbers(nodes).list());
}

NodeScope::NodeScope(unsigned node_os) {
  require_allowed({&node_os, 1});
  before_mask_.resize(first_words);
  while (::get_mempolicy(&before_mode_, before_mask_.data(), max_node(before_mask_) - 1, nullptr,
                         0) < 0) {
    if (errno != EINVAL || before_mask_.size() >= last_words)
      fail("get_mempolicy", {});
    before_mask_.resize(2 * before_mask_.size());
  }
  const Mask mask = mask_of({&node_os, 1});
  if (::set_mempolicy(MPOL_BIND, mask.data(), max_node(mask)) < 0)
    fail("set_mempolicy", "node " + std::to_string(node_os));
}

NodeScope::~NodeScope() {
  const bool has_nodes =
      std::any_of(before_mask_.begin(), before_mask_.end(), [](auto word) { return word != 0; });
  ::set_mempolicy(before_mode_, has_nodes ? before_mask_.data() : nullptr,
                  has_nodes ? max_node(before_mask_) : 0);
}

std::vector<int> nodes_of(std::span<const std::byte> area, pid_t pid) {
  auto pages = pages_of(area);
  std::vector<int> nodes(pages.size());
  if (pages.empty())
    return nodes;
  // Without target nodes it moves nothing and only reports.
  if (::move_pages(pid, pages.size(), pages.data(), nullptr, nodes.data(), 0) < 0)
    fail("move_pages", std::to_string(area.size()) + " bytes");
  return nodes;
}

std::map<unsigned, std::uint64_t> count_pages(std::string_view numa_maps) {
  std::map<unsigned, std::uint64_t> pages;
  for (const auto line : split(numa_maps, '\n')) {
    std::map<unsigned, std::uint64_t> mapped;
    std::uint64_t base_pages = 1;  // in each page of the mapping
    for (const auto word : split(line, ' ')) {
      const auto equals = word.find('=');
      if (equals == std::string_view::npos)
        continue;
      const auto key = word.substr(0, equals);
      const auto value = static_cast<std::uint64_t>(to_number(word.substr(equals + 1)).value_or(0));
      const auto node = key.starts_with('N') ? to_number(key.substr(1)) : std::nullopt;
      if (node)
        mapped[static_cast<unsigned>(*node)] += value;
      else if (key == "kernelpagesize_kB")
        base_pages = value * 1024 / page_size();
    }
    for (const auto& [node, count] : mapped)
      pages[node] += count * base_pages;
  }
  return pages;
}

std::map<unsigned, std::uint64_t> pages_by_node(pid_t pid) {
  const std::string path =
      "/proc/" + (pid == 0 ? std::string("self") : std::to_string(pid)) + "/numa_maps";
  const auto text = read_text(path);
  if (!text)
    throw Unsupported(path + ": " + errno_text(errno) +
                      "; the pages of a node cannot be counted (the kernel needs CONFIG_NUMA)");
  return count_pages(*text);
}

PageMover::PageMover(std::span<std::byte> area)
    : pages_(pages_of(area)), nodes_(pages_.size()), status_(nodes_of(area)) {}

std::uint64_t PageMover::move_to(unsigned node_os) noexcept {
  const int node = static_cast<int>(node_os);
  std::fill(nodes_.begin(), nodes_.end(), node);
  std::fill(status_.begin(), status_.end(), -1);
  ::move_pages(0, pages_.size(), pages_.data(), nodes_.data(), status_.data(), MPOL_MF_MOVE);
  return static_cast<std::uint64_t>(std::count(status_.begin(), status_.end(), node));
}

ProcessMover::ProcessMover(pid_t pid, unsigned from_os, unsigned to_os)
    : pid_(pid), from_(mask_of({&from_os, 1})), to_(mask_of({&to_os, 1})) {
  require_allowed({&to_os, 1});
  // The call takes two masks of one length.
  const std::size_t words = std::max(from_.size(), to_.size());
  from_.resize(words);
  to_.resize(words);
}

std::int64_t ProcessMover::move() const noexcept {
  const long left = ::migrate_pages(pid_, max_node(from_), from_.data(), to_.data());
  return left < 0 ? -errno : left;
}

std::vector<unsigned> allowed_nodes() {
  constexpr std::string_view key = "Mems_allowed_list:";
  const std::string status = read_text("/proc/self/status").value_or("");
  for (const auto line : split(status, '\n'))
    if (line.starts_with(key))
      return CpuSet::from_list(line.substr(key.size())).cpus();
  // A kernel without cpusets: every node.
  const auto online = read_text("/sys/devices/system/node/online");
  return CpuSet::from_list(online.value_or("0")).cpus();
}

std::vector<Node> usable_nodes(const Topology& topology) {
  if (topology.foreign())
    return topology.nodes();
  const auto allowed = allowed_nodes();
  std::vector<Node> nodes;
  for (const auto& node : topology.nodes())
    if (std::find(allowed.begin(), allowed.end(), node.os) != allowed.end())
      nodes.push_back(node);
  return nodes;
}

std::uint64_t available_on(const Node& node) {
  const auto text =
      read_text("/sys/devices/system/node/node" + std::to_string(node.os) + "/meminfo");
  if (!text)
    return node.memory;
  std::uint64_t kib = 0;
  for (const auto line : split(*text, '\n'))
    for (const std::string_view key : {" MemFree:", " Active(file):", " Inactive(file):"})
      if (const auto at = line.find(key); at != std::string_view::npos) {
        const auto number = trim(line.substr(at + key.size()));
        kib +=
            static_cast<std::uint64_t>(to_number(number.substr(0, number.find(' '))).value_or(0));
      }
  return kib * 1024;
}

}  // namespace schedlab::affinity
