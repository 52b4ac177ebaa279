// How requests end before their time: cancelled, out of time, with their descriptor or with their
// driver. Whatever happens, each ends once, and nothing that was received is lost.

#include "lab/base/child.hh"
#include "tests/iouring_drivers.hh"
#include "tests/waits.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <limits>
#include <memory>

using namespace schedlab;
using namespace schedlab::testing;

namespace {

constexpr std::int64_t never_ns = 3'600'000'000'000;
constexpr std::int64_t soon_ns = 2'000'000;

Request within(Request request, std::int64_t timeout_ns) {
  request.timeout_ns = timeout_ns;
  return request;
}

}  // namespace

BOOST_DATA_TEST_CASE(a_request_that_waits_is_cancelled, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  const Pipe pipe = make_pipe();
  Listener listener;
  std::array<char, 8> area{};
  const Request requests[] = {moving(Op::recv, pair.near, area),
                              moving(Op::read, pipe.read, area),
                              {.op = Op::accept, .fd = listener.fd.get()},
                              {.op = Op::accept, .many = true, .fd = listener.fd.get()},
                              {.op = Op::poll, .fd = pair.near.get(), .flags = POLLIN},
                              within(moving(Op::recv, pair.near, area), never_ns)};
  for (const Request& request : requests)
    for (const bool settled : {false, true}) {
      Recorded& operation = bench.begin(request);
      if (settled)
        bench.settle();
      bench->cancel(operation);
      BOOST_TEST(bench.end(operation) == -ECANCELED);
      BOOST_TEST(operation.ends.size() == 1u);
    }
  BOOST_TEST(bench->in_flight() == 0);
}

BOOST_DATA_TEST_CASE(one_of_several_is_cancelled_and_the_others_go_on, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  std::array<char, 1> areas[3]{};
  Recorded* reading[3];
  for (int i = 0; i < 3; ++i)
    reading[i] = &bench.begin(moving(Op::recv, pair.near, areas[i]));
  bench.settle();
  bench->cancel(*reading[1]);
  BOOST_TEST(bench.end(*reading[1]) == -ECANCELED);
  check(::write(pair.far.get(), "ab", 2), "write");
  BOOST_TEST(bench.end(*reading[0]) == 1);
  BOOST_TEST(bench.end(*reading[2]) == 1);
  BOOST_TEST(areas[0][0] + areas[2][0] == 'a' + 'b');
}

BOOST_DATA_TEST_CASE(a_request_runs_out_of_time_or_ends_within_it, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  const Pipe pipe = make_pipe();
  std::array<char, 8> area{};
  BOOST_TEST(bench.run(within(moving(Op::recv, pair.near, area), soon_ns)) == -ETIME);
  BOOST_TEST(bench.run(within(moving(Op::read, pipe.read, area), 1)) == -ETIME);
  check(::write(pair.far.get(), "abc", 3), "write");
  BOOST_TEST(bench.run(within(moving(Op::recv, pair.near, area), never_ns)) == 3);
  Recorded& waiting = bench.begin(within(moving(Op::recv, pair.near, area), never_ns));
  bench.settle();
  check(::write(pair.far.get(), "de", 2), "write");
  BOOST_TEST(bench.end(waiting) == 2);
  const Fd socket = new_socket();
  BOOST_TEST(bench.run(within(moving(Op::recv, socket, area), never_ns)) == -ENOTCONN);
  BOOST_TEST(bench->in_flight() == 0);
}

BOOST_DATA_TEST_CASE(what_came_before_the_time_ran_out_counts, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  std::array<char, 8> area{};
  check(::write(pair.far.get(), "abc", 3), "write");
  BOOST_TEST(bench.run(within(moving(Op::recv, pair.near, area, MSG_WAITALL), soon_ns)) == 3);
}

BOOST_DATA_TEST_CASE(limits_are_kept_in_their_order, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  std::array<char, 8> area{};
  std::vector<Recorded*> waiting;
  for (const int tenths : {9, 3, 6})
    waiting.push_back(&bench.begin(within(moving(Op::recv, pair.near, area), tenths * 10'000'000)));
  BOOST_TEST(bench.end(*waiting[1]) == -ETIME);
  BOOST_TEST(!waiting[0]->ended());
  BOOST_TEST(bench.end(*waiting[2]) == -ETIME);
  BOOST_TEST(bench.end(*waiting[0]) == -ETIME);
}

