// Receiving into buffers of a pool, the same on all drivers.

#include "iouring/gather.hh"
#include "iouring/receiver.hh"
#include "tests/iouring_io.hh"

#include <random>

using namespace schedlab;
using namespace schedlab::testing;
using namespace std::chrono_literals;
using iouring::BufferPool;
using iouring::Received;
using iouring::Receiver;
using iouring::Socket;
using iouring::SocketPair;
using iouring::Task;

namespace {

Task<std::string> take(Receiver& receiver) {
  const Received data = co_await receiver.next();
  co_return std::string(data.text());
}

Task<std::string> take_all(Receiver& receiver) {
  std::string all;
  for (;;) {
    const Received data = co_await receiver.next();
    if (!data)
      co_return all;
    all += data.text();
  }
}

Task<> send_and_shut(Socket& socket, std::string_view text) {
  co_await socket.send_all(bytes_of(text));
  co_await socket.shutdown();
}

Task<> receive_to_the_end() {
  BufferPool pool(8, 1000);
  SocketPair pair = iouring::make_socket_pair();
  Receiver receiver(pair.second, pool);
  const std::string text = pattern(1'000'000);
  auto done = co_await iouring::gather(send_and_shut(pair.first, text), take_all(receiver));
  BOOST_TEST((std::get<1>(done) == text));
  // The end stays.
  const std::string after = co_await take(receiver);
  BOOST_TEST(after.empty());
  BOOST_TEST(pool.free() == 8u);
}

Task<> send_messages(Socket& socket, int count) {
  for (int i = 0; i < count; ++i) {
    const std::string message = std::to_string(i) + '\n';
    co_await socket.send_all(bytes_of(message));
  }
  co_await socket.shutdown();
}
Task<int> count_messages_slowly(Receiver& receiver) {
  std::string rest;
  int next = 0;
  for (unsigned round = 0;; ++round) {
    const Received data = co_await receiver.next();
    if (!data)
      break;
    rest += data.text();
    for (std::size_t end; (end = rest.find('\n')) != std::string::npos; rest.erase(0, end + 1))
      BOOST_TEST_REQUIRE(rest.substr(0, end) == std::to_string(next++));
    if (round % 64 == 0)
      co_await iouring::sleep_for(100us);
  }
  BOOST_TEST(rest.empty());
  co_return next;
}
Task<> read_slowly() {
  BufferPool pool(4, 64);
  SocketPair pair = iouring::make_socket_pair();
  Receiver receiver(pair.second, pool);
  auto done =
      co_await iouring::gather(send_messages(pair.first, 10'000), count_messages_slowly(receiver));
  BOOST_TEST(std::get<1>(done) == 10'000);
  BOOST_TEST(pool.free() == 4u);
}

Task<> hold_all_buffers() {
  BufferPool pool(2, 4);
  SocketPair pair = iouring::make_socket_pair();
  Receiver receiver(pair.second, pool);
  co_await pair.first.send_all(bytes_of("aaaabbbbccccdddd"));
  std::vector<Received> held;
  for (int i = 0; i < 2; ++i) {
    Received data = co_await receiver.next();
    held.push_back(std::move(data));
  }
  BOOST_TEST(pool.free() == 0u);
  auto taking = iouring::create_task(take(receiver));
  co_await settle();
  BOOST_TEST(!taking.done());
  BOOST_TEST(held[0].text() == "aaaa");
  BOOST_TEST(held[1].text() == "bbbb");
  held.erase(held.begin());
  std::string text = co_await taking;
  BOOST_TEST(text == "cccc");
  text = co_await take(receiver);
  BOOST_TEST(text == "dddd");
  held.clear();
  BOOST_TEST(pool.free() == 2u);
}

// One that holds everything keeps nobody out for longer than it holds it.
Task<> share_a_pool() {
  BufferPool pool(2, 4);
  SocketPair one = iouring::make_socket_pair();
  SocketPair other = iouring::make_socket_pair();
  Receiver first(one.second, pool);
  Receiver second(other.second, pool);
  co_await one.first.send_all(bytes_of("aaaabbbb"));
  Received a = co_await first.next();
  Received b = co_await first.next();
  auto waits = iouring::create_task(take(first));    // without data, first in line
  auto taking = iouring::create_task(take(second));  // with data
  co_await other.first.send_all(bytes_of("cccc"));
  co_await settle();
  BOOST_TEST(!taking.done());
  b = Received();
  const std::string text = co_await taking;
  BOOST_TEST(text == "cccc");
  BOOST_TEST(!waits.done());
  co_await one.first.send_all(bytes_of("dddd"));
  const std::string late = co_await waits;
  BOOST_TEST(late == "dddd");
}

Task<> fill_no_more_than_a_part() {
  BufferPool pool(64, 16);
  SocketPair pair = iouring::make_socket_pair();
  Receiver receiver(pair.second, pool);
  auto taking = iouring::create_task(take(receiver));
  co_await pair.first.send_all(bytes_of("x"));
  co_await taking;
  for (int i = 0; i < 200; ++i) {  // nobody reads
    co_await pair.first.send_all(bytes_of("0123456789abcdef"));
    co_await iouring::yield();
  }
  co_await settle();
  BOOST_TEST(pool.free() > 0u);
  BOOST_TEST(pool.free() < 64u);
  std::string all;
  while (all.size() < 200 * 16)
    all += co_await take(receiver);
  BOOST_TEST(all.size() == 200u * 16);
}

// Reads until it is cancelled; what it took counts.
Task<> read_for_a_while(Receiver& receiver, std::string& all, int& cancelled) {
  try {
    for (;;) {
      const Received data = co_await receiver.next();
      if (!data)
        break;
      all += data.text();
    }
  } catch (const iouring::Cancelled&) {
    ++cancelled;
  }
}
Task<> cancel_again_and_again() {
  BufferPool pool(8, 256);
  SocketPair pair = iouring::make_socket_pair();
  Receiver receiver(pair.second, pool);
  const std::string text = pattern(400'000);
  std::string all;
  int cancelled = 0;
  auto sending = iouring::create_task(send_and_shut(pair.first, text));
  std::mt19937 random(7);
  while (all.size() < text.size()) {
    auto reading = iouring::create_task(read_for_a_while(receiver, all, cancelled));
    for (unsigned turns = random() % 8; turns > 0; --turns)
      co_await iouring::yield();
    reading.cancel();
    co_await reading;
  }
  co_await sending;
  BOOST_TEST((all == text));
  BOOST_TEST(cancelled > 50);
}

Task<> close_under_a_receiver() {
  BufferPool pool(4, 64);
  SocketPair pair = iouring::make_socket_pair();
  Receiver receiver(pair.second, pool);
  auto taking = iouring::create_task(errno_of(take(receiver)));
  co_await settle();
  co_await pair.second.close();
  int error = co_await taking;
  BOOST_TEST(error == ECANCELED);
  error = co_await errno_of(take(receiver));
  BOOST_TEST(error == ECANCELED);
}

// Armed, with data that nobody took, and a view that outlives all of them.
Task<> destroy_a_receiver() {
  Received kept;
  {
    BufferPool pool(4, 8);
    SocketPair pair = iouring::make_socket_pair();
    Receiver receiver(pair.second, pool);
    co_await pair.first.send_all(bytes_of("kept"));
    kept = co_await receiver.next();
    auto waiting = iouring::create_task(is_cancelled(take(receiver)));
    co_await settle();
    waiting.cancel();
    co_await waiting;
    co_await pair.first.send_all(bytes_of("not taken"));
    co_await settle();
  }
  co_await settle();
  BOOST_TEST(kept.text() == "kept");
}

Task<> destroy_one_of_two() {
  BufferPool pool(4, 8);
  SocketPair pair = iouring::make_socket_pair();
  {
    Receiver receiver(pair.second, pool);
    co_await pair.first.send_all(bytes_of("data"));
    const std::string text = co_await take(receiver);
    BOOST_TEST(text == "data");
  }
  co_await settle();
  BOOST_TEST(pool.free() == 4u);
  Receiver receiver(pair.second, pool);
  co_await pair.first.send_all(bytes_of("more"));
  const std::string text = co_await take(receiver);
  BOOST_TEST(text == "more");
}

}  // namespace

BOOST_DATA_TEST_CASE(everything_comes_in_order_up_to_the_end, on_all_drivers, choice) {
  run_io(choice, receive_to_the_end);
}

BOOST_DATA_TEST_CASE(a_slow_reader_gets_ten_thousand_messages, on_all_drivers, choice) {
  run_io(choice, read_slowly);
}

BOOST_DATA_TEST_CASE(without_buffers_it_waits_until_one_comes_back, on_all_drivers, choice) {
  run_io(choice, hold_all_buffers);
}

BOOST_DATA_TEST_CASE(a_buffer_that_comes_back_reaches_who_has_data, on_all_drivers, choice) {
  run_io(choice, share_a_pool);
}

BOOST_DATA_TEST_CASE(one_receiver_leaves_buffers_to_others, on_all_drivers, choice) {
  run_io(choice, fill_no_more_than_a_part);
}

BOOST_DATA_TEST_CASE(cancelling_loses_no_data, on_all_drivers, choice) {
  run_io(choice, cancel_again_and_again);
}

BOOST_DATA_TEST_CASE(a_receiver_ends_with_its_socket, on_all_drivers, choice) {
  run_io(choice, close_under_a_receiver);
}

BOOST_DATA_TEST_CASE(data_outlive_their_receiver_and_pool, on_all_drivers, choice) {
  run_io(choice, destroy_a_receiver);
}

BOOST_DATA_TEST_CASE(a_destroyed_receiver_gives_its_buffers_back, on_all_drivers, choice) {
  run_io(choice, destroy_one_of_two);
}
