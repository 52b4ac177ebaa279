#include "procs/sched_attr.hh"

#include "lab/base/child.hh"
#include "lab/base/error.hh"
#include "tests/deny_syscall.hh"

#include <boost/test/unit_test.hpp>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <future>
#include <thread>
#include <vector>

using namespace schedlab;
using procs::SchedAttr;
using procs::SchedPolicy;

namespace {

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// What setting these attributes for the calling thread is answered with; empty where it works.
std::string refusal(const SchedAttr& wanted) {
  try {
    procs::set_sched_attr(wanted);
    return "";
  } catch (const Unsupported& reason) {
    return reason.what();
  }
}

template <typename Body>
void in_thread(Body body) {
  std::async(std::launch::async, body).get();
}

// Runs a check in a child of an ordinary user with these rlimits, or with the hard ones where they
// are smaller and may not be raised. The check is told the priority allowed.
bool as_ordinary_user(rlim_t rtprio, rlim_t nice, const std::function<bool(rlim_t)>& check) {
  return Child::fork([&] {
           const auto set = [](__rlimit_resource resource, rlim_t value) {
             rlimit limit{value, value};
             if (::setrlimit(resource, &limit) == 0)
               return value;
             ::getrlimit(resource, &limit);
             limit.rlim_cur = limit.rlim_max = std::min(value, limit.rlim_max);
             ::setrlimit(resource, &limit);
             return limit.rlim_cur;
           };
           set(RLIMIT_NICE, nice);
           const rlim_t priority = set(RLIMIT_RTPRIO, rtprio);
           if (::geteuid() == 0 && ::setuid(65534) != 0)
             return 1;
           return check(priority) ? 0 : 1;
         })
      .wait()
      .success();
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_ordinary_thread_is_other_and_a_value_survives_the_way_there_and_back) {
  in_thread([] {
    const SchedAttr granted = procs::set_sched_attr({.policy = SchedPolicy::batch, .nice = 3});
    BOOST_TEST(procs::name(granted.policy) == "batch");
    BOOST_TEST(granted.nice == 3);
    BOOST_TEST((procs::sched_attr() == granted));
  });
  BOOST_TEST(procs::name(procs::sched_attr().policy) == "other");
}

BOOST_AUTO_TEST_CASE(a_slice_is_granted_as_asked_for_or_the_kernel_has_none) {
  in_thread([] {
    const SchedAttr before = procs::sched_attr();
    SchedAttr wanted = before;
    wanted.runtime_ns = 3'000'000;
    const auto expected = before.runtime_ns ? wanted.runtime_ns : 0;
    BOOST_TEST(procs::set_sched_attr(wanted).runtime_ns == expected);
    wanted.runtime_ns = 0;
    BOOST_TEST(procs::set_sched_attr(wanted).runtime_ns == before.runtime_ns);
  });
}

BOOST_AUTO_TEST_CASE(values_out_of_range_never_reach_the_kernel) {
  BOOST_CHECK_THROW(procs::set_sched_attr({.nice = 20}), BadInput);
  BOOST_CHECK_THROW(procs::set_sched_attr({.policy = SchedPolicy::fifo}), BadInput);
  BOOST_CHECK_THROW(procs::set_sched_attr({.policy = SchedPolicy::rr, .priority = 100}), BadInput);
  BOOST_CHECK_THROW(procs::set_sched_attr({.policy = SchedPolicy::deadline,
                                           .runtime_ns = 2'000'000,
                                           .deadline_ns = 1'000'000,
                                           .period_ns = 10'000'000}),
                    BadInput);
}

BOOST_AUTO_TEST_CASE(a_thread_that_does_not_exist_is_a_system_error) {
  BOOST_CHECK_THROW(procs::sched_attr(1 << 30), std::system_error);
}

BOOST_AUTO_TEST_CASE(a_policy_is_permitted_and_read_back_or_the_objection_names_a_next_step) {
  for (const auto policy : {SchedPolicy::fifo, SchedPolicy::rr}) {
    const std::string objection = procs::policy_objection(policy);
    in_thread([&] {
      const SchedAttr wanted{.policy = policy, .priority = 1};
      if (objection.empty())
        BOOST_TEST(procs::set_sched_attr(wanted).priority == 1);
      else
        BOOST_TEST(refusal(wanted) == objection);
    });
  }
  BOOST_TEST(procs::policy_objection(SchedPolicy::other) == "");
  BOOST_TEST(procs::policy_objection(SchedPolicy::batch) == "");
  BOOST_TEST(procs::policy_objection(SchedPolicy::idle) == "");
  BOOST_TEST(procs::name(procs::sched_attr().policy) == "other");  // nothing stays
}

BOOST_AUTO_TEST_CASE(an_ordinary_user_is_told_which_right_is_missing) {
  BOOST_TEST(as_ordinary_user(0, 0, [](rlim_t) {
    return has(refusal({.policy = SchedPolicy::fifo, .priority = 5}),
               "RLIMIT_RTPRIO >= 5 (it is 0") &&
           has(refusal({.nice = -5}), "RLIMIT_NICE >= 25 (it is 0") &&
           has(procs::policy_objection(SchedPolicy::deadline), "CAP_SYS_NICE") &&
           has(procs::policy_objection(SchedPolicy::rr), "sudo");
  }));
}

BOOST_AUTO_TEST_CASE(a_raised_limit_lets_an_ordinary_user_go_just_so_far) {
  BOOST_TEST(as_ordinary_user(10, 0, [](rlim_t allowed) {
    const int most = static_cast<int>(allowed);
    return !refusal({.policy = SchedPolicy::fifo, .priority = most + 1}).empty() &&
           (most == 0 || refusal({.policy = SchedPolicy::fifo, .priority = most}).empty());
  }));
}

BOOST_AUTO_TEST_CASE(a_hidden_call_is_blamed_on_seccomp) {
  const auto cause = Child::fork([] {
                       const bool hidden = testing::deny_syscall(SYS_sched_setattr, ENOSYS);
                       return hidden && has(refusal({}), "seccomp") ? 0 : 1;
                     }).wait();
  BOOST_TEST(cause.success());
}

BOOST_AUTO_TEST_CASE(reservations_are_admitted_until_they_no_longer_fit) {
  const std::string objection = procs::policy_objection(SchedPolicy::deadline);
  const std::string expected = objection.empty() ? "does not fit" : objection;
  const auto most = static_cast<std::size_t>(::sysconf(_SC_NPROCESSORS_CONF)) + 1;
  std::promise<void> enough;
  std::shared_future<void> until = enough.get_future().share();
  std::vector<std::jthread> sleepers;
  std::string last;
  while (last.empty() && sleepers.size() < most) {
    std::promise<std::string> answer;
    auto answered = answer.get_future();
    sleepers.emplace_back([&, until] {
      answer.set_value(refusal({.policy = SchedPolicy::deadline,
                                .runtime_ns = 9'900'000,
                                .deadline_ns = 10'000'000,
                                .period_ns = 10'000'000}));
      until.wait();
    });
    last = answered.get();
  }
  enough.set_value();
  BOOST_TEST(has(last, expected), last);
}

BOOST_AUTO_TEST_CASE(a_scope_gives_the_thread_back_as_it_was) {
  in_thread([] {
    const SchedAttr before = procs::sched_attr();
    {
      const procs::SchedScope scope({.policy = SchedPolicy::batch, .nice = before.nice});
      BOOST_TEST(procs::name(procs::sched_attr().policy) == "batch");
    }
    BOOST_TEST((procs::sched_attr() == before));
  });
}

BOOST_AUTO_TEST_CASE(a_scope_without_a_way_back_is_refused_and_changes_nothing) {
  BOOST_TEST(as_ordinary_user(0, 0, [](rlim_t) {
    try {
      const procs::SchedScope scope({.policy = SchedPolicy::idle});
      return false;
    } catch (const Unsupported& reason) {
      return has(reason.what(), "could not be left") &&
             procs::sched_attr().policy == SchedPolicy::other;
    }
  }));
}

BOOST_AUTO_TEST_CASE(timer_slack_lasts_as_long_as_its_scope) {
  const int before = ::prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
  {
    const procs::TimerSlack slack(1);
    BOOST_TEST(::prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == 1);
  }
  BOOST_TEST(::prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) == before);
}