BOOST_DATA_TEST_CASE(all_requests_on_a_descriptor_end_and_its_number_is_free, on_all_drivers,
                     choice) {
  Bench bench(choice);
  Pair pair;
  std::array<char, 8> area{};
  Recorded& reading = bench.begin(moving(Op::recv, pair.near, area));
  Recorded& polling = bench.begin({.op = Op::poll, .fd = pair.near.get(), .flags = POLLIN});
  Recorded& other = bench.begin(moving(Op::recv, pair.far, area));
  const Request cancel{.op = Op::cancel_fd, .fd = pair.near.get()};
  BOOST_TEST(bench.run(cancel) == 2);
  BOOST_TEST(bench.end(reading) == -ECANCELED);
  BOOST_TEST(bench.end(polling) == -ECANCELED);
  BOOST_TEST(bench.run(cancel) == 0);
  BOOST_TEST(!other.ended());
  // The number goes to another socket, which is not taken for the old one.
  const int number = pair.near.release();
  BOOST_TEST(bench.run({.op = Op::close, .fd = number}) == 0);
  BOOST_TEST(bench.end(other) == 0);
  const Pair reused;
  BOOST_TEST_REQUIRE(reused.near.get() == number);
  Recorded& fresh = bench.begin(moving(Op::recv, reused.near, area));
  bench.settle();
  BOOST_TEST(!fresh.ended());
  check(::write(reused.far.get(), "new", 3), "write");
  BOOST_TEST(bench.end(fresh) == 3);
}

BOOST_AUTO_TEST_CASE(where_the_kernel_knows_no_descriptors_their_requests_end_one_by_one,
                     *boost::unit_test::precondition(uring_works)) {
  constexpr std::uint32_t unknown = 1U << 30;  // as all flags are before Linux 5.19
  Bench bench(DriverChoice::io_uring);
  const Pair pair;
  std::array<char, 8> area{};
  Recorded& reading = bench.begin(moving(Op::recv, pair.near, area));
  Recorded& polling = bench.begin({.op = Op::poll, .fd = pair.near.get(), .flags = POLLIN});
  Recorded& other = bench.begin(moving(Op::recv, pair.far, area));
  const Request cancel{.op = Op::cancel_fd, .fd = pair.near.get(), .flags = unknown};
  BOOST_TEST_REQUIRE(bench.run(cancel) == 2);
  BOOST_TEST(bench.end(reading) == -ECANCELED);
  BOOST_TEST(bench.end(polling) == -ECANCELED);
  BOOST_TEST(bench.run(cancel) == 0);
  BOOST_TEST(!other.ended());
}

BOOST_DATA_TEST_CASE(a_splice_is_ended_with_what_it_writes_to, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  const std::string much(1 << 20, 'x');
  while (::send(pair.near.get(), much.data(), much.size(), MSG_DONTWAIT) > 0) {
  }
  const Pipe pipe = make_pipe();
  check(::write(pipe.write.get(), "abc", 3), "write");
  Recorded& splicing = bench.begin(
      {.op = Op::splice, .fd = pipe.read.get(), .length = 3, .second_fd = pair.near.get()});
  bench.settle();
  BOOST_TEST_REQUIRE(!splicing.ended());
  // It is not found before the kernel's thread for it has begun.
  BOOST_TEST_REQUIRE(comes_true([&] {
    BOOST_TEST(bench.run({.op = Op::cancel_fd, .fd = pair.near.get()}) >= 0);
    return splicing.ended();
  }));
  const int result = splicing.result();
  BOOST_TEST((result == -ECANCELED || result == -EINTR), result);
}

BOOST_DATA_TEST_CASE(a_number_that_others_closed_and_reused_is_waited_for_anew, on_all_drivers,
                     choice) {
  Bench bench(choice);
  std::array<char, 8> area{};
  int number = -1;
  for (int i = 0; i < 3; ++i) {
    const Pair pair;  // closed without the driver's knowledge, interest and all
    BOOST_TEST_REQUIRE((number < 0 || number == pair.near.get()));
    number = pair.near.get();
    Recorded& cancelled = bench.begin(moving(Op::recv, pair.near, area));
    bench.settle();
    bench->cancel(cancelled);
    BOOST_TEST(bench.end(cancelled) == -ECANCELED);
    Recorded& reading = bench.begin(moving(Op::recv, pair.near, area));
    bench.settle();
    if (i % 2 == 0) {
      check(::write(pair.far.get(), "abc", 3), "write");
      BOOST_TEST(bench.end(reading) == 3);
    } else {
      bench->cancel(reading);
      BOOST_TEST(bench.end(reading) == -ECANCELED);
    }
  }
}

BOOST_DATA_TEST_CASE(a_limit_beyond_all_time_is_none, on_all_drivers, choice) {
  Bench bench(choice);
  const Pair pair;
  std::array<char, 8> area{};
  constexpr std::int64_t longest = std::numeric_limits<std::int64_t>::max();
  Recorded& waiting = bench.begin(within(moving(Op::recv, pair.near, area), longest));
  bench.settle();
  BOOST_TEST(!waiting.ended());
  check(::write(pair.far.get(), "abc", 3), "write");
  BOOST_TEST(bench.end(waiting) == 3);
}

BOOST_DATA_TEST_CASE(more_waits_than_the_rings_hold_are_all_served, on_all_drivers, choice) {
  // Each waits for what comes after it: a driver that put the last in line behind the first would
  // never end.
  Bench bench({.choice = choice, .entries = 16});
  constexpr std::size_t pairs = 600;
  std::vector<Pair> connections(pairs);
  std::vector<std::array<char, 1>> areas(pairs);
  std::vector<Recorded*> reading;
  for (std::size_t i = 0; i < pairs; ++i)
    reading.push_back(&bench.begin(moving(Op::recv, connections[i].near, areas[i])));
  bench.settle();
  std::array<char, 1> byte{'x'};
  for (std::size_t i = pairs; i-- > 0;)
    BOOST_TEST_REQUIRE(bench.run(moving(Op::send, connections[i].far, byte)) == 1);
  for (Recorded* const one : reading)
    BOOST_TEST_REQUIRE(bench.end(*one) == 1);
}

