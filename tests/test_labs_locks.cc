#include "lab/apparatus/crowd.hh"
#include "lab/apparatus/dead_owner.hh"
#include "lab/apparatus/lock_contest.hh"
#include "lab/apparatus/lock_kinds.hh"
#include "lab/apparatus/lock_uses.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/plan.hh"
#include "tests/left_behind.hh"
#include "tests/metric_fixtures.hh"
#include "tests/plan_fixtures.hh"
#include "tests/topology_fixtures.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>

namespace schedlab::labs {

extern const harness::Lab lock_cost;
extern const harness::Lab lock_primitives;

}  // namespace schedlab::labs

using namespace schedlab;
using namespace schedlab::harness;

namespace {

const Lab& costs = labs::lock_cost;
const Lab& primitives = labs::lock_primitives;

const affinity::Topology& machine() {
  static const affinity::Topology here = affinity::Topology::machine();
  return here;
}

std::vector<unsigned> cpus(std::size_t threads) {
  return apparatus::dealt_out(machine().usable().cpus(), threads);
}

apparatus::ContestOptions contest(std::string_view kind, std::vector<unsigned> where) {
  return {.kind = std::string(kind), .cpus = std::move(where), .usable = machine().usable()};
}

const Check& check_of(const std::vector<Check>& checks, std::string_view head) {
  const auto found = std::ranges::find_if(
      checks, [&](const Check& check) { return check.name.starts_with(head); });
  BOOST_TEST_REQUIRE((found != checks.end()), head);
  return *found;
}

double seen(const std::vector<Check>& checks, std::string_view head) {
  const Check& check = check_of(checks, head);
  BOOST_TEST_REQUIRE(check.seen.number());
  return *check.seen.number();
}

void all_hold(Subject& subject, const std::string& name) {
  for (const auto& check : subject.checks())
    BOOST_TEST(check.ok, name << ": " << check.name);
}

std::vector<std::string> planned(const Lab& lab, const affinity::Topology& where, Preset preset,
                                 std::map<std::string, std::string> values = {}) {
  const auto outcome =
      plan_lab(lab, where, {.preset = preset, .placement = "all", .values = std::move(values)});
  BOOST_TEST(outcome.unsupported == "");
  BOOST_TEST_REQUIRE(outcome.plan);
  std::vector<std::string> names;
  for (const auto& series : outcome.plan->series())
    if (series.skip.empty() && !series.floor)
      names.push_back(series.name);
  return names;
}

bool has(const std::vector<std::string>& list, std::string_view name) {
  return std::ranges::find(list, name) != list.end();
}

Metric exactly(const std::string& name, double value) {
  return metric(name, {value, value, value, value, value, value}, "ns");
}

Series series(const std::string& name, std::vector<Metric> metrics, std::vector<Check> checks) {
  Series made;
  made.name = name;
  const auto slash = name.find('/');
  const auto rest = name.substr(slash + 1);
  made.params = {
      {"use", name.substr(0, slash)}, {"way", rest.substr(0, rest.find('/'))}, {"threads", "9"}};
  made.metrics = std::move(metrics);
  made.checks = std::move(checks);
  return made;
}

Judgement judge(const Lab& lab, std::string_view id, std::vector<Series> all) {
  LabResult result;
  result.series = std::move(all);
  const auto claim =
      std::ranges::find_if(lab.claims, [&](const ClaimInfo& info) { return info.id == id; });
  BOOST_TEST_REQUIRE((claim != lab.claims.end()));
  return claim->judge(Findings(result));
}

Check count(const std::string& name, double number, bool ok = true) {
  return {name, 0, number, ok};
}

// The same series, of which a sample ended on another CPU.
Series migrated(Series one) {
  one.checks.push_back({"samples that stayed on their CPUs", 9, 8, false});
  one.status = Status::invalid;
  return one;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_kind_of_lock_contends_without_losing_an_addition) {
  for (const auto kind : apparatus::lock_kinds) {
    const auto where = cpus(2);
    if (!apparatus::contest_objection(kind, where).empty())
      continue;
    const auto subject = apparatus::make_contest(contest(kind, where));
    const Sample sample = subject->sample(20'000);
    BOOST_TEST(sample.operations >= 20'000u, kind);
    BOOST_TEST(sample.values[3] <= 1.0 + 1e-9, kind);
    BOOST_TEST(sample.values[3] >= 0.5 - 1e-9, kind);
    BOOST_TEST(std::isnan(sample.values[6]) == !apparatus::counts_calls(kind), kind);
    if (kind != "none")
      all_hold(*subject, std::string(kind));
    const double lost = seen(subject->checks(), "additions lost");
    BOOST_TEST(sample.values[7] == lost, kind);
  }
}

BOOST_AUTO_TEST_CASE(more_threads_than_cpus_wait_for_each_other_and_are_not_called_disturbed) {
  const auto subject =
      apparatus::make_contest(contest("mutex", cpus(machine().usable().count() + 3)));
  BOOST_TEST(subject->sample(20'000).proof.waited_ns == 0);
  all_hold(*subject, "mutex");
}

BOOST_AUTO_TEST_CASE(without_a_lock_a_contest_loses_additions) {
  if (machine().usable().count() < 2)
    return;
  const auto subject = apparatus::make_contest(contest("none", cpus(2)));
  double lost = 0;
  for (int tries = 0; tries < 200 && lost == 0; ++tries) {
    subject->sample(100'000);
    lost = seen(subject->checks(), "additions lost");
  }
  BOOST_TEST(lost > 0);
}

BOOST_AUTO_TEST_CASE(every_kind_of_lock_is_handed_over_on_one_cpu_and_on_two) {
  for (const auto kind : apparatus::lock_kinds)
    for (const auto& where : {cpus(2), std::vector<unsigned>(2, cpus(1).front())}) {
      if (kind == "none" || !apparatus::contest_objection(kind, where).empty())
        continue;
      const auto subject = apparatus::make_lock_handoff(contest(kind, where));
      const Sample sample = subject->sample(100);
      BOOST_TEST(sample.operations == 100u, kind);
      BOOST_TEST(sample.values[2] > 0, kind);
      // On one CPU somebody must sleep in each round trip at least.
      if (where.front() == where.back() && kind == "mutex") {
        BOOST_TEST(sample.values[5] > 0.25);
        BOOST_TEST(sample.values[6] > 0.5);
      }
    }
}

BOOST_AUTO_TEST_CASE(a_lock_alone_makes_no_call) {
  for (const auto kind : apparatus::lock_kinds) {
    const auto subject = apparatus::make_lone_lock(contest(kind, cpus(1)));
    const auto before = procs::futex_calls();
    BOOST_TEST(subject->sample(1000).operations == 1000u, kind);
    BOOST_TEST(procs::futex_calls() == before, kind);
  }
}

BOOST_AUTO_TEST_CASE(what_only_spins_is_not_planned_for_a_shared_cpu) {
  BOOST_TEST(apparatus::contest_objection("pthread-spin", {0, 1}) == "");
  BOOST_TEST(apparatus::contest_objection("pthread-spin", {0, 1, 0}) != "");
  BOOST_TEST(apparatus::contest_objection("ticket", {0, 0}) == "");
}

namespace {

struct Play {
  const char* name;
  std::vector<const char*> ways;
  std::unique_ptr<Subject> (*make)(const apparatus::UseOptions&);
  std::size_t threads;
};

}  // namespace

BOOST_AUTO_TEST_CASE(every_use_comes_out_right_in_every_way_that_guards_it) {
  const Play plays[] = {
      {"limit", {"procs", "std", "sem_t", "none"}, apparatus::make_limit, 6},
      {"buffer", {"procs", "std", "semaphores"}, apparatus::make_bounded_buffer, 4},
      {"barrier", {"procs", "std", "pthread"}, apparatus::make_meeting, 3},
      {"words", {"none", "mutex", "std", "rw", "seqlock"}, apparatus::make_pair_of_words, 2},
      {"reading", {"procs", "std", "mutex", "std-mutex"}, apparatus::make_reading, 3},
      {"dictionary", {"gil", "one-lock", "sharded"}, apparatus::make_dictionary, 3},
      {"tokens", {"none", "coarse", "per-object"}, apparatus::make_words, 2}};
  for (const auto& play : plays)
    for (const auto* way : play.ways) {
      const auto subject =
          play.make({.way = way,
                     .crew = {.cpus = cpus(play.threads), .usable = machine().usable()},
                     .number = std::string_view(play.name) == "reading" ? 90u : 0u});
      for (int i = 0; i < 3; ++i)
        BOOST_TEST(subject->sample(600).operations >= 600u, play.name << "/" << way);
      all_hold(*subject, std::string(play.name) + "/" + way);
    }
}

BOOST_AUTO_TEST_CASE(without_a_guard_words_are_torn_and_texts_cut_wrongly) {
  if (machine().usable().count() < 2)
    return;
  for (const auto make : {apparatus::make_pair_of_words, apparatus::make_words}) {
    const auto subject =
        make({.way = "none", .crew = {.cpus = cpus(2), .usable = machine().usable()}});
    double wrong = 0;
    for (int tries = 0; tries < 200 && wrong == 0; ++tries) {
      subject->sample(100'000);
      wrong = *subject->checks().front().seen.number();
    }
    BOOST_TEST(wrong > 0);
  }
}

BOOST_AUTO_TEST_CASE(a_crowd_hears_every_telling_in_every_way) {
  for (const auto* way : {"event", "eventfd", "requeue", "wake-all", "std"}) {
    const auto subject = apparatus::make_crowd(
        {.way = way, .crew = {.cpus = cpus(5), .usable = machine().usable()}});
    const Sample sample = subject->sample(20);
    BOOST_TEST(sample.values[0] > 0, way);
    BOOST_TEST(sample.values[1] > 0.5, way);  // they slept
    all_hold(*subject, way);
  }
  for (const auto* way : {"procs", "std", "sem_t", "eventfd"}) {
    const auto subject = apparatus::make_semaphore_wake(
        {.way = way, .crew = {.cpus = cpus(2), .usable = machine().usable()}});
    BOOST_TEST(subject->sample(100).values[0] > 0, way);
  }
}

BOOST_AUTO_TEST_CASE(a_killed_owner_s_robust_mutex_comes_back_and_other_locks_do_not) {
  const auto before = testing::belongings();
  for (const auto* way : {"robust", "mutex", "semaphore"}) {
    const auto subject = apparatus::make_dead_owner({.way = way});
    const Sample sample = subject->sample(5);
    BOOST_TEST(sample.values[1] == (std::string_view(way) == "robust" ? 0 : 1e6), way);
    all_hold(*subject, way);
  }
  BOOST_TEST(testing::belongings() == before);
}

BOOST_AUTO_TEST_CASE(every_machine_has_a_plan) {
  for (const auto* name : {"one_cpu", "cpuless_node", "nodeless_cpus", "cgroup", "hybrid"})
    for (const Lab* lab : {&costs, &primitives})
      BOOST_TEST(!planned(*lab, fixture(name), Preset::quick).empty(), name);
  for (const auto* large : {"pack:2 l3:8 core:8 pu:1", "pack:2 l3:12 core:8 pu:2"})
    for (const Lab* lab : {&costs, &primitives}) {
      const auto names = planned(*lab, synthetic(large), Preset::quick);
      BOOST_TEST(names.size() < 150u, large);
    }
}

BOOST_AUTO_TEST_CASE(locks_are_planned_alone_contended_clocked_and_handed_over) {
  const auto two = planned(costs, synthetic("core:2 pu:1"), Preset::quick);
  for (const auto* name :
       {"alone/mutex", "contended/2/0ns/0ns/none", "contended/2/1000ns/0ns/waits/fair",
        "handoff/same-pu/mcs", "contended/2/0ns/0ns/pthread-spin"})
    BOOST_TEST(has(two, name), name);
  BOOST_TEST(!has(two, "alone/none"));
  const auto one = planned(costs, fixture("one_cpu"), Preset::quick);
  BOOST_TEST(has(one, "contended/2/0ns/0ns/mutex"));
  BOOST_TEST(!has(one, "contended/2/0ns/0ns/pthread-spin"));
}

BOOST_AUTO_TEST_CASE(that_a_lock_guards_is_judged_by_what_was_lost_with_and_without) {
  const auto contended = [](const std::string& lock, const std::vector<double>& lost) {
    Series made = series("contended/2/0ns/0ns/" + lock, {metric("lost", lost)}, {});
    for (auto& run : made.metrics[0].per_run)
      run.values = {*run.median};
    return made;
  };
  // The first process's are not all: what is lost in any other counts as well.
  const auto with = [&](double lost) { return contended("mutex", {0, lost}); };
  const auto without = [&](double lost) { return contended("none", {0, lost}); };
  BOOST_TEST((judge(costs, "C32", {with(0), without(7)}).verdict == Verdict::confirmed));
  BOOST_TEST((judge(costs, "C32", {with(1), without(7)}).verdict == Verdict::refuted));
  Series lossy = with(1);
  lossy.status = Status::invalid;
  BOOST_TEST((judge(costs, "C32", {lossy, without(7)}).verdict == Verdict::refuted));
  for (auto unclear : {judge(costs, "C32", {with(0), without(0)}), judge(costs, "C32", {}),
                       judge(costs, "C32", {migrated(with(0)), without(7)})}) {
    BOOST_TEST((unclear.verdict == Verdict::inconclusive));
    BOOST_TEST(unclear.needs != "");
  }
}

BOOST_AUTO_TEST_CASE(a_semaphore_is_judged_by_the_most_inside) {
  const auto limit = [](double most) {
    return series("limit/procs", {exactly("inside", most)},
                  {count("entries", 1000), count("the most inside at a time", most, most <= 3)});
  };
  BOOST_TEST((judge(primitives, "C33", {limit(3)}).verdict == Verdict::confirmed));
  BOOST_TEST((judge(primitives, "C33", {limit(4)}).verdict == Verdict::refuted));
  BOOST_TEST((judge(primitives, "C33", {limit(2)}).verdict == Verdict::inconclusive));
  BOOST_TEST(judge(primitives, "C33", {}).needs != "");
  // The check that is kept is of the first process; three were inside in others.
  const auto later = series("limit/procs", {metric("inside", {2, 2, 3, 2, 2, 2})},
                            {count("entries", 1000), count("the most inside at a time", 2)});
  BOOST_TEST((judge(primitives, "C33", {later}).verdict == Verdict::confirmed));
}

BOOST_AUTO_TEST_CASE(events_and_conditions_are_judged_by_who_heard) {
  for (const auto& [id, told_by] :
       {std::pair{"C34", "event/event/8"}, std::pair{"C35", "condition/requeue/8"}}) {
    const std::string name = told_by;
    const auto told = [&name](bool all) {
      return series(name, {exactly("latency", 9000), exactly("switches", 1)},
                    {count("tellings heard", 80, all)});
    };
    BOOST_TEST((judge(primitives, id, {told(true)}).verdict == Verdict::confirmed));
    BOOST_TEST((judge(primitives, id, {told(false)}).verdict == Verdict::refuted));
    const Judgement other = judge(primitives, id, {migrated(told(true))});
    BOOST_TEST((other.verdict == Verdict::inconclusive));
    BOOST_TEST(other.needs != "");
    BOOST_TEST((judge(primitives, id, {}).verdict == Verdict::inconclusive));
  }
}

BOOST_AUTO_TEST_CASE(guards_are_judged_by_what_comes_out_wrong_with_and_without) {
  struct Case {
    const char* id;
    const char* guarded;
    const char* bare;
    const char* check;
  };
  for (const auto& [id, guarded, bare, check] :
       {Case{"C36", "words/mutex", "words/none", "torn readings"},
        Case{"C46", "tokens/coarse", "tokens/none", "texts cut wrongly"}}) {
    const auto verdict = [&](double with, double without) {
      return judge(primitives, id,
                   {series(guarded, {exactly("wrong", with)}, {count(check, with, with == 0)}),
                    series(bare, {exactly("wrong", without)}, {count(check, without)})});
    };
    BOOST_TEST((verdict(0, 5).verdict == Verdict::confirmed));
    BOOST_TEST((verdict(1, 5).verdict == Verdict::refuted));
    BOOST_TEST((verdict(0, 0).verdict == Verdict::inconclusive));
    BOOST_TEST(verdict(0, 0).needs != "");
    const auto moved = {migrated(series(guarded, {exactly("wrong", 0)}, {count(check, 0)})),
                        series(bare, {exactly("wrong", 5)}, {count(check, 5)})};
    BOOST_TEST((judge(primitives, id, moved).verdict == Verdict::inconclusive));
    // The check that is kept is of the first process; in others it went wrong.
    const auto later = {series(guarded, {exactly("wrong", 0)}, {count(check, 0)}),
                        series(bare, {metric("wrong", {0, 5, 0, 0, 0, 0})}, {count(check, 0)})};
    BOOST_TEST((judge(primitives, id, later).verdict == Verdict::confirmed));
    BOOST_TEST((judge(primitives, id, {}).verdict == Verdict::inconclusive));
  }
}

BOOST_AUTO_TEST_CASE(locks_of_processes_are_judged_by_what_their_owners_deaths_leave) {
  const auto verdict = [](double robust, double semaphore) {
    return judge(primitives, "C42",
                 {series("owner/robust", {exactly("wrong", robust), exactly("latency", 5e4)}, {}),
                  series("owner/semaphore", {exactly("wrong", semaphore)}, {})});
  };
  BOOST_TEST((verdict(0, 1e6).verdict == Verdict::refuted));
  BOOST_TEST((verdict(0, 0).verdict == Verdict::confirmed));
  BOOST_TEST((verdict(1, 0).verdict == Verdict::refuted));
  BOOST_TEST((judge(primitives, "C42", {}).verdict == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(the_big_lock_is_judged_by_the_counts_that_are_missing) {
  const auto table = [](bool whole) {
    return series("dictionary/gil", {exactly("cost", 50)}, {count("words counted", 600, whole)});
  };
  BOOST_TEST((judge(primitives, "C2", {table(true)}).verdict == Verdict::confirmed));
  const Judgement missing = judge(primitives, "C2", {table(false)});
  BOOST_TEST((missing.verdict == Verdict::refuted));
  BOOST_TEST(missing.evidence.find("missed nothing") == std::string::npos, missing.evidence);
  BOOST_TEST((judge(primitives, "C2", {migrated(table(true))}).verdict == Verdict::inconclusive));
  BOOST_TEST((judge(primitives, "C2", {}).verdict == Verdict::inconclusive));
}

BOOST_AUTO_TEST_CASE(answers_quote_what_was_found_and_say_so_if_nothing_was) {
  LabResult result;
  result.series = {series("alone/mutex", {exactly("overhead", 12)}, {}),
                   series("alone/std", {exactly("overhead", 15)}, {})};
  BOOST_TEST(costs.answer(Findings(result)).find("12.0 ns") != std::string::npos);
  BOOST_TEST(costs.answer(Findings(result)).find("0.8") != std::string::npos);
  BOOST_TEST(costs.answer(Findings(LabResult{})) == "No lock was measured.");
  result.series = {series("wake/procs", {exactly("latency", 3000)}, {})};
  BOOST_TEST(primitives.answer(Findings(result)).find("3.00 us") != std::string::npos);
  BOOST_TEST(primitives.answer(Findings(LabResult{})) == "No primitive was measured.");
}
