// The HTTP client and server with each other, and with peers that speak in bytes; the same on all
// drivers.

#include "iouring/http.hh"

#include "iouring/acceptor.hh"
#include "tests/iouring_http.hh"

#include <boost/test/data/test_case.hpp>

#include <memory>
#include <optional>

using namespace schedlab;
using namespace schedlab::testing;
using namespace std::chrono_literals;
using iouring::Address;
using iouring::HttpClient;
using iouring::HttpClientOptions;
using iouring::HttpError;
using iouring::HttpFault;
using iouring::HttpPieces;
using iouring::HttpRequest;
using iouring::HttpResponse;
using iouring::HttpServerOptions;
using iouring::HttpUrl;
using iouring::Stream;
using iouring::Task;

namespace {
namespace script {

// The fault that a task throws, if it throws one.
template <typename T>
Task<std::optional<HttpFault>> fault_of(Task<T> task) {
  std::optional<HttpFault> fault;
  try {
    co_await std::move(task);
  } catch (const HttpError& error) {
    fault = error.fault();
  }
  co_return fault;
}

template <typename T>
Task<std::string> text_of_failure(Task<T> task) {
  std::string text;
  try {
    co_await std::move(task);
  } catch (const std::exception& error) {
    text = error.what();
  }
  co_return text;
}

Task<> join(iouring::Running<HttpResponse> running) {
  co_await std::move(running);
}

HttpRequest request_for(std::string method, std::string target, std::string body = {}) {
  HttpRequest request;
  request.method = std::move(method);
  request.target = std::move(target);
  request.body = std::move(body);
  return request;
}

struct PieceList {
  std::vector<std::string> pieces;
  std::size_t next = 0;
  Task<std::string> take() {
    co_await iouring::yield();
    co_return next < pieces.size() ? pieces[next++] : std::string();
  }
};
HttpPieces pieces_of(std::vector<std::string> pieces) {
  const auto list = std::make_shared<PieceList>(PieceList{std::move(pieces), 0});
  return [list] { return list->take(); };
}

Task<> one_connection_carries_many_requests() {
  Served served(echo);
  HttpClient client(served.address());
  const HttpResponse got = co_await client.send(request_for("GET", "/a"));
  BOOST_TEST(got.status == 200);
  BOOST_TEST(got.reason == "OK");
  BOOST_TEST(got.body == "GET /a ");
  BOOST_TEST(got.headers.find("date"));
  const std::string large = pattern(900'000);
  const HttpResponse posted = co_await client.send(request_for("POST", "/b", large));
  BOOST_TEST((posted.body == "POST /b " + large));
  const HttpResponse head = co_await client.send(request_for("HEAD", "/c"));
  BOOST_TEST(head.body.empty());
  BOOST_TEST(*head.headers.find("Content-Length") == "8");
  BOOST_TEST(client.connections() == 1u);
  BOOST_TEST(served.counts().requests == 3u);
  HttpRequest last = request_for("GET", "/d");
  last.keep_alive = false;
  const HttpResponse closed = co_await client.send(std::move(last));
  BOOST_TEST(!closed.keep_alive);
  BOOST_TEST(!client.connected());
  co_await served.idle();
}

Task<HttpResponse> in_pieces(HttpRequest request) {
  HttpResponse response;
  response.status = request.target == "/none" ? 204 : 200;
  response.pieces = pieces_of({"got ", request.body, " in pieces"});
  co_return response;
}

Task<> bodies_go_in_chunks_both_ways() {
  Served served(in_pieces);
  HttpClient client(served.address());
  HttpRequest request = request_for("POST", "/");
  request.pieces = pieces_of({"one", "two", std::string(100'000, 'x')});
  const HttpResponse response = co_await client.send(std::move(request));
  BOOST_TEST((response.body == "got onetwo" + std::string(100'000, 'x') + " in pieces"));
  BOOST_TEST(*response.headers.find("Transfer-Encoding") == "chunked");
  BOOST_TEST(!response.headers.find("Content-Length"));
  const HttpResponse none = co_await client.send(request_for("GET", "/none"));
  BOOST_TEST(none.status == 204);
  const HttpResponse again = co_await client.send(request_for("GET", "/"));
  BOOST_TEST(again.body == "got ");  // an empty piece ends the body
  BOOST_TEST(client.connections() == 1u);
  // A peer of HTTP/1.0 knows no chunks.
  const std::string old =
      co_await raw_exchange(served.address(), "POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx");
  BOOST_TEST(old.ends_with("\r\n\r\ngot x in pieces"));
  BOOST_TEST(count_of(old, "chunked") == 0u);
}

Task<> answers_come_in_the_order_of_the_requests() {
  Served served(echo);
  HttpClient client(served.address());
  std::vector<HttpRequest> requests;
  for (int i = 0; i < 300; ++i)
    requests.push_back(request_for(i % 7 == 0 ? "HEAD" : "GET", "/" + std::to_string(i)));
  const std::vector<HttpResponse> responses = co_await client.send_all(std::move(requests));
  BOOST_TEST_REQUIRE(responses.size() == 300u);
  for (int i = 0; i < 300; ++i)
    BOOST_TEST(responses[static_cast<std::size_t>(i)].body ==
               (i % 7 == 0 ? "" : "GET /" + std::to_string(i) + " "));
  BOOST_TEST(client.connections() == 1u);
}

Task<> old_peers_are_served() {
  Served served(echo);
  const Address& at = served.address();
  const std::string once = co_await raw_exchange(at, "GET /a HTTP/1.0\r\n\r\n");
  BOOST_TEST(once.ends_with("GET /a "));
  BOOST_TEST(count_of(once, "Connection: close") == 1u);
  const std::string kept = co_await raw_exchange(
      at, "GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n");
  BOOST_TEST(count_of(kept, "Connection: keep-alive") == 1u);
  BOOST_TEST(kept.ends_with("GET /b "));
}

Task<> a_body_is_asked_for_only_if_it_may_come() {
  HttpServerOptions options;
  options.limits.body = 1000;
  Served served(echo, options);
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
  Stream stream = co_await raw_client(served.address());
  stream.write(head + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  const std::string asked = co_await stream.read_until("\r\n\r\n");
  BOOST_TEST(asked == "HTTP/1.1 100 Continue\r\n\r\n");
  stream.write("abc");
  const std::string answer = co_await stream.read_all(10'000);
  BOOST_TEST(answer.ends_with("POST / abc"));

  const std::string at_once = co_await raw_exchange(
      served.address(), head + "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc");
  BOOST_TEST(at_once.starts_with("HTTP/1.1 200 OK\r\n"));
  const std::string large = co_await raw_exchange(
      served.address(), head + "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
  BOOST_TEST(large.starts_with("HTTP/1.1 413 "));
  const std::string other = co_await raw_exchange(
      served.address(), head + "Expect: a-miracle\r\nContent-Length: 3\r\n\r\nabc");
  BOOST_TEST(other.starts_with("HTTP/1.1 417 "));
  BOOST_TEST(served.counts().requests == 2u);
  BOOST_TEST(served.counts().refused == 2u);

  HttpClient client(served.address());
  HttpRequest small = request_for("POST", "/", "xyz");
  small.headers.add("Expect", "100-continue");
  const HttpResponse taken = co_await client.send(std::move(small));
  BOOST_TEST(taken.body == "POST / xyz");
  HttpRequest too_large = request_for("POST", "/", std::string(1001, 'x'));
  too_large.headers.add("Expect", "100-continue");
  const HttpResponse refused = co_await client.send(std::move(too_large));
  BOOST_TEST(refused.status == 413);
  BOOST_TEST(!client.connected());
}

Task<> a_refused_body_does_not_hide_the_answer() {
  HttpServerOptions options;
  options.limits.body = 1000;
  Served served(echo, options);
  HttpClient client(served.address());
  const HttpResponse response = co_await client.send(request_for("POST", "/", pattern(700'000)));
  BOOST_TEST(response.status == 413);
  BOOST_TEST(!response.keep_alive);
  const HttpResponse next = co_await client.send(request_for("GET", "/"));
  BOOST_TEST(next.status == 200);
  BOOST_TEST(client.connections() == 2u);
}

Task<HttpResponse> fail_in_many_ways(HttpRequest request) {
  HttpResponse response;
  if (request.target == "/throws")
    throw std::runtime_error("not today");
  if (request.target == "/status")
    response.status = 7;
  if (request.target == "/reason")
    response.reason = "a\r\nSet-Cookie: b";
  if (request.target == "/fields")
    response.headers = {{"Content-Length", "7"}, {"Transfer-Encoding", "x"}, {"X-Own", "y"}};
  response.body = "body";
  co_return response;
}

Task<> a_handler_that_fails_is_500_and_nobody_elses() {
  Served served(fail_in_many_ways);
  HttpClient client(served.address());
  for (const char* target : {"/throws", "/status", "/reason"}) {
    const HttpResponse response = co_await client.send(request_for("GET", target));
    BOOST_TEST(response.status == 500, target);
  }
  const HttpResponse fields = co_await client.send(request_for("GET", "/fields"));
  BOOST_TEST(fields.body == "body");
  BOOST_TEST(fields.headers.find("x-own"));
  BOOST_TEST(served.counts().failed == 3u);
  BOOST_TEST(client.connections() == 1u);
}

Task<> a_connection_ends_after_its_requests() {
  HttpServerOptions options;
  options.requests = 3;
  Served served(echo, options);
  HttpClient client(served.address());
  for (int i = 0; i < 7; ++i) {
    const HttpResponse response = co_await client.send(request_for("GET", "/"));
    BOOST_TEST(response.keep_alive == (i % 3 != 2));
  }
  BOOST_TEST(client.connections() == 3u);
}

Task<> a_request_that_only_asks_is_sent_again() {
  HttpServerOptions options;
  options.idle_limit = 5ms;
  Served served(echo, options);
  HttpClient client(served.address());
  co_await client.send(request_for("GET", "/"));
  co_await served.idle();
  const HttpResponse again = co_await client.send(request_for("GET", "/again"));
  BOOST_TEST(again.body == "GET /again ");
  BOOST_TEST(client.connections() == 2u);
  co_await served.idle();
  // One that does something is not: nobody knows whether it was done.
  const int error = co_await errno_of(client.send(request_for("GET", "/")));
  BOOST_TEST(error == 0);
  co_await served.idle();
  bool failed = false;
  try {
    co_await client.send(request_for("POST", "/", "x"));
  } catch (const HttpError& failure) {
    failed = failure.fault() == HttpFault::incomplete;
  } catch (const std::system_error& failure) {
    failed = failure.code().value() == ECONNRESET || failure.code().value() == EPIPE;
  }
  BOOST_TEST(failed);
  BOOST_TEST(!client.connected());
}

// A server of bytes: answers the first request with `answer`, and waits for the client's end.
Task<> answer_in_bytes(const iouring::Listener& listener, std::string answer, bool closes) {
  iouring::Acceptor acceptor(listener);
  for (;;) {
    Stream stream(co_await acceptor.next());
    co_await stream.read_until("\r\n\r\n");
    stream.write(answer);
    if (closes)
      co_await stream.write_eof();
    co_await errno_of(stream.read_all(1'000'000));
  }
}

struct Strange {
  const char* answer;
  bool closes;
  HttpFault fault;
};

Task<> a_strange_server_is_a_clear_error() {
  const Strange strange[] = {
      {"", true, HttpFault::incomplete},
      {"", false, HttpFault::timed_out},
      {"HTTP/1.1 200 OK\r\nContent-Le", false, HttpFault::timed_out},
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", true, HttpFault::incomplete},
      {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", false, HttpFault::timed_out},
      {"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", false, HttpFault::body_too_large},
      {"HTTP/1.1 101 Switching Protocols\r\n\r\n", false, HttpFault::malformed},
      {"220 mail ready\r\n\r\n", false, HttpFault::unknown_version},
  };
  for (const Strange& one : strange) {
    const iouring::Listener listener(Address(":0"));
    auto running = iouring::create_task(answer_in_bytes(listener, one.answer, one.closes));
    HttpClientOptions options;
    options.limits.body = 1000;
    options.head_limit = options.body_limit = 20ms;
    HttpClient client(listener.address(), options);
    const auto fault = co_await fault_of(client.send(request_for("GET", "/")));
    BOOST_TEST_REQUIRE(fault.has_value(), one.answer);
    BOOST_TEST((*fault == one.fault), one.answer);
    BOOST_TEST(!client.connected());
  }
}

Task<> an_answer_to_nothing_is_nobodys() {
  const std::string one = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none";
  const iouring::Listener listener(Address(":0"));
  auto running = iouring::create_task(answer_in_bytes(listener, one + one, false));
  HttpClient client(listener.address());
  co_await client.send(request_for("GET", "/"));
  BOOST_TEST(client.connected());
  co_await client.send(request_for("GET", "/"));
  BOOST_TEST(client.connections() == 2u);
  std::vector<HttpRequest> requests(1);
  const std::vector<HttpResponse> responses = co_await client.send_all(std::move(requests));
  BOOST_TEST(responses.size() == 1u);
  BOOST_TEST(client.connections() == 3u);
}

Task<> a_refused_port_is_a_clear_error() {
  const schedlab::testing::Listener nobody(false);
  const Address address(reinterpret_cast<const sockaddr*>(&nobody.address), sizeof nobody.address);
  HttpClient client(address);
  const int refused = co_await errno_of(client.send(request_for("GET", "/")));
  BOOST_TEST(refused == ECONNREFUSED);
  const std::string text =
      co_await text_of_failure(iouring::http_get("http://" + address.text() + "/"));
  BOOST_TEST(count_of(text, "Connection refused") == 1u);
  BOOST_TEST(count_of(text, address.text()) == 1u);
}

Task<> others_are_refused(HttpClient& client) {
  int busy = co_await errno_of(client.send(request_for("GET", "/")));
  BOOST_TEST(busy == EBUSY);
  busy = co_await errno_of(client.connect());
  BOOST_TEST(busy == EBUSY);
  busy = co_await errno_of(client.close());
  BOOST_TEST(busy == EBUSY);
}

Task<> one_task_at_a_time() {
  Served served(echo);
  HttpClient client(served.address());
  auto first = iouring::create_task(client.send(request_for("GET", "/1")));
  co_await iouring::yield();
  co_await others_are_refused(client);  // while it connects
  const HttpResponse response = co_await first;
  BOOST_TEST(response.body == "GET /1 ");
  auto second = iouring::create_task(client.send(request_for("GET", "/2")));
  co_await iouring::yield();
  co_await others_are_refused(client);  // while it waits on a kept connection
  const HttpResponse next = co_await second;
  BOOST_TEST(next.body == "GET /2 ");
  BOOST_TEST(client.connections() == 1u);
  co_await client.close();
  BOOST_TEST(!client.connected());
  co_await client.close();
  co_await client.connect();
  co_await client.connect();
  BOOST_TEST(client.connections() == 2u);
}

Task<> limits_may_be_without_end() {
  constexpr auto endless = std::chrono::nanoseconds::max();
  HttpServerOptions options;
  options.idle_limit = options.head_limit = options.body_limit = options.write_limit = endless;
  Served served(echo, options);
  HttpClientOptions ours;
  ours.connect_limit = ours.head_limit = ours.body_limit = ours.continue_limit = endless;
  HttpClient client(served.address(), ours);
  HttpRequest request = request_for("POST", "/", pattern(300'000));
  request.headers.add("Expect", "100-continue");
  const HttpResponse response = co_await client.send(std::move(request));
  BOOST_TEST((response.body == "POST / " + pattern(300'000)));
}

Task<HttpResponse> answer_late(HttpRequest) {
  co_await iouring::sleep_for(1h);
  co_return HttpResponse();
}

Task<> a_cancelled_request_closes_its_connection_and_a_cancelled_server_all() {
  Served served(answer_late);
  HttpClient client(served.address());
  auto asking = iouring::create_task(client.send(request_for("GET", "/")));
  while (served.counts().open == 0)
    co_await iouring::sleep_for(1ms);
  asking.cancel();
  const bool cancelled = co_await is_cancelled(join(std::move(asking)));
  BOOST_TEST(cancelled);
  BOOST_TEST(!client.connected());
  Stream idle = co_await raw_client(served.address());
  co_await settle();
  co_await served.stop();
  BOOST_TEST(served.counts().open == 0u);
  BOOST_TEST(served.counts().memory == 0u);
  const std::string end = co_await idle.read_all(100);
  BOOST_TEST(end.empty());
}

}  // namespace script
}  // namespace

BOOST_AUTO_TEST_SUITE(http)

BOOST_DATA_TEST_CASE(one_connection_carries_many_requests, on_all_drivers, driver) {
  run_io(driver, script::one_connection_carries_many_requests);
}
BOOST_DATA_TEST_CASE(bodies_go_in_chunks_both_ways, on_all_drivers, driver) {
  run_io(driver, script::bodies_go_in_chunks_both_ways);
}
BOOST_DATA_TEST_CASE(answers_come_in_the_order_of_the_requests, on_all_drivers, driver) {
  run_io(driver, script::answers_come_in_the_order_of_the_requests);
}
BOOST_DATA_TEST_CASE(old_peers_are_served, on_all_drivers, driver) {
  run_io(driver, script::old_peers_are_served);
}
BOOST_DATA_TEST_CASE(a_body_is_asked_for_only_if_it_may_come, on_all_drivers, driver) {
  run_io(driver, script::a_body_is_asked_for_only_if_it_may_come);
}
BOOST_DATA_TEST_CASE(a_refused_body_does_not_hide_the_answer, on_all_drivers, driver) {
  run_io(driver, script::a_refused_body_does_not_hide_the_answer);
}
BOOST_DATA_TEST_CASE(a_handler_that_fails_is_500_and_nobody_elses, on_all_drivers, driver) {
  run_io(driver, script::a_handler_that_fails_is_500_and_nobody_elses);
}
BOOST_DATA_TEST_CASE(a_connection_ends_after_its_requests, on_all_drivers, driver) {
  run_io(driver, script::a_connection_ends_after_its_requests);
}
BOOST_DATA_TEST_CASE(a_request_that_only_asks_is_sent_again, on_all_drivers, driver) {
  run_io(driver, script::a_request_that_only_asks_is_sent_again);
}
BOOST_DATA_TEST_CASE(a_strange_server_is_a_clear_error, on_all_drivers, driver) {
  run_io(driver, script::a_strange_server_is_a_clear_error);
}
BOOST_DATA_TEST_CASE(a_refused_port_is_a_clear_error, on_all_drivers, driver) {
  run_io(driver, script::a_refused_port_is_a_clear_error);
}
BOOST_DATA_TEST_CASE(one_task_at_a_time, on_all_drivers, driver) {
  run_io(driver, script::one_task_at_a_time);
}
BOOST_DATA_TEST_CASE(limits_may_be_without_end, on_all_drivers, driver) {
  run_io(driver, script::limits_may_be_without_end);
}
BOOST_DATA_TEST_CASE(an_answer_to_nothing_is_nobodys, on_all_drivers, driver) {
  run_io(driver, script::an_answer_to_nothing_is_nobodys);
}
BOOST_DATA_TEST_CASE(a_cancelled_request_closes_its_connection_and_a_cancelled_server_all,
                     on_all_drivers, driver) {
  run_io(driver, script::a_cancelled_request_closes_its_connection_and_a_cancelled_server_all);
}

BOOST_DATA_TEST_CASE(a_server_listens_on_the_loopback_unless_told_otherwise, on_all_drivers,
                     driver) {
  iouring::Loop loop(on(driver));
  const iouring::HttpServer server(echo);
  BOOST_TEST(server.address().text().starts_with("127.0.0.1:"));
}

BOOST_AUTO_TEST_CASE(a_url_is_taken_apart_or_refused) {
  const HttpUrl url("HTTP://127.0.0.1:8080/a/b?c=d#e");
  BOOST_TEST(url.address.text() == "127.0.0.1:8080");
  BOOST_TEST(url.host == "127.0.0.1:8080");
  BOOST_TEST(url.target == "/a/b?c=d");
  BOOST_TEST(HttpUrl("http://localhost").address.port() == 80);
  BOOST_TEST(HttpUrl("http://localhost").target == "/");
  BOOST_TEST(HttpUrl("http://localhost?x").target == "/?x");
  BOOST_TEST(HttpUrl("http://[::1]:81/").address.port() == 81);
  BOOST_TEST(HttpUrl("http://[::1]/").address.port() == 80);
  for (const char* text : {"", "127.0.0.1:80", "https://127.0.0.1/", "http://", "http:///a",
                           "http://user@127.0.0.1/", "http://example.org/", "http://:80/",
                           "http://127.0.0.1:70000/", "http://*:80/", "http://unix:/a"})
    BOOST_CHECK_THROW(HttpUrl{text}, BadInput);
}

BOOST_AUTO_TEST_SUITE_END()
