#include "iouring/probe.hh"

#include "iouring/refusal.hh"
#include "lab/base/child.hh"
#include "tests/deny_syscall.hh"
#include "tests/fake_root.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <dirent.h>
#include <liburing.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>

using namespace schedlab;
using iouring::Probe;
using iouring::Surroundings;

namespace {

struct Words {
  std::string cause;
  std::string fix;
};

Words explain(int error, const Surroundings& here) {
  Words words;
  iouring::explain_refusal(error, here, words.cause, words.fix);
  return words;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

bool explained(const Probe& probe) {
  return !probe.usable && probe.error != 0 && !probe.cause.empty() && !probe.fix.empty() &&
         probe.opcodes.empty() && probe.setup_flags == 0;
}

// Runs a check in a forked child, which may take rights away from itself.
bool in_child(const std::function<bool()>& check) {
  return Child::fork([&] { return check() ? 0 : 1; }).wait().success();
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder))
    ++count;
  ::closedir(folder);
  return count;
}

const long calls[] = {SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register};
const int errors[] = {EPERM, EACCES, ENOSYS, EOPNOTSUPP, ENOMEM, EMFILE, ENFILE, EBADF};

}  // namespace

BOOST_AUTO_TEST_CASE(io_uring_is_usable_here_or_the_probe_says_why_not) {
  const Probe probe = iouring::probe();
  if (!probe.usable) {
    BOOST_TEST(explained(probe));
    return;
  }
  BOOST_TEST(probe.cause.empty());
  BOOST_TEST(probe.supports(IORING_OP_NOP));
  BOOST_TEST(!probe.supports(255));
  BOOST_TEST(std::ranges::is_sorted(probe.opcodes));
  BOOST_TEST((probe.features & IORING_FEAT_NODROP) != 0);
  BOOST_TEST(probe.largest_ring > 0);
  BOOST_TEST((probe.largest_ring & (probe.largest_ring - 1)) == 0);
}

BOOST_AUTO_TEST_CASE(deferred_running_is_only_offered_with_a_single_issuer) {
  const auto flags = iouring::quick_probe().setup_flags;
  BOOST_TEST(((flags & IORING_SETUP_DEFER_TASKRUN) == 0 || (flags & IORING_SETUP_SINGLE_ISSUER)));
  BOOST_TEST((flags & 1u << 16) == 0);  // NO_SQARRAY, which liburing 2.3 would answer by writing
                                        // over the ring
}

BOOST_AUTO_TEST_CASE(a_probe_leaves_no_descriptor_open) {
  const auto before = open_descriptors();
  iouring::probe();
  BOOST_TEST(open_descriptors() == before);
}

BOOST_DATA_TEST_CASE(a_refused_call_is_reported_with_its_errno_a_cause_and_a_fix,
                     boost::unit_test::data::make(calls) * boost::unit_test::data::make(errors),
                     call, error) {
  const bool usable = iouring::quick_probe().usable;
  const bool right = in_child([&] {
    if (!testing::deny_syscall(call, error))
      return false;
    const Probe probe = iouring::probe();
    // Where set-up is refused already, the other two calls are never made.
    const bool expected = usable || call == SYS_io_uring_setup;
    return explained(probe) && (!expected || probe.error == error);
  });
  BOOST_TEST(right);
}

BOOST_AUTO_TEST_CASE(an_ordinary_user_with_little_memlock_gets_a_smaller_ring_or_the_limit_named) {
  const Probe here = iouring::quick_probe();
  for (const rlim_t limit : {rlim_t{0}, rlim_t{64} << 10}) {
    const bool right = in_child([&] {
      const rlimit value{limit, limit};
      ::setrlimit(RLIMIT_MEMLOCK, &value);
      const bool ordinary = ::geteuid() != 0 || ::setuid(65534) == 0;
      const Probe probe = iouring::probe();
      if (!here.usable)
        return explained(probe);
      // Kernels from 5.12 until the charge came back do not count rings.
      if (probe.usable)
        return ordinary && probe.largest_ring > 0;
      return ordinary && probe.error == ENOMEM &&
             has(probe.cause, "RLIMIT_MEMLOCK is " + std::to_string(limit >> 10) + " KiB");
    });
    BOOST_TEST(right, "memlock " << limit);
  }
}

BOOST_AUTO_TEST_CASE(a_process_without_free_descriptors_is_told_its_limit) {
  const Probe here = iouring::quick_probe();
  const bool right = in_child([&] {
    const rlimit value{20, 20};
    ::setrlimit(RLIMIT_NOFILE, &value);
    while (::dup(0) >= 0) {
    }
    const Probe probe = iouring::probe();
    return explained(probe) &&
           (!here.usable || (probe.error == EMFILE && has(probe.cause, "RLIMIT_NOFILE is 20")));
  });
  BOOST_TEST(right);
}

BOOST_AUTO_TEST_CASE(the_sysctl_is_blamed_only_where_it_applies) {
  Surroundings here;
  here.disabled = 2;
  here.sys_admin = true;
  BOOST_TEST(has(explain(EPERM, here).cause, "kernel.io_uring_disabled is 2"));
  here.disabled = 1;
  BOOST_TEST(!has(explain(EPERM, here).cause, "is 1"));
  here.sys_admin = false;
  BOOST_TEST(has(explain(EPERM, here).cause, "kernel.io_uring_disabled is 1"));
  BOOST_TEST(has(explain(EPERM, here).fix, "sysctl kernel.io_uring_disabled=0"));
}

