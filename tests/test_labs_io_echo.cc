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

const Lab& lab() {
  return **std::ranges::find(all_labs(), "io_echo", &Lab::name);
}

struct Numbers {
  double throughput = 300'000;
  double cpu = 3000;
  double busy = 0.99;
};

// A plan on a machine that is not there, and what comes of replies made up for it.
struct World {
  affinity::Topology topology;
  PlanOutcome outcome;

  explicit World(const std::string& shape, const std::string& driver = "auto",
                 const std::map<std::string, std::string>& values = {})
      : topology(synthetic(shape)),
        outcome(plan_lab(
            lab(), topology,
            {.preset = Preset::quick, .values = values, .driver = driver, .processes = 6})) {}

  [[nodiscard]] const Plan& plan() const { return *outcome.plan; }

  using Cost = std::function<Numbers(const std::string& method, int connections)>;
  [[nodiscard]] LabResult measured(const Cost& cost) const {
    std::vector<Reply> replies(6);
    for (unsigned process = 0; process < replies.size(); ++process)
      for (const auto& series : plan().series()) {
        RawSeries raw{
            .name = series.name, .operations = 0, .samples = {}, .checks = {}, .failure = {}};
        // Also what this machine's kernel refuses: the numbers are made up.
        if (series.params.size() == 2 && series.relation == "l3")
          raw.samples = {sample(cost(series.params[0].second, std::stoi(series.params[1].second)),
                                process, series.cpus)};
        replies[process].series.push_back(std::move(raw));
      }
    LabResult result = blank_result(lab());
    result.series = merge(plan(), replies);
    lab().conclude(plan(), result);
    return result;
  }

  static Sample sample(const Numbers& numbers, unsigned process,
                       const std::vector<unsigned>& cpus) {
    Sample sample;
    sample.operations = 1000;
    sample.elapsed_ns = 1e6;
    sample.proof.wall_ns = 1e6;
    sample.proof.cpus = cpus;
    const double blur = 1 + 0.001 * process;
    sample.values = {numbers.throughput * blur,
                     numbers.cpu * blur,
                     numbers.busy,
                     1,
                     1e4,
                     2e4,
                     4096,
                     not_measured};
    return sample;
  }
};

const std::string machine = "pack:1 numa:1 l3:1(size=32MiB) core:2 pu:1";

