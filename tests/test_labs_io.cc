#include "lab/apparatus/crossover.hh"
#include "lab/apparatus/data_file.hh"
#include "lab/base/error.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <functional>

using namespace schedlab;
using namespace schedlab::harness;

namespace {

using Values = std::map<std::string, std::string>;

const Lab& lab(std::string_view name) {
  return **std::ranges::find(all_labs(), name, &Lab::name);
}

PlanOutcome plan_on(std::string_view name, const affinity::Topology& topology,
                    const Values& values = {}, const std::string& driver = "auto") {
  return plan_lab(lab(name), topology,
                  {.preset = Preset::quick,
                   .placement = "all",
                   .values = values,
                   .driver = driver,
                   .processes = 6});
}

std::string skip_of(const PlanOutcome& outcome, std::string_view series) {
  const SeriesPlan* const found = outcome.plan->find(series);
  return found ? found->skip : "no such series";
}

// What a series measured: the values of its metrics, by index.
using Reading = std::function<std::vector<double>(const SeriesPlan&)>;

LabResult measured(const Plan& plan, const Reading& reading) {
  std::vector<Reply> replies(6);
  for (unsigned process = 0; process < replies.size(); ++process)
    for (const auto& series : plan.series()) {
      RawSeries raw{
          .name = series.name, .operations = 0, .samples = {}, .checks = {}, .failure = {}};
      Sample sample;
      sample.elapsed_ns = sample.proof.wall_ns = 1e6;
      const auto values = reading(series);
      for (std::size_t i = 0; i < values.size(); ++i)
        sample.values[i] = values[i] * (1 + 0.001 * process);
      if (!values.empty())
        raw.samples = {sample};
      replies[process].series.push_back(std::move(raw));
    }
  LabResult result = blank_result(plan.lab());
  result.series = merge(plan, replies);
  if (plan.lab().conclude)
    plan.lab().conclude(plan, result);
  return result;
}

std::string param(const SeriesPlan& series, std::string_view name) {
  for (const auto& [key, value] : series.params)
    if (key == name)
      return value;
  return "";
}

const ClaimInfo& claim(std::string_view id) {
  return *std::ranges::find(lab("io_file").claims, id, &ClaimInfo::id);
}

// io_file, in which an arm does `rate` reads a second at a depth, and a read takes `cpu` ns.
LabResult file_result(const std::function<double(const std::string& arm, int depth)>& rate,
                      double cpu_of_ring = 1000, double device = 1) {
  const auto topology = synthetic("core:2 pu:1");
  const auto outcome = plan_on("io_file", topology);
  return measured(*outcome.plan, [&](const SeriesPlan& series) -> std::vector<double> {
    const std::string arm = param(series, "arm");
    const double reads = rate(arm, std::stoi(param(series, "depth")));
    if (reads <= 0)
      return {};
    const bool direct = param(series, "mode") == "direct";
    const double cpu = !direct ? 1e9 / reads : arm == "io_uring" ? cpu_of_ring : 2000;
    return {reads, cpu, 1e9 / reads, 1e9 / reads, 1, 0, direct ? device : 0};
  });
}

double flat(const std::string& arm, int) {
  return arm == "sync" ? 1e6 : 9e5;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_arm_has_every_depth_but_those_that_do_one_at_a_time) {
  const auto topology = synthetic("pack:2 numa:1 core:4 pu:2");
  const auto outcome = plan_on("io_file", topology);
  for (const auto* mode : {"cached", "direct"}) {
    const auto head = std::string(mode) + "/random/read/";
    BOOST_TEST(outcome.plan->find(head + "sync"), head);
    for (const auto* arm : {"threads", "epoll", "io_uring", "fixed", "sqpoll"})
      for (const auto* depth : {"1", "4", "32", "128"})
        BOOST_TEST(outcome.plan->find(head + arm + "/" + depth), head << arm);
  }
  BOOST_TEST(skip_of(outcome, "cached/random/read/nowait") == "");
  BOOST_TEST(skip_of(outcome, "direct/random/read/nowait") ==
             "RWF_NOWAIT reads only what is cached");
}

BOOST_AUTO_TEST_CASE(with_one_cpu_nobody_polls) {
  const auto topology = synthetic("pu:1");
  for (const auto* name : {"io_file", "io_submit"}) {
    const auto outcome = plan_on(name, topology);
    std::size_t polling = 0;
    for (const auto& series : outcome.plan->series())
      if (param(series, "arm") == "sqpoll") {
        BOOST_TEST(!series.skip.empty(), series.name);
        ++polling;
      } else {
        BOOST_TEST(series.cpus == std::vector<unsigned>{0}, boost::test_tools::per_element());
      }
    BOOST_TEST(polling > 0u);
  }
}

BOOST_AUTO_TEST_CASE(the_polling_thread_is_planned_on_another_core) {
  const auto topology = synthetic("core:4 pu:2");
  const auto outcome = plan_on("io_submit", topology);
  const SeriesPlan* const series = outcome.plan->find("nop/sqpoll/32");
  BOOST_TEST_REQUIRE(series);
  BOOST_TEST(param(*series, "polling") == "2");
}

BOOST_AUTO_TEST_CASE(a_driver_that_was_not_asked_for_is_skipped) {
  const auto topology = synthetic("core:2 pu:1");
  const auto file = plan_on("io_file", topology, {}, "epoll");
  BOOST_TEST(skip_of(file, "cached/random/read/fixed/4") == "--driver epoll");
  BOOST_TEST(skip_of(file, "cached/random/read/epoll/4") == "");
  BOOST_TEST(skip_of(file, "cached/random/read/threads/4") == "");
  const auto submit = plan_on("io_submit", topology, {}, "epoll");
  BOOST_TEST(skip_of(submit, "nop/loop/1") == "--driver epoll");
  BOOST_TEST(skip_of(submit, "nop/call") == "");
  BOOST_TEST(skip_of(submit, "read/epoll/1") == "");
}

BOOST_AUTO_TEST_CASE(bad_values_are_refused_by_name) {
  const auto topology = synthetic("core:2 pu:1");
  BOOST_CHECK_EXCEPTION(plan_on("io_file", topology, {{"size", "3M"}}), BadInput,
                        says("io_file.size: 3145728 is not a power of two"));
  BOOST_CHECK_EXCEPTION(plan_on("io_file", topology, {{"dir", "/no/such"}}), BadInput,
                        says("io_file.dir: '/no/such'"));
  BOOST_CHECK_EXCEPTION(plan_on("io_submit", topology, {{"dir", "/no/such"}}), BadInput,
                        says("io_submit.dir: '/no/such'"));
  BOOST_CHECK_EXCEPTION(check_value(lab("io_file"), "dir", ""), BadInput,
                        says("a text of at least one character"));
  BOOST_CHECK_EXCEPTION(check_value(lab("io_file"), "depth", "0"), BadInput, says("'0' is not"));
  check_value(lab("io_file"), "dir", "/var/tmp");
}

BOOST_AUTO_TEST_CASE(a_file_larger_than_the_room_there_is_skipped) {
  const auto topology = synthetic("core:2 pu:1");
  const auto outcome = plan_on("io_file", topology, {{"size", "1024G"}});
  if (apparatus::no_room(apparatus::data_folder("auto", "dir"), std::uint64_t{1} << 40).empty())
    return;  // a machine with terabytes
  BOOST_TEST(outcome.plan->runnable() == 0u);
  BOOST_TEST(skip_of(outcome, "cached/random/read/sync").find("more than half") !=
             std::string::npos);
}

BOOST_AUTO_TEST_CASE(where_the_ring_begins_to_win_is_found_between_the_depths) {
  const auto result = file_result([](const std::string& arm, int depth) {
    return arm == "io_uring" ? 1e6 * depth / 8.0 : flat(arm, depth);
  });
  const Findings findings(result);
  const std::vector<apparatus::Rung> rungs = {
      {1, "cached/random/read/io_uring/1", "cached/random/read/sync"},
      {4, "cached/random/read/io_uring/4", "cached/random/read/sync"},
      {32, "cached/random/read/io_uring/32", "cached/random/read/sync"}};
  const auto found = apparatus::find_crossover(findings, rungs, "rate", Better::higher);
  BOOST_TEST_REQUIRE(found.has_value());
  BOOST_TEST(found->from.value == 8, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(apparatus::text_of(*found, "depth") == "from depth 8 [8, 8] on");
  const auto reversed = apparatus::find_crossover(findings, rungs, "rate", Better::lower);
  BOOST_TEST(reversed->nowhere());
  BOOST_TEST(apparatus::text_of(*reversed, "depth") == "at no depth from 1 to 32");
  const auto small =
      apparatus::find_crossover(findings, std::span(rungs).first(2), "rate", Better::higher);
  BOOST_TEST(small->nowhere());
  const auto large =
      apparatus::find_crossover(findings, std::span(rungs).last(1), "rate", Better::higher);
  BOOST_TEST(apparatus::text_of(*large, "depth") == "at depth 32");
  BOOST_TEST(!apparatus::find_crossover(findings, {}, "rate", Better::higher));
  BOOST_TEST(!apparatus::find_crossover(findings, rungs, "none", Better::higher));
}

BOOST_AUTO_TEST_CASE(a_crossover_that_some_processes_do_not_see_says_so) {
  apparatus::Crossover crossover{{12, Interval{3, 256, 0.97, "order statistics"}}, 1, 128};
  BOOST_TEST(apparatus::text_of(crossover, "batch") == "from batch 12 [3, beyond 128] on");
  crossover.from = {0.5, Interval{0.5, 2, 0.97, "order statistics"}};
  BOOST_TEST(apparatus::text_of(crossover, "batch") == "from batch below 1 [below 1, 2] on");
  crossover.from = {311'415, Interval{999.4, 9'996'000, 0.97, "order statistics"}};
  crossover.last = 1e7;
  BOOST_TEST(apparatus::text_of(crossover, "N") == "from N 311000 [999, 10000000] on");
  crossover.from = {2e7, Interval{0.5, 2e7, 0.97, "order statistics"}};
  BOOST_TEST(apparatus::text_of(crossover, "N") ==
             "from an unknown N on (anywhere from 1 to 10000000)");
}

BOOST_AUTO_TEST_CASE(threads_for_fast_input_is_refuted_where_the_ring_wins_and_confirmed_else) {
  const auto judge = claim("C92").judge;
  const auto ring_wins = file_result([](const std::string& arm, int depth) {
    return arm == "io_uring" && depth >= 32 ? 1.2e6 : flat(arm, depth);
  });
  BOOST_TEST((judge(Findings(ring_wins)).verdict == Verdict::refuted));
  const auto threads_win = file_result([](const std::string& arm, int depth) {
    return arm == "threads" ? 1.5e6 : flat(arm, depth);
  });
  BOOST_TEST((judge(Findings(threads_win)).verdict == Verdict::confirmed));
  const auto equal = file_result([](const std::string&, int) { return 1e6; });
  BOOST_TEST((judge(Findings(equal)).verdict == Verdict::inconclusive));
  const auto no_ring = file_result(
      [](const std::string& arm, int depth) { return arm == "io_uring" ? 0 : flat(arm, depth); });
  const Judgement none = judge(Findings(no_ring));
  BOOST_TEST((none.verdict == Verdict::inconclusive));
  BOOST_TEST(!none.needs.empty());
}

BOOST_AUTO_TEST_CASE(minimal_overhead_is_refuted_by_a_dearer_read_and_else_left_to_others) {
  const auto judge = claim("C72").judge;
  BOOST_TEST((judge(Findings(file_result(flat, 3000))).verdict == Verdict::refuted));
  const auto cheaper = file_result(flat, 1000);
  const Judgement open = judge(Findings(cheaper));
  BOOST_TEST((open.verdict == Verdict::inconclusive));
  BOOST_TEST(open.needs.find("spawn_cost") != std::string::npos);
  BOOST_TEST(open.evidence.find("50 % [50 50] at depth 1,") != std::string::npos, open.evidence);
}

BOOST_AUTO_TEST_CASE(the_answer_says_whether_o_direct_is_real) {
  const auto answer = lab("io_file").answer;
  const auto real = file_result(flat);
  BOOST_TEST(answer(Findings(real)).find("O_DIRECT is real on ") != std::string::npos,
             answer(Findings(real)));
  const auto fake = file_result(flat, 1000, 0);
  BOOST_TEST(answer(Findings(fake)).find("O_DIRECT is not real on ") != std::string::npos);
  const auto find_param = [](const LabResult& result, const std::string& name) {
    const auto* series = Findings(result).series(name);
    for (const auto& [key, value] : series->params)
      if (key == "direct")
        return *value.text();
    return std::string();
  };
  BOOST_TEST(find_param(real, "direct/random/read/sync") == "real");
  BOOST_TEST(find_param(fake, "direct/random/read/sync") == "not real");
  BOOST_TEST(find_param(real, "cached/random/read/sync") == "");
}

BOOST_AUTO_TEST_CASE(the_answer_of_io_submit_has_the_price_of_driver_and_loop) {
  const auto topology = synthetic("core:2 pu:1");
  const auto outcome = plan_on("io_submit", topology);
  const auto result = measured(*outcome.plan, [](const SeriesPlan& series) -> std::vector<double> {
    const std::string arm = param(series, "arm");
    if (arm == "call")
      return {200, 200, 1, 1};
    const double batch = std::stod(param(series, "batch"));
    const double price = arm == "ring" ? 40 : arm == "driver" ? 60 : 100;
    return {200 / batch + price, 200 / batch + price, 1 / batch, batch};
  });
  const std::string text = lab("io_submit").answer(Findings(result));
  BOOST_TEST(text.find("the driver adds 20.1 ns") != std::string::npos, text);
  BOOST_TEST(text.find("a coroutine in the loop adds 40.1 ns") != std::string::npos, text);
  BOOST_TEST(text.find("the ring is cheaper from batch ") != std::string::npos, text);
}
