#include "affinity/pin.hh"
#include "lab/apparatus/pool_verdicts.hh"
#include "lab/apparatus/pool_work.hh"
#include "lab/apparatus/process_pool_work.hh"
#include "lab/apparatus/python.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "tests/left_behind.hh"
#include "tests/metric_fixtures.hh"
#include "tests/plan_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <algorithm>

namespace schedlab::labs {

extern const harness::Lab pool_dispatch;

}  // namespace schedlab::labs

using namespace schedlab;
using namespace schedlab::harness;
using namespace schedlab::testing;

namespace {

const Lab& lab = labs::pool_dispatch;

Settings settings(Preset preset, const std::string& placement = "all",
                  std::map<std::string, std::string> values = {}) {
  return {.preset = preset, .placement = placement, .values = std::move(values), .processes = 6};
}

Metric ns(const std::string& name, double value, double spread = 0.01) {
  std::vector<double> medians;
  for (const double share : {-2.0, -1.0, 0.0, 0.0, 1.0, 2.0})
    medians.push_back(value * (1 + spread * share / 2));
  return metric(name, medians, "ns");
}

Series of(const std::string& name, std::vector<Metric> values,
          const std::vector<std::pair<std::string, std::string>>& texts = {}) {
  Series series;
  series.name = name;
  series.metrics = std::move(values);
  for (const auto& [key, value] : texts)
    series.params.emplace_back(key, value);
  if (name.starts_with("trip/"))
    series.placement.relation = name.substr(5, name.find('/', 5) - 5);
  return series;
}

Judgement judged(std::string_view id, const LabResult& result) {
  const auto claim = std::ranges::find(lab.claims, id, &ClaimInfo::id);
  BOOST_TEST_REQUIRE((claim != lab.claims.end()));
  return claim->judge(Findings(result));
}

// Pools of 2, 6 and 64 workers; 6 is Python's.
LabResult sized(double compute_rule, double wait_rule, double spread = 0.01) {
  const std::vector<std::pair<std::string, std::string>> rule = {{"rule", "6"}};
  LabResult result;
  for (const std::string kind : {"compute", "wait"}) {
    result.series.push_back(of("size/" + kind + "/2", {ns("each", 1000, spread)}, rule));
    result.series.push_back(
        of("size/" + kind + "/6",
           {ns("each", 1000 * (kind == "compute" ? compute_rule : wait_rule), -spread)}, rule));
    result.series.push_back(of("size/" + kind + "/64", {ns("each", 1500, spread)}, rule));
  }
  return result;
}

// Pieces of which each takes so much longer by two workers than half of it.
void add_pool(LabResult& result, const std::string& pool, double overhead_ns) {
  for (const int length : {1000, 10'000, 100'000}) {
    const double each = length / 2.0 + overhead_ns;
    result.series.push_back(of("length/" + std::to_string(length) + "/" + pool,
                               {ns("each", each), ns("at_90", each)}, {{"workers", "2"}}));
  }
}
LabResult lengths(double overhead_ns) {
  LabResult result;
  for (const int length : {1000, 10'000, 100'000})
    result.series.push_back(of("length/" + std::to_string(length) + "/calls",
                               {ns("each", length), ns("at_90", length / 1.8)}));
  add_pool(result, "pool", overhead_ns);
  return result;
}

// Threads lose so much a piece, processes so much; to have a pool of processes takes so many times
// one of threads.
LabResult pools(double threads_ns, double processes_ns, double start, double spread = 0.01) {
  LabResult result = lengths(threads_ns);
  add_pool(result, "processes", processes_ns);
  result.series.push_back(of("start/threads", {ns("each", 1000, spread)}));
  result.series.push_back(of("start/processes", {ns("each", 1000 * start, -spread)}));
  return result;
}

}  // namespace