// A loop costs the same at any number of connections, threads ever more.
Numbers loop_wins_later(const std::string& method, int connections) {
  if (method == "threads")
    return {100'000, connections == 1 ? 2500.0 : 5000.0 + connections, 0.99};
  return {300'000, method == "epoll" ? 4000.0 : 3000.0, 0.99};
}

Judgement judged(std::string_view id, const World::Cost& cost) {
  const World world(machine, "epoll");
  const LabResult result = world.measured(cost);
  const auto claim = std::ranges::find(lab().claims, id, &ClaimInfo::id);
  return claim->judge(Findings(result));
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_method_meets_every_number_of_connections) {
  const World world(machine, "epoll");
  for (const auto* method : {"epoll", "threads"})
    for (const auto* connections : {"1", "4", "32", "128"}) {
      const auto* series = world.plan().find(std::string("l3/") + method + "/" + connections);
      BOOST_TEST_REQUIRE(series);
      BOOST_TEST(series->skip == "");
      BOOST_TEST_REQUIRE(series->cpus.size() == 2u);
      BOOST_TEST(series->cpus[0] != series->cpus[1]);
      BOOST_TEST(series->driver == (std::string(method) == "epoll" ? "epoll" : ""));
    }
  BOOST_TEST(world.plan().find("l3/io_uring/1")->skip == "--driver epoll");
}

BOOST_AUTO_TEST_CASE(one_cpu_is_a_skip_with_the_reason) {
  const World world("pack:1 core:1 pu:1");
  BOOST_TEST(world.outcome.unsupported.starts_with("needs 2 CPUs"), world.outcome.unsupported);
}

BOOST_AUTO_TEST_CASE(the_client_never_shares_the_servers_cpu) {
  const World world("pack:2 numa:1 l3:1(size=32MiB) core:4 pu:2");
  for (const auto& series : world.plan().series())
    if (series.skip.empty())
      BOOST_TEST(series.cpus.at(0) != series.cpus.at(1), series.name);
  BOOST_TEST(world.plan().find("same-pu")->skip ==
             "the client never sleeps and would take the server's CPU; two CPUs are needed");
  for (const auto* relation : {"smt", "l3", "remote"})
    BOOST_TEST(world.plan().find(std::string(relation) + "/threads/128"), relation);
}

BOOST_AUTO_TEST_CASE(wrong_values_are_refused) {
  for (const auto& [name, value] : std::map<std::string, std::string>{
           {"connections", "0"}, {"connections", "many"}, {"size", "7"}, {"method", "poll"}})
    BOOST_CHECK_THROW(check_value(lab(), name, value), BadInput);
}

BOOST_AUTO_TEST_CASE(a_series_with_an_idle_server_is_marked) {
  const World world(machine, "epoll");
  const LabResult result = world.measured([](const std::string& method, int) {
    return Numbers{1000, 1000, method == "threads" ? 0.94 : 0.96};
  });
  for (const auto& series : result.series) {
    const bool marked =
        std::ranges::find(series.warnings, "CLIENT_BOUND", &Warning::code) != series.warnings.end();
    BOOST_TEST(marked == series.name.starts_with("l3/threads/"), series.name);
  }
}

BOOST_AUTO_TEST_CASE(the_answer_names_where_the_methods_cross) {
  const World world(machine, "epoll");
  const std::string text = lab().answer(Findings(world.measured(loop_wins_later)));
  BOOST_TEST(text.find("epoll takes less CPU than threads from connection count ") !=
                 std::string::npos,
             text);
}

BOOST_AUTO_TEST_CASE(the_answer_says_when_the_loop_never_wins) {
  const World world(machine, "epoll");
  const std::string text = lab().answer(Findings(world.measured([](const std::string& method, int) {
    return Numbers{1000, method == "threads" ? 1000.0 : 2000.0, 0.99};
  })));
  BOOST_TEST(text.find("epoll takes less CPU than threads at no connection count from 1 to 128") !=
                 std::string::npos,
             text);
}

BOOST_AUTO_TEST_CASE(throughput_is_confirmed_where_the_loop_is_cheaper) {
  const Judgement judgement = judged("C24", loop_wins_later);
  BOOST_TEST((judgement.verdict == Verdict::confirmed));
  BOOST_TEST(judgement.needs == "");
  BOOST_TEST(judgement.evidence.find("128 connections") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(throughput_is_refuted_where_threads_are_cheaper) {
  const auto cost = [](const std::string& method, int) {
    return Numbers{1000, method == "threads" ? 1000.0 : 1100.0, 0.99};
  };
  BOOST_TEST((judged("C24", cost).verdict == Verdict::refuted));
}

BOOST_AUTO_TEST_CASE(throughput_is_open_where_the_methods_are_alike) {
  const auto cost = [](const std::string&, int) { return Numbers{1000, 1000.0, 0.99}; };
  const Judgement judgement = judged("C24", cost);
  BOOST_TEST((judgement.verdict == Verdict::inconclusive));
  BOOST_TEST(judgement.needs != "");
}

BOOST_AUTO_TEST_CASE(saturation_needs_a_busy_server_and_thousands_of_messages) {
  const auto with = [](double throughput, double busy) {
    return judged("C85",
                  [=](const std::string&, int) {
                    return Numbers{throughput, 1000, busy};
                  })
        .verdict;
  };
  BOOST_TEST((with(300'000, 0.99) == Verdict::confirmed));
  BOOST_TEST((with(300'000, 0.50) == Verdict::inconclusive));
  BOOST_TEST((with(500, 0.99) == Verdict::refuted));
}
