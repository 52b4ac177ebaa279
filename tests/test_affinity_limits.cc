#include "affinity/limits.hh"

#include "tests/fake_root.hh"
#include "tests/topology_fixtures.hh"

using namespace schedlab;
using namespace schedlab::affinity;

namespace {

using testing::FakeRoot;

const std::string v2_mount =
    "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";

}  // namespace

BOOST_AUTO_TEST_CASE(in_v2_the_smallest_limit_up_to_the_root_holds) {
  FakeRoot root;
  root.put("/proc/self/cgroup", "0::/a/b")
      .put("/proc/self/mountinfo", v2_mount)
      .put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids")
      .put("/sys/fs/cgroup/a/cpu.max", "150000 100000")
      .put("/sys/fs/cgroup/a/b/cpu.max", "max 100000")
      .put("/sys/fs/cgroup/a/memory.max", "1073741824")
      .put("/sys/fs/cgroup/a/b/memory.max", "2147483648")
      .put("/sys/fs/cgroup/a/b/pids.max", "max")
      .put("/sys/fs/cgroup/a/pids.max", "500")
      .put("/sys/fs/cgroup/a/cpuset.cpus.effective", "0-1,4")
      .put("/sys/fs/cgroup/a/cpuset.mems.effective", "0-1");
  const auto limits = cgroup_limits(root.path());
  BOOST_TEST(limits.version == 2);
  BOOST_TEST(limits.path == "/a/b");
  BOOST_TEST(limits.quota_cpus.value() == 1.5);
  BOOST_TEST(limits.quota_source == root.path() + "/sys/fs/cgroup/a/cpu.max");
  BOOST_TEST(limits.cpuset.value().list() == "0-1,4");
  BOOST_TEST(limits.memory_nodes.value() == "0-1");
  BOOST_TEST(limits.memory_max.value() == 1073741824u);
  BOOST_TEST(limits.pids_max.value() == 500u);
}

BOOST_AUTO_TEST_CASE(in_a_container_the_root_of_v2_is_its_own_cgroup) {
  FakeRoot root;
  root.put("/proc/self/cgroup", "0::/")
      .put("/proc/self/mountinfo", v2_mount)
      .put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu memory pids")
      .put("/sys/fs/cgroup/cpu.max", "50000 100000")
      .put("/sys/fs/cgroup/cpuset.cpus.effective", "3");
  BOOST_TEST(cgroup_limits(root.path()).quota_cpus.value() == 0.5);
  BOOST_TEST(cgroup_limits(root.path()).cpuset.value().list() == "3");
  BOOST_TEST(!cgroup_limits(root.path()).memory_max);
}

BOOST_AUTO_TEST_CASE(in_v1_each_controller_has_its_own_path) {
  FakeRoot root;
  root.put("/proc/self/cgroup", "4:memory:/m\n3:cpuset:/s\n2:cpu,cpuacct:/c/d\n1:name=systemd:/")
      .put("/proc/self/mountinfo",
           "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
           "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
           "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory")
      .put("/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us", "300000")
      .put("/sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us", "100000")
      .put("/sys/fs/cgroup/cpu,cpuacct/c/d/cpu.cfs_quota_us", "-1")
      .put("/sys/fs/cgroup/cpu,cpuacct/c/d/cpu.cfs_period_us", "100000")
      .put("/sys/fs/cgroup/cpuset/s/cpuset.effective_cpus", "2-3")
      .put("/sys/fs/cgroup/cpuset/s/cpuset.effective_mems", "0")
      .put("/sys/fs/cgroup/memory/m/memory.limit_in_bytes", "4096")
      .put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  const auto limits = cgroup_limits(root.path());
  BOOST_TEST(limits.version == 1);
  BOOST_TEST(limits.path == "/c/d");
  BOOST_TEST(limits.quota_cpus.value() == 3.0);
  BOOST_TEST(limits.cpuset.value().list() == "2-3");
  BOOST_TEST(limits.memory_nodes.value() == "0");
  BOOST_TEST(limits.memory_max.value() == 4096u);
  BOOST_TEST(!limits.pids_max);
}

BOOST_AUTO_TEST_CASE(in_a_hybrid_each_controller_is_found_where_it_is) {
  FakeRoot root;
  root.put("/proc/self/cgroup", "1:cpu:/old\n0::/new")
      .put("/proc/self/mountinfo", "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
                                   "40 31 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw")
      .put("/sys/fs/cgroup/unified/cgroup.controllers", "cpuset memory")
      .put("/sys/fs/cgroup/cpu/old/cpu.cfs_quota_us", "50000")
      .put("/sys/fs/cgroup/cpu/old/cpu.cfs_period_us", "100000")
      .put("/sys/fs/cgroup/unified/new/cpu.max", "10000 100000")
      .put("/sys/fs/cgroup/unified/new/cpuset.cpus.effective", "1")
      .put("/sys/fs/cgroup/unified/new/memory.max", "777");
  const auto limits = cgroup_limits(root.path());
  BOOST_TEST(limits.version == 1);
  BOOST_TEST(limits.quota_cpus.value() == 0.5);
  BOOST_TEST(limits.cpuset.value().list() == "1");
  BOOST_TEST(limits.memory_max.value() == 777u);
}

