// What only io_uring has, and what happens where it is refused.

#include "affinity/pin.hh"
#include "iouring/interruptions.hh"
#include "iouring/probe.hh"
#include "lab/base/child.hh"
#include "tests/deny_syscall.hh"
#include "tests/iouring_drivers.hh"
#include "tests/waits.hh"

#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

using namespace schedlab;
using namespace schedlab::testing;

namespace {

bool in_child(const std::function<bool()>& check) {
  return Child::fork([&] { return check() ? 0 : 1; }).wait().success();
}

// From now on io_uring_enter answers EAGAIN unless it also collects.
bool deny_submitting_alone() {
  constexpr auto flags = offsetof(seccomp_data, args) + 3 * sizeof(std::uint64_t);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 0, 2),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, flags),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, IORING_ENTER_GETEVENTS, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
  };
  const sock_fprog program{sizeof filter / sizeof *filter, filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

bool injects(Bench& bench) {
  return bench.run({.flags = 1, .length = 5}) == 5;
}

const auto needs_uring = boost::unit_test::precondition(uring_works);

}  // namespace

BOOST_DATA_TEST_CASE(where_io_uring_is_refused_auto_takes_epoll_and_io_uring_says_why,
                     boost::unit_test::data::make({EPERM, ENOSYS, EOPNOTSUPP, ENOMEM, EMFILE}),
                     error) {
  const bool right = in_child([&] {
    if (!deny_syscall(SYS_io_uring_setup, error))
      return false;
    Bench bench(DriverChoice::automatic);
    Pair pair;
    std::array<char, 4> area{'a', 'b', 'c', 'd'}, back{};
    Recorded& receiving = bench.begin(moving(Op::recv, pair.far, back));
    const bool works = bench.run(moving(Op::send, pair.near, area)) == 4 &&
                       bench.end(receiving) == 4 && back == area;
    std::string reason = refusal_of(DriverChoice::io_uring);
    const bool explained = reason.starts_with("io_uring: ") && reason.find("; ") != reason.npos;
    return works && bench->name() == "epoll" && explained;
  });
  BOOST_TEST(right);
}

BOOST_AUTO_TEST_CASE(a_user_who_may_lock_nothing_is_told_so_and_auto_takes_epoll, *needs_uring) {
  const bool right = in_child([] {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_MEMLOCK, &none);
    if (::geteuid() == 0 && ::setuid(65534) != 0)
      return false;
    const std::string reason = refusal_of(DriverChoice::io_uring);
    if (reason.empty())  // Linux 5.12 to the return of the charge
      return true;
    const bool explained = reason.starts_with("io_uring: RLIMIT_MEMLOCK is 0 KiB") &&
                           reason.find("; ulimit -l unlimited") != reason.npos;
    Bench bench(DriverChoice::automatic);
    return explained && bench->name() == "epoll" && bench.run({}) == 0;
  });
  BOOST_TEST(right);
}

// What a process is told that has so many descriptors left of 40.
std::string refusal_with_descriptors_left(int left) {
  const rlimit value{40, 40};
  ::setrlimit(RLIMIT_NOFILE, &value);
  std::vector<Fd> taken;
  taken.reserve(40);
  for (int fd = ::dup(0); fd >= 0; fd = ::dup(0))
    taken.emplace_back(fd);
  taken.resize(taken.size() - static_cast<std::size_t>(left));
  std::exception_ptr refused;
  try {
    iouring::make_driver({.choice = DriverChoice::io_uring});
  } catch (const Unsupported&) {
    refused = std::current_exception();
  }
  taken.clear();  // sanitizers need some to look at it
  try {
    if (refused)
      std::rethrow_exception(refused);
  } catch (const Unsupported& reason) {
    return reason.what();
  }
  return {};
}

BOOST_AUTO_TEST_CASE(a_process_short_of_descriptors_is_told_its_limit, *needs_uring) {
  // With one left the ring is refused, with none already what wakes it.
  for (const int left : {0, 1}) {
    const bool right = in_child([left] {
      const std::string reason = refusal_with_descriptors_left(left);
      return reason.starts_with("io_uring: this process has no descriptor left: ") &&
             reason.find("RLIMIT_NOFILE is 40; ulimit -n ") != reason.npos;
    });
    BOOST_TEST(right, left << " left");
  }
}

BOOST_AUTO_TEST_CASE(auto_takes_io_uring_where_it_works, *needs_uring) {
  Bench bench(DriverChoice::automatic);
  BOOST_TEST(bench->name() == "io_uring");
}

