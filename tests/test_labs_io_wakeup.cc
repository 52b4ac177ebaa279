#include "lab/apparatus/drivers.hh"
#include "lab/apparatus/wakeup.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "tests/metric_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>

namespace schedlab::labs {

extern const harness::Lab io_wakeup;

}  // namespace schedlab::labs

using namespace schedlab;
using namespace schedlab::harness;

namespace {

const Lab& lab = labs::io_wakeup;

Settings settings(Preset preset, const std::string& placement = "all",
                  std::map<std::string, std::string> values = {},
                  const std::string& driver = "auto") {
  return {.preset = preset, .placement = placement, .values = std::move(values), .driver = driver};
}

std::vector<std::string> planned(const affinity::Topology& machine, const Settings& how) {
  const auto outcome = plan_lab(lab, machine, how);
  BOOST_TEST(outcome.unsupported == "");
  std::vector<std::string> result;
  for (const auto& series : outcome.plan->series())
    if (series.skip.empty() && !series.floor)
      result.push_back(series.name);
  return result;
}

bool has(const std::vector<std::string>& list, const std::string& name) {
  return std::ranges::find(list, name) != list.end();
}

Series woken(const std::string& mechanism, const std::string& gap_us, const std::string& gap,
             double one_way_ns) {
  Series series;
  series.name = "l3/" + mechanism + "/" + gap;
  series.params = {{"mechanism", mechanism}, {"gap_us", gap_us}};
  series.placement.relation = "l3";
  series.metrics = {metric("one_way", one_way_ns, "ns"),
                    metric("call", {900, 900, 900, 900, 900, 900}, "ns")};
  return series;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_relation_has_every_mechanism_and_only_two_cpus_have_gaps) {
  const auto list = planned(fixture("two_sockets"), settings(Preset::quick));
  for (const auto* relation : {"smt", "l3", "remote"})
    for (const auto* mechanism : {"futex", "eventfd", "pipe", "epoll", "post-epoll"})
      for (const auto* gap : {"0us", "100us", "1ms"}) {
        const auto name = std::string(relation) + "/" + mechanism + "/" + gap;
        BOOST_TEST(has(list, name), name);
      }
  for (const auto* relation : {"same-pu", "unpinned"}) {
    BOOST_TEST(has(list, std::string(relation) + "/futex/0us"), relation);
    BOOST_TEST(!has(list, std::string(relation) + "/futex/100us"), relation);
  }
}

BOOST_AUTO_TEST_CASE(one_cpu_has_wake_ups_without_a_gap) {
  const auto one = fixture("one_cpu");
  const auto list = planned(one, settings(Preset::quick));
  BOOST_TEST(has(list, "same-pu/eventfd/0us"));
  const auto gaps = plan_lab(lab, one, settings(Preset::quick, "same-pu", {{"gap_us", "100"}}));
  BOOST_TEST_REQUIRE(gaps.plan->find("same-pu"));
  BOOST_TEST(gaps.plan->find("same-pu")->skip.find("add gap_us=0") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_driver_that_was_not_asked_for_is_skipped_with_what_it_is_made_of) {
  const auto machine = synthetic("core:2 pu:1");
  const auto outcome = plan_lab(lab, machine, settings(Preset::quick, "same-pu", {}, "epoll"));
  for (const auto* mechanism : {"msg_ring", "post-io_uring"}) {
    const auto* series = outcome.plan->find(std::string("same-pu/") + mechanism + "/0us");
    BOOST_TEST_REQUIRE(series);
    BOOST_TEST(series->driver == "io_uring");
    BOOST_TEST(series->skip != "");
  }
  BOOST_TEST(outcome.plan->find("same-pu/post-epoll/0us")->skip == "");
  BOOST_TEST(outcome.plan->find("same-pu/futex/0us")->skip == "");
  BOOST_TEST(outcome.plan->find("same-pu/futex/0us")->driver == "");
}

BOOST_AUTO_TEST_CASE(odd_and_large_machines_plan) {
  for (const auto* name : {"cpuless_node", "nodeless_cpus", "cgroup", "hybrid", "offline"})
    BOOST_TEST(!planned(fixture(name), settings(Preset::quick)).empty(), name);
  for (const auto* machine : {"pack:2 l3:8 core:8 pu:1", "pack:2 l3:12 core:8 pu:2"})
    BOOST_TEST(planned(synthetic(machine), settings(Preset::quick)).size() < 160u, machine);
}

BOOST_AUTO_TEST_CASE(mechanisms_of_the_parameter_are_those_of_the_apparatus) {
  const auto words = lab.params[0].words;
  BOOST_TEST(words.size() == apparatus::wakeup_mechanisms().size());
  for (const auto mechanism : apparatus::wakeup_mechanisms())
    BOOST_TEST((std::ranges::find(words, mechanism) != words.end()), mechanism);
}

BOOST_AUTO_TEST_CASE(the_answer_names_the_quickest_and_where_each_of_two_wins) {
  LabResult result;
  result.series = {woken("futex", "0", "0us", 4000),       woken("eventfd", "0", "0us", 5000),
                   woken("msg_ring", "0", "0us", 4500),    woken("futex", "1000", "1ms", 20000),
                   woken("eventfd", "1000", "1ms", 20000), woken("msg_ring", "1000", "1ms", 24000)};
  const std::string text = lab.answer(Findings(result));
  BOOST_TEST(text.find("goes on 4.00 us [3.92 4.08] after a wake-up by futex, 5.00 us") !=
                 std::string::npos,
             text);
  BOOST_TEST(text.find("After a gap of 1ms it takes 500 %") != std::string::npos, text);
  BOOST_TEST(text.find("90 % [90 90] of eventfd at 0us, and wins at 0us, and loses at 1ms") !=
                 std::string::npos,
             text);
  // Equal ones are not told apart.
  result.series[2] = woken("msg_ring", "0", "0us", 5000);
  result.series[5] = woken("msg_ring", "1000", "1ms", 20000);
  BOOST_TEST(lab.answer(Findings(result)).find("wins") == std::string::npos);
  BOOST_TEST(lab.answer(Findings(LabResult{})) == "No wake-up could be measured.");
}
