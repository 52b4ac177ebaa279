#include "lab/base/clock.hh"
#include "lab/harness/engine.hh"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <set>
#include <stdexcept>

using namespace schedlab;
using namespace schedlab::harness;
namespace bdata = boost::unit_test::data;

namespace {

using Names = std::vector<std::string>;

constexpr MetricInfo metrics[] = {{.name = "cost", .unit = "ns", .help = "of an operation"}};

constexpr Lab lab = {.name = "fake",
                     .family = "test",
                     .question = "does the engine do what it says?",
                     .metrics = metrics,
                     .plan = nullptr,
                     .answer = nullptr};

// What happened to the subjects of a test.
struct Diary {
  Names built, destroyed, sampled;
  std::map<std::string, std::vector<std::uint64_t>> asked;  // operations of each sample
  std::set<std::string> alive;
  std::set<Names> together;  // every set of subjects that was alive at one time
};

// Time is what its samples say, not what they take.
struct Cost {
  double fixed_ns = 0;
  double each_ns = 1000;
  int sleep_ms = 0;
  int set_up_ms = 0;
  std::size_t disturbed = ~std::size_t{0};  // this sample takes 50 times as long
  std::size_t fails = ~std::size_t{0};      // this one throws
};

class Fake : public Subject {
public:
  Fake(Diary& diary, std::string name, Cost cost)
      : diary_(diary), name_(std::move(name)), cost_(cost) {
    diary_.built.push_back(name_);
    diary_.alive.insert(name_);
    diary_.together.insert({diary_.alive.begin(), diary_.alive.end()});
  }
  ~Fake() override {
    diary_.destroyed.push_back(name_);
    diary_.alive.erase(name_);
  }
  Sample sample(std::uint64_t operations) override {
    diary_.sampled.push_back(name_);
    const std::size_t number = diary_.asked[name_].size();
    diary_.asked[name_].push_back(operations);
    if (number == cost_.fails)
      throw std::runtime_error("the partner is gone");
    clock::sleep_for(cost_.sleep_ms * 1'000'000);
    Sample sample;
    sample.operations = operations;
    sample.elapsed_ns = cost_.fixed_ns + cost_.each_ns * static_cast<double>(operations);
    if (number == cost_.disturbed)
      sample.elapsed_ns *= 50;
    sample.values[0] = static_cast<double>(diary_.sampled.size());
    return sample;
  }

private:
  Diary& diary_;
  std::string name_;
  Cost cost_;
};

// A plan of fake series, and what came of measuring it.
struct World {
  Diary diary;
  affinity::Topology topology = affinity::Topology::from_synthetic("core:2 pu:1");
  Plan plan;
  Request request;

  explicit World(Preset preset = Preset::quick)
      : plan(lab, topology, {.preset = preset, .placement = "all", .values = {}, .driver = ""}) {
    request.seed = 1;
    request.budget_s = 100;
  }

  void add(const std::string& name, const std::string& group, Cost cost = {}) {
    SeriesPlan series;
    series.name = name;
    series.group = group;
    series.make = [this, name, cost] {
      clock::sleep_for(cost.set_up_ms * 1'000'000);
      return std::make_unique<Fake>(diary, name, cost);
    };
    plan.add(std::move(series));
  }
  void add_part(const std::string& name, unsigned part, unsigned parts, bool optional = false) {
    SeriesPlan series;
    series.name = series.group = name;
    series.part = part;
    series.parts = parts;
    series.optional = optional;
    series.make = [this, name] { return std::make_unique<Fake>(diary, name, Cost{}); };
    plan.add(std::move(series));
  }
  void add_broken(const std::string& name, const std::string& group) {
    SeriesPlan series;
    series.name = name;
    series.group = group;
    series.make = []() -> std::unique_ptr<Subject> { throw std::runtime_error("no pipe left"); };
    plan.add(std::move(series));
  }
  // As from a replicate that knows all counts: one warm-up and the rounds for each series.
  void know_counts() {
    for (const auto& series : plan.series())
      request.operations[series.name] = 10;
  }
  Reply measure(Progress* progress = nullptr) { return harness::measure(plan, request, progress); }
};

const RawSeries& find(const Reply& reply, std::string_view name) {
  return *std::ranges::find(reply.series, name, &RawSeries::name);
}

}  // namespace

