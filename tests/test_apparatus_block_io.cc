#include "affinity/pin.hh"
#include "lab/apparatus/block_io.hh"
#include "lab/apparatus/polling_cpu.hh"
#include "lab/apparatus/task_times.hh"
#include "lab/base/error.hh"
#include "lab/base/keep.hh"
#include "tests/iouring_drivers.hh"
#include "tests/topology_fixtures.hh"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <set>
#include <thread>

using namespace schedlab;
using namespace schedlab::apparatus;
using namespace schedlab::testing;

namespace schedlab::apparatus {

// One way of block I/O, by name.
struct Way {
  std::string name;
  std::function<std::unique_ptr<BlockIo>(const BlockIoOptions&)> make;
};
std::ostream& operator<<(std::ostream& out, const Way& way) {
  return out << way.name;
}

}  // namespace schedlab::apparatus

namespace {

constexpr std::uint64_t size = 1 << 20;

// Those that work here.
std::vector<Way> ways() {
  const unsigned cpu = affinity::current_cpu();
  std::vector<Way> all = {
      {"call", [](const BlockIoOptions& options) { return make_call_io(options, 0); }},
      {"threads", [cpu](const BlockIoOptions& options) { return make_thread_io(options, cpu); }},
      {"epoll", [](const BlockIoOptions& options) {
         return make_driver_io(options, DriverChoice::epoll, false);
       }}};
  if (!refusal_of(DriverChoice::io_uring).empty())
    return all;
  all.push_back({"driver", [](const BlockIoOptions& options) {
                   return make_driver_io(options, DriverChoice::io_uring, false);
                 }});
  all.push_back({"registered", [](const BlockIoOptions& options) {
                   return make_driver_io(options, DriverChoice::io_uring, true);
                 }});
  all.push_back({"loop", [](const BlockIoOptions& options) {
                   return make_loop_io(options, DriverChoice::io_uring);
                 }});
  all.push_back({"ring", [](const BlockIoOptions& options) { return make_ring_io(options, {}); }});
  all.push_back({"ring, registered", [](const BlockIoOptions& options) {
                   return make_ring_io(options, {.registered = true, .polling_cpu = {}});
                 }});
  const unsigned polling = polling_cpu_for(affinity::Topology::machine(), cpu).value_or(cpu);
  all.push_back({"polled ring", [polling](const BlockIoOptions& options) {
                   return make_ring_io(options, {.registered = true, .polling_cpu = polling});
                 }});
  return all;
}

std::shared_ptr<DataFile> new_file() {
  return std::make_shared<DataFile>(data_folder("auto", "dir"), size);
}

BlockIoOptions reads(std::shared_ptr<const DataFile> file, unsigned depth) {
  BlockIoOptions options;
  options.file = std::move(file);
  options.depth = depth;
  options.timed_every = 1;
  return options;
}

BlockIoOptions nops(unsigned depth, int result = 0) {
  BlockIoOptions options;
  options.action = Action::nop;
  options.depth = depth;
  options.nop_result = result;
  return options;
}

}  // namespace

BOOST_AUTO_TEST_CASE(an_order_has_each_block_once_a_round) {
  for (const std::uint64_t blocks : {1U, 2U, 8U, 4096U}) {
    for (const bool random : {false, true}) {
      const BlockOrder order(blocks, random);
      std::set<std::uint64_t> seen;
      std::uint64_t neighbours = 0;
      for (std::uint64_t i = 0; i < blocks; ++i) {
        seen.insert(order.at(i));
        BOOST_TEST(order.at(i) == order.at(i + blocks));
        neighbours += order.at(i + 1) == order.at(i) + 1;
      }
      BOOST_TEST(seen.size() == blocks);
      BOOST_TEST(*seen.rbegin() == blocks - 1);
      if (blocks == 4096)
        BOOST_TEST((random ? neighbours < 40 : neighbours == blocks - 1));
    }
  }
}

BOOST_DATA_TEST_CASE(each_way_reads_the_blocks_that_were_asked_for, ways(), way) {
  const auto file = new_file();
  for (const bool direct : {false, true})
    for (const unsigned depth : {1U, 3U, 32U}) {
      BlockIoOptions options = reads(file, way.name == "call" ? 1 : depth);
      options.direct = direct && file->direct() >= 0;
      const auto io = way.make(options);
      for (const std::uint64_t requests : {1U, 2U, 700U}) {
        io->latencies().clear();
        io->run(requests);
        BOOST_TEST(io->latencies().count() == requests);
      }
      const BlockIoCounts counts = io->counts();
      BOOST_TEST(counts.requests == 703u);
      BOOST_TEST(counts.failed == 0u);
      BOOST_TEST(counts.looked == 703u);
      BOOST_TEST(counts.wrong == 0u);
      io->settle();
    }
}

BOOST_DATA_TEST_CASE(each_way_writes_the_blocks_that_were_asked_for, ways(), way) {
  const auto file = new_file();
  const std::vector<std::byte> zeros(size);
  check(::pwrite(file->buffered(true), zeros.data(), zeros.size(), 0), "pwrite");
  BlockIoOptions options = reads(file, way.name == "call" ? 1 : 4);
  options.action = Action::write;
  const auto io = way.make(options);
  io->run(file->blocks());
  BOOST_TEST(io->counts().failed == 0u);
  for (std::uint64_t block = 0; block < file->blocks(); ++block) {
    std::uint64_t stamp = 0;
    check(
        ::pread(file->buffered(true), &stamp, sizeof stamp, static_cast<off_t>(block * block_size)),
        "pread");
    BOOST_TEST(stamp == stamp_of(block));
  }
}