BOOST_AUTO_TEST_CASE(what_the_sysctl_s_text_says_is_what_is_blamed) {
  const char* const plain_user = "Name:\tx\nCapEff:\t0000000000000000\nSeccomp:\t0";
  const char* const admin = "Name:\tx\nCapEff:\t0000000000200000\nSeccomp:\t0";
  const auto blamed = [](const std::string& disabled, const std::string& group,
                         const std::string& status) {
    testing::FakeRoot root;
    root.put("/proc/sys/kernel/io_uring_disabled", disabled);
    if (!group.empty())
      root.put("/proc/sys/kernel/io_uring_group", group);
    root.put("/proc/thread-self/status", status);
    return explain(EPERM, iouring::surroundings(root.path()));
  };
  const std::string own = std::to_string(::getgid());
  Words words = blamed("2", "-1", admin);
  BOOST_TEST(words.cause ==
             "kernel.io_uring_disabled is 2: io_uring is switched off for everybody");
  BOOST_TEST(words.fix == "sudo sysctl kernel.io_uring_disabled=0");
  words = blamed("1", "-1", plain_user);
  BOOST_TEST(has(words.cause, "kernel.io_uring_disabled is 1: "));
  BOOST_TEST(has(words.cause, "no group (kernel.io_uring_group is -1)"));
  BOOST_TEST(words.fix == "sudo sysctl kernel.io_uring_disabled=0, or "
                          "sudo sysctl kernel.io_uring_group=" +
                              own);
  words = blamed("1", "1234", plain_user);
  BOOST_TEST(has(words.cause, "CAP_SYS_ADMIN and group 1234"));
  BOOST_TEST(words.fix == "sudo sysctl kernel.io_uring_disabled=0, or join group 1234");
  // It applies to neither: somebody else refuses.
  for (const auto& [disabled, status] :
       {std::pair("1", admin), std::pair("0", plain_user), std::pair("", plain_user)})
    BOOST_TEST(has(blamed(disabled, "-1", status).cause, "security module"));
}

BOOST_AUTO_TEST_CASE(a_tree_without_the_files_is_a_kernel_without_the_sysctl) {
  const testing::FakeRoot root;
  const Surroundings here = iouring::surroundings(root.path());
  BOOST_TEST(!here.disabled.has_value());
  BOOST_TEST(!here.group.has_value());
  BOOST_TEST(!here.seccomp_filter);
}

BOOST_AUTO_TEST_CASE(a_container_is_told_about_its_seccomp_profile_and_not_about_the_sysctl) {
  Surroundings here;
  here.disabled = 0;
  here.seccomp_filter = true;
  here.container = true;
  for (const int error : {EPERM, ENOSYS, EOPNOTSUPP}) {
    const Words words = explain(error, here);
    BOOST_TEST(has(words.cause, "seccomp"));
    BOOST_TEST(has(words.fix, "--security-opt seccomp="));
    BOOST_TEST(!has(words.fix, "sysctl"));
  }
}

BOOST_AUTO_TEST_CASE(a_filter_outside_a_container_is_not_blamed_on_docker) {
  Surroundings here;
  here.seccomp_filter = true;
  BOOST_TEST(has(explain(EPERM, here).cause, "seccomp"));
  BOOST_TEST(!has(explain(EPERM, here).fix, "docker"));
}

BOOST_AUTO_TEST_CASE(without_a_filter_a_missing_call_is_the_kernels_and_a_refusal_a_module_s) {
  const Surroundings here;
  BOOST_TEST(has(explain(ENOSYS, here).fix, "CONFIG_IO_URING"));
  BOOST_TEST(has(explain(EOPNOTSUPP, here).fix, "sandbox"));
  BOOST_TEST(has(explain(EPERM, here).cause, "security module"));
}

BOOST_AUTO_TEST_CASE(the_limits_are_named_with_their_numbers) {
  Surroundings here;
  here.memlock = 64 << 10;
  here.open_files_limit = 1024;
  BOOST_TEST(has(explain(ENOMEM, here).cause, "64 KiB"));
  BOOST_TEST(has(explain(EMFILE, here).cause, "1024"));
  here.memlock = UINT64_MAX;
  BOOST_TEST(!has(explain(ENOMEM, here).fix, "ulimit"));
}

BOOST_AUTO_TEST_CASE(bits_have_their_names_and_unknown_ones_their_number) {
  BOOST_TEST(iouring::setup_names(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) ==
             "SINGLE_ISSUER|DEFER_TASKRUN");
  BOOST_TEST(iouring::setup_names(IORING_SETUP_CLAMP | 1u << 30) == "CLAMP|bit30");
  BOOST_TEST(iouring::feature_names(IORING_FEAT_NODROP | IORING_FEAT_CQE_SKIP) ==
             "NODROP|CQE_SKIP");
  BOOST_TEST(iouring::feature_names(0).empty());
}