BOOST_AUTO_TEST_CASE(a_user_who_may_lock_little_gets_a_smaller_ring, *needs_uring) {
  const bool right = in_child([] {
    const rlimit value{64 << 10, 64 << 10};
    ::setrlimit(RLIMIT_MEMLOCK, &value);
    if (::geteuid() == 0 && ::setuid(65534) != 0)
      return false;
    if (!refusal_of(DriverChoice::io_uring).empty())
      return true;  // others of this user have locked it all
    Bench bench({.choice = DriverChoice::io_uring, .entries = 16384});
    return bench.run({}) == 0;
  });
  BOOST_TEST(right);
}

BOOST_AUTO_TEST_CASE(the_words_for_drivers_are_known_and_others_refused) {
  BOOST_CHECK(iouring::driver_choice("auto") == DriverChoice::automatic);
  BOOST_CHECK(iouring::driver_choice("io_uring") == DriverChoice::io_uring);
  BOOST_CHECK(iouring::driver_choice("epoll") == DriverChoice::epoll);
  BOOST_CHECK_THROW(static_cast<void>(iouring::driver_choice("uring")), BadInput);
}

BOOST_AUTO_TEST_CASE(an_old_kernel_waits_in_milliseconds) {
  const bool right = in_child([] {
    if (!deny_syscall(SYS_epoll_pwait2, ENOSYS))
      return false;
    Bench bench(DriverChoice::epoll);
    Pair pair;
    std::array<char, 4> area{};
    Request request = moving(Op::recv, pair.near, area);
    request.timeout_ns = 1;
    return bench.run(request) == -ETIME;
  });
  BOOST_TEST(right);
}

BOOST_DATA_TEST_CASE(what_is_injected_comes_out, on_all_drivers, choice) {
  Bench bench(choice);
  if (!injects(bench))
    return;  // before Linux 6.10
  for (const int result : {0, 1, 1 << 30, -EIO, -ECANCELED, -ENOBUFS, -ETIME, -EAGAIN})
    BOOST_TEST(bench.run({.flags = 1, .length = static_cast<std::uint32_t>(result)}) == result);
}

BOOST_AUTO_TEST_CASE(what_a_signal_interrupted_is_begun_again_but_not_for_ever, *needs_uring) {
  Bench bench(DriverChoice::io_uring);
  if (!injects(bench))
    return;
  constexpr auto interrupted = static_cast<std::uint32_t>(-EINTR);
  const auto before = bench->counts().calls;
  BOOST_TEST(bench.run({.flags = 1, .length = interrupted}) == -EINTR);
  BOOST_TEST(bench->counts().calls > before + 8);  // each time a call
  Recorded& limited =
      bench.begin({.flags = 1, .length = interrupted, .timeout_ns = 3'600'000'000'000});
  BOOST_TEST(bench.end(limited) == -EINTR);
  BOOST_TEST(bench->in_flight() == 0);
}

BOOST_AUTO_TEST_CASE(a_kernel_that_takes_nothing_for_a_while_loses_nothing, *needs_uring) {
  const bool right = in_child([] {
    Bench bench({.choice = DriverChoice::io_uring, .entries = 8});
    if (!deny_submitting_alone())
      return false;
    Pair pair;
    std::array<char, 1> area{};
    // The entries are taken by requests that wait, when a cancel is due.
    std::vector<Recorded*> all;
    for (int i = 0; i < 7; ++i)
      all.push_back(&bench.begin(moving(Op::recv, pair.near, area)));
    bench->cancel(*all[3]);
    if (bench.end(*all[3]) != -ECANCELED)
      return false;
    all.erase(all.begin() + 3);
    for (int i = 0; i < 100; ++i)
      all.push_back(&bench.begin(moving(Op::recv, pair.near, area)));
    for (int i = 0; i < 20; ++i)
      bench->wait(0);
    for (Recorded* const one : all)  // more cancels than entries
      bench->cancel(*one);
    std::jthread other([&] { bench->wake(); });
    for (Recorded* const one : all)
      if (bench.end(*one) != -ECANCELED)
        return false;
    return bench->in_flight() == 0;
  });
  BOOST_TEST(right);
}

