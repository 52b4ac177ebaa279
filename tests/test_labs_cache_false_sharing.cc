#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <functional>

using namespace schedlab;
using namespace schedlab::harness;

namespace {

using Values = std::map<std::string, std::string>;

const Lab& lab() {
  return *find_lab("cache_false_sharing");
}

PlanOutcome plan_on(const affinity::Topology& topology, const Values& values = {},
                    const std::string& place = "all") {
  return plan_lab(lab(), topology,
                  {.preset = Preset::quick, .placement = place, .values = values, .processes = 6});
}

// A result in which an increment takes what `ns` says.
LabResult measured(const Plan& plan, const std::function<double(const SeriesPlan&)>& ns) {
  std::vector<Reply> replies(6);
  for (unsigned process = 0; process < replies.size(); ++process)
    for (const auto& series : plan.series()) {
      RawSeries raw{
          .name = series.name, .operations = 0, .samples = {}, .checks = {}, .failure = {}};
      if (series.skip.empty()) {
        Sample sample;
        sample.elapsed_ns = sample.proof.wall_ns = 1e6;
        sample.values[0] = ns(series) * (1 + 0.001 * process);
        raw.samples = {sample};
      }
      replies[process].series.push_back(std::move(raw));
    }
  LabResult result = blank_result(lab());
  result.series = merge(plan, replies);
  lab().conclude(plan, result);
  return result;
}

std::int64_t distance_of(const SeriesPlan& series) {
  return std::stoll(series.name.substr(series.name.rfind('/') + 1));
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_class_has_every_distance_and_its_control) {
  const auto topology = synthetic("pack:2 numa:1 l3:1(size=32MiB) core:4 pu:2");
  const auto outcome = plan_on(topology);
  for (const auto* relation : {"smt", "l3", "remote"})
    for (const auto* how : {"plain", "locked"})
      for (const auto* distance : {"8", "64", "512", "16384"}) {
        const auto name = std::string(relation) + "/" + how + "/" + distance;
        BOOST_TEST(outcome.plan->find(name), name);
      }
  BOOST_TEST(outcome.plan->runnable() == 3u * 2u * 8u);
}

BOOST_AUTO_TEST_CASE(two_tasks_on_one_cpu_share_nothing_falsely) {
  const auto topology = synthetic("core:2 pu:1");
  const auto outcome = plan_on(topology, {}, "same-pu");
  BOOST_TEST(outcome.plan->runnable() == 0u);
  BOOST_TEST(plan_on(synthetic("pu:1")).unsupported == "needs 2 CPUs; 1 usable here");
}

BOOST_AUTO_TEST_CASE(a_distance_that_splits_a_counter_is_refused) {
  const auto topology = synthetic("core:2 pu:1");
  BOOST_CHECK_EXCEPTION(plan_on(topology, {{"distance", "8,60"}}), BadInput,
                        says("60 is not a multiple of 8"));
  BOOST_CHECK_EXCEPTION(check_value(lab(), "distance", "0"), BadInput, says("'0' is not"));
}

BOOST_AUTO_TEST_CASE(the_control_is_measured_once_also_when_it_is_asked_for) {
  const auto topology = synthetic("core:2 pu:1");
  const auto outcome = plan_on(topology, {{"distance", "8,16K"}, {"increment", "plain"}});
  BOOST_TEST(outcome.plan->runnable() == 2u);
}

BOOST_AUTO_TEST_CASE(the_slowdown_is_against_the_control_of_the_same_process) {
  const auto topology = synthetic("core:2 pu:1");
  const auto outcome = plan_on(topology);
  const LabResult result = measured(*outcome.plan, [](const SeriesPlan& series) {
    return distance_of(series) < 64 ? 12.0 : 4.0;
  });
  const Findings findings(result);
  const auto& head = result.series.front().name.substr(0, result.series.front().name.find('/'));
  BOOST_TEST(*findings.metric(head + "/plain/8", "slowdown")->median == 3.0,
             boost::test_tools::tolerance(1e-9));
  BOOST_TEST(*findings.metric(head + "/plain/64", "slowdown")->median == 1.0,
             boost::test_tools::tolerance(1e-9));
  BOOST_TEST(!findings.metric(head + "/plain/16384", "slowdown"));
}

BOOST_AUTO_TEST_CASE(the_answer_says_from_where_on_it_is_free) {
  const auto topology = synthetic("core:2 pu:1");
  const auto outcome = plan_on(topology, {{"increment", "plain"}});
  const auto text = [&](std::int64_t shared_below) {
    const LabResult result = measured(*outcome.plan, [&](const SeriesPlan& series) {
      return distance_of(series) < shared_below ? 12.0 : 4.0;
    });
    return lab().answer(Findings(result));
  };
  BOOST_TEST(text(64).find("nothing from 64 B on") != std::string::npos, text(64));
  BOOST_TEST(text(128).find("nothing from 128 B on") != std::string::npos, text(128));
  BOOST_TEST(text(128).find("128 B take 33 %") != std::string::npos, text(128));
  BOOST_TEST(text(1024).find("512 B do not suffice") != std::string::npos, text(1024));
  BOOST_TEST(text(8).find("no distance can be told") != std::string::npos, text(8));
}

// What the subject proves of itself, on this machine.
BOOST_AUTO_TEST_SUITE(here, *boost::unit_test::precondition(two_cpus))

namespace {

// Loaded once: a sample leaves this thread pinned.
const affinity::Topology& machine() {
  static const auto topology = affinity::Topology::machine();
  return topology;
}

}  // namespace

BOOST_AUTO_TEST_CASE(whether_the_counters_share_a_line_is_proven_by_their_addresses) {
  const auto outcome = plan_on(machine(), {{"distance", "8,56,64,128"}});
  std::size_t sharing = 0, apart = 0;
  for (const auto& series : outcome.plan->series()) {
    if (!series.skip.empty())
      continue;
    const auto subject = series.make();
    // A partner that is kept from running shares nothing: that sample has no value.
    Sample sample = subject->sample(10'000);
    for (int tries = 0; std::isnan(sample.values[0]) && tries < 100; ++tries)
      sample = subject->sample(10'000);
    BOOST_TEST(sample.operations == 10'000u);
    BOOST_TEST(sample.values[0] > 0);
    BOOST_TEST(sample.values[2] > 0);
    BOOST_TEST(sample.values[2] < 1);
    const auto checks = subject->checks();
    BOOST_TEST(checks.size() == 3u);
    for (const auto& check : checks)
      BOOST_TEST(check.ok, series.name << ": " << check.name);
    (*checks.at(1).seen.text() == "yes" ? sharing : apart) += 1;
  }
  BOOST_TEST(sharing >= 4u);
  BOOST_TEST(apart >= 4u);
}

BOOST_AUTO_TEST_CASE(a_single_increment_is_a_sample_too) {
  const auto outcome = plan_on(machine());
  const auto series = std::ranges::find(outcome.plan->series(), "", &SeriesPlan::skip);
  BOOST_TEST_REQUIRE((series != outcome.plan->series().end()));
  const auto subject = series->make();
  BOOST_TEST(subject->sample(1).operations == 1u);
  for (const auto& check : subject->checks())
    BOOST_TEST(check.ok, check.name);
}

BOOST_AUTO_TEST_SUITE_END()