BOOST_AUTO_TEST_CASE(a_mount_that_shows_a_part_of_the_hierarchy_is_seen_through) {
  FakeRoot root;
  root.put("/proc/self/mountinfo",
           "33 31 0:30 /docker/x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu")
      .put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000")
      .put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
      .put("/sys/fs/cgroup/cpu/sub/cpu.cfs_quota_us", "100000")
      .put("/sys/fs/cgroup/cpu/sub/cpu.cfs_period_us", "100000");
  root.put("/proc/self/cgroup", "1:cpu:/docker/x");
  BOOST_TEST(cgroup_limits(root.path()).quota_cpus.value() == 2.0);
  root.put("/proc/self/cgroup", "1:cpu:/docker/x/sub");
  BOOST_TEST(cgroup_limits(root.path()).quota_cpus.value() == 1.0);
  root.put("/proc/self/cgroup", "1:cpu:/docker/xy/sub");
  BOOST_TEST(cgroup_limits(root.path()).quota_cpus.value() == 2.0);
  root.put("/proc/self/cgroup", "1:cpu:/../../sub");
  BOOST_TEST(cgroup_limits(root.path()).quota_cpus.value() == 2.0);
}

BOOST_AUTO_TEST_CASE(without_cgroups_there_are_no_limits) {
  const FakeRoot root;
  const auto limits = cgroup_limits(root.path());
  BOOST_TEST(limits.version == 0);
  BOOST_TEST(!limits.quota_cpus);
  BOOST_TEST(!limits.cpuset);
  BOOST_TEST(!limits.memory_nodes);
  BOOST_TEST(!limits.pids_max);
  BOOST_TEST(!cgroup_throttling(root.path()));
}

BOOST_AUTO_TEST_CASE(garbage_in_the_files_is_no_limit) {
  FakeRoot root;
  root.put("/proc/self/cgroup", "0::/a\nnonsense\n::\n")
      .put("/proc/self/mountinfo", "short - line\n" + v2_mount)
      .put("/sys/fs/cgroup/cgroup.controllers", "cpu memory")
      .put("/sys/fs/cgroup/a/cpu.max", "lots of it")
      .put("/sys/fs/cgroup/a/memory.max", "");
  BOOST_TEST(cgroup_limits(root.path()).version == 2);
  BOOST_TEST(!cgroup_limits(root.path()).quota_cpus);
  BOOST_TEST(!cgroup_limits(root.path()).memory_max);
}

BOOST_AUTO_TEST_CASE(throttling_is_summed_over_the_parents) {
  FakeRoot root;
  root.put("/proc/self/cgroup", "0::/a/b")
      .put("/proc/self/mountinfo", v2_mount)
      .put("/sys/fs/cgroup/cgroup.controllers", "cpu");
  BOOST_TEST(!cgroup_throttling(root.path()));
  root.put("/sys/fs/cgroup/a/cpu.stat", "usage_usec 9\nnr_throttled 2\nthrottled_usec 5")
      .put("/sys/fs/cgroup/a/b/cpu.stat", "nr_periods 7\nnr_throttled 1\nthrottled_usec 3");
  const auto throttling = cgroup_throttling(root.path());
  BOOST_REQUIRE(throttling.has_value());
  BOOST_TEST(throttling->periods == 3u);
  BOOST_TEST(throttling->time_ns == 8000u);
}

BOOST_AUTO_TEST_CASE(throttling_in_v1_is_in_nanoseconds) {
  FakeRoot root;
  root.put("/proc/self/cgroup", "1:cpu:/a")
      .put("/proc/self/mountinfo", "33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu")
      .put("/sys/fs/cgroup/cpu/a/cpu.stat", "nr_periods 4\nnr_throttled 2\nthrottled_time 1234");
  BOOST_TEST(cgroup_throttling(root.path()).value().periods == 2u);
  BOOST_TEST(cgroup_throttling(root.path()).value().time_ns == 1234u);
}

BOOST_AUTO_TEST_CASE(this_process_may_use_no_cpu_that_its_cgroup_forbids) {
  const auto limits = cgroup_limits();
  if (limits.cpuset)
    BOOST_TEST(limits.cpuset->contains(affinity::Topology::machine().usable()));
  BOOST_TEST((!limits.quota_cpus || *limits.quota_cpus > 0));
}