BOOST_AUTO_TEST_CASE(two_that_spin_are_planned_on_cpus_of_their_own_only) {
  const auto outcome = plan_lab(lab, fixture("two_sockets"), settings(Preset::quick));
  for (const auto* relation : {"smt", "l3", "remote", "same-pu", "unpinned"})
    for (const auto* how : {"by-hand", "pool", "processes"}) {
      const auto head = std::string("trip/") + relation;
      for (const auto* waiting : {"block", "adaptive"})
        BOOST_TEST(outcome.plan->find(head + "/" + waiting + "/" + how)->skip == "");
      const auto* spin = outcome.plan->find(head + "/spin/" + how);
      BOOST_TEST_REQUIRE(spin);
      BOOST_TEST((spin->skip == "") == (spin->cpus.size() == 2 && spin->cpus[0] != spin->cpus[1]),
                 head);
    }
}

BOOST_AUTO_TEST_CASE(odd_and_large_machines_plan) {
  for (const auto* name : {"one_cpu", "cpuless_node", "nodeless_cpus", "cgroup", "hybrid"}) {
    const auto machine = fixture(name);
    BOOST_TEST(plan_lab(lab, machine, settings(Preset::quick)).plan->runnable() > 20u, name);
  }
  const auto large = synthetic("pack:2 l3:12 core:8 pu:2");
  const auto outcome = plan_lab(lab, large, settings(Preset::full));
  BOOST_TEST(outcome.plan->find("size/wait/384"));
  BOOST_TEST(outcome.plan->find("size/compute/32"));
  BOOST_TEST(outcome.plan->series().size() < 120u);
}

