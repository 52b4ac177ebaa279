// What becomes of a loop when the kernel refuses its wait, or something that it calls throws: all
// tasks end, each thing they hold is put away once, and run() throws.

#include "iouring/acceptor.hh"
#include "iouring/file.hh"
#include "iouring/gather.hh"
#include "iouring/lock.hh"
#include "iouring/perform.hh"
#include "iouring/receiver.hh"
#include "iouring/stream.hh"
#include "iouring/task_group.hh"
#include "iouring/timeout.hh"
#include "iouring/to_thread.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "tests/deny_syscall.hh"
#include "tests/iouring_io.hh"

#include <poll.h>
#include <sys/syscall.h>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

using namespace schedlab;
using namespace schedlab::iouring;
using namespace schedlab::testing;
using namespace std::chrono_literals;

namespace {

namespace data = boost::unit_test::data;

bool in_child(const std::function<bool()>& check) {
  return Child::fork([&] { return check() ? 0 : 1; }).wait().success();
}

// From now on the kernel refuses the wait of this thread's drivers.
bool refuse_waits(DriverChoice choice, int error) {
  if (choice == DriverChoice::io_uring)
    return deny_syscall(SYS_io_uring_enter, error);
#ifdef SYS_epoll_wait
  if (!deny_syscall(SYS_epoll_wait, error))
    return false;
#endif
  return deny_syscall(SYS_epoll_pwait, error) && deny_syscall(SYS_epoll_pwait2, error);
}

// Says no, and goes on, if something is not as it should be. For children, whose standard error is
// ours.
bool good = true;
void expect(bool condition, const char* what) {
  if (condition)
    return;
  good = false;
  std::fprintf(stderr, "not so: %s\n", what);
}

// How many tasks hold something, and how they ended.
struct Ends {
  int alive = 0;
  int cancelled = 0;
  int failed = 0;  // with the errno of the refusal, or what it did to streams
  int gave_value = 0;
};

class Held {
public:
  explicit Held(Ends& ends) : ends_(ends) { ++ends_.alive; }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() { --ends_.alive; }

private:
  Ends& ends_;
};

template <typename T>
Task<> watched(Ends& ends, Task<T> task) {
  const Held held(ends);
  try {
    co_await std::move(task);
    ++ends.gave_value;
  } catch (const Cancelled&) {
    ++ends.cancelled;
    throw;
  } catch (const std::exception&) {
    ++ends.failed;
  }
}

Task<> receive(int fd, std::int64_t timeout_ns = 0) {
  std::array<char, 64> area;
  co_await perform({.op = Op::recv,
                    .fd = fd,
                    .length = sizeof area,
                    .address = area.data(),
                    .timeout_ns = timeout_ns},
                   "recv");
}

Task<> sleep_long() {
  co_await sleep_for(1h);
}

Task<> wait_in_thread(std::atomic<bool>& go) {
  co_await to_thread([&go] { go.wait(false); });
}

Task<> acquire(Lock& lock) {
  const auto guard = co_await lock.acquire();
  co_await sleep_for(1h);
}

Task<> receive_into_pool(Socket& socket, BufferPool pool) {
  Receiver receiver(socket, pool);
  for (;;)
    const Received data = co_await receiver.next();
}

Task<> accept_all(iouring::Listener& listener) {
  Acceptor acceptor(listener);
  for (;;)
    const Socket socket = co_await acceptor.next();
}

Task<> write_more_than_fits(Socket socket) {
  Stream stream(std::move(socket));
  const std::string much(4 << 20, 'x');
  stream.write(much);
  co_await stream.flush();
}

// Puts its things away by I/O of its own, which fails at once.
Task<> clean_up_slowly(int fd, int& error) {
  bool cancelled = false;
  try {
    co_await receive(fd);
  } catch (const Cancelled&) {
    cancelled = true;
  }
  error = co_await errno_of(receive(fd));
  co_await sleep_for(1ms);
  if (cancelled)
    throw Cancelled();
}

// Ends in a descriptor that is closed as always.
Task<> close_at_end(Fd fd) {
  File file(std::move(fd), "pipe");
  bool cancelled = false;
  try {
    co_await sleep_for(1h);
  } catch (const Cancelled&) {
    cancelled = true;
  }
  co_await file.close();
  if (cancelled)
    throw Cancelled();
}

// What waits in each way there is, until the kernel refuses to wait.
struct World {
  Pair pair, second;
  Pipe pipe = make_pipe(), kept = make_pipe();
  iouring::Listener listener{Address("127.0.0.1:0")};
  std::atomic<bool> go = false;
  Lock lock;
  Ends ends;
  int error_while_ending = 0;
  int tasks = 0;
};

template <typename T>
void start(World& world, Task<T> task) {
  ++world.tasks;
  create_task(watched(world.ends, std::move(task))).detach();
}

Task<> all_kinds_of_waits(World& world, DriverChoice choice) {
  const Held held(world.ends);
  SocketPair third = make_socket_pair();
  BufferPool pool(4, 64);
  const int near = world.pair.near.get();
  start(world, receive(near));
  start(world, receive(near, 3'600'000'000'000));
  start(world, sleep_long());
  start(world, acquire(world.lock));
  start(world, acquire(world.lock));
  start(world, receive_into_pool(third.first, pool));
  start(world, accept_all(world.listener));
  start(world, timeout(1h, receive(near)));
  start(world, gather(receive(near), sleep_long(), gather(receive(near))));
  start(world, TaskGroup::run([near](TaskGroup& group) -> Task<> {
          group.start(receive(near));
          co_await receive(near);
        }));
  start(world, clean_up_slowly(near, world.error_while_ending));
  start(world, close_at_end(std::move(world.kept.read)));
  SocketPair full = make_socket_pair();
  start(world, write_more_than_fits(std::move(full.first)));
  start(world, wait_in_thread(world.go));
  co_await settle();
  expect(refuse_waits(choice, EPERM), "the filter is in force");
  std::jthread later([&world] {  // while the loop ends already
    std::this_thread::sleep_for(10ms);
    world.go = true;
    world.go.notify_all();
  });
  co_await receive(near);
  expect(false, "the main task goes on");
}

std::string refusal_from(Loop& loop, Task<> task) {
  try {
    loop.run(std::move(task));
  } catch (const std::system_error& error) {
    return std::to_string(error.code().value()) + " " + error.what();
  } catch (const std::exception& other) {
    return other.what();
  }
  return "";
}

Task<> never_runs(bool& ran) {
  ran = true;
  co_return;
}

bool all_end_when_waits_are_refused(DriverChoice choice) {
  World world;
  const auto before = open_descriptors();
  {
    Loop loop(on(choice));
    const std::string refusal = refusal_from(loop, all_kinds_of_waits(world, choice));
    expect(refusal.starts_with(std::to_string(EPERM) + " "), "run() throws the refusal");
    expect(world.ends.alive == 0, "every task has put its things away");
    // Only the thread's task gives a value: the thread is not cut short.
    expect(world.ends.gave_value == 1, "one value");
    expect(world.ends.cancelled == world.tasks - 1, "all others were cancelled");
    expect(world.ends.failed == 0, "none saw a failure of its own");
    expect(world.error_while_ending == EPERM, "what is begun later fails with the errno");
    expect(loop.driver().in_flight() == 0, "nothing is under way");
    expect(loop.timers().empty(), "no timer is set");
    bool ran = false;
    expect(refusal_from(loop, never_runs(ran)) == refusal, "the next run() throws it too");
    expect(!ran, "and runs nothing");
  }
  expect(open_descriptors() == before - 1, "descriptors are closed, also the one given away");
  // Nothing takes what comes now.
  expect(::write(world.pair.far.get(), "x", 1) == 1, "written");
  char byte = 0;
  expect(::recv(world.pair.near.get(), &byte, 1, MSG_DONTWAIT) == 1 && byte == 'x', "still there");
  return good;
}

Task<> wait_and_count(int fd, int& ends) {
  try {
    co_await receive(fd);
  } catch (...) {
    ++ends;
    throw;
  }
}

Task<> refuse_when_cancelled(DriverChoice choice, bool& ended) {
  try {
    co_await sleep_for(1h);
  } catch (const Cancelled&) {
    expect(refuse_waits(choice, EPERM), "the filter is in force");
  }
  co_await sleep_for(1ms);
  ended = true;
}

Task<> run_stalling(int& ends, int fd) {
  create_task(wait_and_count(fd, ends)).detach();
  co_await yield();
  co_await yield();
  for (const auto until = clock::now_ns() + 5'000'000; clock::now_ns() < until;) {
  }
  co_await sleep_for(1h);
}

}  // namespace

