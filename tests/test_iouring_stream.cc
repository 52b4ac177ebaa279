// Buffered streams, the same on all drivers.

#include "iouring/stream.hh"

#include "iouring/gather.hh"
#include "tests/iouring_io.hh"

#include <csignal>

using namespace schedlab;
using namespace schedlab::testing;
using namespace std::chrono_literals;
using iouring::Descriptor;
using iouring::File;
using iouring::IncompleteRead;
using iouring::LimitOverrun;
using iouring::Reader;
using iouring::Socket;
using iouring::SocketPair;
using iouring::Stream;
using iouring::Task;
using iouring::Writer;

namespace {

struct Streams {
  Stream near;
  Stream far;
};
Streams make_streams(std::size_t read_limit = iouring::default_read_limit) {
  SocketPair pair = iouring::make_socket_pair();
  return {Stream(std::move(pair.first), read_limit), Stream(std::move(pair.second), read_limit)};
}

// In pieces, each of which arrives alone.
Task<> write_pieces(Stream& stream, std::vector<std::string> pieces) {
  for (const std::string& piece : pieces) {
    stream.write(piece);
    co_await stream.flush();
    co_await iouring::sleep_for(1ms);
  }
  co_await stream.write_eof();
}

Task<> read_lines() {
  Streams both = make_streams();
  auto writing = iouring::create_task(write_pieces(both.near, {"one\ntw", "o\n\nth", "r", "ee"}));
  std::vector<std::string> lines;
  while (!both.far.at_end()) {
    std::string line = co_await both.far.read_line();
    lines.push_back(std::move(line));
  }
  const std::vector<std::string> expected = {"one\n", "two\n", "\n", "three"};
  BOOST_TEST(lines == expected, boost::test_tools::per_element());
  const std::string after = co_await both.far.read_line();
  BOOST_TEST(after.empty());
  co_await writing;
}

Task<> read_parts() {
  Streams both = make_streams();
  auto writing = iouring::create_task(
      write_pieces(both.near, {"head", "er\r", "\n", "\r\nbo", "dy of it", "rest"}));
  const std::string header = co_await both.far.read_until("\r\n\r\n");
  BOOST_TEST(header == "header\r\n\r\n");
  const std::string body = co_await both.far.read_exactly(10);
  BOOST_TEST(body == "body of it");
  std::string area(2, '\0');
  const std::size_t count = co_await both.far.read_some(area_of(area));
  BOOST_TEST(count == 2u);
  BOOST_TEST(area == "re");
  const std::string rest = co_await both.far.read_all(100);
  BOOST_TEST(rest == "st");
  const std::string nothing = co_await both.far.read_some(10);
  BOOST_TEST(nothing.empty());
  co_await writing;
}

Task<> read_too_much() {
  Streams both = make_streams();
  both.near.write("only this");
  co_await both.near.write_eof();
  std::string partial;
  try {
    co_await both.far.read_exactly(100);
  } catch (const IncompleteRead& incomplete) {
    partial = incomplete.partial();
  }
  BOOST_TEST(partial == "only this");
  Streams others = make_streams();
  others.near.write("no end");
  co_await others.near.write_eof();
  try {
    co_await others.far.read_until("\n");
  } catch (const IncompleteRead& incomplete) {
    partial = incomplete.partial();
  }
  BOOST_TEST(partial == "no end");
}

Task<bool> overruns(Task<std::string> reading) {
  try {
    co_await std::move(reading);
  } catch (const LimitOverrun&) {
    co_return true;
  }
  co_return false;
}

Task<> read_beyond_the_limit() {
  Streams both = make_streams(100);
  both.near.write(std::string(99, 'a') + "\n" + std::string(100, 'b') + "\n");
  co_await both.near.flush();
  const std::string line = co_await both.far.read_line();
  BOOST_TEST(line.size() == 100u);  // with its end, exactly the limit
  bool overrun = co_await overruns(both.far.read_line());
  BOOST_TEST(overrun);
  // What came is still there.
  const std::string rest = co_await both.far.read_exactly(101);
  BOOST_TEST(rest == std::string(100, 'b') + "\n");
  both.near.write(std::string(1000, 'c'));  // without any end
  co_await both.near.flush();
  overrun = co_await overruns(both.far.read_until("end"));
  BOOST_TEST(overrun);
  overrun = co_await overruns(both.far.read_all(100));
  BOOST_TEST(overrun);
}

Task<std::string> read_exactly(Stream& stream, std::size_t count) {
  std::string text = co_await stream.read_exactly(count);
  co_return text;
}

Task<> cancel_a_read() {
  Streams both = make_streams();
  both.near.write("part");
  auto reading = iouring::create_task(is_cancelled(read_exactly(both.far, 8)));
  co_await settle();
  const int busy = co_await errno_of(both.far.read_line());  // a second reader
  BOOST_TEST(busy == EBUSY);
  reading.cancel();
  const bool cancelled = co_await reading;
  BOOST_TEST(cancelled);
  both.near.write("ners");
  const std::string all = co_await both.far.read_exactly(8);
  BOOST_TEST(all == "partners");
}

// Much more than the marks; what is kept stays bounded.
Task<> write_with_drain(Stream& stream, const std::string& text, std::size_t& most) {
  const std::string_view all(text);
  constexpr std::size_t step = 10'000;
  for (std::size_t at = 0; at < all.size(); at += step) {
    stream.write(all.substr(at, step));
    most = std::max(most, stream.writer().buffered());
    co_await stream.drain();
    BOOST_TEST_REQUIRE(stream.writer().buffered() <= 64 * 1024);
  }
  co_await stream.write_eof();
  BOOST_TEST(stream.writer().buffered() == 0u);
}
Task<std::string> read_slowly(Stream& stream) {
  std::string all;
  for (;;) {
    const std::string part = co_await stream.read_some(5000);
    if (part.empty())
      co_return all;
    all += part;
    co_await iouring::yield();
  }
}
// A reader may outlive its socket, and ask again and again.
Task<> read_what_is_gone() {
  SocketPair pair = iouring::make_socket_pair();
  Reader reader(pair.first.descriptor());
  auto reading = iouring::create_task(errno_of(reader.read_some(10)));
  co_await settle();
  pair.first = Socket();
  int error = co_await reading;
  BOOST_TEST(error == ECANCELED);
  error = co_await errno_of(reader.read_exactly(10));
  BOOST_TEST(error == ECANCELED);
  // Nor does it meet the next sockets, which may lie in memory where the old one lay.
  SocketPair next = iouring::make_socket_pair();
  co_await next.first.send_all(bytes_of("not for you"));
  co_await next.second.send_all(bytes_of("not for you"));
  error = co_await errno_of(reader.read_some(10));
  BOOST_TEST(error == ECANCELED);
}

Task<> press_back() {
  Streams both = make_streams();
  const std::string text = pattern(8 * 1024 * 1024);
  std::size_t most = 0;
  auto done =
      co_await iouring::gather(write_with_drain(both.near, text, most), read_slowly(both.far));
  BOOST_TEST((std::get<1>(done) == text));
  BOOST_TEST(most > 64u * 1024);  // it did pile up
  BOOST_TEST(most <= 64u * 1024 + 10'000);
}

Task<> drain_without_a_reader() {
  Streams both = make_streams();
  both.near.write(pattern(4'000'000));
  auto draining = iouring::create_task(is_cancelled(both.near.drain()));
  co_await settle();
  BOOST_TEST(!draining.done());
  draining.cancel();
  const bool cancelled = co_await draining;
  BOOST_TEST(cancelled);
  // Nothing of it is lost.
  auto done = co_await iouring::gather(both.near.write_eof(), read_slowly(both.far));
  BOOST_TEST((std::get<1>(done) == pattern(4'000'000)));
}

Task<> write_in_one_turn() {
  Streams both = make_streams();
  auto& driver = iouring::Loop::current()->driver();
  const auto before = driver.counts().requests;
  for (int i = 0; i < 100; ++i)
    both.near.write("x");
  co_await both.near.flush();
  BOOST_TEST(driver.counts().requests - before == 1u);
  const std::string all = co_await both.far.read_exactly(100);
  BOOST_TEST(all == std::string(100, 'x'));
  // Without anybody who waits for it, too.
  both.near.write("alone");
  const std::string word = co_await both.far.read_exactly(5);
  BOOST_TEST(word == "alone");
}

Task<> write_to_the_gone() {
  Streams both = make_streams();
  co_await both.far.close();
  both.near.write("hello");
  const int error = co_await errno_of(both.near.flush());
  BOOST_TEST(error == EPIPE);
  BOOST_CHECK_EXCEPTION(both.near.write("again"), std::system_error,
                        [](const auto& told) { return told.code().value() == EPIPE; });
  co_await both.near.close();
}

Task<> write_after_the_end() {
  Streams both = make_streams();
  co_await both.near.write_eof();
  BOOST_CHECK_EXCEPTION(both.near.write("more"), std::system_error,
                        [](const auto& told) { return told.code().value() == EPIPE; });
  // The other direction goes on.
  both.far.write("still here");
  const std::string text = co_await both.near.read_exactly(10);
  BOOST_TEST(text == "still here");
}

Task<> close_flushes() {
  Streams both = make_streams();
  const std::string text = pattern(1'000'000);
  both.near.write(text);
  auto done = co_await iouring::gather(both.near.close(), both.far.read_all(2'000'000));
  BOOST_TEST((std::get<1>(done) == text));
}

Task<> destroy_while_writing() {
  std::optional<Streams> both(make_streams());
  both->near.write(pattern(4'000'000));
  co_await settle();
  both.reset();
  co_await settle();
}

Task<> stream_through_a_pipe(bool reader_goes) {
  Pipe pipe = make_pipe();
  const Descriptor in(std::move(pipe.write), "in");
  std::optional<Descriptor> out(std::in_place, std::move(pipe.read), "out");
  Writer writer(in);
  const std::string text = pattern(500'000);
  writer.write(text);
  std::optional<Reader> reader(std::in_place, *out);
  const std::string part = co_await reader->read_exactly(100'000);
  BOOST_TEST((part == text.substr(0, part.size())));
  if (reader_goes) {
    reader.reset();
    co_await out->close();
    const int error = co_await errno_of(writer.flush());
    BOOST_TEST(error == EPIPE);
  } else {
    const std::string rest = co_await reader->read_exactly(400'000);
    BOOST_TEST((rest == text.substr(part.size())));
  }
}

Task<std::string> read_to_end(Stream& stream) {
  std::string all = co_await stream.read_all(std::size_t{1} << 30);
  co_return all;
}
Task<std::uint64_t> send_part(Socket& socket, File& file, std::uint64_t offset,
                              std::uint64_t length) {
  const std::uint64_t sent = co_await iouring::send_file(socket, file, offset, length);
  co_await socket.shutdown();
  co_return sent;
}
Task<> send_a_file(const std::string& path) {
  const std::string text = pattern(1'000'000);
  File file = co_await File::open(path, O_RDWR | O_CREAT);
  co_await file.write_all(bytes_of(text), 0);
  constexpr std::uint64_t all = ~std::uint64_t{0};
  for (const std::uint64_t length : {std::uint64_t{200'000}, all, std::uint64_t{0}}) {
    SocketPair pair = iouring::make_socket_pair();
    Stream far(std::move(pair.second));
    auto done =
        co_await iouring::gather(send_part(pair.first, file, 1000, length), read_to_end(far));
    const std::string expected = text.substr(1000, static_cast<std::size_t>(length));
    BOOST_TEST(std::get<0>(done) == expected.size());
    BOOST_TEST((std::get<1>(done) == expected));
  }
}

}  // namespace

BOOST_DATA_TEST_CASE(lines_come_whole, on_all_drivers, choice) {
  run_io(choice, read_lines);
}

BOOST_DATA_TEST_CASE(parts_come_as_asked_for, on_all_drivers, choice) {
  run_io(choice, read_parts);
}

BOOST_DATA_TEST_CASE(what_came_of_an_incomplete_read_is_told, on_all_drivers, choice) {
  run_io(choice, read_too_much);
}

BOOST_DATA_TEST_CASE(a_line_beyond_the_limit_is_refused_and_kept, on_all_drivers, choice) {
  run_io(choice, read_beyond_the_limit);
}

BOOST_DATA_TEST_CASE(a_cancelled_read_loses_no_data, on_all_drivers, choice) {
  run_io(choice, cancel_a_read);
}

BOOST_DATA_TEST_CASE(a_reader_whose_socket_went_is_refused_each_time, on_all_drivers, choice) {
  run_io(choice, read_what_is_gone);
}

BOOST_DATA_TEST_CASE(a_slow_reader_bounds_what_is_kept, on_all_drivers, choice) {
  run_io(choice, press_back);
}

BOOST_DATA_TEST_CASE(a_cancelled_drain_loses_no_data, on_all_drivers, choice) {
  run_io(choice, drain_without_a_reader);
}

BOOST_DATA_TEST_CASE(writes_of_one_turn_go_out_together, on_all_drivers, choice) {
  run_io(choice, write_in_one_turn);
}

BOOST_DATA_TEST_CASE(writing_to_a_peer_that_is_gone_is_an_error, on_all_drivers, choice) {
  ::signal(SIGPIPE, SIG_DFL);
  run_io(choice, write_to_the_gone);
}

BOOST_DATA_TEST_CASE(nothing_is_written_after_the_end, on_all_drivers, choice) {
  run_io(choice, write_after_the_end);
}

BOOST_DATA_TEST_CASE(close_sends_what_was_written, on_all_drivers, choice) {
  run_io(choice, close_flushes);
}

BOOST_DATA_TEST_CASE(a_stream_destroyed_while_it_writes_leaves_nothing, on_all_drivers, choice) {
  const std::size_t before = open_descriptors();
  run_io(choice, destroy_while_writing);
  BOOST_TEST(open_descriptors() == before);
}

BOOST_DATA_TEST_CASE(a_pipe_is_a_stream_too, on_all_drivers, choice) {
  run_io(choice, stream_through_a_pipe, false);
}

BOOST_DATA_TEST_CASE(a_pipe_without_a_reader_is_an_error_and_no_signal, on_all_drivers, choice) {
  ::signal(SIGPIPE, SIG_DFL);
  run_io(choice, stream_through_a_pipe, true);
  // Afterwards it is as before.
  sigset_t blocked, waiting;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  ::sigpending(&waiting);
  BOOST_TEST(::sigismember(&blocked, SIGPIPE) == 0);
  BOOST_TEST(::sigismember(&waiting, SIGPIPE) == 0);
}

BOOST_DATA_TEST_CASE(a_file_is_sent_whole_and_in_part, on_all_drivers, choice) {
  const TemporaryFolder folder;
  run_io(choice, send_a_file, folder.path("file"));
}
