#include "affinity/pin.hh"

#include "affinity/memory.hh"
#include "affinity/placement.hh"
#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "lab/base/fd.hh"
#include "lab/base/file.hh"
#include "lab/base/mapping.hh"
#include "tests/topology_fixtures.hh"

#include <atomic>
#include <cstring>
#include <thread>
#include <unistd.h>

using namespace schedlab;
using namespace schedlab::affinity;
namespace ut = boost::unit_test;

namespace {

constexpr unsigned no_such_cpu = 8000;  // below the kernel's limit on numbers, above any here

char next_byte(const Fd& fd) {
  char byte = 0;
  check(::read(fd.get(), &byte, 1), "read", "pipe");
  return byte;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_pinned_thread_runs_where_it_was_put) {
  for (const unsigned cpu : Topology::machine().usable().cpus()) {
    const Pin pin(cpu);
    BOOST_TEST(current_cpu() == cpu);
    BOOST_TEST(thread_affinity().list() == std::to_string(cpu));
  }
}

BOOST_AUTO_TEST_CASE(a_pin_gives_the_old_mask_back, *ut::precondition(two_cpus)) {
  const CpuSet before = thread_affinity();
  const auto cpus = before.cpus();
  {
    const Pin outer(cpus[0]);
    {
      const Pin inner(cpus[1]);
      BOOST_TEST(current_cpu() == cpus[1]);
    }
    BOOST_TEST(thread_affinity().list() == std::to_string(cpus[0]));
  }
  BOOST_TEST(bool(thread_affinity() == before));
}

BOOST_AUTO_TEST_CASE(a_cpu_that_cannot_be_had_is_named_beside_what_can) {
  const CpuSet before = thread_affinity();
  BOOST_CHECK_EXCEPTION(Pin{no_such_cpu}, std::system_error, [](const std::system_error& error) {
    return error.code().value() == EINVAL && says("CPU 8000; online: ")(error);
  });
  BOOST_CHECK_THROW(Pin{CpuSet()}, std::system_error);
  BOOST_TEST(bool(thread_affinity() == before));
}

BOOST_AUTO_TEST_CASE(a_mask_that_is_granted_in_part_is_refused_and_undone) {
  const CpuSet before = thread_affinity();
  const CpuSet wanted{before.first(), no_such_cpu};
  BOOST_CHECK_EXCEPTION(Pin{wanted}, Unsupported, says("the kernel granted CPU"));
  BOOST_TEST(bool(thread_affinity() == before));
}

BOOST_AUTO_TEST_CASE(another_thread_is_bound_by_its_id, *ut::precondition(two_cpus)) {
  const unsigned last = thread_affinity().cpus().back();
  std::atomic<pid_t> tid = 0;
  std::atomic<bool> done = false;
  std::thread other([&] {
    tid = ::gettid();
    tid.notify_one();
    done.wait(false);
  });
  tid.wait(0);
  bind_thread(tid, CpuSet{last});
  BOOST_TEST(thread_affinity(tid).list() == std::to_string(last));
  BOOST_TEST(thread_affinity().count() >= 2u);
  done = true;
  done.notify_one();
  other.join();
}

BOOST_AUTO_TEST_CASE(a_thread_that_is_not_there_is_an_error) {
  constexpr pid_t no_such_thread = 1 << 30;  // above the largest pid_max
  BOOST_CHECK_EXCEPTION(thread_affinity(no_such_thread), std::system_error,
                        [](const auto& error) { return error.code().value() == ESRCH; });
  BOOST_CHECK_EXCEPTION(bind_thread(no_such_thread, thread_affinity()), std::system_error,
                        [](const auto& error) { return error.code().value() == ESRCH; });
}

BOOST_AUTO_TEST_CASE(what_the_affinity_takes_away_is_refused_by_name, *ut::precondition(two_cpus)) {
  const auto cpus = thread_affinity().cpus();
  const Pin pin(cpus[1]);
  const auto machine = Topology::machine();
  BOOST_TEST(machine.usable().list() == std::to_string(cpus[1]));
  BOOST_CHECK_EXCEPTION(
      parse_placement("cpus:" + std::to_string(cpus[0]), machine), BadInput,
      says("the affinity of this process allows only CPU " + std::to_string(cpus[1])));
  const auto relation = machine.relation(cpus[0], cpus[1]);
  const auto choice = choose_pairs(machine, parse_placement(name(relation), machine));
  BOOST_TEST(choice.chosen.empty());
  BOOST_REQUIRE(choice.absent.size() == 1u);
  BOOST_TEST(choice.absent[0].reason == "needs 2 usable CPUs; the affinity of this process allows "
                                        "only CPU " +
                                            std::to_string(cpus[1]));
}

BOOST_AUTO_TEST_CASE(a_pin_by_a_foreign_topology_is_refused) {
  BOOST_CHECK_EXCEPTION(require_this_machine(fixture("one_cpu")), Unsupported,
                        says("describes another machine (1 package"));
  BOOST_CHECK_THROW(require_this_machine(synthetic("pu:2")), Unsupported);
  BOOST_CHECK_NO_THROW(require_this_machine(Topology::machine()));
}

BOOST_AUTO_TEST_CASE(a_child_pins_itself_before_it_touches_memory) {
  const auto machine = Topology::machine();
  const Cpu& home = *machine.find(machine.usable().cpus().back());
  const Pipe up = make_pipe(), down = make_pipe();
  const auto memory = Mapping::private_memory(4 * page_size());
  Child child = Child::fork([&] {
    const Pin pin(home.os);
    write_all(up.write.get(), "p", "pipe");
    if (next_byte(down.read) != 'g')
      return 2;
    std::memset(memory.data(), 1, memory.size());
    try {
      for (const int node : nodes_of(memory.bytes()))
        if (home.numa_os >= 0 && node != home.numa_os)
          return 3;
    } catch (const Unsupported&) {  // a container may refuse to say where pages are
    }
    return current_cpu() == home.os ? 0 : 4;
  });
  BOOST_TEST(next_byte(up.read) == 'p');
  BOOST_TEST(thread_affinity(child.pid()).list() == std::to_string(home.os));
  write_all(down.write.get(), "g", "pipe");
  BOOST_TEST(child.wait().text() == "exit status 0");
}
