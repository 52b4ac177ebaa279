// What io_fetch plans on machines of all kinds, and what its claims make of numbers.

#include "lab/apparatus/fetch.hh"
#include "lab/apparatus/fetch_surface.hh"
#include "lab/apparatus/verdicts.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "tests/metric_fixtures.hh"
#include "tests/plan_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>
#include <cmath>

namespace schedlab::labs {

extern const harness::Lab io_fetch;

}  // namespace schedlab::labs

using namespace schedlab;
using namespace schedlab::harness;

namespace {

const Lab& lab = labs::io_fetch;

std::unique_ptr<Plan> planned(const affinity::Topology& machine, Preset preset,
                              std::map<std::string, std::string> values = {},
                              const std::string& driver = "epoll") {
  auto outcome = plan_lab(
      lab, machine,
      {.preset = preset, .placement = "all", .values = std::move(values), .driver = driver});
  BOOST_TEST(outcome.unsupported == "");
  return std::move(outcome.plan);
}

using Medians = std::vector<double>;

Series fetched(const std::string& row, int count, const std::string& method, double batch,
               double cpu = 10e3) {
  Series series;
  series.name = apparatus::fetch_cell(row, count, method);
  if (method == "io_uring" || method == "epoll")
    series.driver = method;
  series.params = {{"latency_us", row == "5ms" ? "5000" : "0"}, {"fetches", std::to_string(count)}};
  series.metrics = {metric("batch", about(batch)), metric("cpu", about(cpu)),
                    metric("latencies", about(batch / 5e6))};
  return series;
}

Judgement judged(std::string_view id, std::vector<Series> series) {
  LabResult result;
  result.series = std::move(series);
  const auto claim = std::ranges::find(lab.claims, id, &ClaimInfo::id);
  BOOST_TEST_REQUIRE((claim != lab.claims.end()));
  return claim->judge(Findings(result));
}

// 64 fetches at once of 5 ms: coroutines, new threads, a pool.
std::vector<Series> corner(double tasks, double threads, double pool, double cpu = 10e3) {
  return {fetched("5ms", 64, "io_uring", tasks, cpu), fetched("5ms", 64, "threads", threads),
          fetched("5ms", 64, "pool", pool)};
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_server_has_a_cpu_of_its_own_where_there_are_two) {
  const auto one = synthetic("pu:1");
  const auto on_one = planned(one, Preset::smoke);
  for (const auto& series : on_one->series()) {
    BOOST_TEST(param_text(series, "server_cpu") == "0");
    BOOST_TEST(param_text(series, "fetching_cpus") == "0");
  }
  const auto many = synthetic("package:2 core:64 pu:1");
  const auto on_many = planned(many, Preset::smoke);
  for (const auto& series : on_many->series()) {
    BOOST_TEST(param_text(series, "server_cpu") == "127");
    BOOST_TEST(param_text(series, "fetching_cpus") == "0-126");
  }
}

BOOST_AUTO_TEST_CASE(a_sum_that_takes_too_long_and_a_driver_not_asked_for_are_skipped) {
  const auto machine = synthetic("core:2 pu:1");
  const auto plan = planned(machine, Preset::quick);
  BOOST_TEST(plan->find("5ms/64/sequential")->skip == "one after the other would take 320 ms");
  BOOST_TEST(plan->find("1ms/8/sequential")->skip == "");
  BOOST_TEST(plan->find("5ms/64/threads")->skip == "");
  BOOST_TEST(plan->find("5ms/64/io_uring")->skip == "--driver epoll");
  BOOST_TEST(plan->find("5ms/64/epoll")->driver == "epoll");
  BOOST_TEST(plan->find("sleep/gather/epoll")->skip == "");
  BOOST_TEST(plan->find("three/threads"));
}

BOOST_AUTO_TEST_CASE(a_url_is_fetched_instead) {
  const auto machine = synthetic("core:2 pu:1");
  const auto plan =
      planned(machine, Preset::quick, {{"url", "http://127.0.0.1:8080/a"}, {"fetches", "2"}});
  BOOST_TEST(plan->series().size() == 5u);
  BOOST_TEST(plan->find("url/2/threads"));
  for (const char* url : {"ftp://127.0.0.1/", "https://127.0.0.1/", "http://example.org/"})
    BOOST_CHECK_THROW(planned(machine, Preset::quick, {{"url", url}}), BadInput);
}

BOOST_AUTO_TEST_CASE(the_surface_has_a_row_for_each_latency_and_a_hole_where_one_is_missing) {
  LabResult result;
  result.series = {fetched("5ms", 8, "epoll", 5e6),   fetched("0", 1, "epoll", 20e3),
                   fetched("0", 8, "epoll", 40e3),    fetched("5ms", 8, "threads", 10e6),
                   fetched("0", 8, "threads", 160e3), fetched("0", 1, "pool", 1)};
  const Findings findings(result);
  BOOST_TEST(apparatus::measured_driver(findings) == "epoll");
  const auto surface = apparatus::fetch_surface(findings, "epoll", "threads");
  BOOST_TEST_REQUIRE(surface.has_value());
  BOOST_TEST(surface->rows == (std::vector<std::string>{"0", "5ms"}),
             boost::test_tools::per_element());
  BOOST_TEST(surface->columns == (std::vector<std::string>{"1", "8"}),
             boost::test_tools::per_element());
  BOOST_TEST(std::isnan(surface->values[0][0]));
  BOOST_TEST(surface->values[0][1] == 0.25, boost::test_tools::tolerance(0.01));
  BOOST_TEST(surface->values[1][1] == 0.5, boost::test_tools::tolerance(0.01));
  BOOST_TEST(!apparatus::fetch_surface(findings, "epoll", "processes").has_value());
}

BOOST_AUTO_TEST_CASE(slow_io_is_for_coroutines_if_they_beat_both_kinds_of_threads) {
  BOOST_TEST((judged("C93", corner(5e6, 8e6, 7e6)).verdict == Verdict::confirmed));
  // At equal time the CPU decides.
  BOOST_TEST((judged("C93", corner(5e6, 5e6, 5e6, 5e3)).verdict == Verdict::confirmed));
  BOOST_TEST((judged("C93", corner(5e6, 5e6, 5e6, 20e3)).verdict == Verdict::refuted));
  BOOST_TEST((judged("C93", corner(5e6, 8e6, 4e6)).verdict == Verdict::refuted));
  BOOST_TEST((judged("C93", corner(5e6, 5e6, 5e6)).verdict == Verdict::inconclusive));
  // Fast I/O says nothing of slow.
  BOOST_TEST(
      (judged("C93", {fetched("0", 64, "io_uring", 1), fetched("0", 64, "threads", 9)}).verdict ==
       Verdict::inconclusive));
  BOOST_TEST((judged("C93", {}).verdict == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(threads_fetch_faster_if_they_do) {
  const auto both = [](double threads, double sequential) {
    return judged("C15", {fetched("5ms", 8, "threads", threads),
                          fetched("5ms", 8, "sequential", sequential)})
        .verdict;
  };
  BOOST_TEST((both(5e6, 40e6) == Verdict::confirmed));
  BOOST_TEST((both(40e6, 40e6) == Verdict::refuted));
  BOOST_TEST((both(33e6, 40e6) == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(three_urls_take_one_latency_and_tell_of_every_refusal) {
  const auto three = [](double latencies, double refused, std::string_view failing = "") {
    Series series;
    series.name = "three/threads";
    if (!failing.empty()) {
      series.status = Status::invalid;
      series.checks = {{std::string(failing), 6, 5, false}};
    }
    series.metrics = {metric("latencies", about(latencies)),
                      metric("refused", Medians(6, refused))};
    return judged("C62", {series}).verdict;
  };
  BOOST_TEST((three(1.05, 1) == Verdict::confirmed));
  BOOST_TEST((three(3.05, 1) == Verdict::refuted));
  BOOST_TEST((three(1.05, 0) == Verdict::refuted));
  BOOST_TEST((three(1.05, 1, apparatus::refused_check) == Verdict::refuted));
  BOOST_TEST((three(1.05, 1, "other failures") == Verdict::inconclusive));
  BOOST_TEST((three(2, 1) == Verdict::inconclusive));
  BOOST_TEST((judged("C62", {}).verdict == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(gather_takes_one_sleep_in_the_right_order_on_every_driver) {
  const auto sleeps = [](double uring, double epoll, bool ordered = true) {
    Series first, second;
    first.name = "sleep/gather/io_uring";
    first.metrics = {metric("latencies", about(uring))};
    second.name = "sleep/gather/epoll";
    second.status = ordered ? Status::ok : Status::invalid;
    second.checks = {{std::string(apparatus::words_check), 6, ordered ? 6 : 5, ordered}};
    second.metrics = {metric("latencies", about(epoll))};
    return judged("C70", {first, second}).verdict;
  };
  BOOST_TEST((sleeps(1.01, 1.02) == Verdict::confirmed));
  BOOST_TEST((sleeps(1.01, 3.02) == Verdict::refuted));
  BOOST_TEST((sleeps(1.01, 1.02, false) == Verdict::refuted));
  BOOST_TEST((sleeps(1.01, 2) == Verdict::inconclusive));
}
