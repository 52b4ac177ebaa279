#include "procs/thread.hh"

#include "affinity/pin.hh"
#include "lab/base/error.hh"
#include "lab/base/file.hh"

#include <boost/test/unit_test.hpp>
#include <unistd.h>

#include <stdexcept>
#include <utility>

using namespace schedlab;
using procs::Thread;

BOOST_AUTO_TEST_CASE(a_thread_begins_on_its_cpus_under_its_policy_and_with_its_name) {
  for (const unsigned cpu : affinity::thread_affinity().cpus()) {
    unsigned seen = ~0u;
    affinity::CpuSet allowed;
    procs::SchedAttr sched;
    std::string name;
    Thread thread({.name = "worker",
                   .cpus = affinity::CpuSet{cpu},
                   .sched = procs::SchedAttr{.policy = procs::SchedPolicy::batch}},
                  [&] {
                    seen = affinity::current_cpu();
                    allowed = affinity::thread_affinity();
                    sched = procs::sched_attr();
                    name = read_text("/proc/thread-self/comm").value_or("");
                  });
    thread.join();
    BOOST_TEST(seen == cpu);
    BOOST_TEST((allowed == affinity::CpuSet{cpu}));
    BOOST_TEST((sched.policy == procs::SchedPolicy::batch));
    BOOST_TEST(name == "worker");
  }
}

BOOST_AUTO_TEST_CASE(the_number_of_a_thread_is_the_kernels) {
  pid_t seen = 0;
  Thread thread({}, [&] { seen = ::gettid(); });
  const pid_t told = thread.tid();
  thread.join();
  BOOST_TEST(told == seen);
  BOOST_TEST(told != ::gettid());
}

BOOST_AUTO_TEST_CASE(a_thread_that_cannot_be_placed_never_runs_and_the_constructor_throws) {
  bool ran = false;
  BOOST_CHECK_THROW(Thread({.cpus = affinity::CpuSet{100'000}}, [&] { ran = true; }),
                    std::system_error);
  BOOST_CHECK_THROW(Thread({.sched = procs::SchedAttr{.nice = 99}}, [&] { ran = true; }), BadInput);
  BOOST_TEST(!ran);
}

BOOST_AUTO_TEST_CASE(what_the_body_throws_comes_out_of_join_once) {
  Thread thread({}, [] { throw std::runtime_error("lost"); });
  BOOST_CHECK_EXCEPTION(thread.join(), std::runtime_error,
                        [](const auto& error) { return error.what() == std::string("lost"); });
  BOOST_TEST(!thread.joinable());
}

BOOST_AUTO_TEST_CASE(a_long_name_is_cut_to_what_the_kernel_keeps) {
  std::string name;
  Thread thread({.name = "a_name_of_more_than_fifteen_bytes"},
                [&] { name = read_text("/proc/thread-self/comm").value_or(""); });
  thread.join();
  BOOST_TEST(name == "a_name_of_more_");
}

BOOST_AUTO_TEST_CASE(the_destructor_waits_for_the_end_and_drops_the_failure) {
  bool ran = false;
  {
    const Thread thread({}, [&] {
      ran = true;
      throw std::runtime_error("unheard");
    });
  }
  BOOST_TEST(ran);
}

BOOST_AUTO_TEST_CASE(a_moved_thread_is_joined_by_its_new_owner) {
  Thread first({}, [] { throw std::runtime_error("moved"); });
  Thread second = std::move(first);
  BOOST_TEST(second.joinable());
  BOOST_CHECK_THROW(second.join(), std::runtime_error);
}
