#pragma once
#include "affinity/topology.hh"

#include <cstddef>
#include <span>
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

// The node that each page of an area really is on, as the kernel says (move_pages): the node's
// kernel number, or -errno for a page that is not there (-ENOENT: never touched).
std::vector<int> nodes_of(std::span<const std::byte> area);

// The nodes this process may allocate on, kernel numbers.
std::vector<unsigned> allowed_nodes();

}  // namespace schedlab::affinity
