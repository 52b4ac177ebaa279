// An HTTP server whose clients are slow, greedy, rude or too many: it keeps its bounds, and others
// are served meanwhile.

#include "iouring/http.hh"

#include "iouring/gather.hh"
#include "iouring/timeout.hh"
#include "lab/base/file.hh"
#include "lab/base/text.hh"
#include "tests/iouring_http.hh"
#include "tests/sanitized.hh"

#include <boost/test/data/test_case.hpp>
#include <sys/resource.h>
#include <sys/socket.h>

using namespace schedlab;
using namespace schedlab::testing;
using namespace std::chrono_literals;
using iouring::Address;
using iouring::HttpClient;
using iouring::HttpRequest;
using iouring::HttpResponse;
using iouring::HttpServerOptions;
using iouring::Running;
using iouring::Socket;
using iouring::Stream;
using iouring::Task;

namespace {

constexpr std::size_t flood = sanitized ? 20'000 : 1'000'000;
constexpr const char* request_text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

// Bytes of this process in memory; its own allocations only without a sanitizer.
std::size_t resident() {
  const std::string text = read_text("/proc/self/statm").value();
  const auto fields = split(text, ' ');
  return static_cast<std::size_t>(to_number(fields.at(1)).value()) * 4096;
}

// Asks so often, and says how often the answer was right.
Task<std::size_t> good_client(Address address, std::size_t count, bool keeps) {
  std::size_t good = 0;
  HttpClient client(address);
  for (std::size_t i = 0; i < count; ++i) {
    HttpRequest request;
    request.target = "/" + std::to_string(i);
    request.keep_alive = keeps;
    const HttpResponse response = co_await client.send(std::move(request));
    good += response.body == "GET /" + std::to_string(i) + " ";
    co_await iouring::sleep_for(1ms);
  }
  co_return good;
}

// Sends a piece every 2 ms until the server has had enough; gives the server's words.
Task<std::string> drip(Address address, std::string begin, std::string piece) {
  Stream stream = co_await raw_client(address);
  std::string words;
  bool over = false;
  stream.write(begin);
  while (!over) {
    try {
      stream.write(piece);
      words += co_await iouring::timeout(2ms, stream.read_some(1000));
      over = stream.at_end();
    } catch (const iouring::TimeoutError&) {
      over = false;
    } catch (const std::system_error&) {
      over = true;
    }
  }
  co_return words;
}

namespace script {

Task<> slow_heads_hold_no_connection_for_long() {
  HttpServerOptions options;
  options.connections = 32;
  options.head_limit = options.idle_limit = 1h;  // only their number helps
  Served served(echo, options);
  std::vector<Running<std::string>> attackers;
  for (int i = 0; i < 200; ++i)
    attackers.push_back(iouring::create_task(
        drip(served.address(), "GET / HTTP/1.1\r\nHost: a\r\n", "x: " + std::to_string(i))));
  while (served.counts().connections < 100)
    co_await iouring::sleep_for(1ms);
  const std::size_t good = co_await good_client(served.address(), 50, false);
  BOOST_TEST(good == 50u);
  BOOST_TEST(served.counts().most_open <= 32u);
  BOOST_TEST(served.counts().evicted >= 100u);
  BOOST_TEST(served.counts().most_memory <= 32u * (20 * 1024 + 4096 + 1024));
  attackers.clear();
  co_await served.idle();
}

Task<> slow_clients_are_told_and_closed() {
  HttpServerOptions options;
  options.head_limit = options.body_limit = options.idle_limit = 30ms;
  Served served(echo, options);
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
  auto words = co_await iouring::gather(
      drip(served.address(), "GET /", "x"), drip(served.address(), post, "x"),
      drip(served.address(), "", ""), good_client(served.address(), 100, true));
  BOOST_TEST(std::get<0>(words).starts_with("HTTP/1.1 408 "));
  BOOST_TEST(std::get<1>(words).starts_with("HTTP/1.1 408 "));
  BOOST_TEST(std::get<2>(words) == "");  // it has not asked for anything
  BOOST_TEST(std::get<3>(words) == 100u);
  BOOST_TEST(served.counts().timed_out >= 3u);  // on a slow machine also the good one
}

Task<> heads_without_end_are_refused() {
  Served served(echo);
  const std::size_t before = resident();
  std::vector<Task<std::string>> attackers;
  for (int i = 0; i < 50; ++i) {
    const std::string begin = i % 2 ? "GET / HTTP/1.1\r\nHost: a\r\n" : "GET /";
    attackers.push_back(drip(served.address(), begin, std::string(4000, 'x')));
  }
  auto good = iouring::create_task(good_client(served.address(), 50, true));
  const auto words = co_await iouring::gather(std::move(attackers));
  for (std::size_t i = 0; i < words.size(); ++i)
    BOOST_TEST(words[i].starts_with(i % 2 ? "HTTP/1.1 431 " : "HTTP/1.1 414 "));
  const std::size_t answered = co_await good;
  BOOST_TEST(answered == 50u);
  BOOST_TEST(served.counts().refused == 50u);
  BOOST_TEST(served.counts().most_memory <= 51u * 40 * 1024);
  if (!sanitized)
    BOOST_TEST(resident() <= before + (std::size_t{32} << 20));
}

// Sends so many requests without reading an answer, until the server stops reading.
struct Flood {
  Stream& stream;
  std::size_t count;
  std::size_t sent = 0;
  Task<> run() {
    std::string many;
    for (int i = 0; i < 1000; ++i)
      many += request_text;
    for (; sent < count; sent += 1000) {
      stream.write(many);
      co_await stream.drain();
    }
  }
};

// All answers have the same length.
Task<> read_answers(Stream& stream, std::size_t count, std::size_t& good) {
  std::string text = co_await stream.read_until("\r\n\r\nGET / ");
  const std::size_t length = text.size();
  for (std::size_t left = count; left > 0;) {
    const std::size_t now = std::min<std::size_t>(left, 1000);
    text += co_await stream.read_exactly(now * length - text.size());
    for (std::size_t at = 0; at < text.size(); at += length)
      good += text.compare(at, 17, "HTTP/1.1 200 OK\r\n") == 0 &&
              text.compare(at + length - 10, 10, "\r\n\r\nGET / ") == 0;
    text.clear();
    left -= now;
  }
}

// Lets the server do all that it does while nobody reads.
Task<std::uint64_t> requests_at_rest(const Served& served) {
  std::uint64_t before = 0;
  for (std::uint64_t now = 1; now != before || now == 0;) {
    before = now;
    co_await iouring::sleep_for(50ms);
    now = served.counts().requests;
  }
  co_return before;
}

Task<> a_million_pipelined_requests_wait_for_their_reader() {
  Served served(echo);
  const std::size_t before = resident();
  Stream stream = co_await raw_client(served.address());
  Flood requests{stream, flood};
  auto sending = iouring::create_task(requests.run());
  const std::uint64_t answered = co_await requests_at_rest(served);
  BOOST_TEST(answered > 0u);
  if (!sanitized) {  // fewer fit into the buffers of the kernel
    BOOST_TEST(answered < flood / 2);
    BOOST_TEST(requests.sent < flood);
    BOOST_TEST(resident() <= before + (std::size_t{32} << 20));
  }
  BOOST_TEST(served.counts().most_memory <= std::size_t{1} << 20);
  const std::size_t others = co_await good_client(served.address(), 20, true);
  BOOST_TEST(others == 20u);
  std::size_t good = 0;
  co_await read_answers(stream, flood, good);
  BOOST_TEST(good == flood);
  co_await sending;
  BOOST_TEST(served.counts().most_memory <= std::size_t{1} << 20);
}

// The control: without back-pressure the same clients make the server grow.
Task<> without_marks_the_answers_pile_up() {
  HttpServerOptions options;
  options.marks.high = std::size_t{1} << 40;
  Served served(echo, options);
  Stream stream = co_await raw_client(served.address());
  Flood requests{stream, 200'000};
  co_await requests.run();
  while (served.counts().requests < 200'000)
    co_await iouring::sleep_for(10ms);
  BOOST_TEST(served.counts().most_memory > std::size_t{8} << 20);
}

Task<> who_does_not_read_is_closed() {
  HttpServerOptions options;
  options.write_limit = 30ms;
  Served served(echo, options);
  Stream stream = co_await raw_client(served.address());
  Flood requests{stream, 1'000'000};
  const int error = co_await errno_of(requests.run());
  BOOST_TEST((error == EPIPE || error == ECONNRESET));
  BOOST_TEST(served.counts().timed_out == 1u);
  co_await served.idle();
}

// Resets a connection at some point of its life.
Task<> be_rude(Address address, int how) {
  static const std::string texts[] = {"", "GET / HT", request_text,
                                      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab",
                                      std::string(request_text) + request_text + "GET"};
  Socket socket = co_await iouring::connect(address, 10s);
  co_await socket.send_all(bytes_of(texts[how % 5]));
  if (how % 2)
    co_await iouring::sleep_for(1ms);
  const linger at_once{1, 0};
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  co_await socket.close();
}

Task<> resets_are_nobody_elses() {
  Served served(echo);
  const std::size_t before = open_descriptors();
  auto good = iouring::create_task(good_client(served.address(), 100, true));
  std::vector<Task<>> rude;
  for (int i = 0; i < 500; ++i)
    rude.push_back(be_rude(served.address(), i));
  co_await iouring::gather(std::move(rude));
  const std::size_t answered = co_await good;
  BOOST_TEST(answered == 100u);
  co_await served.idle();
  BOOST_TEST(served.counts().lost > 0u);
  BOOST_TEST(served.counts().memory == 0u);
  BOOST_TEST(open_descriptors() == before);
}

Task<> bodies_in_work_have_a_common_bound() {
  HttpServerOptions options;
  options.limits.body = std::size_t{1} << 20;
  options.memory = std::size_t{4} << 20;
  Served served(echo, options);
  std::vector<Task<std::string>> greedy;
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
  for (int i = 0; i < 20; ++i)
    greedy.push_back(drip(served.address(), post, std::string(50'000, 'x')));
  // The last byte of some never comes: they hold what they have until the limit of time.
  const auto words = co_await iouring::timeout(20s, iouring::gather(std::move(greedy)));
  std::size_t refused = 0;
  for (const std::string& text : words)
    refused += text.starts_with("HTTP/1.1 503 ");
  BOOST_TEST(refused > 0u);
  BOOST_TEST(served.counts().most_memory <= (std::size_t{4} << 20) + (std::size_t{2} << 20));
  const std::size_t good = co_await good_client(served.address(), 5, false);
  BOOST_TEST(good == 5u);
}

Task<> descriptors_that_run_out_end_no_server() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  Served served(echo);
  const rlim_t few = open_descriptors() + 40;
  const rlimit lower{few, limit.rlim_max};
  std::vector<Stream> idle;
  ::setrlimit(RLIMIT_NOFILE, &lower);
  int error = 0;
  try {
    for (;;) {
      Stream one = co_await raw_client(served.address());
      idle.push_back(std::move(one));
      co_await settle();
    }
  } catch (const std::system_error& failure) {
    error = failure.code().value();
  }
  idle.pop_back();
  idle.pop_back();
  co_await iouring::sleep_for(50ms);
  const std::size_t good = co_await good_client(served.address(), 3, false);
  ::setrlimit(RLIMIT_NOFILE, &limit);
  BOOST_TEST(error == EMFILE);
  BOOST_TEST(good == 3u);
}

}  // namespace script
}  // namespace

BOOST_AUTO_TEST_SUITE(an_http_server)

BOOST_DATA_TEST_CASE(slow_heads_hold_no_connection_for_long, on_all_drivers, driver) {
  run_io(driver, script::slow_heads_hold_no_connection_for_long);
}

BOOST_DATA_TEST_CASE(slow_clients_are_told_and_closed, on_all_drivers, driver) {
  run_io(driver, script::slow_clients_are_told_and_closed);
}

BOOST_DATA_TEST_CASE(heads_without_end_are_refused, on_all_drivers, driver) {
  run_io(driver, script::heads_without_end_are_refused);
}

BOOST_DATA_TEST_CASE(a_million_pipelined_requests_wait_for_their_reader, on_all_drivers, driver) {
  run_io(driver, script::a_million_pipelined_requests_wait_for_their_reader);
}

BOOST_DATA_TEST_CASE(without_marks_the_answers_pile_up, on_all_drivers, driver) {
  run_io(driver, script::without_marks_the_answers_pile_up);
}

BOOST_DATA_TEST_CASE(who_does_not_read_is_closed, on_all_drivers, driver) {
  run_io(driver, script::who_does_not_read_is_closed);
}

BOOST_DATA_TEST_CASE(resets_are_nobody_elses, on_all_drivers, driver) {
  run_io(driver, script::resets_are_nobody_elses);
}

BOOST_DATA_TEST_CASE(bodies_in_work_have_a_common_bound, on_all_drivers, driver) {
  run_io(driver, script::bodies_in_work_have_a_common_bound);
}

BOOST_DATA_TEST_CASE(descriptors_that_run_out_end_no_server, on_all_drivers, driver) {
  run_io(driver, script::descriptors_that_run_out_end_no_server);
}

BOOST_AUTO_TEST_SUITE_END()
