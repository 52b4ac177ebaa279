#include "affinity/placement.hh"

#include "lab/base/error.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>
#include <set>

using namespace schedlab;
using namespace schedlab::affinity;

namespace {

std::string text_of(const std::vector<unsigned>& cpus) {
  std::string text;
  for (const unsigned cpu : cpus)
    text += (text.empty() ? "" : " ") + std::to_string(cpu);
  return text;
}

// The CPUs of each item, items separated by |; a word for what is no location.
std::string parsed(const Topology& machine, const std::string& text) {
  std::string result;
  for (const auto& item : parse_placement(text, machine).items) {
    result += result.empty() ? "" : " | ";
    if (const auto* location = std::get_if<Placement::Location>(&item))
      result += text_of(location->cpus);
    else if (const auto* relation = std::get_if<Relation>(&item))
      result += name(*relation);
    else if (const auto* strategy = std::get_if<Strategy>(&item))
      result += name(*strategy);
    else
      result += "all";
  }
  return result;
}

// "smt 0 4", and "numa: reason" for what is absent.
std::vector<std::string> pairs(const Topology& machine, const std::string& text) {
  std::vector<std::string> lines;
  const auto choice = choose_pairs(machine, parse_placement(text, machine));
  for (const auto& pair : choice.chosen)
    lines.push_back(std::string(name(pair.relation)) + " " + text_of({pair.first, pair.second}));
  for (const auto& absent : choice.absent)
    lines.push_back(absent.name + ": " + absent.reason);
  return lines;
}

std::string workers(const Topology& machine, const std::string& text, unsigned count) {
  return text_of(choose_workers(machine, parse_placement(text, machine), count));
}

std::string ones(const Topology& machine, const std::string& text) {
  return text_of(choose_ones(machine, parse_placement(text, machine)).chosen);
}

void expect(const std::vector<std::string>& found, const std::vector<std::string>& expected) {
  BOOST_TEST(found == expected, boost::test_tools::per_element());
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_location_is_logical_and_counts_within_its_parent) {
  const auto machine = fixture("two_sockets");  // L#0-7 are P#0 4 1 5 2 6 3 7
  BOOST_TEST(parsed(machine, "core:1") == "1 5");
  BOOST_TEST(parsed(machine, "core:0.pu:1") == "4");
  BOOST_TEST(parsed(machine, "package:1.core:0-1") == "2 6 3 7");
  BOOST_TEST(parsed(machine, "package:1.core:0") == "2 6");
  BOOST_TEST(parsed(machine, "numa:1.core:1.pu:0") == "3");
  BOOST_TEST(parsed(machine, "l3:0") == "0 4 1 5");
  BOOST_TEST(parsed(machine, "pu:3") == "5");
  BOOST_TEST(parsed(machine, "Package:0.PU:0") == "0");
  BOOST_TEST(parsed(machine, "socket:0.l2:1") == "1 5");
  BOOST_TEST(parsed(machine, "machine:0") == "0 4 1 5 2 6 3 7");
}

BOOST_AUTO_TEST_CASE(a_range_is_a_span_a_count_or_a_word) {
  const auto machine = synthetic("core:6 pu:1");
  BOOST_TEST(parsed(machine, "core:1-3") == "1 2 3");
  BOOST_TEST(parsed(machine, "core:4-") == "4 5");
  BOOST_TEST(parsed(machine, "core:5:3") == "5 0 1");
  BOOST_TEST(parsed(machine, "core:all") == "0 1 2 3 4 5");
  BOOST_TEST(parsed(machine, "core:odd") == "1 3 5");
  BOOST_TEST(parsed(machine, "core:even") == "0 2 4");
}

BOOST_AUTO_TEST_CASE(masks_and_lists_are_kernel_numbers) {
  const auto machine = synthetic("core:80 pu:1");
  BOOST_TEST(parsed(machine, "0x5") == "0 2");
  BOOST_TEST(parsed(machine, "0x1,,0x3") == "0 1 64");
  BOOST_TEST(parsed(machine, "cpus:7,0,2-3") == "7 0 2 3");
  BOOST_TEST(parsed(machine, "cpus:0,2-3,smt,cpus:1,core:5") == "0 2 3 | smt | 1 | 5");
  BOOST_TEST(parsed(machine, "cpus:0-8:4") == "0 4 8");
  BOOST_TEST(parsed(fixture("two_sockets"), "0xf0") == "4 5 6 7");
}

BOOST_AUTO_TEST_CASE(words_and_locations_mix) {
  const auto machine = fixture("two_sockets");
  BOOST_TEST(parsed(machine, "all") == "all");
  BOOST_TEST(parsed(machine, "smt, core:0 ,per-core,unpinned") ==
             "smt | 0 4 | per-core | unpinned");
  BOOST_TEST(parsed(machine, "l3,l3:1") == "l3 | 2 6 3 7");
}

BOOST_AUTO_TEST_CASE(what_does_not_exist_is_named_beside_what_does) {
  const auto machine = fixture("two_sockets");
  const auto refused = [&](const std::string& text, const std::string& message) {
    BOOST_CHECK_EXCEPTION(parse_placement(text, machine), BadInput, says(message));
  };
  refused("core:999", "core:999: no such object; this machine has core:0-3, package:0-1, "
                      "numa:0-1, l3:0-1, l2:0-3, pu:0-7");
  refused("core:2-9", "core:2-9: no such object");
  refused("package:0.core:2", "package:0.core:2: no such object");
  refused("die:0", "die:0: no such object");
  refused("foo:9", "foo:9: no such kind of object as 'foo'; this machine has package:0-1");
  refused("core:0,foo:9", "foo:9: no such kind");
  refused("core:", "core:: '' is no range");
  refused("core:x", "'x' is no range");
  refused("core:3-1", "'3-1' is no range");
  refused("core:-1", "'-1' is no range");
  refused("core:0:0", "no such object");
  refused("core:0.", "no such kind of object as ''");
  refused("core.pu:0", "'core' needs a number");
  refused("0x100", "0x100: no CPU 8; this machine has CPUs 0-7");
  refused("0x0", "0x0: names no CPU");
  refused("cpus:9", "cpus:9: no CPU 9");
  refused("cpus:", "cpus:: names no CPU");
  refused("cpus:a", "'a'");
  refused("0xfffffffffffffffff", "no such place");
  refused("core:99999999999999999999", "is no range");
}

BOOST_AUTO_TEST_CASE(an_empty_item_is_an_error_and_so_is_an_unknown_word) {
  const auto machine = fixture("two_sockets");
  const auto refused = [&](const std::string& text, const std::string& message) {
    BOOST_CHECK_EXCEPTION(parse_placement(text, machine), BadInput, says(message));
  };
  refused("", "an empty placement");
  refused("  ", "an empty placement");
  refused("smt,,l3", "item 2 is empty");
  refused("smt,", "item 2 is empty");
  refused(",smt", "item 1 is empty");
  refused("smtt", "'smtt': no such place; did you mean 'smt'?");
  refused("$%&", "'$%&': no such place");
}

BOOST_AUTO_TEST_CASE(a_named_cpu_that_may_not_be_used_is_an_error_that_says_who_forbids_it) {
  const auto machine = fixture("cgroup");  // allows CPUs 2-3 of 4
  const auto refused = [&](const std::string& text, const std::string& message) {
    BOOST_CHECK_EXCEPTION(parse_placement(text, machine), BadInput, says(message));
  };
  refused("core:0", "core:0: CPU 0 cannot be used: the cgroup allows only CPUs 2-3");
  refused("core:1-2", "core:1-2: CPU 1 cannot be used");
  refused("cpus:1-2", "cpus:1-2: CPU 1 cannot be used");
  refused("0x1", "0x1: CPU 0 cannot be used");
  refused("package:0.core:all", "none of its CPUs can be used");
  BOOST_TEST(parsed(machine, "core:all") == "2 3");
  BOOST_TEST(parsed(machine, "core:odd") == "3");
  BOOST_TEST(parsed(machine, "machine:0") == "2 3");
  BOOST_CHECK_EXCEPTION(parse_placement("cpus:1", fixture("offline")), BadInput,
                        says("cpus:1: CPU 1 is offline"));
}

BOOST_AUTO_TEST_CASE(a_memory_only_node_is_no_place_for_a_task) {
  const auto machine = fixture("cpuless_node");
  BOOST_CHECK_EXCEPTION(parse_placement("numa:2", machine), BadInput,
                        says("numa:2: has no CPU of its own"));
  BOOST_TEST(parsed(machine, "numa:all") == "0 1 2 3");
  BOOST_TEST(parsed(machine, "package:1.numa:0") == "2 3");
}

BOOST_AUTO_TEST_CASE(cores_at_two_depths_are_numbered_through) {
  const auto machine = fixture("sibling_offline");
  BOOST_TEST(parsed(machine, "core:0") == "0");
  BOOST_TEST(parsed(machine, "core:1") == "2 3");
  BOOST_TEST(parsed(machine, "l1:all") == "0 2 3");
  expect(pairs(machine, "smt,l3"), {"smt 2 3", "l3 0 2"});
}

BOOST_AUTO_TEST_CASE(without_cores_a_core_is_a_pu) {
  BOOST_TEST(parsed(synthetic("pack:2 pu:2"), "package:1.core:1") == "3");
}

BOOST_AUTO_TEST_CASE(each_relation_has_its_pair_and_each_missing_one_its_reason) {
  expect(pairs(fixture("two_sockets"), "all"),
         {"same-pu 0 0", "smt 0 4", "l3 0 1", "remote 0 2", "unpinned 0 0",
          "l2: no two CPUs share an L2 cache without sharing a core",
          "die: the machine reports no dies",
          "numa: no two CPUs share a node without sharing a die or a cache",
          "package: no two CPUs share a package without sharing a node, a die or a cache"});
  expect(pairs(synthetic("pack:2 [numa] die:2 l3:2 l2:2 core:2 pu:2"), "all"),
         {"same-pu 0 0", "smt 0 1", "l2 0 2", "l3 0 4", "die 0 8", "numa 0 16", "remote 0 32",
          "unpinned 0 0",
          "package: no two CPUs share a package without sharing a node, a die or a cache"});
  expect(pairs(fixture("one_cpu"), "smt"), {"smt: needs 2 CPUs; this machine has one"});
  expect(pairs(fixture("hybrid"), "remote"),
         {"remote: every two CPUs share a package or something closer"});
}

BOOST_AUTO_TEST_CASE(a_relation_that_was_taken_away_says_so) {
  expect(pairs(fixture("cgroup"), "remote"),
         {"remote: the machine has such CPUs, as L#0(P#0) and L#2(P#2), but the cgroup allows "
          "only CPUs 2-3"});
  expect(pairs(fixture("offline"), "smt"),
         {"smt: no two CPUs share a core (CPUs 1,3 are offline)"});
}

BOOST_AUTO_TEST_CASE(a_pair_is_of_like_cores_if_it_can) {
  // CPUs 0-3 are performant; 4-7 share an L2; the first L3 pair in tree order is of one kind.
  expect(pairs(fixture("hybrid"), "smt,l2,l3"), {"smt 0 1", "l2 4 5", "l3 0 2"});
}

BOOST_AUTO_TEST_CASE(locations_give_one_pair_in_the_order_named) {
  const auto machine = fixture("two_sockets");
  expect(pairs(machine, "cpus:5,1"), {"smt 5 1"});
  expect(pairs(machine, "package:1,package:0"), {"smt 2 6"});
  expect(pairs(machine, "pu:0,pu:7"), {"remote 0 7"});
  expect(pairs(machine, "pu:0"), {"same-pu 0 0"});
  expect(pairs(machine, "smt,smt"), {"smt 0 4"});
  expect(pairs(machine, "scatter"), {"remote 0 2"});
  expect(pairs(machine, "compact"), {"smt 0 4"});
}

BOOST_AUTO_TEST_CASE(single_cpus_are_one_of_each_kind_or_those_named) {
  BOOST_TEST(ones(fixture("hybrid"), "all") == "0 4");
  BOOST_TEST(ones(fixture("hybrid"), "smt") == "0 4");
  BOOST_TEST(ones(fixture("hybrid"), "cpus:3,1") == "3 1");
  BOOST_TEST(ones(fixture("two_sockets"), "all") == "0");
  BOOST_TEST(ones(fixture("two_sockets"), "numa:1") == "2 6 3 7");
}

BOOST_AUTO_TEST_CASE(workers_go_compact_scattered_or_a_core_each) {
  const auto machine = fixture("two_sockets");
  BOOST_TEST(workers(machine, "compact", 3) == "0 4 1");
  BOOST_TEST(workers(machine, "per-core", 5) == "0 1 2 3 4");
  BOOST_TEST(workers(machine, "scatter", 5) == "0 2 1 3 4");
  BOOST_TEST(workers(machine, "all", 4) == "0 1 2 3");
  BOOST_TEST(workers(synthetic("pack:2 core:4 pu:2"), "scatter", 4) == "0 8 2 10");
  BOOST_TEST(workers(synthetic("pack:1 pu:3"), "per-core", 3) == "0 1 2");
}

BOOST_AUTO_TEST_CASE(workers_use_every_cpu_before_any_is_short) {
  const auto machine = synthetic("pack:2 [numa] l3:3 core:3 pu:2");
  for (const auto* strategy : {"compact", "scatter", "per-core"}) {
    const auto cpus = choose_workers(machine, parse_placement(strategy, machine), 36);
    BOOST_TEST(std::set<unsigned>(cpus.begin(), cpus.end()).size() == 36u);
  }
}

BOOST_AUTO_TEST_CASE(workers_take_locations_in_order_and_strategies_within_them) {
  const auto machine = fixture("two_sockets");
  BOOST_TEST(workers(machine, "cpus:7,0,3", 2) == "7 0");
  BOOST_TEST(workers(machine, "package:1,per-core", 3) == "2 3 6");
  BOOST_TEST(workers(machine, "core:0,core:2,scatter", 3) == "0 2 4");
}

BOOST_AUTO_TEST_CASE(workers_of_a_relation_share_its_object) {
  const auto machine = fixture("two_sockets");
  BOOST_TEST(workers(machine, "same-pu", 3) == "0 0 0");
  BOOST_TEST(workers(machine, "smt", 2) == "0 4");
  BOOST_TEST(workers(machine, "l3", 4) == "0 1 4 5");
  BOOST_TEST(workers(machine, "remote", 2) == "0 2");
  BOOST_CHECK_EXCEPTION(workers(machine, "smt", 3), Unsupported, says("needs 3 usable CPUs"));
}

BOOST_AUTO_TEST_CASE(too_few_cpus_for_the_workers_is_a_reason_to_skip) {
  BOOST_CHECK_EXCEPTION(
      workers(fixture("cgroup"), "scatter", 3), Unsupported,
      says("needs 3 usable CPUs; 'scatter' has 2 (the cgroup allows only CPUs 2-3)"));
  BOOST_CHECK_EXCEPTION(workers(fixture("two_sockets"), "core:0", 3), Unsupported,
                        says("'core:0' has 2"));
}

BOOST_AUTO_TEST_CASE(all_pairs_are_there_once_with_each_class_in_front) {
  const auto machine = fixture("hybrid");
  const auto all = all_pairs(machine);
  BOOST_TEST(all.size() == 28u);
  std::set<std::pair<unsigned, unsigned>> seen;
  for (const auto& pair : all)
    seen.insert(std::minmax(pair.first, pair.second));
  BOOST_TEST(seen.size() == all.size());
  // smt of two performant; l2 of two efficient; l3 of both mixtures that exist.
  std::vector<std::string> front;
  for (std::size_t i = 0; i < 5; ++i)
    front.push_back(std::string(name(all[i].relation)) + " " +
                    text_of({all[i].first, all[i].second}));
  expect(front, {"smt 0 1", "l2 4 5", "l3 0 4", "l3 0 2", "smt 2 3"});
}

BOOST_AUTO_TEST_CASE(four_thousand_cpus_can_be_placed) {
  const auto machine = synthetic("pack:64 [numa] core:32 pu:2");
  expect(pairs(machine, "smt,remote"), {"smt 0 1", "remote 0 64"});
  BOOST_TEST(workers(machine, "scatter", 3) == "0 64 128");
  BOOST_TEST(parsed(machine, "package:63.core:31.pu:1") == "4095");
}
