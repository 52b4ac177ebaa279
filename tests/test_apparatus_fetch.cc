// The web server that takes its time, and all ways to fetch from it.

#include "lab/apparatus/fetch.hh"

#include "affinity/pin.hh"
#include "lab/apparatus/fetch_server.hh"
#include "tests/iouring_http.hh"
#include "tests/left_behind.hh"

#include <boost/test/data/test_case.hpp>

#include <cmath>
#include <csignal>
#include <ostream>

using namespace schedlab;
using namespace schedlab::testing;
using namespace std::chrono_literals;
using apparatus::FetchMethod;
using apparatus::FetchOptions;
using apparatus::FetchServer;

namespace schedlab::apparatus {
static std::ostream& operator<<(std::ostream& out, FetchMethod method) {
  return out << to_text(method);
}
}  // namespace schedlab::apparatus

namespace {

constexpr FetchMethod methods[] = {FetchMethod::sequential, FetchMethod::threads, FetchMethod::pool,
                                   FetchMethod::tasks};

FetchOptions options_for(const FetchServer& server, FetchMethod method) {
  FetchOptions options;
  options.method = method;
  options.driver = iouring::DriverChoice::epoll;
  options.count = 3;
  options.address = server.address();
  options.host = "localhost";
  options.target = FetchServer::target(1ms, 100);
  options.latency = 1ms;
  options.cpus = affinity::thread_affinity();
  return options;
}

// Did all that the subject proves of itself hold?
bool proven(harness::Subject& subject) {
  return std::ranges::all_of(subject.checks(), &harness::Check::ok);
}

iouring::Task<> ask_for_many_things(const FetchServer& server) {
  iouring::HttpClient client(server.address());
  iouring::HttpRequest request;
  request.target = FetchServer::target(0us, 5);
  const iouring::HttpResponse small = co_await client.send(request);
  BOOST_TEST(small.body == "xxxxx");
  request.target = FetchServer::target(10us, 100'000);
  const iouring::HttpResponse large = co_await client.send(request);
  BOOST_TEST(large.body.size() == 100'000u);
  for (const char* target : {"/", "/1", "/1/2/3", "/-1/5", "/1/x", "/1/99999999999"}) {
    request.target = target;
    const iouring::HttpResponse none = co_await client.send(request);
    BOOST_TEST(none.status == 404, target);
  }
  BOOST_TEST(client.connections() == 1u);
}

}  // namespace

BOOST_DATA_TEST_CASE(the_server_gives_what_is_asked_for, on_all_drivers, driver) {
  const FetchServer server({.driver = driver, .cpu = affinity::current_cpu()});
  run_io(driver, [&server] { return ask_for_many_things(server); });
}

BOOST_AUTO_TEST_CASE(the_server_goes_with_its_object) {
  const auto before = belongings();
  pid_t pid = -1;
  {
    const FetchServer server({});
    pid = server.pid();
    BOOST_TEST(::kill(pid, 0) == 0);
  }
  BOOST_TEST(::kill(pid, 0) == -1);
  BOOST_TEST(belongings() == before);
}

BOOST_AUTO_TEST_CASE(a_server_that_cannot_run_says_why) {
  std::string reason;
  try {
    const FetchServer server({.cpu = 1'000'000});
  } catch (const Unsupported& unsupported) {
    reason = unsupported.what();
  }
  BOOST_TEST(count_of(reason, "the web server of this lab cannot run: ") == 1u);
  BOOST_TEST(reason.size() > 45u);
}

BOOST_DATA_TEST_CASE(every_method_fetches_all, methods, method) {
  const FetchServer server({});
  const auto subject = apparatus::make_fetch(options_for(server, method));
  const harness::Sample sample = subject->sample(4);
  BOOST_TEST(sample.operations == 4u);
  BOOST_TEST(sample.values[0] > 1e6);  // a batch cannot be faster than the server
  BOOST_TEST(sample.values[1] > 1.0);
  BOOST_TEST(sample.values[2] >= 0.0);
  BOOST_TEST(std::isnan(sample.values[3]) == (method != FetchMethod::tasks));
  BOOST_TEST(std::isnan(sample.values[4]));
  BOOST_TEST(proven(*subject));
}

BOOST_DATA_TEST_CASE(a_refused_port_is_a_result, methods, method) {
  const FetchServer server({});
  const apparatus::RefusedPort nobody;
  auto options = options_for(server, method);
  options.also = nobody.address();
  const auto subject = apparatus::make_fetch(options);
  for (int i = 0; i < 2; ++i)
    BOOST_TEST(subject->sample(2).values[4] == 1.0);
  BOOST_TEST(proven(*subject));
}

BOOST_DATA_TEST_CASE(a_refusal_that_does_not_come_is_seen, methods, method) {
  const FetchServer server({});
  auto options = options_for(server, method);
  options.also = server.address();
  const auto subject = apparatus::make_fetch(options);
  BOOST_TEST(subject->sample(1).values[4] == 0.0);
  BOOST_TEST(!proven(*subject));
}

BOOST_DATA_TEST_CASE(another_status_is_seen_unless_all_will_do, methods, method) {
  const FetchServer server({});
  auto options = options_for(server, method);
  options.target = "/nothing";
  options.latency = {};
  const auto subject = apparatus::make_fetch(options);
  subject->sample(1);
  BOOST_TEST(!proven(*subject));
  options.expected = 0;
  const auto any = apparatus::make_fetch(options);
  any->sample(1);
  BOOST_TEST(proven(*any));
}

BOOST_DATA_TEST_CASE(a_stranger_that_refuses_all_is_a_result, methods, method) {
  const FetchServer server({});
  const apparatus::RefusedPort nobody;
  auto options = options_for(server, method);
  options.address = nobody.address();
  options.expected = 0;
  const auto subject = apparatus::make_fetch(options);
  BOOST_TEST(subject->sample(2).values[4] == 3.0);
  BOOST_TEST(proven(*subject));
}

BOOST_DATA_TEST_CASE(a_server_that_is_gone_is_seen, methods, method) {
  std::unique_ptr<harness::Subject> subject;
  {
    const FetchServer server({});
    subject = apparatus::make_fetch(options_for(server, method));
    subject->sample(1);
    BOOST_TEST(proven(*subject));
  }
  subject->sample(1);
  BOOST_TEST(!proven(*subject));
}

BOOST_DATA_TEST_CASE(sleepers_begin_together_or_one_after_the_other, on_all_drivers, driver) {
  for (const bool together : {true, false}) {
    apparatus::SleepOrderOptions options;
    options.driver = driver;
    options.together = together;
    options.latency = 1ms;
    options.cpus = affinity::thread_affinity();
    const auto subject = apparatus::make_sleep_order(options);
    const harness::Sample sample = subject->sample(2);
    BOOST_TEST(sample.values[1] > (together ? 1.0 : 3.0));
    BOOST_TEST(proven(*subject));
  }
}

BOOST_AUTO_TEST_CASE(another_order_of_the_words_is_seen) {
  using Words = std::vector<apparatus::SleeperWord>;
  const Words together = {{0, false}, {1, false}, {0, true}, {1, true}};
  const Words apart = {{0, false}, {0, true}, {1, false}, {1, true}};
  const Words swapped = {{0, false}, {1, false}, {1, true}, {0, true}};
  BOOST_TEST(apparatus::in_order(together, 2, true));
  BOOST_TEST(apparatus::in_order(apart, 2, false));
  BOOST_TEST(!apparatus::in_order(apart, 2, true));
  BOOST_TEST(!apparatus::in_order(together, 2, false));
  BOOST_TEST(!apparatus::in_order(swapped, 2, true));
  BOOST_TEST(!apparatus::in_order(Words(3), 2, true));
}