BOOST_DATA_TEST_CASE(all_tasks_end_when_the_kernel_refuses_to_wait, on_all_drivers, choice) {
  BOOST_TEST(in_child([choice] { return all_end_when_waits_are_refused(choice); }));
}

BOOST_DATA_TEST_CASE(other_threads_wake_a_loop_whose_driver_is_broken, on_all_drivers, choice) {
  // Each post is answered before the next, from a thread with a ring of its own.
  const auto poked = [](Loop& loop, DriverChoice driver) -> Task<> {
    std::atomic<int> seen = 0;
    std::atomic<bool> broken = false;
    std::jthread other([&] {
      Loop own(on(driver));
      broken.wait(false);
      for (int i = 0; i < 200; ++i) {
        loop.post([&seen]() noexcept { seen.fetch_add(1); });
        while (seen.load() <= i)
          std::this_thread::yield();
      }
    });
    expect(refuse_waits(driver, EBADF), "the filter is in force");
    broken = true;
    broken.notify_all();
    bool cancelled = false;
    try {
      co_await sleep_for(1h);
    } catch (const Cancelled&) {
      cancelled = true;
    }
    while (seen.load() < 200)
      co_await sleep_for(20ms);
    if (cancelled)
      throw Cancelled();
  };
  BOOST_TEST(in_child([&] {
    Loop loop(on(choice));
    expect(refusal_from(loop, poked(loop, choice)).starts_with("9 "), "run() throws EBADF");
    return good;
  }));
}

