#include "lab/apparatus/cache_share.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <vector>

using namespace schedlab;
using namespace schedlab::apparatus;

namespace {

constexpr std::uint64_t kib = 1024, mib = 1024 * kib;

// Two packages of two L3 caches of two cores of two PUs: 16 PUs.
const char* const machine_text = "pack:2 [numa(memory=1GiB)] l3:2(size=32MiB) l2:2(size=1MiB) "
                                 "l1:1(size=48KiB) core:1 pu:2";

}  // namespace

BOOST_AUTO_TEST_CASE(last_level_caches_are_counted_once_each) {
  const auto machine = synthetic(machine_text);
  const auto sum = [&](std::vector<unsigned> cpus) { return last_level_sum(machine, cpus); };
  BOOST_TEST(sum({0}) == 32 * mib);
  BOOST_TEST(sum({0, 1, 2, 3}) == 32 * mib);
  BOOST_TEST(sum({0, 4}) == 64 * mib);
  BOOST_TEST(sum(machine.usable().cpus()) == 128 * mib);
  BOOST_TEST(sum({}) == 0u);
}

BOOST_AUTO_TEST_CASE(where_there_is_no_l3_the_l2_is_the_last) {
  const auto machine = synthetic("pack:1 l2:2(size=4MiB) core:1 pu:1");
  BOOST_TEST(last_level_sum(machine, machine.usable().cpus()) == 8 * mib);
  BOOST_TEST(cache_share(machine, machine.usable().cpus(), 3) == 0u);
  BOOST_TEST(last_level_sum(synthetic("pu:2"), std::vector{0u, 1u}) == 0u);
}

BOOST_AUTO_TEST_CASE(workers_share_the_caches_that_they_are_under_together) {
  const auto machine = synthetic(machine_text);
  const auto share = [&](std::vector<unsigned> cpus, int level) {
    return cache_share(machine, cpus, level);
  };
  BOOST_TEST(share({0}, 1) == 48 * kib);
  BOOST_TEST(share({0, 1}, 1) == 24 * kib);    // siblings
  BOOST_TEST(share({0, 2}, 1) == 48 * kib);    // neighbours
  BOOST_TEST(share({0, 1, 2}, 2) == mib / 2);  // the one that has least
  BOOST_TEST(share({0, 2}, 3) == 16 * mib);
  BOOST_TEST(share({0, 4}, 3) == 32 * mib);
  BOOST_TEST(share(machine.usable().cpus(), 3) == 8 * mib);
  BOOST_TEST(share({0}, 4) == 0u);
  BOOST_TEST(share({}, 1) == 0u);
}
