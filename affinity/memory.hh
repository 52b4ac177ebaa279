#pragma once
#include "affinity/topology.hh"

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string_view>
#include <sys/types.h>
#include <vector>

namespace schedlab::affinity {

enum class Policy : std::uint8_t { first_touch, bind, preferred, interleave };

// Sets where the pages of an area go when they are first touched. `nodes` are kernel numbers and
// are ignored for first_touch. Pages already there are not moved. Throws std::system_error, or
// BadInput for a node that does not exist or is not allowed.
void set_memory_policy(std::span<std::byte> area, Policy policy, std::span<const unsigned> nodes);

// Memory policy of the calling thread for all that it allocates from now on (libnuma); scope-bound.
class NodeScope {
public:
  explicit NodeScope(unsigned node_os);
  NodeScope(const NodeScope&) = delete;
  NodeScope& operator=(const NodeScope&) = delete;
  ~NodeScope();

private:
  std::vector<unsigned long> before_mask_;
  int before_mode_ = 0;
};

// The node that each page of an area of a process (0: this one) really is on, as the kernel says
// (move_pages): the node's kernel number, or -errno for a page that is not there (-ENOENT: never
// touched).
std::vector<int> nodes_of(std::span<const std::byte> area, pid_t pid = 0);

// How many base pages of a process (0: this one) lie on each node, by the node's kernel number:
// all of its mappings together. Throws Unsupported where the kernel does not tell.
std::map<unsigned, std::uint64_t> pages_by_node(pid_t pid = 0);
// The same from the text of /proc/<pid>/numa_maps.
std::map<unsigned, std::uint64_t> count_pages(std::string_view numa_maps);

// Moves pages of this process to and fro with move_pages. What it needs is made beforehand: moving
// neither throws nor allocates.
class PageMover {
public:
  // Throws what nodes_of throws.
  explicit PageMover(std::span<std::byte> area);
  // Gives how many of the area's pages the call reports to be on the node afterwards.
  [[nodiscard]] std::uint64_t move_to(unsigned node_os) noexcept;
  [[nodiscard]] std::uint64_t pages() const noexcept { return pages_.size(); }

private:
  std::vector<void*> pages_;
  std::vector<int> nodes_;
  std::vector<int> status_;
};

// Moves what a process (0: this one) has on one node to another with migrate_pages. Pages that
// other processes map as well stay where they are. As above: made beforehand.
class ProcessMover {
public:
  // Throws BadInput for a node that does not exist or is not allowed.
  ProcessMover(pid_t pid, unsigned from_os, unsigned to_os);
  // Gives how many pages could not be moved, or -errno.
  [[nodiscard]] std::int64_t move() const noexcept;

private:
  pid_t pid_;
  std::vector<unsigned long> from_;
  std::vector<unsigned long> to_;
};

// The nodes this process may allocate on, kernel numbers.
std::vector<unsigned> allowed_nodes();

// Those nodes of a topology, in its logical order; all of them if it describes another machine.
std::vector<Node> usable_nodes(const Topology& topology);

// Bytes that can still be had on a node of this machine: free, or in the page cache. Binding more
// than that to a node ends in the kernel's killing the process. The size of the node where the
// kernel does not tell.
std::uint64_t available_on(const Node& node);

}  // namespace schedlab::affinity