// The budget is large or small enough for the longest or the shortest sample.
BOOST_DATA_TEST_CASE(the_count_is_calibrated_to_the_length_of_a_sample,
                     bdata::make({1000.0, 1e-6}) ^ bdata::make({20e6, 200e3}), budget_s,
                     target_ns) {
  for (const Cost cost : {Cost{0, 0.5}, Cost{0, 3}, Cost{30e3, 3}, Cost{0, 70e3}}) {
    World world;
    world.request.budget_s = budget_s;
    world.add("a", "g", cost);
    const Reply reply = world.measure();
    const auto operations = static_cast<double>(reply.series[0].operations);
    const double took_ns = cost.fixed_ns + cost.each_ns * operations;
    BOOST_TEST(took_ns > 0.65 * target_ns);
    BOOST_TEST(took_ns < 1.45 * target_ns);
    for (const auto& sample : reply.series[0].samples)
      BOOST_TEST(sample.operations == reply.series[0].operations);
  }
}

BOOST_AUTO_TEST_CASE(a_reading_that_was_disturbed_does_not_decide_the_count) {
  for (std::size_t disturbed = 0; disturbed < 8; ++disturbed) {
    World world;
    world.add("a", "g", {.each_ns = 10, .disturbed = disturbed});
    const double took_ns = 10 * static_cast<double>(world.measure().series[0].operations);
    BOOST_TEST(took_ns > 0.65 * 20e6, "with reading " << disturbed << " disturbed");
    BOOST_TEST(took_ns < 1.45 * 20e6);
  }
}

BOOST_AUTO_TEST_CASE(an_operation_longer_than_a_sample_is_done_once) {
  World world;
  world.add("a", "g", {0, 5e9});
  BOOST_TEST(world.measure().series[0].operations == 1u);
}

BOOST_AUTO_TEST_CASE(a_subject_whose_clock_stands_still_is_not_asked_for_ever_more) {
  World world;
  world.add("a", "g", {0, 0});
  world.measure();
  BOOST_TEST(std::ranges::max(world.diary.asked["a"]) <= 1'000'000'000'000u);
}

BOOST_AUTO_TEST_CASE(a_count_that_is_given_is_used_and_not_calibrated_again) {
  World world;
  world.add("a", "g");
  world.request.operations["a"] = 1234;
  const Reply reply = world.measure();
  const std::vector<std::uint64_t> expected = {617, 1234, 1234, 1234, 1234};
  BOOST_TEST(world.diary.asked["a"] == expected, boost::test_tools::per_element());
  BOOST_TEST(reply.series[0].operations == 1234u);
}

BOOST_AUTO_TEST_CASE(rounds_go_forward_and_backward_through_a_group_and_begin_further_on) {
  World world;
  for (const auto* name : {"a", "b", "c"})
    world.add(name, "g");
  world.know_counts();
  world.measure();
  const Names warm(world.diary.sampled.begin(), world.diary.sampled.begin() + 3);
  const Names rounds(world.diary.sampled.begin() + 3, world.diary.sampled.end());
  Names expected;
  for (const std::size_t turn : {0u, 1u, 2u, 2u, 1u, 0u, 1u, 2u, 0u, 0u, 2u, 1u})
    expected.push_back(warm[turn]);
  BOOST_TEST(rounds == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_order_is_drawn_by_the_seed) {
  std::set<Names> orders;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Names order;
    for (int again = 0; again < 2; ++again) {
      World world(Preset::smoke);
      for (const auto* name : {"a", "b", "c"})
        world.add(name, "g");
      world.know_counts();
      world.request.seed = seed;
      world.measure();
      if (again)
        BOOST_TEST(order == world.diary.built, boost::test_tools::per_element());
      order = world.diary.built;
    }
    orders.insert(order);
  }
  BOOST_TEST(orders.size() == 6u);
}

