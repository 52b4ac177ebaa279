#include "affinity/pin.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "procs/feeder_queue.hh"
#include "procs/mpmc_ring.hh"
#include "procs/mpsc_lanes.hh"
#include "procs/sealed_memory.hh"
#include "procs/thread.hh"
#include "tests/mortal_tasks.hh"
#include "tests/sanitized.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <vector>

using namespace schedlab;
using procs::FeederQueue;
using procs::MpmcRing;
using procs::MpscLanes;
using procs::Outcome;
using procs::SealedMemory;
using procs::Side;
using procs::Thread;
using procs::Wait;
using procs::Waiting;
using testing::asleep;
using testing::at_rest;
using testing::ends_well;
using testing::most_ms;
using testing::pause_for_ms;
using testing::watched;
namespace bdata = boost::unit_test::data;

namespace {

using Number = std::uint64_t;

constexpr Number many = testing::sanitized ? 20'000 : 100'000;
constexpr std::array all_ways = {Waiting::spin, Waiting::block, Waiting::adaptive};

BOOST_AUTO_TEST_SUITE(mpmc)

BOOST_DATA_TEST_CASE(many_threads_exchange_each_number_once, bdata::make(all_ways), waiting) {
  constexpr Number each = many / 10;
  MpmcRing<Number> ring(16);
  std::vector<std::atomic<unsigned>> seen(3 * each);
  std::atomic<unsigned> unordered = 0;
  {
    std::vector<Thread> consumers;
    for (int i = 0; i < 3; ++i)
      consumers.emplace_back(procs::ThreadOptions{.name = "consumer"}, [&, way = waiting] {
        std::array<Number, 3> last = {};  // of each producer
        for (Number value; ring.pop(value, watched(way)) == Outcome::done;) {
          seen[value].fetch_add(1, std::memory_order_relaxed);
          const Number in_turn = value % each + 1;
          unordered += in_turn <= std::exchange(last[value / each], in_turn);
        }
      });
    std::vector<Thread> producers;
    for (Number i = 0; i < 3; ++i)
      producers.emplace_back(procs::ThreadOptions{.name = "producer"}, [&, i, way = waiting] {
        for (Number k = 0; k < each; ++k)
          ring.push(i * each + k, watched(way));
      });
    for (auto& producer : producers)
      producer.join();
    ring.close();
  }
  BOOST_TEST(std::ranges::all_of(seen, [](const auto& times) { return times == 1; }));
  BOOST_TEST(unordered == 0U);
  BOOST_TEST(ring.push(1) == Outcome::closed);
}

BOOST_AUTO_TEST_CASE(a_full_ring_takes_nothing_and_an_empty_one_gives_nothing) {
  MpmcRing<Number> ring(2);
  Number value = 5;
  BOOST_TEST(ring.try_push(value));
  BOOST_TEST(ring.try_push(value));
  BOOST_TEST(!ring.try_push(value));
  BOOST_TEST(ring.try_pop(value));
  BOOST_TEST(ring.try_pop(value));
  BOOST_TEST(!ring.try_pop(value));
  BOOST_CHECK_THROW(MpmcRing<Number>(3), BadInput);
}

BOOST_AUTO_TEST_CASE(lanes_are_read_in_turn) {
  const auto memory = SealedMemory::make(MpscLanes<Number>::bytes(3, 4), "lanes");
  MpscLanes<Number>::make(memory.bytes(), 3, 4);
  const auto lanes = MpscLanes<Number>::attach(memory.bytes());
  for (std::size_t lane = 0; lane < 3; ++lane)
    for (int i = 0; i < 2; ++i)
      lanes.producer(lane).try_push(lane);
  auto consumer = lanes.consumer();
  std::vector<Number> order;
  for (Number value; consumer.try_pop(value);)
    order.push_back(value);
  const std::vector<Number> expected = {0, 1, 2, 0, 1, 2};
  BOOST_TEST(order == expected, boost::test_tools::per_element());
  const Wait wait{{}, nullptr, clock::now_ns() + 1'000'000};
  Number value;
  BOOST_TEST(consumer.pop(value, wait) == Outcome::timed_out);
  BOOST_CHECK_THROW(MpscLanes<Number>::make(memory.bytes(), 4000, 4), BadInput);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(feeder_queue)

FeederQueue::Bytes bytes(std::size_t size) {
  return FeederQueue::Bytes(size, std::byte{7});
}

// A child puts so many bytes and ends as Python's does: it waits until they are written.
Child putter(FeederQueue& queue, std::size_t size) {
  return Child::fork([&queue, size] {
    queue.join(Side::sender);
    queue.put(bytes(size));
    queue.close();
    queue.join_feeder();
    return 0;
  });
}

constexpr std::size_t fits = 65'000;
constexpr std::size_t does_not_fit = 66'000;

BOOST_AUTO_TEST_CASE(what_fits_the_pipe_may_be_got_after_its_putter_has_ended) {
  if (testing::thread_sanitizer)
    return;
  FeederQueue queue;
  Child child = putter(queue, fits);
  queue.join(Side::receiver);
  BOOST_TEST(ends_well(child));
  FeederQueue::Bytes got;
  BOOST_TEST(queue.get(got) == Outcome::done);
  BOOST_TEST(got.size() == fits);
  BOOST_TEST(queue.get(got) == Outcome::closed);
}

BOOST_AUTO_TEST_CASE(waiting_for_a_putter_before_getting_what_does_not_fit_is_a_deadlock) {
  if (testing::thread_sanitizer)
    return;
  FeederQueue queue;
  Child child = putter(queue, does_not_fit);
  queue.join(Side::receiver);
  BOOST_TEST(!child.wait_for(300).has_value());  // it would be for ever
  // The remedy: get first.
  FeederQueue::Bytes got;
  BOOST_TEST(queue.get(got) == Outcome::done);
  BOOST_TEST(got.size() == does_not_fit);
  BOOST_TEST(ends_well(child));
}

BOOST_AUTO_TEST_CASE(the_wait_for_the_feeder_can_have_a_bound) {
  FeederQueue queue;
  BOOST_TEST(queue.put(bytes(does_not_fit)) == Outcome::done);  // put itself does not wait
  queue.close();
  BOOST_TEST(!queue.join_feeder_for(20'000'000));
  FeederQueue::Bytes got;
  BOOST_TEST(queue.get(got) == Outcome::done);
  BOOST_TEST(queue.join_feeder_for(10'000'000'000));
}

BOOST_AUTO_TEST_CASE(what_cannot_be_encoded_is_dropped_and_the_next_item_comes) {
  FeederQueue queue(1);
  BOOST_TEST(queue.put([]() -> FeederQueue::Bytes { throw std::runtime_error("no"); }) ==
             Outcome::done);
  BOOST_TEST(queue.put(bytes(3)) == Outcome::done);  // the place was given back
  FeederQueue::Bytes got;
  BOOST_TEST(queue.get(got) == Outcome::done);
  BOOST_TEST(got.size() == 3U);
  BOOST_TEST(queue.dropped() == 1U);
}

BOOST_AUTO_TEST_CASE(a_bounded_queue_has_no_more_places) {
  FeederQueue queue(2);
  BOOST_TEST(queue.put(bytes(1)) == Outcome::done);
  BOOST_TEST(queue.put(bytes(1)) == Outcome::done);
  BOOST_TEST(queue.put(bytes(1), clock::now_ns() + 1'000'000) == Outcome::timed_out);
  FeederQueue::Bytes got;
  BOOST_TEST(queue.get(got) == Outcome::done);
  BOOST_TEST(queue.put(bytes(1), testing::watchdog_ns()) == Outcome::done);
  BOOST_TEST(queue.get(got, testing::watchdog_ns()) == Outcome::done);
}

BOOST_AUTO_TEST_CASE(an_empty_queue_is_waited_for_until_the_deadline) {
  FeederQueue queue;
  FeederQueue::Bytes got;
  BOOST_TEST(queue.get(got, clock::now_ns() + 1'000'000) == Outcome::timed_out);
}

// One that sleeps for a message, or for the rest of one.
void kill_getter(FeederQueue& queue) {
  Child getter = Child::fork([&] {
    FeederQueue::Bytes got;
    queue.get(got);
    return 0;
  });
  BOOST_TEST_REQUIRE(asleep(getter));
  getter.signal(SIGKILL);
  getter.wait();
}

// The getter dies with the lock in its hands. With CPython's lock all others would wait for ever.
BOOST_AUTO_TEST_CASE(a_getter_killed_while_it_waits_leaves_the_queue_whole) {
  FeederQueue queue;
  kill_getter(queue);
  BOOST_TEST(queue.put(bytes(5)) == Outcome::done);
  FeederQueue::Bytes got;
  BOOST_TEST(queue.get(got, testing::watchdog_ns()) == Outcome::done);
  BOOST_TEST(got.size() == 5U);
}

// The sender's message is longer than the pipe, and the sender stands still: the getter is within
// it when it dies.
void kill_getter_within_message(FeederQueue& queue, const Child& sender) {
  BOOST_TEST_REQUIRE(at_rest(sender.pid(), 2));  // the pipe is full
  sender.signal(SIGSTOP);
  kill_getter(queue);
}

BOOST_AUTO_TEST_CASE(a_getter_killed_within_a_message_breaks_the_queue_and_hangs_nobody) {
  if (testing::thread_sanitizer)
    return;
  FeederQueue queue;
  Child sender = Child::fork([&] {
    queue.join(Side::sender);
    queue.put(bytes(does_not_fit));
    queue.close();
    queue.join_feeder();
    return 0;
  });
  kill_getter_within_message(queue, sender);
  FeederQueue::Bytes got;
  BOOST_TEST(queue.get(got, testing::watchdog_ns()) == Outcome::broken);
}

// How a getter of its own process ends: its outcome, or nothing if it hangs.
std::optional<Outcome> outcome_of_getter(FeederQueue& queue) {
  Child getter = Child::fork([&] {
    queue.join(Side::receiver);
    FeederQueue::Bytes got;
    return static_cast<int>(queue.get(got, testing::watchdog_ns()));
  });
  queue.join(Side::receiver);
  const auto cause = getter.wait_for(most_ms);
  return cause ? std::optional(Outcome(cause->value)) : std::nullopt;
}

// The bytes of the message so far are no message, and the pipe has no end while another one may
// write to it: CPython's getter would wait for ever.
BOOST_DATA_TEST_CASE(a_putter_killed_within_a_message_breaks_the_queue_and_hangs_no_getter,
                     bdata::make({false, true}), another_lives) {
  if (testing::thread_sanitizer)
    return;
  FeederQueue queue;
  Child idle = Child::fork([&queue, lives = another_lives] {
    queue.join(Side::sender);
    pause_for_ms(lives ? 2 * most_ms : 0);
    return 0;
  });
  Child killed = putter(queue, does_not_fit);
  BOOST_TEST_REQUIRE(at_rest(killed.pid(), 2));  // the pipe is full
  killed.signal(SIGKILL);
  killed.wait();
  BOOST_TEST((outcome_of_getter(queue) == Outcome::broken));
}

// Of two reasons to leave: nobody can get any more.
BOOST_AUTO_TEST_CASE(the_last_getter_killed_while_the_feeder_writes_ends_the_feeder_alone) {
  FeederQueue queue;
  Child getter = Child::fork([&] {
    queue.join(Side::receiver);
    pause_for_ms(2 * most_ms);
    return 0;
  });
  queue.join(Side::sender);
  BOOST_TEST(queue.put(bytes(does_not_fit)) == Outcome::done);
  BOOST_TEST(!queue.join_feeder_for(20'000'000));  // it is within the message
  getter.signal(SIGKILL);
  getter.wait();
  BOOST_TEST(queue.join_feeder_for(most_ms * std::int64_t{1'000'000}));
  BOOST_TEST(queue.put(bytes(1)) == Outcome::broken);
}

BOOST_AUTO_TEST_CASE(a_queue_closed_while_the_feeder_writes_loses_nothing) {
  FeederQueue queue;
  BOOST_TEST(queue.put(bytes(does_not_fit)) == Outcome::done);
  BOOST_TEST(queue.put(bytes(3)) == Outcome::done);
  BOOST_TEST_REQUIRE(at_rest(::getpid(), 1));
  queue.close();
  FeederQueue::Bytes got;
  BOOST_TEST(queue.get(got, testing::watchdog_ns()) == Outcome::done);
  BOOST_TEST(got.size() == does_not_fit);
  BOOST_TEST(queue.get(got, testing::watchdog_ns()) == Outcome::done);
  BOOST_TEST(got.size() == 3U);
  BOOST_TEST(queue.get(got, testing::watchdog_ns()) == Outcome::closed);
}

// A process that puts an item and at once has done with the queue, as its destructor does.
Child quitter(std::optional<FeederQueue>& queue, std::size_t size) {
  return Child::fork([&queue, size] {
    queue->join(Side::sender);
    queue->put(bytes(size));
    const bool waits = at_rest(::getpid(), 1);  // the feeder
    queue.reset();
    return waits ? 0 : 1;
  });
}

BOOST_AUTO_TEST_CASE(a_queue_may_go_while_its_feeder_waits_for_the_pipe) {
  if (testing::thread_sanitizer)
    return;
  std::optional<FeederQueue> queue(std::in_place);
  Child child = quitter(queue, does_not_fit);
  BOOST_TEST_REQUIRE(ends_well(child));
  BOOST_TEST((outcome_of_getter(*queue) == Outcome::broken));  // half a message is there
}

BOOST_AUTO_TEST_CASE(a_queue_may_go_while_its_feeder_waits_for_another_one) {
  if (testing::thread_sanitizer)
    return;
  std::optional<FeederQueue> queue(std::in_place);
  Child other = putter(*queue, does_not_fit);
  BOOST_TEST_REQUIRE(at_rest(other.pid(), 2));
  other.signal(SIGSTOP);  // within its message, and so with the lock
  Child child = quitter(queue, 1);
  BOOST_TEST_REQUIRE(ends_well(child));
  other.signal(SIGCONT);
  FeederQueue::Bytes got;
  BOOST_TEST(queue->get(got, testing::watchdog_ns()) == Outcome::done);
  BOOST_TEST(got.size() == does_not_fit);
  BOOST_TEST_REQUIRE(ends_well(other));
}

BOOST_AUTO_TEST_CASE(who_goes_before_the_first_byte_of_its_message_breaks_nothing) {
  if (testing::thread_sanitizer)
    return;
  constexpr std::size_t fills = 65'536 - sizeof(std::uint64_t);
  std::optional<FeederQueue> queue(std::in_place);
  Child other = putter(*queue, fills);
  BOOST_TEST_REQUIRE(ends_well(other));
  Child child = quitter(queue, 1);
  BOOST_TEST_REQUIRE(ends_well(child));
  queue->join(Side::receiver);
  FeederQueue::Bytes got;
  BOOST_TEST(queue->get(got, testing::watchdog_ns()) == Outcome::done);
  BOOST_TEST(got.size() == fills);
  BOOST_TEST(queue->get(got, testing::watchdog_ns()) == Outcome::gone);
}

// The place is taken, and the getter that would give it back has died within the message.
BOOST_AUTO_TEST_CASE(who_waits_for_a_place_learns_that_the_queue_has_broken) {
  if (testing::thread_sanitizer)
    return;
  FeederQueue queue(1);
  Child sender = Child::fork([&] {
    queue.join(Side::sender);
    queue.put(bytes(does_not_fit));
    return static_cast<int>(queue.put(bytes(1)));
  });
  kill_getter_within_message(queue, sender);
  sender.signal(SIGCONT);
  FeederQueue::Bytes got;
  BOOST_TEST(queue.get(got, testing::watchdog_ns()) == Outcome::broken);
  const auto cause = sender.wait_for(most_ms);
  BOOST_REQUIRE(cause.has_value());
  BOOST_TEST(Outcome(cause->value) == Outcome::broken);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