BOOST_AUTO_TEST_CASE(nothing_is_begun_again_on_a_descriptor_that_was_ended_until_it_is_used) {
  iouring::Interruptions interruptions;
  const auto on_fd = [](Op op, int fd) { return Request{.op = op, .fd = fd}; };
  const Request read = on_fd(Op::read, 1000);
  BOOST_TEST(interruptions.may_begin_again(read));
  for (const int fd : {3, 1000, 70'000})
    interruptions.submitted(on_fd(Op::cancel_fd, fd));
  BOOST_TEST(!interruptions.may_begin_again(read));
  BOOST_TEST(interruptions.may_begin_again(on_fd(Op::read, 1001)));
  BOOST_TEST(interruptions.may_begin_again(on_fd(Op::read, 100'000)));
  // A process and a registered file have numbers of their own.
  interruptions.submitted(on_fd(Op::wait_child, 1000));
  Request fixed = read;
  fixed.fixed_file = true;
  interruptions.submitted(fixed);
  BOOST_TEST(interruptions.may_begin_again(fixed));
  BOOST_TEST(!interruptions.may_begin_again(read));
  interruptions.submitted(on_fd(Op::open, AT_FDCWD));
  BOOST_TEST(interruptions.may_begin_again(on_fd(Op::open, AT_FDCWD)));
  interruptions.submitted(read);
  BOOST_TEST(interruptions.may_begin_again(read));
  BOOST_TEST(!interruptions.may_begin_again(on_fd(Op::recv, 3)));
  BOOST_TEST(!interruptions.may_begin_again(on_fd(Op::close, 5)));
  // A splice has two, and either ends it.
  const Request splice{.op = Op::splice, .fd = 7, .second_fd = 8};
  interruptions.submitted(splice);
  BOOST_TEST(interruptions.may_begin_again(splice));
  interruptions.submitted(on_fd(Op::cancel_fd, 8));
  BOOST_TEST(!interruptions.may_begin_again(splice));
  interruptions.submitted(splice);
  BOOST_TEST(interruptions.may_begin_again(splice));
}

BOOST_AUTO_TEST_CASE(a_flood_does_overflow_a_ring_that_nobody_empties, *needs_uring) {
  // The control of the tests of floods: eight times as many as the ring holds are too many.
  io_uring ring;
  io_uring_params params{};
  // What closed rings had locked counts against their user until the kernel has cleared it away.
  BOOST_TEST_REQUIRE(comes_true([&] {
    params = {};
    params.flags = iouring::quick_probe().setup_flags | IORING_SETUP_CQSIZE;
    params.cq_entries = 32;
    return ::io_uring_queue_init_params(8, &ring, &params) == 0;
  }));
  const Pair pair;
  for (unsigned i = 0; i < 8 * params.cq_entries; ++i) {
    io_uring_sqe* sqe = ::io_uring_get_sqe(&ring);
    if (!sqe) {
      ::io_uring_submit(&ring);
      sqe = ::io_uring_get_sqe(&ring);
    }
    ::io_uring_prep_poll_add(sqe, pair.near.get(), POLLIN);
  }
  ::io_uring_submit(&ring);
  check(::write(pair.far.get(), "x", 1), "write");
  for (int i = 0; i < 64; ++i)  // a call shows some twenty completions
    ::io_uring_get_events(&ring);
  BOOST_TEST(::io_uring_cq_has_overflow(&ring));
  ::io_uring_queue_exit(&ring);
}

BOOST_AUTO_TEST_CASE(fixed_buffers_and_files_are_used_where_they_can_be, *needs_uring) {
  Bench bench(DriverChoice::io_uring);
  const Pipe pipe = make_pipe();
  std::array<std::byte, 4096> memory{};
  const std::span<std::byte> buffers[] = {memory};
  const int files[] = {pipe.read.get()};
  BOOST_TEST_REQUIRE(comes_true([&] { return bench->register_buffers(buffers); }));
  BOOST_TEST_REQUIRE(bench->register_files(files));
  check(::write(pipe.write.get(), "fixed", 5), "write");
  BOOST_TEST(bench.run({.op = Op::read,
                        .fixed_file = true,
                        .fixed_buffer = 0,
                        .fd = 0,
                        .length = 5,
                        .address = memory.data()}) == 5);
  BOOST_TEST(static_cast<char>(memory[4]) == 'd');
  BOOST_TEST(bench->register_buffers({}));
  BOOST_TEST(bench.run({.op = Op::read,
                        .fixed_buffer = 0,
                        .fd = pipe.read.get(),
                        .length = 5,
                        .address = memory.data()}) == -EFAULT);
}

// Since Linux 6.13 a ring that slept shows the one completion that it slept for, and keeps others.
BOOST_DATA_TEST_CASE(what_ends_together_while_a_driver_sleeps_is_collected_together, on_all_drivers,
                     choice) {
  // On one CPU the sleeper runs only when the write has woken all that wait for it.
  const affinity::Pin pin(affinity::thread_affinity().first());
  Bench bench(choice);
  const Pair pair;
  std::vector<const Recorded*> all;
  for (int i = 0; i < 8; ++i)
    all.push_back(&bench.begin({.op = Op::poll, .fd = pair.near.get(), .flags = POLLIN}));
  ssize_t written = 0;
  std::jthread writer([&, sleeper = ::gettid()] {
    if (asleep(sleeper))
      written = ::write(pair.far.get(), "x", 1);
  });
  const auto ended = [&] { return std::ranges::count_if(all, &Recorded::ended); };
  while (ended() == 0)  // a wait may end for nothing
    bench->wait(-1);
  writer.join();
  BOOST_TEST(written == 1);
  BOOST_TEST(ended() == 8);
}

BOOST_DATA_TEST_CASE(a_wake_ends_a_wait_now_or_the_next_one, on_all_drivers, choice) {
  Bench bench(choice);
  bench->wake();
  bench->wait(-1);
  for (int i = 0; i < 1000; ++i) {
    std::jthread other([&] { bench->wake(); });
    bench->wait(-1);
  }
}

BOOST_DATA_TEST_CASE(drivers_of_two_threads_wake_each_other, on_all_drivers, choice) {
  constexpr int rounds = 10'000;
  Bench one(choice);
  std::atomic<Driver*> other = nullptr;
  std::atomic<int> turn = 0;
  std::atomic<bool> over = false;  // nobody is waking any more
  std::jthread thread([&] {
    Bench two(choice);
    other = &*two;
    other.notify_one();
    for (int i = 0; i < rounds; ++i) {
      while (turn.load() != 2 * i + 1)
        two->wait(-1);
      turn = 2 * i + 2;
      one->wake();
    }
    over.wait(false);
  });
  other.wait(nullptr);
  for (int i = 0; i < rounds; ++i) {
    turn = 2 * i + 1;
    other.load()->wake();
    while (turn.load() != 2 * i + 2)
      one->wait(-1);
  }
  over = true;
  over.notify_one();
}

BOOST_DATA_TEST_CASE(a_thread_whose_own_driver_rests_can_wake_others_any_number_of_times,
                     on_all_drivers, choice) {
  // Nobody collects what the waking driver is told of its messages.
  Bench resting(choice);
  std::atomic<Driver*> other = nullptr;
  std::atomic<int> seen = 0;
  std::atomic<bool> over = false;
  constexpr int rounds = 5'000;
  std::jthread thread([&] {
    Bench mine(choice);
    other = &*mine;
    other.notify_one();
    for (int i = 0; i < rounds; ++i) {
      mine->wait(-1);
      seen = i + 1;
    }
    over.wait(false);
  });
  other.wait(nullptr);
  for (int i = 0; i < rounds; ++i) {
    other.load()->wake();
    while (seen.load() <= i)
      std::this_thread::yield();
  }
  over = true;
  over.notify_one();
}

BOOST_AUTO_TEST_CASE(a_wake_that_no_message_can_carry_goes_through_the_eventfd, *needs_uring) {
  const bool right = in_child([] {
    Bench bench(DriverChoice::io_uring);
    std::atomic<int> seen = 0;
    bool denied = false;
    std::jthread thread([&] {
      Bench own(DriverChoice::io_uring);
      denied = deny_submitting_alone();  // in this thread only
      for (int i = 0; i < 100; ++i) {
        bench->wake();
        while (seen.load() <= i)
          std::this_thread::yield();
      }
    });
    for (int i = 0; i < 100; ++i) {
      bench->wait(-1);
      seen = i + 1;
    }
    thread.join();
    return denied;
  });
  BOOST_TEST(right);
}

BOOST_DATA_TEST_CASE(drivers_of_one_thread_may_end_in_any_order, on_all_drivers, choice) {
  auto first = std::make_unique<Bench>(choice);
  auto second = std::make_unique<Bench>(choice);
  auto third = std::make_unique<Bench>(choice);
  second.reset();
  (*first)->wake();
  BOOST_TEST(first->run({}) == 0);
  first.reset();
  third->run({});
  third.reset();
  // No trace of them is left in what wakes others.
  std::atomic<Driver*> other = nullptr;
  std::atomic<bool> over = false;
  std::jthread thread([&] {
    Bench last(choice);
    other = &*last;
    other.notify_one();
    last->wait(-1);
    over.wait(false);
  });
  other.wait(nullptr);
  other.load()->wake();
  over = true;
  over.notify_one();
}

BOOST_DATA_TEST_CASE(a_forked_child_may_drop_what_it_inherits_and_have_a_driver_of_its_own,
                     on_all_drivers, choice) {
  auto inherited = std::make_unique<Bench>(choice);
  (*inherited)->add_buffers(1, 4, 64);
  const Pair pair;
  const Pipe file = make_pipe();
  std::array<char, 4> area{};
  Recorded& waiting = inherited->begin(moving(Op::recv, pair.near, area));
  (*inherited)->wait(0);
  const bool right = in_child([&] {
    {
      Bench own(choice);
      std::array<char, 4> mine{};
      Pair other;
      Recorded& receiving = own.begin(moving(Op::recv, other.near, mine));
      if (own.run(moving(Op::send, other.far, mine)) != 4 || own.end(receiving) != 4)
        return false;
    }
    inherited.reset();
    return true;
  });
  BOOST_TEST(right);
  check(::write(pair.far.get(), "abcd", 4), "write");
  BOOST_TEST(inherited->end(waiting) == 4);
}