BOOST_AUTO_TEST_CASE(a_group_is_alive_together_and_two_groups_never_are) {
  World world;
  for (const auto* name : {"a1", "b1", "a2", "b2", "a3"})
    world.add(name, std::string(1, *name));
  world.know_counts();
  const Reply reply = world.measure();
  for (const auto& set : world.diary.together)
    for (const auto& name : set)
      BOOST_TEST(name[0] == set[0][0]);
  BOOST_TEST(world.diary.together.contains(Names{"a1", "a2", "a3"}));
  BOOST_TEST(world.diary.together.contains(Names{"b1", "b2"}));
  for (const auto& series : reply.series)
    BOOST_TEST(series.samples.size() == 4u);
}

BOOST_AUTO_TEST_CASE(subjects_are_destroyed_in_the_reverse_of_the_order_they_were_built_in) {
  World world;
  for (const auto* name : {"a", "b", "c", "d"})
    world.add(name, "g");
  world.know_counts();
  world.measure();
  Names reversed(world.diary.built.rbegin(), world.diary.built.rend());
  BOOST_TEST(world.diary.destroyed == reversed, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_series_that_cannot_be_set_up_says_why_and_the_others_run) {
  World world;
  world.add("a", "g");
  world.add_broken("b", "g");
  world.add_broken("lone", "h");
  world.add("c", "g");
  const Reply reply = world.measure();
  for (const auto* name : {"b", "lone"}) {
    BOOST_TEST(find(reply, name).failure == "no pipe left");
    BOOST_TEST(find(reply, name).samples.empty());
    BOOST_TEST(find(reply, name).operations == 0u);
  }
  for (const auto* name : {"a", "c"}) {
    BOOST_TEST(find(reply, name).failure == "");
    BOOST_TEST(find(reply, name).samples.size() == 4u);
  }
}

BOOST_AUTO_TEST_CASE(a_series_that_fails_on_the_way_is_out_with_its_reason_and_the_others_run) {
  for (const std::size_t fails : {0u, 1u, 3u}) {  // warming up, in the first round, in the third
    World world;
    world.add("a", "g");
    world.add("b", "g", {.fails = fails});
    world.add("c", "g");
    world.know_counts();
    const Reply reply = world.measure();
    BOOST_TEST(find(reply, "b").failure == "the partner is gone");
    BOOST_TEST(find(reply, "b").samples.size() == (fails == 0 ? 0 : fails - 1));
    BOOST_TEST(world.diary.asked["b"].size() == fails + 1);
    for (const auto* name : {"a", "c"}) {
      BOOST_TEST(find(reply, name).failure == "");
      BOOST_TEST(find(reply, name).samples.size() == 4u);
    }
    BOOST_TEST(world.diary.alive.empty());
  }
}

BOOST_AUTO_TEST_CASE(a_skipped_series_keeps_its_place_and_is_not_built) {
  World world;
  world.add("a", "g");
  SeriesPlan absent;
  absent.name = "absent";
  absent.skip = "one CPU";
  world.plan.add(std::move(absent));
  world.add("b", "g");
  const Reply reply = world.measure();
  BOOST_TEST(reply.series.size() == 3u);
  BOOST_TEST(reply.series[1].name == "absent");
  BOOST_TEST(reply.series[1].samples.empty());
  BOOST_TEST(world.diary.built.size() == 2u);
}

BOOST_AUTO_TEST_CASE(rounds_that_do_not_fit_into_the_budget_are_cut_and_counted) {
  World world;
  world.add("a", "g", {.sleep_ms = 10});
  world.add("b", "h", {.sleep_ms = 10});
  world.know_counts();
  world.request.budget_s = 0.001;
  const Reply reply = world.measure();
  BOOST_TEST(reply.rounds_planned == 4u);
  BOOST_TEST(reply.rounds_cut == 3u);
  for (const auto& series : reply.series)
    BOOST_TEST(series.samples.size() == 1u);
}

BOOST_AUTO_TEST_CASE(rounds_that_fit_are_all_done) {
  for (const auto& [preset, rounds] :
       {std::pair(Preset::smoke, 1u), std::pair(Preset::quick, 4u), std::pair(Preset::full, 6u)}) {
    World world(preset);
    world.add("a", "g");
    const Reply reply = world.measure();
    BOOST_TEST(rounds_of(preset) == rounds);
    BOOST_TEST(reply.rounds_planned == rounds);
    BOOST_TEST(reply.rounds_cut == 0u);
    BOOST_TEST(reply.series[0].samples.size() == rounds);
  }
}

// Else the groups that happen to come first would have few rounds, whatever the budget.
BOOST_AUTO_TEST_CASE(setting_up_takes_nothing_from_the_rounds) {
  World world;
  for (const auto* name : {"a", "b", "c"})
    world.add(name, name, {.set_up_ms = 200});
  world.know_counts();
  world.request.budget_s = 0.15;
  const Reply reply = measure(world.plan, world.request, nullptr);
  BOOST_TEST(reply.rounds_cut == 0u);
}

BOOST_AUTO_TEST_CASE(samples_are_kept_in_the_order_they_were_taken) {
  World world;
  world.add("a", "g");
  world.add("b", "g");
  const Reply reply = world.measure();
  for (const auto& series : reply.series)
    BOOST_TEST(std::ranges::is_sorted(series.samples, {},
                                      [](const Sample& sample) { return sample.values[0]; }));
}

BOOST_AUTO_TEST_CASE(the_progress_tells_series_round_and_the_last_estimate) {
  World world;
  world.add("a", "g");
  Progress progress;
  const Reply reply = world.measure(&progress);
  BOOST_TEST(progress.series.load() == 0u);
  BOOST_TEST(progress.round.load() == 4u);
  BOOST_TEST(progress.rounds.load() == 4u);
  BOOST_TEST(progress.estimate.load() == reply.series[0].samples.back().values[0]);
}

BOOST_AUTO_TEST_CASE(the_reply_tells_where_the_process_lies_and_what_the_clock_costs) {
  World world;
  world.add("a", "g");
  const Reply reply = world.measure();
  BOOST_TEST(reply.layout.text != 0u);
  BOOST_TEST(reply.layout.heap != 0u);
  BOOST_TEST(reply.layout.stack != 0u);
  BOOST_TEST(reply.clock_pair_ns > 0);
}

BOOST_AUTO_TEST_CASE(a_series_in_parts_is_measured_by_its_processes_only) {
  for (unsigned process = 0; process < 6; ++process) {
    World world;
    world.add("all", "g");
    world.add_part("first", 0, 3);
    world.add_part("last", 2, 3);
    world.request.process = process;
    const Reply reply = world.measure();
    BOOST_TEST(reply.series.size() == 3u);
    BOOST_TEST(find(reply, "all").samples.size() == 4u);
    BOOST_TEST(find(reply, "first").samples.empty() == (process % 3 != 0));
    BOOST_TEST(find(reply, "last").samples.empty() == (process % 3 != 2));
    BOOST_TEST(find(reply, "last").failure == "");
  }
}

BOOST_AUTO_TEST_CASE(what_is_optional_is_left_out_when_the_budget_is_used_up) {
  World world;
  for (const auto* name : {"a", "b", "c", "d"})
    world.add(name, name, {.sleep_ms = 2});
  world.add_part("spare", 0, 1, true);
  world.add_part("more", 0, 1);
  world.request.budget_s = 1e-6;
  const Reply late = world.measure();
  for (const auto* name : {"a", "b", "c", "d", "more"})
    BOOST_TEST(!find(late, name).samples.empty());
  BOOST_TEST(find(late, "spare").samples.empty());
  BOOST_TEST(find(late, "spare").failure == "");
  world.request.budget_s = 100;
  BOOST_TEST(!find(world.measure(), "spare").samples.empty());
}

BOOST_AUTO_TEST_CASE(samples_are_as_long_as_the_budget_gives_within_bounds) {
  constexpr double ms = 1e6;
  BOOST_TEST(sample_target_ns(1, 100, 10) == 7 * ms, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(sample_target_ns(1000, 100, 10) == 20 * ms);
  BOOST_TEST(sample_target_ns(0.001, 100, 10) == 0.2 * ms);
  BOOST_TEST(sample_target_ns(1, 0, 0) == 20 * ms);
  // What stands around a thousand series leaves less for the samples.
  BOOST_TEST(sample_target_ns(4, 5000, 1000) < 0.7 * sample_target_ns(4, 5000, 100));
}

BOOST_AUTO_TEST_CASE(known_operations_save_the_turns_of_finding_them) {
  BOOST_TEST(turns_of(4, true) == 4.5);
  BOOST_TEST(turns_of(4, false) > turns_of(4, true));
}
