#include "affinity/memory.hh"

#include "affinity/pin.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <numaif.h>

using namespace schedlab;
using namespace schedlab::affinity;
namespace ut = boost::unit_test;

namespace {

constexpr std::size_t pages = 8;
constexpr unsigned no_such_node = 900;

// Containers may refuse the calls.
boost::test_tools::assertion_result can_place(ut::test_unit_id) {
  try {
    const auto memory = Mapping::private_memory(page_size());
    set_memory_policy(memory.bytes(), Policy::first_touch, {});
    nodes_of(memory.bytes());
    return true;
  } catch (const Unsupported& why) {
    boost::test_tools::assertion_result no(false);
    no.message() << why.what();
    return no;
  }
}

std::vector<int> touched(Policy policy, const std::vector<unsigned>& nodes) {
  const auto memory = Mapping::private_memory(pages * page_size());
  set_memory_policy(memory.bytes(), policy, nodes);
  std::memset(memory.data(), 1, memory.size());
  return nodes_of(memory.bytes());
}

int current_policy() {
  int mode = -1;
  check(::get_mempolicy(&mode, nullptr, 0, nullptr, 0), "get_mempolicy");
  return mode;
}

}  // namespace

BOOST_AUTO_TEST_CASE(there_is_a_node_to_allocate_on) {
  BOOST_TEST(!allowed_nodes().empty());
}

BOOST_AUTO_TEST_CASE(bound_memory_is_on_its_node, *ut::precondition(can_place)) {
  for (const unsigned node : allowed_nodes())
    for (const auto policy : {Policy::bind, Policy::preferred}) {
      const auto where = touched(policy, {node});
      BOOST_TEST(where.size() == pages);
      BOOST_TEST(std::count(where.begin(), where.end(), static_cast<int>(node)) ==
                 static_cast<std::ptrdiff_t>(pages));
    }
}

BOOST_AUTO_TEST_CASE(interleaved_memory_is_on_every_node, *ut::precondition(can_place)) {
  const auto nodes = allowed_nodes();
  const auto where = touched(Policy::interleave, nodes);
  for (std::size_t i = 0; i < std::min(nodes.size(), pages); ++i)
    BOOST_TEST(std::count(where.begin(), where.end(), static_cast<int>(nodes[i])) > 0);
}

BOOST_AUTO_TEST_CASE(memory_lands_where_it_is_first_touched, *ut::precondition(can_place)) {
  const auto machine = Topology::machine();
  for (const unsigned cpu : machine.usable().cpus()) {
    const Pin pin(cpu);
    const int home = machine.find(cpu)->numa_os;
    for (const int node : touched(Policy::first_touch, {}))
      BOOST_TEST((home < 0 || node == home));
  }
}

BOOST_AUTO_TEST_CASE(a_page_that_was_never_touched_is_nowhere, *ut::precondition(can_place)) {
  const auto memory = Mapping::private_memory(pages * page_size());
  const auto where = nodes_of(memory.bytes());
  BOOST_TEST(std::count(where.begin(), where.end(), -ENOENT) == static_cast<std::ptrdiff_t>(pages));
  BOOST_TEST(nodes_of({}).empty());
  BOOST_TEST(nodes_of(memory.bytes().subspan(page_size() - 1, 2)).size() == 2u);
}

BOOST_AUTO_TEST_CASE(a_node_that_is_not_there_is_named_beside_those_that_are) {
  const auto memory = Mapping::private_memory(page_size());
  const std::array<unsigned, 1> nodes = {no_such_node};
  BOOST_CHECK_EXCEPTION(set_memory_policy(memory.bytes(), Policy::bind, nodes), BadInput,
                        says("node 900: no such node, or not allowed; this process may "
                             "allocate on node " +
                             std::to_string(allowed_nodes().front())));
  BOOST_CHECK_THROW(set_memory_policy(memory.bytes(), Policy::interleave, {}), BadInput);
  BOOST_CHECK_THROW(NodeScope{no_such_node}, BadInput);
}

BOOST_AUTO_TEST_CASE(a_policy_begins_on_a_page, *ut::precondition(can_place)) {
  const auto memory = Mapping::private_memory(2 * page_size());
  const auto nodes = allowed_nodes();
  BOOST_CHECK_THROW(set_memory_policy(memory.bytes().subspan(1), Policy::bind, nodes),
                    std::system_error);
}

BOOST_AUTO_TEST_CASE(a_node_scope_ends_with_the_policy_it_found, *ut::precondition(can_place)) {
  const int before = current_policy();
  {
    const NodeScope outer(allowed_nodes().front());
    BOOST_TEST(current_policy() == MPOL_BIND);
    {
      const NodeScope inner(allowed_nodes().back());
      const auto memory = Mapping::private_memory(page_size());
      std::memset(memory.data(), 1, memory.size());
      BOOST_TEST(nodes_of(memory.bytes()).front() == static_cast<int>(allowed_nodes().back()));
    }
    BOOST_TEST(current_policy() == MPOL_BIND);
  }
  BOOST_TEST(current_policy() == before);
}
