#include "affinity/pin.hh"
#include "lab/apparatus/channel_load.hh"
#include "lab/apparatus/channel_verdicts.hh"
#include "lab/apparatus/queue_join.hh"
#include "lab/apparatus/ring_stream.hh"
#include "lab/apparatus/shared_state.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"
#include "tests/left_behind.hh"
#include "tests/metric_fixtures.hh"
#include "tests/sanitized.hh"
#include "tests/task_kind.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>

using namespace schedlab;
using namespace schedlab::harness;
using apparatus::TaskKind;
namespace bdata = boost::unit_test::data;

namespace {

const Lab& lab(std::string_view name) {
  return **std::ranges::find(all_labs(), name, &Lab::name);
}

using Values = std::map<std::string, std::string>;

PlanOutcome plan_on(std::string_view name, const affinity::Topology& topology,
                    const std::string& place = "all", const Values& values = {}) {
  return plan_lab(lab(name), topology,
                  {.preset = Preset::quick,
                   .placement = place,
                   .values = values,
                   .driver = "auto",
                   .processes = 6});
}

// A metric with this median in six processes that differ by `spread`, every second one upward.
Metric metric_of(const std::string& name, double value, double spread) {
  const double low = value * (1 - spread), high = value * (1 + spread);
  return metric(name, {low, high, low, high, low, high});
}

struct Result {
  explicit Result(std::string_view name) : lab(&::lab(name)), result(blank_result(*lab)) {}

  Result& add(const std::string& name, const std::map<std::string, double>& values,
              const Fields& params = {}, double spread = 0.001) {
    Series series;
    series.name = name;
    series.params = params;
    series.placement.relation = "l3";
    for (const auto& [metric, value] : values)
      series.metrics.push_back(metric_of(metric, value, spread));
    series.checks = {{std::string(apparatus::exchange_check), 0, 0, true}};
    result.series.push_back(series);
    return *this;
  }
  [[nodiscard]] Verdict verdict(std::string_view id) const {
    const auto claim = std::ranges::find(lab->claims, id, &ClaimInfo::id);
    const Judgement judgement = claim->judge(Findings(result));
    const bool undecided = judgement.verdict == Verdict::inconclusive;
    BOOST_TEST(undecided == !judgement.needs.empty());
    return judgement.verdict;
  }