BOOST_DATA_TEST_CASE(eight_times_the_completion_ring_at_once, on_all_drivers, choice) {
  constexpr unsigned entries = 64;
  constexpr unsigned count = 8 * 4 * entries;
  Bench bench({.choice = choice, .entries = entries});
  std::vector<Recorded*> operations;
  for (unsigned i = 0; i < count; ++i)
    operations.push_back(&bench.begin({}));
  for (unsigned i = 1; i < count; i += 2)
    if (!operations[i]->ended())
      bench->cancel(*operations[i]);
  while (bench->in_flight() > 0)
    bench->wait(-1);
  for (Recorded* const one : operations)
    BOOST_TEST_REQUIRE((one->result() == 0 || one->result() == -ECANCELED));
  BOOST_TEST(bench->counts().completed == count);
}

BOOST_DATA_TEST_CASE(a_flood_that_becomes_ready_while_nobody_looks_is_not_lost, on_all_drivers,
                     choice) {
  Bench bench({.choice = choice, .entries = 8});
  const Pair pair;
  constexpr unsigned count = 8 * 32;
  std::vector<Recorded*> polls;
  for (unsigned i = 0; i < count; ++i)
    polls.push_back(&bench.begin({.op = Op::poll, .fd = pair.near.get(), .flags = POLLIN}));
  bench.settle();
  check(::write(pair.far.get(), "x", 1), "write");
  for (Recorded* const one : polls)
    BOOST_TEST_REQUIRE(bench.end(*one) == POLLIN);
}

BOOST_DATA_TEST_CASE(a_driver_ends_with_everything_in_flight, on_all_drivers, choice) {
  const Pair pair;
  const Pipe pipe = make_pipe();
  Listener listener;
  std::array<char, 8> area{};
  const Fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  std::string content(1 << 20, '\0');
  for (int turns = 0; turns < 3; ++turns) {
    auto operations = std::make_unique<Recorded[]>(64);
    auto driver = iouring::make_driver({.choice = choice, .entries = 8});
    driver->add_buffers(1, 4, 64);
    const Request requests[] = {
        moving(Op::recv, pair.near, area),
        within(moving(Op::read, pipe.read, area), never_ns),
        {.op = Op::accept, .many = true, .fd = listener.fd.get()},
        {.op = Op::recv, .many = true, .buffer_group = 1, .fd = pair.near.get()},
        {.op = Op::wait_child, .fd = ::getppid(), .flags = WEXITED},
        {.op = Op::read,
         .fd = file.get(),
         .length = 1 << 20,
         .address = content.data(),
         .offset = 0},
    };
    for (std::size_t i = 0; i < 64; ++i) {
      operations[i].request = requests[i % 6];
      driver->submit(operations[i].request, operations[i]);
    }
    for (int i = 0; i < turns; ++i)
      driver->wait(0);
    driver.reset();
    // None of them takes what comes now.
    BOOST_TEST(::write(pair.far.get(), "x", 1) == 1);
    BOOST_TEST(::recv(pair.near.get(), area.data(), 1, MSG_DONTWAIT) == 1);
    operations.reset();  // AddressSanitizer sees a thread that still writes
  }
}

BOOST_DATA_TEST_CASE(a_child_that_inherited_the_driver_does_not_keep_its_requests_alive,
                     on_all_drivers, choice) {
  const Pair pair;
  const Pipe source = make_pipe();
  std::array<char, 8> area{};
  Recorded receiving, splicing;  // the second waits in a thread of the kernel
  receiving.request = moving(Op::recv, pair.near, area);
  splicing.request = {
      .op = Op::splice, .fd = source.read.get(), .length = 1, .second_fd = pair.near.get()};
  auto driver = iouring::make_driver({.choice = choice});
  driver->submit(receiving.request, receiving);
  driver->submit(splicing.request, splicing);
  for (int i = 0; i < 3; ++i)
    driver->wait(1'000'000);
  const Pipe hold = make_pipe();
  Child child = Child::fork([&] {
    char byte;
    return ::read(hold.read.get(), &byte, 1) == 1 ? 0 : 1;
  });
  driver.reset();
  BOOST_TEST(::write(pair.far.get(), "x", 1) == 1);
  BOOST_TEST(::recv(pair.near.get(), area.data(), 1, MSG_DONTWAIT) == 1);
  BOOST_TEST(::write(source.write.get(), "x", 1) == 1);
  pollfd moved{pair.far.get(), POLLIN, 0};
  BOOST_TEST(::poll(&moved, 1, 50) == 0);
  BOOST_TEST((receiving.ends.empty() && splicing.ends.empty()));
  check(::write(hold.write.get(), "x", 1), "write");
  BOOST_TEST(child.wait().success());
}