BOOST_DATA_TEST_CASE(a_driver_that_is_broken_off_ends_all_and_then_everything_at_once,
                     on_all_drivers, choice) {
  const Pair pair;
  const Pipe pipe = make_pipe();
  std::array<char, 8> area{};
  Bench bench({.choice = choice, .entries = 8});
  bench->add_buffers(1, 4, 64);
  std::vector<Recorded*> all;
  for (int i = 0; i < 40; ++i) {
    all.push_back(&bench.begin(moving(Op::recv, pair.near, area)));
    all.push_back(&bench.begin({.op = Op::poll, .fd = pipe.read.get(), .flags = POLLIN}));
  }
  all.push_back(
      &bench.begin({.op = Op::recv, .many = true, .buffer_group = 1, .fd = pair.near.get()}));
  bench->wait(0);
  Recorded& unseen = bench.begin({});  // nobody has handed it over
  bench->cancel(*all[3]);
  bench->break_off(ENXIO);
  BOOST_TEST(bench->in_flight() == 0);
  for (const Recorded* const one : all)
    BOOST_TEST_REQUIRE((one->ended() && one->result() == -ECANCELED));
  BOOST_TEST(unseen.ended());
  BOOST_TEST(bench->idle());
  BOOST_TEST(bench.begin(moving(Op::recv, pair.near, area)).result() == -ENXIO);
  BOOST_TEST(bench.begin({.op = Op::cancel_fd, .fd = pair.near.get()}).result() == 0);
  const int copy = ::dup(pair.far.get());
  BOOST_TEST(bench.begin({.op = Op::close, .fd = copy}).result() == 0);
  BOOST_TEST(::fcntl(copy, F_GETFD) == -1);
  BOOST_TEST(bench.begin({.op = Op::close, .fd = copy}).result() == -EBADF);
  bench->wake();
  bench->wait(-1);
  bench->wait(1'000);  // nobody wakes it
  bench->remove_buffers(1);
  const int files[] = {pair.near.get()};
  BOOST_TEST(!bench->register_files(files));
  // What comes now is not taken into the memory of a request that has ended.
  BOOST_TEST(::write(pair.far.get(), "abc", 3) == 3);
  BOOST_TEST(::recv(pair.near.get(), area.data() + 4, 4, MSG_DONTWAIT) == 3);
  BOOST_TEST(area[0] == '\0');
}

BOOST_DATA_TEST_CASE(what_had_come_before_it_broke_counts, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  std::array<char, 8> area{};
  check(::write(pair.far.get(), "abc", 3), "write");
  Recorded& one = bench.begin(moving(Op::recv, pair.near, area));
  if (choice == DriverChoice::io_uring)
    bench->wait(0);
  bench->break_off(EPERM);
  BOOST_TEST(one.result() == 3);
}

BOOST_AUTO_TEST_CASE(a_ring_run_by_another_thread_than_its_maker_is_refused_and_ends,
                     *boost::unit_test::precondition(uring_works)) {
  // The kernel's own refusal, without a filter.
  Loop loop(on(DriverChoice::io_uring));
  std::string refusal;
  std::jthread([&] { refusal = refusal_from(loop, sleep_long()); }).join();
  BOOST_TEST(refusal.find("io_uring_enter") != refusal.npos, refusal);
}

BOOST_AUTO_TEST_CASE(an_epoll_that_others_closed_ends_all_tasks) {
  BOOST_TEST(in_child([] {
    Loop loop(on(DriverChoice::epoll));
    for (int fd = 3; fd < 64; ++fd) {
      std::array<char, 64> name{};
      const std::string link = "/proc/self/fd/" + std::to_string(fd);
      if (::readlink(link.c_str(), name.data(), name.size() - 1) > 0 &&
          std::strcmp(name.data(), "anon_inode:[eventpoll]") == 0)
        ::close(fd);
    }
    expect(refusal_from(loop, sleep_long()).starts_with("9 "), "run() throws EBADF");
    return good;
  }));
}

BOOST_DATA_TEST_CASE(what_the_stall_detector_throws_ends_all_tasks_and_the_loop_can_run_again,
                     on_all_drivers, choice) {
  LoopOptions options = on(choice);
  options.stall_ns = 2'000'000;
  bool throws = true;
  options.on_stall = [&throws](const Stall&) {
    if (throws)
      throw std::runtime_error("stalled");
  };
  Loop loop(options);
  const Pair pair;
  int ends = 0;
  BOOST_TEST(refusal_from(loop, run_stalling(ends, pair.near.get())) == "stalled");
  BOOST_TEST(ends == 1);
  BOOST_TEST(loop.driver().in_flight() == 0);
  throws = false;
  bool ran = false;
  loop.run(never_runs(ran));
  BOOST_TEST(ran);
}

BOOST_DATA_TEST_CASE(a_wait_that_is_refused_after_another_failure_ends_the_run_too, on_all_drivers,
                     choice) {
  BOOST_TEST(in_child([choice] {
    ::alarm(20);  // instead of for ever
    LoopOptions options = on(choice);
    options.stall_ns = 2'000'000;
    options.on_stall = [](const Stall&) { throw std::runtime_error("stalled"); };
    Loop loop(options);
    const Pair pair;
    int ends = 0;
    bool ended = false;
    const auto both = [&]() -> Task<> {
      create_task(refuse_when_cancelled(choice, ended)).detach();
      co_await run_stalling(ends, pair.near.get());
    };
    expect(refusal_from(loop, both()) == "stalled", "run() throws the first failure");
    expect(ended && ends == 1, "all have ended");
    bool ran = false;
    expect(refusal_from(loop, never_runs(ran)).starts_with("1 "), "the next one the refusal");
    return good;
  }));
}

BOOST_DATA_TEST_CASE(a_loop_may_go_with_a_file_request_that_nobody_waited_for, on_all_drivers,
                     choice) {
  // The threads that serve it are the loop's, and go before the driver does.
  std::string content(1 << 20, '\0');
  const Fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  for (int i = 0; i < 20; ++i) {
    Recorded read, sync;
    Loop loop(on(choice));
    read.request = moving(Op::read, file, content);
    read.request.offset = 0;
    sync.request = {.op = Op::fsync, .fd = file.get()};
    for (Recorded* const one : {&read, &sync})
      loop.driver().submit(one->request, *one);
    BOOST_TEST(loop.driver().counts().requests == 2u);
  }
}
