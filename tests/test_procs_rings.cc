#include "affinity/pin.hh"
#include "lab/base/child.hh"
#include "lab/base/clock.hh"
#include "lab/base/error.hh"
#include "lab/base/random.hh"
#include "procs/bell.hh"
#include "procs/mpsc_lanes.hh"
#include "procs/record_ring.hh"
#include "procs/sealed_memory.hh"
#include "procs/spsc_ring.hh"
#include "procs/thread.hh"
#include "tests/left_behind.hh"
#include "tests/mortal_tasks.hh"
#include "tests/sanitized.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <numeric>
#include <vector>

using namespace schedlab;
using procs::Bell;
using procs::MpscLanes;
using procs::Outcome;
using procs::Patience;
using procs::Peer;
using procs::RecordRing;
using procs::SealedMemory;
using procs::SpscRing;
using procs::Thread;
using procs::Wait;
using procs::Waiting;
using testing::die;
using testing::pause_for_us;
using testing::watchdog_ns;
using testing::watched;
namespace bdata = boost::unit_test::data;

namespace {

using Number = std::uint64_t;

constexpr std::array all_ways = {Waiting::spin, Waiting::block, Waiting::adaptive};

// The numbers 0, 1, 2 ... and nothing else.
class Sequence {
public:
  void take(Number number) noexcept { wrong_ += number != next_++; }
  [[nodiscard]] Number taken() const noexcept { return next_; }
  [[nodiscard]] Number wrong() const noexcept { return wrong_; }

private:
  Number next_ = 0;
  Number wrong_ = 0;
};

template <typename Ring>
struct Made {
  SealedMemory memory;
  Ring ring;
};

Made<SpscRing<Number>> numbers(std::size_t capacity, const procs::RingOptions& options = {}) {
  auto memory = SealedMemory::make(SpscRing<Number>::bytes(capacity), "numbers");
  auto ring = SpscRing<Number>::make(memory.bytes(), capacity, options);
  return {std::move(memory), ring};
}

Made<RecordRing> records(std::size_t capacity) {
  auto memory = SealedMemory::make(RecordRing::bytes(capacity), "records");
  auto ring = RecordRing::make(memory.bytes(), capacity);
  return {std::move(memory), ring};
}

std::span<const std::byte> bytes_of(const std::vector<Number>& values) {
  return std::as_bytes(std::span(values));
}

constexpr Number many = testing::sanitized ? 20'000 : 100'000;

BOOST_AUTO_TEST_SUITE(bell)

BOOST_AUTO_TEST_CASE(a_ring_between_the_look_and_the_sleep_is_not_slept_through) {
  Bell bell(Bell::Scope::threads);
  const std::uint32_t heard = bell.listen();
  bell.ring();
  bell.sleep(heard, Wait{});  // would not return otherwise
  BOOST_TEST(bell.rings() == 1U);
}

BOOST_AUTO_TEST_CASE(a_sleeper_without_a_ring_learns_that_its_time_is_up) {
  Bell bell(Bell::Scope::threads);
  const Wait wait{{}, nullptr, clock::now_ns() + 1'000'000};
  BOOST_TEST(procs::await(&bell, wait, [] { return false; }) == Outcome::timed_out);
}

BOOST_AUTO_TEST_CASE(without_a_bell_it_yields_until_its_time_is_up) {
  const Wait wait{{}, nullptr, clock::now_ns() + 1'000'000};
  BOOST_TEST(procs::await<Bell>(nullptr, wait, [] { return false; }) == Outcome::timed_out);
}

BOOST_AUTO_TEST_CASE(a_spinner_sees_the_death_of_its_peer) {
  Child child = Child::fork([] { return 0; });
  const Peer peer = Peer::of(child.pid());
  const Wait wait{{Patience::forever}, &peer, watchdog_ns()};
  BOOST_TEST(procs::await<Bell>(nullptr, wait, [] { return false; }) == Outcome::gone);
  child.wait();
}

// The one that lives has to be woken although another one died in its sleep.
BOOST_AUTO_TEST_CASE(a_killed_sleeper_takes_no_wake_up_with_it) {
  const Mapping memory = Mapping::shared_memory(4096);
  auto* bell = new (memory.data()) Bell(Bell::Scope::processes);
  auto* flag = new (memory.data() + 1024) std::atomic<int>(0);
  Child killed = Child::fork([&] {
    return static_cast<int>(procs::await(bell, watched(Waiting::block), [] { return false; }));
  });
  Child living = Child::fork([&] {
    return static_cast<int>(
        procs::await(bell, watched(Waiting::block), [&] { return flag->load() == 1; }));
  });
  pause_for_us(20'000);
  killed.signal(SIGKILL);
  BOOST_TEST(killed.wait().text() == "killed by SIGKILL");
  flag->store(1);
  bell->ring();
  BOOST_TEST(living.wait().success());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(spsc)

BOOST_AUTO_TEST_CASE(a_ring_holds_what_it_is_made_for_and_no_more) {
  const auto made = numbers(4);
  auto producer = made.ring.producer();
  auto consumer = made.ring.consumer();
  for (Number i = 0; i < 4; ++i)
    BOOST_TEST(producer.try_push(i));
  BOOST_TEST(!producer.try_push(4));
  BOOST_TEST(made.ring.size() == 4U);
  Sequence seen;
  for (Number value; consumer.try_pop(value);)
    seen.take(value);
  BOOST_TEST(seen.taken() == 4U);
  BOOST_TEST(seen.wrong() == 0U);
  BOOST_TEST(producer.try_push(5));
}

BOOST_AUTO_TEST_CASE(a_ring_of_no_power_of_two_or_without_room_is_refused) {
  const auto memory = SealedMemory::make(4096, "small");
  BOOST_CHECK_THROW(SpscRing<Number>::make(memory.bytes(), 3), BadInput);
  BOOST_CHECK_THROW(SpscRing<Number>::make(memory.bytes(), 0), BadInput);
  BOOST_CHECK_THROW(SpscRing<Number>::make(memory.bytes(), 4096), BadInput);
  BOOST_CHECK_THROW(SpscRing<Number>::make(memory.bytes().subspan(8), 4), BadInput);
  BOOST_CHECK_THROW(SpscRing<Number>::attach(memory.bytes()), Unsupported);
  SpscRing<Number>::make(memory.bytes(), 16);
  BOOST_CHECK_THROW(SpscRing<char>::attach(memory.bytes()), Unsupported);
  BOOST_CHECK_THROW(SpscRing<Number>::attach(memory.bytes().first(700)), Unsupported);
  BOOST_CHECK_NO_THROW(SpscRing<Number>::attach(memory.bytes()));
}

BOOST_AUTO_TEST_CASE(batches_go_around_the_end_of_the_memory_in_order) {
  const auto made = numbers(8);
  auto producer = made.ring.producer();
  auto consumer = made.ring.consumer();
  Sequence seen;
  std::array<Number, 5> batch;
  std::array<Number, 3> taken;
  for (Number next = 0; seen.taken() < 1000;) {
    std::iota(batch.begin(), batch.end(), next);
    next += producer.push_some(batch);
    const std::size_t count = consumer.pop_some(taken);
    for (std::size_t i = 0; i < count; ++i)
      seen.take(taken[i]);
  }
  BOOST_TEST(seen.wrong() == 0U);
}

BOOST_AUTO_TEST_CASE(what_is_claimed_and_not_published_is_not_there) {
  const auto made = numbers(8);
  auto producer = made.ring.producer();
  auto consumer = made.ring.consumer();
  auto slots = producer.claim(3);
  BOOST_REQUIRE(slots.size() == 3U);
  std::iota(slots.begin(), slots.end(), Number{0});
  BOOST_TEST(consumer.peek().empty());
  producer.publish(2);
  BOOST_TEST(consumer.peek().size() == 2U);
  BOOST_TEST(consumer.peek()[1] == 1U);
  consumer.release(2);
  BOOST_TEST(consumer.empty());
}

BOOST_DATA_TEST_CASE(threads_exchange_all_numbers_in_order_however_they_wait,
                     bdata::make(all_ways) * bdata::make({true, false}), waiting, sleeps) {
  const auto made = numbers(16, {.sleeps = sleeps, .scope = Bell::Scope::threads});
  Outcome last = Outcome::done;
  Thread thread({.name = "producer"}, [&, ring = made.ring, way = waiting] {
    auto producer = ring.producer();
    for (Number i = 0; i < many && last == Outcome::done; ++i)
      last = producer.push(i, watched(way));
    producer.close();
  });
  auto consumer = made.ring.consumer();
  Sequence seen;
  Outcome outcome = Outcome::done;
  for (Number value; (outcome = consumer.pop(value, watched(waiting))) == Outcome::done;)
    seen.take(value);
  thread.join();
  BOOST_TEST(last == Outcome::done);
  BOOST_TEST(outcome == Outcome::closed);
  BOOST_TEST(seen.taken() == many);
  BOOST_TEST(seen.wrong() == 0U);
}

BOOST_AUTO_TEST_CASE(a_number_that_is_left_out_or_twice_is_seen) {
  const auto made = numbers(8);
  auto producer = made.ring.producer();
  auto consumer = made.ring.consumer();
  for (const Number value : {0U, 1U, 3U, 3U})
    producer.try_push(value);
  Sequence seen;
  for (Number value; consumer.try_pop(value);)
    seen.take(value);
  BOOST_TEST(seen.wrong() == 1U);  // 2 is missing
}

BOOST_AUTO_TEST_CASE(who_waits_for_room_is_told_that_the_consumer_has_closed) {
  const auto made = numbers(1);
  auto producer = made.ring.producer();
  BOOST_TEST(producer.push(1, watched(Waiting::block)) == Outcome::done);
  Thread thread({.name = "consumer"}, [ring = made.ring] {
    pause_for_us(2000);
    ring.consumer().close();
  });
  BOOST_TEST(producer.push(2, watched(Waiting::block)) == Outcome::closed);
  BOOST_TEST(producer.consumer_closed());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(killed)

// Where a producer is when it dies.
enum class Step { before, claimed, written, published, rung };
constexpr std::array steps = {Step::before, Step::claimed, Step::written, Step::published,
                              Step::rung};
std::ostream& operator<<(std::ostream& out, Step step) {
  return out << static_cast<int>(step);
}

void produce_until(Step step, const SpscRing<Number>& ring) {
  auto producer = ring.producer();
  if (step == Step::before)
    die();
  auto slots = producer.claim(1);
  if (step == Step::claimed)
    die();
  slots[0] = 7;
  if (step == Step::written)
    die();
  if (step == Step::published)  // the store of publish(), without what follows
    ring.control().tail.store(1, std::memory_order_release);
  else
    producer.publish(1);
  die();
}

BOOST_DATA_TEST_CASE(a_producer_leaves_whole_items_or_none_and_its_death_is_told,
                     bdata::make(steps) * bdata::make(all_ways), step, waiting) {
  const auto before = testing::belongings();
  {
    const auto made = numbers(4);
    Child child = Child::fork([&] {
      pause_for_us(3000);  // the consumer waits by then
      produce_until(step, made.ring);
      return 0;
    });
    const Peer peer = Peer::of(child.pid());
    auto consumer = made.ring.consumer();
    Number value = 0;
    if (step >= Step::published) {
      BOOST_TEST(consumer.pop(value, watched(waiting, &peer)) == Outcome::done);
      BOOST_TEST(value == 7U);
    }
    BOOST_TEST(consumer.pop(value, watched(waiting, &peer)) == Outcome::gone);
    BOOST_TEST(child.wait().text() == "killed by SIGKILL");
    // A new producer goes on where the dead one stopped.
    auto successor = made.ring.producer();
    BOOST_TEST(successor.try_push(8));
    BOOST_TEST(consumer.try_pop(value));
    BOOST_TEST(value == 8U);
  }
  BOOST_TEST(testing::belongings() == before);
}

BOOST_DATA_TEST_CASE(a_producer_of_a_full_ring_learns_of_the_consumers_death, bdata::make(all_ways),
                     waiting) {
  const auto made = numbers(2);
  Child child = Child::fork([&] {
    auto consumer = made.ring.consumer();
    Number value;
    consumer.pop(value, watched(Waiting::block));
    static_cast<void>(consumer.peek());  // dies before it releases what it looks at
    pause_for_us(3000);
    die();
    return 0;
  });
  const Peer peer = Peer::of(child.pid());
  auto producer = made.ring.producer();
  Number sent = 0;
  Outcome outcome = Outcome::done;
  while ((outcome = producer.push(sent, watched(waiting, &peer))) == Outcome::done)
    ++sent;
  BOOST_TEST(outcome == Outcome::gone);
  BOOST_TEST(sent == 3U);
  child.wait();
  auto successor = made.ring.consumer();
  Number value = 0;
  BOOST_TEST(successor.try_pop(value));
  BOOST_TEST(value == 1U);  // the one that was looked at is still there
}

// Producers are killed at moments that nobody chose, each succeeded by the next: in the end every
// number has arrived once, and in order.
BOOST_AUTO_TEST_CASE(however_often_producers_are_killed_no_number_is_lost_or_doubled) {
  const auto made = numbers(64);
  auto consumer = made.ring.consumer();
  Random random(4711);
  Sequence seen;
  unsigned deaths = 0;
  for (int round = 0; round < 40; ++round) {
    Child child = Child::fork([&] {
      auto producer = made.ring.producer();
      const auto first = made.ring.control().tail.load(std::memory_order_relaxed);
      for (Number i = first;; ++i)
        if (producer.push(i, watched(Waiting::adaptive)) != Outcome::done)
          return 1;
    });
    const Peer peer = Peer::of(child.pid());
    const std::int64_t end = clock::now_ns() + static_cast<std::int64_t>(random() % 2'000'000);
    Outcome outcome = Outcome::done;
    for (Number value; outcome == Outcome::done;) {
      if (clock::now_ns() > end)
        child.signal(SIGKILL);
      outcome = consumer.pop(value, watched(Waiting::adaptive, &peer));
      if (outcome == Outcome::done)
        seen.take(value);
    }
    BOOST_TEST(outcome == Outcome::gone);
    deaths += child.wait().text() == "killed by SIGKILL";
  }
  BOOST_TEST(deaths == 40U);
  BOOST_TEST(seen.taken() > 0U);
  BOOST_TEST(seen.taken() == made.ring.control().tail.load());
  BOOST_TEST(seen.wrong() == 0U);
}

BOOST_AUTO_TEST_CASE(the_lane_of_a_killed_producer_ends_and_the_others_go_on) {
  const auto memory = SealedMemory::make(MpscLanes<Number>::bytes(2, 8), "lanes");
  const auto lanes = MpscLanes<Number>::make(memory.bytes(), 2, 8);
  Child killed = Child::fork([&] {
    auto producer = lanes.producer(0);
    producer.try_push(100);
    static_cast<void>(producer.claim(1));
    die();
    return 0;
  });
  Child living = Child::fork([&] {
    auto producer = lanes.producer(1);
    pause_for_us(150'000);  // longer than the consumer sleeps at once
    producer.try_push(200);
    producer.close();
    return 0;
  });
  auto consumer = lanes.consumer();
  consumer.watch(0, Peer::of(killed.pid()));
  consumer.watch(1, Peer::of(living.pid()));
  Number value = 0, sum = 0;
  Outcome outcome = Outcome::done;
  while ((outcome = consumer.pop(value, watched(Waiting::block))) == Outcome::done)
    sum += value;
  BOOST_TEST(sum == 300U);
  BOOST_TEST(outcome == Outcome::gone);
  BOOST_TEST(consumer.end_of(0) == Outcome::gone);
  BOOST_TEST(consumer.end_of(1) == Outcome::closed);
  killed.wait();
  living.wait();
}

// What is torn is not there: a record is there whole, with its checksum, or not at all.
BOOST_AUTO_TEST_CASE(a_record_whose_producer_is_killed_within_it_does_not_exist) {
  const auto made = records(4096);
  Child child = Child::fork([&] {
    auto producer = made.ring.producer();
    producer.try_push(bytes_of({1, 2, 3}));
    std::byte* const room = producer.try_claim(1000);
    std::memset(room, 0xff, 500);
    die();
    return 0;
  });
  const Peer peer = Peer::of(child.pid());
  auto consumer = made.ring.consumer();
  Outcome outcome;
  const auto record = consumer.peek(watched(Waiting::block, &peer), outcome);
  BOOST_REQUIRE(record.has_value());
  BOOST_TEST(record->size() == 24U);
  consumer.release();
  BOOST_TEST(!consumer.peek(watched(Waiting::block, &peer), outcome).has_value());
  BOOST_TEST(outcome == Outcome::gone);
  child.wait();
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(records_of_bytes)

BOOST_DATA_TEST_CASE(records_of_all_lengths_arrive_whole_and_in_order, bdata::make(all_ways),
                     waiting) {
  const auto made = records(1024);
  const Number all = many / 10;
  Thread thread({.name = "producer"}, [&, way = waiting] {
    auto producer = made.ring.producer();
    for (Number i = 0; i < all; ++i)
      if (producer.push(bytes_of(std::vector<Number>(i % 60, i)), watched(way)) != Outcome::done)
        break;
    producer.close();
  });
  auto consumer = made.ring.consumer();
  Number seen = 0, wrong = 0;
  Outcome outcome;
  while (const auto record = consumer.peek(watched(waiting), outcome)) {
    wrong += record->size() != seen % 60 * sizeof(Number);
    const auto* values = reinterpret_cast<const Number*>(record->data());
    for (std::size_t i = 0; i < record->size() / sizeof(Number); ++i)
      wrong += values[i] != seen;
    consumer.release();
    ++seen;
  }
  thread.join();
  BOOST_TEST(outcome == Outcome::closed);
  BOOST_TEST(seen == all);
  BOOST_TEST(wrong == 0U);
}

BOOST_AUTO_TEST_CASE(the_longest_record_fits_wherever_the_last_one_ended) {
  const auto made = records(256);
  auto producer = made.ring.producer();
  auto consumer = made.ring.consumer();
  BOOST_TEST(producer.longest() == 120U);
  const std::vector<std::byte> longest(producer.longest(), std::byte{3});
  for (std::size_t small = 0; small <= longest.size(); ++small) {
    for (const std::size_t size : {small, longest.size()}) {
      BOOST_REQUIRE(producer.try_push(std::span(longest).first(size)));
      const auto record = consumer.try_peek();
      BOOST_REQUIRE(record.has_value());
      BOOST_TEST(record->size() == size);
      consumer.release();
    }
  }
  const std::vector<std::byte> longer(producer.longest() + 1);
  BOOST_TEST(producer.push(longer) == Outcome::too_long);
  BOOST_CHECK_THROW(RecordRing::make(made.memory.bytes(), 16), BadInput);
  BOOST_CHECK_NO_THROW(RecordRing::attach(made.memory.bytes()));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
