#include "lab/harness/wire.hh"

#include <boost/test/unit_test.hpp>

#include <cmath>
#include <cstring>

using namespace schedlab;
using namespace schedlab::harness;

namespace {

Request full_request() {
  Request request;
  request.lab = "switch_cost";
  request.settings = {.preset = Preset::full,
                      .placement = "core:0.pu:1,\"smt\"",
                      .values = {{"size", "0,16K"}, {"mechanism", "pipe"}},
                      .driver = "epoll",
                      .processes = 20};
  request.usable = "0-3,4095";
  request.process = 19;
  request.seed = ~std::uint64_t{0};
  request.budget_s = 1.0 / 3;
  request.operations = {{"pipe/µ", ~std::uint64_t{0}}, {"null", 1}};
  return request;
}

Sample full_sample() {
  Sample sample;
  sample.operations = 123'456'789'012'345'678;
  sample.elapsed_ns = 0.1;
  sample.values = {1e-300, -5e300, 1.0 / 3, 0, -0.0, not_measured, 1e17 + 1, 7};
  sample.proof = {.on_cpu = false,
                  .expected_switches = ~std::uint64_t{0},
                  .counted_switches = 3,
                  .wall_ns = 2.0 / 3,
                  .waited_ns = 0.3,
                  .foreign_ns = -12.5,
                  .steal_ticks = 9,
                  .cpus = {0, 3, 4095}};
  return sample;
}

Reply full_reply() {
  Reply reply;
  Sample plain;
  plain.operations = 1;
  reply.series.resize(3);
  reply.series[0] = {.name = "a \"b\" \\ \n",
                     .operations = 77,
                     .samples = {full_sample(), plain},
                     .checks = {{"pages µ", 1.0 / 3, "none", false}, {"node", "0", 0, true}},
                     .failure = ""};
  reply.series[1] = {
      .name = "b", .operations = 0, .samples = {}, .checks = {}, .failure = "no pipe: µ"};
  reply.rounds_planned = 6;
  reply.rounds_cut = 2;
  reply.clock_pair_ns = 18.25;
  reply.layout = {0x5555'5555'5555, ~std::uint64_t{0}, 1};
  return reply;
}

bool same_bits(double a, double b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

void check_same(const Sample& a, const Sample& b) {
  BOOST_TEST(a.operations == b.operations);
  BOOST_TEST(same_bits(a.elapsed_ns, b.elapsed_ns));
  for (std::size_t i = 0; i < max_metrics; ++i)
    BOOST_TEST((same_bits(a.values[i], b.values[i]) ||
                (std::isnan(a.values[i]) && std::isnan(b.values[i]))));
  BOOST_TEST(a.proof.on_cpu == b.proof.on_cpu);
  BOOST_TEST(a.proof.expected_switches == b.proof.expected_switches);
  BOOST_TEST(a.proof.counted_switches == b.proof.counted_switches);
  BOOST_TEST(same_bits(a.proof.wall_ns, b.proof.wall_ns));
  BOOST_TEST(same_bits(a.proof.waited_ns, b.proof.waited_ns));
  BOOST_TEST((same_bits(a.proof.foreign_ns, b.proof.foreign_ns) ||
              (std::isnan(a.proof.foreign_ns) && std::isnan(b.proof.foreign_ns))));
  BOOST_TEST(a.proof.steal_ticks == b.proof.steal_ticks);
  BOOST_TEST(a.proof.cpus == b.proof.cpus, boost::test_tools::per_element());
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_request_arrives_as_it_was_sent_with_its_clock) {
  const Request sent = full_request();
  const clock::Calibration clock{clock::Source::tsc, 0.3333333333333333, "invariant TSC"};
  clock::Calibration told;
  const Request got = decode_request(encode(sent, clock), told);
  BOOST_TEST(got.lab == sent.lab);
  BOOST_TEST((got.settings.preset == sent.settings.preset));
  BOOST_TEST(got.settings.placement == sent.settings.placement);
  BOOST_TEST((got.settings.values == sent.settings.values));
  BOOST_TEST(got.settings.driver == sent.settings.driver);
  BOOST_TEST(got.settings.processes == sent.settings.processes);
  BOOST_TEST(got.usable == sent.usable);
  BOOST_TEST(got.process == sent.process);
  BOOST_TEST(got.seed == sent.seed);
  BOOST_TEST(same_bits(got.budget_s, sent.budget_s));
  BOOST_TEST((got.operations == sent.operations));
  BOOST_TEST((told.source == clock.source));
  BOOST_TEST(same_bits(told.ns_per_tick, clock.ns_per_tick));
  BOOST_TEST(told.reason == clock.reason);
}

BOOST_AUTO_TEST_CASE(a_reply_arrives_to_the_last_bit_also_what_was_not_measured) {
  const Reply sent = full_reply();
  const Reply got = decode_reply(encode(sent));
  BOOST_TEST_REQUIRE(got.series.size() == sent.series.size());
  for (std::size_t i = 0; i < sent.series.size(); ++i) {
    BOOST_TEST(got.series[i].name == sent.series[i].name);
    BOOST_TEST(got.series[i].operations == sent.series[i].operations);
    BOOST_TEST(got.series[i].failure == sent.series[i].failure);
    BOOST_TEST((got.series[i].checks == sent.series[i].checks));
    BOOST_TEST_REQUIRE(got.series[i].samples.size() == sent.series[i].samples.size());
    for (std::size_t s = 0; s < sent.series[i].samples.size(); ++s)
      check_same(got.series[i].samples[s], sent.series[i].samples[s]);
  }
  BOOST_TEST(got.rounds_planned == sent.rounds_planned);
  BOOST_TEST(got.rounds_cut == sent.rounds_cut);
  BOOST_TEST(same_bits(got.clock_pair_ns, sent.clock_pair_ns));
  BOOST_TEST(got.layout.text == sent.layout.text);
  BOOST_TEST(got.layout.heap == sent.layout.heap);
  BOOST_TEST(got.layout.stack == sent.layout.stack);
}

BOOST_AUTO_TEST_CASE(a_reply_with_an_infinite_time_arrives_as_not_measured) {
  Reply sent = full_reply();
  auto& sample = sent.series[0].samples[0];
  sample.elapsed_ns = sample.values[0] = sample.proof.wall_ns = INFINITY;
  const Reply got = decode_reply(encode(sent));
  const auto& arrived = got.series[0].samples[0];
  BOOST_TEST(std::isnan(arrived.elapsed_ns));
  BOOST_TEST(std::isnan(arrived.values[0]));
  BOOST_TEST(std::isnan(arrived.proof.wall_ns));
}

BOOST_AUTO_TEST_CASE(a_failure_that_is_not_utf8_does_not_lose_the_reply) {
  Reply sent = full_reply();
  sent.series[1].failure = "bad \xff byte";
  BOOST_TEST(decode_reply(encode(sent)).series[1].failure == "bad \xef\xbf\xbd byte");
}

BOOST_AUTO_TEST_CASE(a_reply_that_is_not_whole_is_refused_wherever_it_ends) {
  const std::string whole = encode(full_reply());
  for (std::size_t length = 0; length < whole.size(); ++length)
    BOOST_CHECK_THROW(decode_reply(std::string_view(whole).substr(0, length)), std::runtime_error);
}

BOOST_AUTO_TEST_CASE(a_reply_of_another_shape_is_refused) {
  for (const auto* text : {"null", "[]", "{}", "{\"series\": 3}", "{\"series\": [{}]}",
                           "\"series\"", "{\"series\": []}"})
    BOOST_CHECK_THROW(decode_reply(text), std::runtime_error);
}