BOOST_AUTO_TEST_CASE(python_is_asked_for_and_one_that_is_missing_is_a_skip_with_the_reason) {
  const auto machine = synthetic("core:2 pu:1");
  const auto none = plan_lab(lab, machine, settings(Preset::quick));
  BOOST_TEST(!none.plan->find("flood/python"));
  const auto missing =
      plan_lab(lab, machine, settings(Preset::quick, "all", {{"python", "/nonexistent/python"}}));
  const auto* series = missing.plan->find("flood/python");
  BOOST_TEST_REQUIRE(series);
  BOOST_TEST(series->skip.find("No such file or directory; install python3") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(efficiency_is_what_calls_take_over_what_all_workers_take) {
  const auto machine = synthetic("core:2 pu:1");
  const auto outcome = plan_lab(lab, machine, settings(Preset::quick));
  auto result = lengths(500);
  lab.conclude(*outcome.plan, result);
  const Findings findings(result);
  BOOST_TEST(*findings.metric("length/1000/pool", "efficiency")->median == 0.5,
             boost::test_tools::tolerance(1e-9));
  BOOST_TEST(!findings.metric("length/1000/calls", "efficiency"));
}

BOOST_AUTO_TEST_CASE(the_break_even_length_is_where_nine_tenths_are_reached) {
  // length / 1.8 = length / 2 + 500 at 9000 ns; between rungs on logarithms it is a little less.
  const auto result = lengths(500);
  const auto found = apparatus::break_even(Findings(result), "pool");
  BOOST_TEST_REQUIRE(found.has_value());
  BOOST_TEST(found->value > 5000);
  BOOST_TEST(found->value < 10'000);
  const auto far = lengths(1e6);
  BOOST_TEST(apparatus::break_even_text(Findings(far), "pool") == "with no pieces up to 100 us");
  const auto near = lengths(1);
  BOOST_TEST(apparatus::break_even_text(Findings(near), "pool") ==
             "from pieces of below 1.00 us on");
  BOOST_TEST(apparatus::break_even_text(Findings(LabResult{}), "pool") == "");
}

BOOST_AUTO_TEST_CASE(c52_is_decided_by_the_worse_of_both_kinds_of_work) {
  BOOST_TEST((judged("C52", sized(1.0, 0.5)).verdict == Verdict::confirmed));
  BOOST_TEST((judged("C52", sized(1.05, 1.05)).verdict == Verdict::confirmed));
  const auto refuted = judged("C52", sized(1.0, 1.3));
  BOOST_TEST((refuted.verdict == Verdict::refuted));
  BOOST_TEST(refuted.evidence.find("pieces that wait: 6 workers take 1.3") != std::string::npos,
             refuted.evidence);
  const auto unsure = judged("C52", sized(1.0, 1.12, 0.1));
  BOOST_TEST((unsure.verdict == Verdict::inconclusive));
  BOOST_TEST(unsure.needs != "");
  BOOST_TEST((judged("C52", LabResult{}).verdict == Verdict::inconclusive));
  BOOST_TEST(apparatus::python_workers(2) == 6);
  BOOST_TEST(apparatus::python_workers(384) == 32);
}

BOOST_AUTO_TEST_CASE(c54_is_decided_by_the_pool_against_the_same_by_hand) {
  const auto result = [](double pool, double spread = 0.01) {
    LabResult made;
    made.series = {of("trip/l3/block/pool", {ns("each", pool, spread)}),
                   of("trip/l3/block/by-hand", {ns("each", 1000, spread)}),
                   of("trip/l3/adaptive/pool", {ns("each", 9000)})};
    return made;
  };
  BOOST_TEST((judged("C54", result(1200)).verdict == Verdict::confirmed));
  BOOST_TEST((judged("C54", result(1500)).verdict == Verdict::refuted));
  const auto unsure = judged("C54", LabResult{});
  BOOST_TEST((unsure.verdict == Verdict::inconclusive));
  BOOST_TEST(unsure.needs != "");
  auto both = result(1200);
  both.series.push_back(of("trip/smt/block/pool", {ns("each", 4000)}));
  both.series.push_back(of("trip/smt/block/by-hand", {ns("each", 1000)}));
  BOOST_TEST((judged("C54", both).verdict == Verdict::refuted));
}

BOOST_AUTO_TEST_CASE(c66_asks_what_a_pool_takes_and_how_long_its_pieces_must_be) {
  const auto confirmed = judged("C66", pools(200, 2000, 50));
  BOOST_TEST((confirmed.verdict == Verdict::confirmed));
  BOOST_TEST(confirmed.evidence.find("50 [49 51] times one of threads") != std::string::npos,
             confirmed.evidence);
  // A counterexample refutes, whatever the other says.
  BOOST_TEST((judged("C66", pools(2000, 200, 50)).verdict == Verdict::refuted));
  BOOST_TEST((judged("C66", pools(200, 2000, 0.5)).verdict == Verdict::refuted));
  // Threads get there, processes at no length that was measured.
  BOOST_TEST((judged("C66", pools(200, 1e6, 50)).verdict == Verdict::confirmed));
  // Processes always do; so do threads in one process of six: the intervals touch.
  auto touching = pools(1, 1, 50);
  std::ranges::find(touching.series, "length/1000/pool", &Series::name)->metrics.back() =
      metric("at_90", {501, 700, 700, 700, 700, 700}, "ns");
  const std::vector<LabResult> unsure = {
      touching,
      pools(1e6, 2e6, 50),       // neither gets there
      pools(1, 2, 50),           // both always do
      pools(500, 500, 50),       // no difference
      pools(200, 2000, 1, 0.1),  // to start
      lengths(200),
      LabResult{},  // without processes
  };
  for (const auto& result : unsure) {
    const auto judgement = judged("C66", result);
    BOOST_TEST((judgement.verdict == Verdict::inconclusive), judgement.evidence);
    BOOST_TEST(judgement.needs != "");
  }
}

BOOST_AUTO_TEST_CASE(c66_shows_what_a_trip_to_a_process_takes_beside_one_to_a_thread) {
  auto result = pools(200, 2000, 50);
  result.series.push_back(of("trip/l3/block/pool", {ns("each", 1000)}));
  result.series.push_back(of("trip/l3/block/processes", {ns("each", 1400)}));
  const auto evidence = judged("C66", result).evidence;
  BOOST_TEST(evidence.find("l3: one task there and back takes 1.4") != std::string::npos, evidence);
}

BOOST_AUTO_TEST_CASE(pools_of_one_kind_can_be_asked_for) {
  const auto machine = synthetic("core:2 pu:1");
  const auto names = [&](const std::string& pool) {
    const auto outcome = plan_lab(lab, machine, settings(Preset::quick, "all", {{"pool", pool}}));
    std::vector<std::string> found;
    for (const auto& series : outcome.plan->series())
      found.push_back(series.name);
    return found;
  };
  const auto has = [](const std::vector<std::string>& all, std::string_view part) {
    return std::ranges::any_of(
        all, [&](const std::string& name) { return name.find(part) != name.npos; });
  };
  const auto threads = names("threads");
  BOOST_TEST(!has(threads, "processes"));
  const auto processes = names("processes");
  for (const auto* of_threads :
       {"/pool", "by-hand", "size/", "one-by-one", "start/threads", "trip/thread"}) {
    BOOST_TEST(has(threads, of_threads), of_threads);
    BOOST_TEST(!has(processes, of_threads), of_threads);
  }
  for (const auto* of_processes : {"trip/same-pu/block/processes", "flood/processes",
                                   "start/processes", "length/1000/processes", "length/1000/calls"})
    BOOST_TEST(has(processes, of_processes), of_processes);
}

BOOST_AUTO_TEST_CASE(the_answer_says_what_a_trip_a_tiny_task_and_the_break_even_are) {
  LabResult result = lengths(500);
  result.series.push_back(of("trip/l3/block/pool", {ns("each", 1100)}));
  result.series.push_back(of("trip/l3/block/by-hand", {ns("each", 1000)}));
  result.series.push_back(of("flood/one-by-one", {ns("each", 60)}));
  const std::string text = lab.answer(Findings(result));
  for (const auto* part : {"l3: a task there and back by a pool of one takes 1.10 us", "110 %",
                           "Of many tiny tasks one takes 60.0 ns", "from pieces of"})
    BOOST_TEST(text.find(part) != std::string::npos, text);
  BOOST_TEST(lab.answer(Findings(LabResult{})) == "Nothing was measured.");
}

// The instruments.

BOOST_AUTO_TEST_CASE(subjects_prove_that_each_task_was_done_once_and_elsewhere) {
  const auto usable = affinity::thread_affinity();
  using procs::Waiting;
  std::vector<std::unique_ptr<Subject>> subjects;
  for (const auto waiting : {Waiting::block, Waiting::adaptive}) {
    apparatus::RoundTripOptions options{
        .waiting = waiting, .submitter = {}, .worker = {}, .usable = usable};
    options.submitter = options.worker = usable.first();
    subjects.push_back(apparatus::make_pool_round_trip(options));
    subjects.push_back(apparatus::make_raw_round_trip(options));
  }
  if (usable.count() > 1)
    for (const auto waiting : {Waiting::block, Waiting::spin}) {
      const apparatus::RoundTripOptions options{.waiting = waiting,
                                                .submitter = usable.cpus()[0],
                                                .worker = usable.cpus()[1],
                                                .usable = usable};
      subjects.push_back(apparatus::make_pool_round_trip(options));
      subjects.push_back(apparatus::make_raw_round_trip(options));
    }
  for (const auto how :
       {apparatus::Flood::one_by_one, apparatus::Flood::at_once, apparatus::Flood::recursive})
    subjects.push_back(
        apparatus::make_flood({.how = how, .tasks = 500, .workers = 2, .usable = usable}));
  for (const bool waits : {false, true})
    subjects.push_back(apparatus::make_pool_pieces(
        {.length_ns = 1000, .waits = waits, .workers = 2, .pieces = 16, .usable = usable}));
  for (const auto& subject : subjects) {
    for (const std::uint64_t operations : {1u, 5u, 20u})
      BOOST_TEST(subject->sample(operations).operations == operations);
    for (const auto& check : subject->checks())
      BOOST_TEST(check.ok, check.name);
  }
}

BOOST_AUTO_TEST_CASE(processes_prove_the_same_and_leave_nothing_behind) {
  const auto usable = affinity::thread_affinity();
  const auto before = belongings();
  {
    using procs::Waiting;
    std::vector<std::unique_ptr<Subject>> subjects;
    for (const auto waiting : {Waiting::block, Waiting::adaptive, Waiting::spin}) {
      apparatus::RoundTripOptions options{
          .waiting = waiting, .submitter = {}, .worker = {}, .usable = usable};
      options.submitter = usable.first();
      options.worker = usable.cpus().back();
      if (waiting != Waiting::spin || options.submitter != options.worker)
        subjects.push_back(apparatus::make_process_round_trip(options));
    }
    const auto shared = std::make_shared<apparatus::SharedProcesses>(usable);
    subjects.push_back(apparatus::make_process_flood(shared, 300, 0));
    subjects.push_back(apparatus::make_process_flood(shared, 5000, 0));  // more than are under way
    subjects.push_back(apparatus::make_process_pieces(
        shared, {.length_ns = 1000, .pieces = 16, .usable = usable}));
    for (const auto what : {apparatus::PoolOf::threads, apparatus::PoolOf::processes})
      subjects.push_back(
          apparatus::make_pool_start({.what = what, .workers = 2, .usable = usable}));
    for (const auto& subject : subjects) {
      for (const std::uint64_t operations : {1u, 3u})
        BOOST_TEST(subject->sample(operations).operations == operations);
      for (const auto& check : subject->checks())
        BOOST_TEST(check.ok, check.name);
    }
  }
  BOOST_TEST(belongings() == before);
}

BOOST_AUTO_TEST_CASE(python_does_on_command_what_a_script_says_and_its_failures_have_a_reason) {
  const auto before = belongings();
  const auto python = apparatus::find_python("auto");
  BOOST_TEST_REQUIRE(python.has_value());
  if (python->version.empty()) {
    BOOST_TEST(python->objection.find("install python3") != std::string::npos);
    return;
  }
  const auto usable = affinity::thread_affinity();
  const auto failure = [&](std::string_view script) {
    try {
      apparatus::PythonSession(*python, script, {}, usable).ask(1, 500);
    } catch (const std::runtime_error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  {
    const apparatus::PythonOptions options{
        .python = *python,
        .script = "import sys\ndef sample(n):\n  print('not an answer')\n"
                  "  return {'ns': 2 * n, 'done': n, 'more': len(sys.argv)}\n",
        .arguments = {"a", "b"},
        .usable = usable,
        .metric = 0,
        .values = {{"more", 1}}};
    const auto subject = apparatus::make_python(options);
    const auto sample = subject->sample(10);
    BOOST_TEST(sample.elapsed_ns == 20);
    BOOST_TEST(sample.values[0] == 2);
    BOOST_TEST(sample.values[1] == 3);
    BOOST_TEST(subject->checks().front().ok);
    const apparatus::PythonOptions lazy{.python = *python,
                                        .script =
                                            "def sample(n):\n  return {'ns': 1, 'done': n - 1}\n",
                                        .usable = usable};
    const auto idle = apparatus::make_python(lazy);
    static_cast<void>(idle->sample(10));
    BOOST_TEST(!idle->checks().front().ok);
  }
  BOOST_TEST(
      failure("def sample(n):\n  raise ValueError('no such thing')\n").find("exit status 1") !=
      std::string::npos);
  BOOST_TEST(failure("def sample(n):\n  raise ValueError('no such thing')\n")
                 .find("ValueError: no such thing") != std::string::npos);
  BOOST_TEST(failure("def sample(n):\n  return {}\n").find("no \"ns\"") != std::string::npos);
  BOOST_TEST(failure("def sample(n):\n  time.sleep(1)\n").find("no answer within 500 ms") !=
             std::string::npos);
  BOOST_TEST(belongings() == before);
}