// Negative controls of the two books.
BOOST_DATA_TEST_CASE(a_block_of_another_is_seen, ways(), way) {
  const auto file = new_file();
  const std::uint64_t other = 1;
  check(::pwrite(file->buffered(true), &other, sizeof other, 7 * block_size), "pwrite");
  const auto io = way.make(reads(file, way.name == "call" ? 1 : 8));
  io->run(2 * file->blocks());
  BOOST_TEST(io->counts().wrong == 2u);
}

BOOST_DATA_TEST_CASE(a_read_that_ends_short_has_failed, ways(), way) {
  const auto file = new_file();
  check(::ftruncate(file->buffered(true), size / 2 + 100), "ftruncate");
  const auto io = way.make(reads(file, way.name == "call" ? 1 : 8));
  io->run(file->blocks());
  BOOST_TEST(io->counts().failed == file->blocks() / 2);
  BOOST_TEST(io->counts().error == 0);
}

BOOST_AUTO_TEST_CASE(a_call_is_one_system_call_for_each_request) {
  const auto io = make_call_io(nops(1), 0);
  io->run(100);
  BOOST_TEST(io->counts().calls == 100u);
}

BOOST_AUTO_TEST_SUITE(by_io_uring, *boost::unit_test::precondition(uring_works))

BOOST_AUTO_TEST_CASE(a_batch_of_nops_is_one_system_call) {
  for (const unsigned depth : {1U, 8U, 128U}) {
    const auto ring = make_ring_io(nops(depth), {});
    const auto driver = make_driver_io(nops(depth), DriverChoice::io_uring, false);
    const auto loop = make_loop_io(nops(depth), DriverChoice::io_uring);
    for (BlockIo* io : {ring.get(), driver.get(), loop.get()}) {
      io->run(depth);  // the first call of a driver does more
      const auto before = io->counts().calls;
      io->run(10 * depth);
      BOOST_TEST(io->counts().calls - before == 10u);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_result_that_was_injected_counts_as_failed) {
  const auto driver = make_driver_io(nops(4, -EIO), DriverChoice::io_uring, false);
  driver->run(10);
  if (driver->counts().error == EINVAL)
    return;  // before Linux 6.10 a NOP takes no result
  BOOST_TEST(driver->counts().failed == 10u);
  BOOST_TEST(driver->counts().error == EIO);
  const auto loop = make_loop_io(nops(4, -ENOSPC), DriverChoice::io_uring);
  loop->run(10);
  BOOST_TEST(loop->counts().failed == 10u);
  BOOST_TEST(loop->counts().error == ENOSPC);
}

// Each is begun again 16 times, which nobody who waits sees.
BOOST_AUTO_TEST_CASE(an_interruption_that_was_injected_is_tried_again_before_it_counts) {
  const auto io = make_driver_io(nops(1, -EINTR), DriverChoice::io_uring, false);
  io->run(1);
  if (io->counts().error == EINVAL)
    return;
  BOOST_TEST(io->counts().failed == 1u);
  BOOST_TEST(io->counts().calls >= 17u);
}

BOOST_AUTO_TEST_CASE(the_polling_thread_is_a_task_of_this_process_on_the_cpu_it_was_given) {
  const auto topology = affinity::Topology::machine();
  const affinity::Pin pin(topology.usable().first());
  const auto other = polling_cpu_for(topology, topology.usable().first());
  const unsigned cpu = other.value_or(topology.usable().first());
  const auto io = make_ring_io(nops(8), {.registered = false, .polling_cpu = cpu});
  TaskTimes times;
  times.begin();
  io->run(10'000);
  const CpuTimes used = times.end();
  BOOST_TEST(used.others_ns > 0);
  BOOST_TEST(io->counts().failed == 0u);
  const auto checks = io->checks();
  BOOST_TEST_REQUIRE(checks.size() == 1u);
  BOOST_TEST(checks[0].ok);
  BOOST_TEST(
      (checks[0].seen == harness::Value(cpu) || checks[0].seen == harness::Value("unknown")));
  io->settle();
  times.begin();
  BOOST_TEST(times.end().others_ns == 0);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(the_time_of_other_threads_is_seen_apart_from_ones_own) {
  constexpr pid_t no_task = (1 << 22) + 1;  // above the kernel's largest number
  std::atomic<bool> seen{false};
  TaskTimes times;
  times.begin();
  std::thread busy([&seen] {
    while (!seen)
      pause_cpu();
  });
  while (times.end().others_ns < 1'000'000)
    std::this_thread::yield();
  BOOST_TEST(times.end().own_ns > 0);
  seen = true;
  busy.join();
  BOOST_TEST(task_cpu_ns(no_task) == -1);
}

BOOST_AUTO_TEST_CASE(the_polling_thread_goes_to_the_closest_cpu_of_another_core) {
  BOOST_TEST(*polling_cpu_for(synthetic("pack:2 numa:1 core:2 pu:2"), 0) == 2u);
  BOOST_TEST(*polling_cpu_for(synthetic("pack:2 numa:1 core:2 pu:2"), 7) == 4u);
  BOOST_TEST(*polling_cpu_for(synthetic("pack:2 numa:1 core:1 pu:2"), 0) == 2u);
  BOOST_TEST(*polling_cpu_for(synthetic("core:1 pu:2"), 0) == 1u);
  BOOST_TEST(!polling_cpu_for(synthetic("pu:1"), 0));
}
