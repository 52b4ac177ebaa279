#include "affinity/memory.hh"

#include "affinity/pin.hh"
#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "lab/base/mapping.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <numaif.h>
#include <unistd.h>

using namespace schedlab;
using namespace schedlab::affinity;
namespace ut = boost::unit_test;

namespace {

constexpr std::size_t pages = 8;
constexpr unsigned no_such_node = 900;

// Containers may refuse the calls.
boost::test_tools::assertion_result can_place(ut::test_unit_id) {
  return possible([] {
    const auto memory = Mapping::private_memory(page_size());
    set_memory_policy(memory.bytes(), Policy::first_touch, {});
    nodes_of(memory.bytes());
  });
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

BOOST_AUTO_TEST_CASE(pages_are_counted_by_node_in_units_of_base_pages) {
  const auto pages_of_two_mib = (std::uint64_t{2} << 20) / page_size();
  const auto base_kib = std::to_string(page_size() / 1024);
  const auto counted = count_pages(
      "557a default file=/usr/bin/N3=4 mapped=2 N0=2 kernelpagesize_kB=" + base_kib + "\n" +
      "7f00 bind:1 anon=7 dirty=7 N0=3 N1=4 kernelpagesize_kB=" + base_kib + "\n" +
      "7f80 default huge anon=2 dirty=2 N1=2 kernelpagesize_kB=2048\n" + "7fff default\n");
  const std::map<unsigned, std::uint64_t> expected = {{0, 5}, {1, 4 + 2 * pages_of_two_mib}};
  BOOST_TEST((counted == expected));
  BOOST_TEST(count_pages("").empty());
  BOOST_TEST(count_pages("N=1 Nx=2 =3 N0\n").empty());
}

BOOST_AUTO_TEST_CASE(pages_that_are_written_are_counted_where_they_lie,
                     *ut::precondition(can_place)) {
  constexpr std::size_t many = 512;
  const auto sum = [] {
    std::uint64_t all = 0;
    for (const auto& [node, count] : pages_by_node())
      all += count;
    return all;
  };
  const auto memory = Mapping::private_memory(many * page_size());
  const auto before = sum();
  std::memset(memory.data(), 1, memory.size());
  BOOST_TEST(sum() >= before + many);
  BOOST_CHECK_THROW(pages_by_node(-7), Unsupported);
}

BOOST_AUTO_TEST_CASE(moved_pages_are_where_they_were_sent, *ut::precondition(can_place)) {
  const auto memory = Mapping::private_memory(pages * page_size());
  std::memset(memory.data(), 1, memory.size());
  PageMover mover(memory.bytes());
  BOOST_TEST(mover.pages() == pages);
  for (const unsigned node : allowed_nodes()) {
    BOOST_TEST(mover.move_to(node) == pages);
    const auto where = nodes_of(memory.bytes());
    BOOST_TEST(std::count(where.begin(), where.end(), static_cast<int>(node)) ==
               static_cast<std::ptrdiff_t>(pages));
  }
}

BOOST_AUTO_TEST_CASE(pages_are_not_moved_that_are_not_there_or_have_nowhere_to_go,
                     *ut::precondition(can_place)) {
  const auto memory = Mapping::private_memory(pages * page_size());
  PageMover mover(memory.bytes());
  BOOST_TEST(mover.move_to(allowed_nodes().front()) == 0u);  // never touched
  std::memset(memory.data(), 1, memory.size() / 2);
  BOOST_TEST(mover.move_to(allowed_nodes().front()) == pages / 2);
  BOOST_TEST(mover.move_to(no_such_node) == 0u);
}

BOOST_AUTO_TEST_CASE(a_process_can_be_told_to_move_and_a_node_that_is_not_there_is_refused,
                     *ut::precondition(can_place)) {
  const unsigned node = allowed_nodes().front();
  BOOST_TEST(ProcessMover(0, node, node).move() >= 0);
  BOOST_TEST(ProcessMover(-7, node, node).move() < 0);
  BOOST_CHECK_THROW(ProcessMover(0, node, no_such_node), BadInput);
}

BOOST_AUTO_TEST_CASE(the_pages_of_another_process_can_be_asked_for, *ut::precondition(can_place)) {
  const auto memory = Mapping::private_memory(pages * page_size());
  const Pipe ready = make_pipe();
  const Child child = Child::fork([&]() -> int {
    std::memset(memory.data(), 1, memory.size());
    static_cast<void>(!::write(ready.write.get(), "r", 1));
    for (;;)
      ::pause();
  });
  char word = 0;
  BOOST_TEST_REQUIRE(::read(ready.read.get(), &word, 1) == 1);
  const auto there = nodes_of(memory.bytes(), child.pid());
  const auto here = nodes_of(memory.bytes());
  BOOST_TEST(std::count_if(there.begin(), there.end(), [](int node) { return node >= 0; }) ==
             static_cast<std::ptrdiff_t>(pages));
  BOOST_TEST(std::count(here.begin(), here.end(), -ENOENT) == static_cast<std::ptrdiff_t>(pages));
}

BOOST_AUTO_TEST_CASE(the_nodes_of_another_machine_are_all_usable_and_those_here_as_allowed) {
  BOOST_TEST(usable_nodes(fixture("cpuless_node")).size() == 3u);
  const auto here = usable_nodes(Topology::machine());
  BOOST_TEST(here.size() == allowed_nodes().size());
  for (const auto& node : here)
    BOOST_TEST(available_on(node) > 0u);
  Node unknown;
  unknown.os = no_such_node;
  unknown.memory = 4096;
  BOOST_TEST(available_on(unknown) == 4096u);
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