  const Lab* lab;
  LabResult result;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(latency)

BOOST_AUTO_TEST_CASE(spinning_is_planned_on_two_cpus_and_gaps_between_them_only) {
  const auto topology = synthetic("pack:2 numa:1 l3:1(size=32MiB) core:4 pu:2");
  const auto outcome = plan_on("ipc_latency", topology);
  for (const auto* relation : {"same-pu", "smt", "l3", "remote", "unpinned"}) {
    const bool two = std::string_view(relation) != "same-pu" && *relation != 'u';
    const auto* pipe = outcome.plan->find(std::string(relation) + "/pipe/processes/8");
    BOOST_TEST_REQUIRE(pipe, relation);
    BOOST_TEST(pipe->skip == "");
    const auto* spin = outcome.plan->find(std::string(relation) + "/ring-spin/threads/8");
    BOOST_TEST_REQUIRE(spin, relation);
    BOOST_TEST(spin->skip.empty() == two);
    const auto* gap = outcome.plan->find(std::string(relation) + "/pipe/threads/8/100us");
    BOOST_TEST((gap != nullptr) == two);
  }
  BOOST_TEST(outcome.plan->find("same-pu/ring-adaptive/threads/8")->skip != "");
}

BOOST_DATA_TEST_CASE(any_machine_has_a_plan,
                     bdata::make({"pu:1", "core:2 pu:1", "pack:2 core:96 pu:2"}) *
                         bdata::make({"ipc_latency", "ipc_throughput"}),
                     machine, name) {
  const auto outcome = plan_on(name, synthetic(machine));
  BOOST_TEST(outcome.unsupported == "");
  BOOST_TEST(outcome.plan->runnable() > 0U);
  BOOST_TEST(outcome.plan->runnable() < 200U);
}

BOOST_AUTO_TEST_CASE(values_out_of_range_are_refused_with_what_is_allowed) {
  BOOST_CHECK_THROW(check_value(lab("ipc_latency"), "size", "7"), BadInput);
  BOOST_CHECK_THROW(check_value(lab("ipc_latency"), "gap_us", "-1"), BadInput);
  BOOST_CHECK_EXCEPTION(check_value(lab("ipc_latency"), "channel", "pigeon"), BadInput,
                        says("pigeon"));
  BOOST_CHECK_THROW(check_value(lab("ipc_throughput"), "write", "101"), BadInput);
  BOOST_CHECK_THROW(check_value(lab("ipc_throughput"), "capacity", "16"), BadInput);
  const auto odd = plan_on("ipc_throughput", synthetic("core:2 pu:1"), "all", {{"items", "1000"}});
  BOOST_TEST(std::ranges::any_of(odd.plan->series(), [](const auto& series) {
    return series.skip.find("power of two") != std::string::npos;
  }));
}

BOOST_AUTO_TEST_CASE(that_only_threads_communicate_cheaply_falls_if_mapped_memory_is_as_fast) {
  const auto measured = [](double processes, double spread = 0.001) {
    return Result("ipc_latency")
        .add("l3/ring-block/threads/8", {{"round_trip", 1000}, {"one_way", 500}})
        .add("l3/ring-block/processes/8", {{"round_trip", processes}}, {}, spread)
        .verdict("C11");
  };
  BOOST_TEST((measured(1010) == Verdict::refuted));
  BOOST_TEST((measured(2000) == Verdict::confirmed));
  BOOST_TEST((measured(1100, 0.2) == Verdict::inconclusive));
  BOOST_TEST((Result("ipc_latency").verdict("C11") == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(ipc_costs_more_if_most_of_its_channels_do) {
  const auto measured = [](double pipe, double mq, double ring, double spread = 0.001) {
    return Result("ipc_latency")
        .add("l3/ring-block/threads/8", {{"round_trip", 1000}, {"one_way", 500}})
        .add("l3/ring-block/processes/8", {{"round_trip", ring}})
        .add("l3/pipe/processes/8", {{"round_trip", pipe}})
        .add("l3/mq/processes/8", {{"round_trip", mq}}, {}, spread)
        .verdict("C21");
  };
  BOOST_TEST((measured(2000, 3000, 1000) == Verdict::confirmed));
  BOOST_TEST((measured(1000, 1010, 2000) == Verdict::refuted));
  BOOST_TEST((measured(2000, 1050, 1000, 0.2) == Verdict::inconclusive));
  BOOST_TEST((Result("ipc_latency").verdict("C21") == Verdict::inconclusive));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(throughput)

Fields stream(const char* channel, double size) {
  return {{"channel", channel}, {"tasks", "processes"}, {"size", size}, {"capacity", 65536}};
}

BOOST_AUTO_TEST_CASE(the_example_of_queue_and_join_falls_where_it_hangs) {
  const auto measured = [](double small, double large, double mended) {
    return Result("ipc_throughput")
        .add(apparatus::queue_join_name(65'000, false), {{"ended", small}})
        .add(apparatus::queue_join_name(66'000, false), {{"ended", large}})
        .add(apparatus::queue_join_name(66'000, true), {{"ended", mended}})
        .verdict("C37");
  };
  BOOST_TEST((measured(1, 0, 1) == Verdict::refuted));
  BOOST_TEST((measured(1, 1, 1) == Verdict::confirmed));
  BOOST_TEST((measured(0, 0, 1) == Verdict::inconclusive));
  BOOST_TEST((Result("ipc_throughput").verdict("C37") == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(an_exchange_is_one_only_if_nothing_is_lost) {
  Result good("ipc_throughput");
  good.add("l3/pipe/processes/8/of-64K", {{"rate", 1e6}, {"p99", 1e5}}, stream("pipe", 8));
  good.add("l3/queue/processes/8/of-64K", {{"rate", 1e5}}, stream("queue", 8));
  BOOST_TEST((good.verdict("C40") == Verdict::confirmed));
  BOOST_TEST((good.verdict("C39") == Verdict::confirmed));
  // That a sample migrated, or the kernel counted other bytes, loses no message.
  Result other = good;
  for (auto& series : other.result.series) {
    series.checks.push_back({"samples that stayed on their CPUs", 9, 8, false});
    series.status = Status::invalid;
  }
  BOOST_TEST((other.verdict("C40") == Verdict::inconclusive));
  BOOST_TEST((other.verdict("C39") == Verdict::inconclusive));
  for (auto& series : good.result.series) {
    series.checks = {{std::string(apparatus::exchange_check), 0, 3, false}};
    series.status = Status::invalid;
  }
  BOOST_TEST((good.verdict("C40") == Verdict::refuted));
  BOOST_TEST((good.verdict("C39") == Verdict::refuted));
  BOOST_TEST((Result("ipc_throughput").verdict("C39") == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(shared_memory_spares_copies_if_it_copies_less_and_carries_more) {
  const auto measured = [](double ring, double copies, double spread = 0.001) {
    Result result("ipc_throughput");
    for (const double size : {8.0, 1048576.0}) {
      const std::string tail = "/processes/" + std::to_string(size);
      result.add("l3/pipe" + tail, {{"rate", 1e6}, {"bytes", 1e9}, {"copies", 2}},
                 stream("pipe", size));
      result.add("l3/ring-adaptive" + tail, {{"rate", 1e6}, {"bytes", ring}, {"copies", copies}},
                 stream("ring-adaptive", size), spread);
    }
    return result.verdict("C41");
  };
  BOOST_TEST((measured(5e9, 0) == Verdict::confirmed));
  BOOST_TEST((measured(5e8, 0) == Verdict::refuted));
  BOOST_TEST((measured(5e9, 2) == Verdict::refuted));
  BOOST_TEST((measured(1e9, 0, 0.2) == Verdict::inconclusive));
  BOOST_TEST((Result("ipc_throughput").verdict("C41") == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(threads_fit_shared_state_if_they_do_more_on_it_than_its_owner) {
  const auto measured = [](double shared, double spread = 0.001) {
    Result result("ipc_throughput");
    for (const std::int64_t write : {0, 10, 50}) {
      const Fields params = {{"write", static_cast<double>(write)}};
      result.add(apparatus::state_name("l3", false, write), {{"rate", shared}}, params, spread);
      result.add(apparatus::state_name("l3", true, write), {{"rate", 1e6}}, params);
    }
    return result.verdict("C95");
  };
  BOOST_TEST((measured(3e6) == Verdict::confirmed));
  BOOST_TEST((measured(3e5) == Verdict::refuted));
  BOOST_TEST((measured(1e6, 0.2) == Verdict::inconclusive));
  BOOST_TEST((Result("ipc_throughput").verdict("C95") == Verdict::inconclusive));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(subjects)

std::vector<std::string> way_names() {
  std::vector<std::string> names;
  for (const auto& way : apparatus::channel_ways())
    names.emplace_back(way.name);
  return names;
}

const auto ways = bdata::make(way_names());
const auto kinds = bdata::make({TaskKind::threads, TaskKind::processes});

// The first two CPUs, or nothing where there are not two and both sides spin, or where a child
// may start no thread.
std::optional<apparatus::ChannelLoadOptions> options_for(const std::string& way, TaskKind kind) {
  apparatus::ChannelLoadOptions options;
  options.way = apparatus::channel_way(way);
  options.kind = kind;
  options.usable = affinity::thread_affinity();
  options.first = options.usable.first();
  options.second = options.usable.cpus().back();
  const bool spins = options.way.patience.spins > 0;
  if ((spins && options.first == options.second) ||
      (testing::thread_sanitizer && way == "queue" && kind == TaskKind::processes))
    return std::nullopt;
  return options;
}

void all_hold(Subject& subject) {
  const auto checks = subject.checks();
  BOOST_TEST(!checks.empty());
  for (const auto& check : checks)
    BOOST_TEST(check.ok, check.name);
}

BOOST_DATA_TEST_CASE(each_channel_answers_each_message, ways* kinds, way, kind) {
  const auto before = testing::belongings();
  if (auto options = options_for(way, kind)) {
    for (const std::int64_t gap_ns : {0, 20'000}) {
      options->gap_ns = gap_ns;
      const auto subject = apparatus::make_channel_rounds(*options, {});
      for (int i = 0; i < 2; ++i) {
        const Sample sample = subject->sample(300);
        for (const auto metric : {0, 1, 2})
          BOOST_TEST(sample.values[static_cast<std::size_t>(metric)] > 0);
        // With a gap most of it would be the spinning of the first task.
        BOOST_TEST(std::isnan(sample.values[apparatus::RoundMetrics{}.cpu]) ==
                   (gap_ns > 0 || way == "queue"));
      }
      all_hold(*subject);
    }
  }
  BOOST_TEST(testing::belongings() == before);
}

BOOST_DATA_TEST_CASE(each_channel_carries_a_stream_and_copies_as_often_as_it_is_built_to,
                     ways* kinds, way, kind) {
  const auto before = testing::belongings();
  if (auto options = options_for(way, kind)) {
    options->size = 4096;
    options->capacity = 65536;
    const auto subject = apparatus::make_channel_stream(*options, {});
    for (int i = 0; i < 2; ++i) {
      const Sample sample = subject->sample(125);
      BOOST_TEST(sample.values[0] > 0);
      // The feeder of a queue may count its last message when the receiver has it already.
      const bool in_place = way.starts_with("ring") && way != "ring-copy";
      const double copies = in_place || way == "eventfd" ? 0 : way == "queue" ? 4 : 2;
      BOOST_TEST(std::abs(sample.values[3] - copies) < 0.1);
    }
    all_hold(*subject);
  }
  BOOST_TEST(testing::belongings() == before);
}

BOOST_DATA_TEST_CASE(words_arrive_in_order_however_they_travel,
                     kinds* bdata::make({1, 16}) * bdata::make({false, true}), kind, batch,
                     sleeps) {
  const auto usable = affinity::thread_affinity();
  if (usable.count() < 2)
    return;
  const auto subject = apparatus::make_ring_stream({.kind = kind,
                                                    .first = usable.first(),
                                                    .second = usable.cpus().back(),
                                                    .usable = usable,
                                                    .items = 64,
                                                    .batch = static_cast<std::size_t>(batch),
                                                    .sleeps = sleeps});
  BOOST_TEST(subject->sample(10).values[0] > 0);
  all_hold(*subject);
}

BOOST_DATA_TEST_CASE(no_increment_of_the_table_is_lost, bdata::make({false, true}), owned) {
  const auto before = testing::belongings();
  {
    apparatus::SharedStateOptions options;
    options.owned = owned;
    options.usable = affinity::thread_affinity();
    options.write_percent = 50;
    const auto subject = apparatus::make_shared_state(options);
    for (int i = 0; i < 3; ++i)
      BOOST_TEST(subject->sample(10'001).values[0] > 0);
    all_hold(*subject);
    BOOST_TEST(*subject->checks()[0].seen.number() > 10'000);
  }
  BOOST_TEST(testing::belongings() == before);
}

BOOST_AUTO_TEST_CASE(the_child_that_put_too_much_ends_only_after_the_parent_got) {
  if (testing::thread_sanitizer)
    return;
  const auto hangs = apparatus::make_queue_join({.bytes = 66'000, .get_first = false});
  BOOST_TEST(hangs->sample(1).values[0] == 0);
  all_hold(*hangs);
  const auto mended = apparatus::make_queue_join({.bytes = 66'000, .get_first = true});
  BOOST_TEST(mended->sample(1).values[0] == 1);
  all_hold(*mended);
}

BOOST_AUTO_TEST_SUITE_END()
