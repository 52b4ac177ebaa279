#include "affinity/cpu_set.hh"

#include "lab/base/error.hh"
#include "tests/topology_fixtures.hh"

using namespace schedlab;
using affinity::CpuSet;

BOOST_AUTO_TEST_CASE(a_list_is_read_and_written_as_the_kernel_writes_it) {
  for (const auto* list : {"", "0", "0-1", "0,2-5,7", "63-64", "4095"})
    BOOST_TEST(CpuSet::from_list(list).list() == list);
  BOOST_TEST(CpuSet::from_list("0-1\n").list() == "0-1");
  BOOST_TEST(CpuSet::from_list("5,3-4,0").list() == "0,3-5");
}

BOOST_AUTO_TEST_CASE(a_set_of_numbers_has_each_once_in_any_order) {
  const std::vector<unsigned> numbers = {5, 3, 4000, 4, 3};
  BOOST_TEST(CpuSet::from_numbers(numbers).list() == "3-5,4000");
  BOOST_TEST(CpuSet::from_numbers({}).list() == "");
}

BOOST_AUTO_TEST_CASE(a_range_takes_a_step) {
  BOOST_TEST(CpuSet::from_list("8-14:2").list() == "8,10,12,14");
  BOOST_TEST(CpuSet::from_list("0-6:3,9").list() == "0,3,6,9");
}

BOOST_AUTO_TEST_CASE(a_list_that_is_none_is_refused_by_name) {
  for (const auto* list : {"x", "1,", ",", "1-", "-1", "3-1", "0x3", "1 2", "1-4:0", "70000",
                           "0-99999999999999999999"})
    BOOST_CHECK_EXCEPTION(CpuSet::from_list(list), BadInput, says("'" + std::string(list) + "'"));
}

BOOST_AUTO_TEST_CASE(sets_have_union_intersection_and_difference) {
  const CpuSet a{0, 1, 5000}, b{1, 2};
  BOOST_TEST((a | b).list() == "0-2,5000");
  BOOST_TEST((a & b).list() == "1");
  BOOST_TEST((a - b).list() == "0,5000");
  BOOST_TEST(a.intersects(b));
  BOOST_TEST(!(a - b).intersects(b));
  BOOST_TEST(a.contains(CpuSet{0, 5000}));
  BOOST_TEST(!a.contains(b));
}

BOOST_AUTO_TEST_CASE(a_set_counts_and_lists_its_members_in_order) {
  CpuSet set{9, 3};
  set.add(4000);
  set.remove(9);
  const std::vector<unsigned> expected = {3, 4000};
  BOOST_TEST(set.cpus() == expected, boost::test_tools::per_element());
  BOOST_TEST(set.count() == 2u);
  BOOST_TEST(set.first() == 3u);
  BOOST_TEST(!set.contains(9));
  BOOST_TEST(CpuSet().empty());
}

BOOST_AUTO_TEST_CASE(a_copy_does_not_follow_its_original) {
  CpuSet original{1};
  CpuSet copy = original;
  original.add(2);
  BOOST_TEST(copy.list() == "1");
  copy = original;
  original.remove(1);
  BOOST_TEST(copy.list() == "1-2");
  BOOST_TEST(bool(copy != original));
  BOOST_TEST(bool(copy == CpuSet::from_hwloc(copy.hwloc())));
}
