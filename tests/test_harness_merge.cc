#include "lab/harness/findings.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/validity.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>

using namespace schedlab;
using namespace schedlab::harness;

namespace {

enum : std::size_t { hop, total, never };

constexpr MetricInfo metrics[] = {
    {.name = "hop", .unit = "ns", .better = Better::lower, .kind = Kind::time, .help = ""},
    {.name = "total", .unit = "ns", .better = Better::higher, .kind = Kind::ratio, .help = ""},
    {.name = "never", .unit = "B", .help = "filled in by no sample"},
};

constexpr Lab lab = {.name = "fake",
                     .family = "test",
                     .question = "what do replies add up to?",
                     .metrics = metrics,
                     .plan = nullptr,
                     .answer = nullptr};

// Series by name, and what each process measured of them.
struct World {
  affinity::Topology topology = affinity::Topology::from_synthetic("core:2 pu:2");
  Plan plan;
  std::vector<Reply> replies;

  explicit World(Preset preset = Preset::quick)
      : plan(lab, topology, {.preset = preset, .placement = "all", .values = {}, .driver = ""}) {}

  SeriesPlan& add(const std::string& name, std::vector<Derivation> derive = {}) {
    SeriesPlan series;
    series.name = name;
    series.derive = std::move(derive);
    plan.add(std::move(series));
    return const_cast<SeriesPlan&>(plan.series().back());
  }

  // The samples of one series in one process, 1 ms each.
  RawSeries& raw(const std::string& name, std::size_t process) {
    const auto index = static_cast<std::size_t>(plan.find(name) - plan.series().data());
    while (replies.size() <= process)
      replies.emplace_back();
    for (auto& reply : replies)
      for (auto i = reply.series.size(); i < plan.series().size(); ++i)
        reply.series.push_back(
            {.name = plan.series()[i].name, .samples = {}, .checks = {}, .failure = {}});
    return replies[process].series[index];
  }

  Sample& sample(const std::string& name, std::size_t process, double value) {
    Sample sample;
    sample.operations = 1000;
    sample.elapsed_ns = 1e6;
    sample.values[hop] = value;
    sample.proof.wall_ns = 1e6;
    return raw(name, process).samples.emplace_back(sample);
  }

  // One sample in each of as many processes as there are values.
  void samples(const std::string& name, const std::vector<double>& values) {
    for (std::size_t process = 0; process < values.size(); ++process)
      sample(name, process, values[process]);
  }

  Series merged(const std::string& name) const {
    const auto all = merge(plan, replies);
    return *std::ranges::find(all, name, &Series::name);
  }
  Metric metric(const std::string& name, std::string_view metric_name = "hop") const {
    const Series series = merged(name);
    const Metric* found = find_metric(series, metric_name);
    BOOST_REQUIRE_MESSAGE(found, name << " has " << metric_name);
    return *found;
  }
};

const Warning* find_warning(std::span<const Warning> warnings, std::string_view code) {
  const auto found = std::ranges::find(warnings, code, &Warning::code);
  return found == warnings.end() ? nullptr : &*found;
}

std::string severity(std::span<const Warning> warnings, std::string_view code) {
  const Warning* found = find_warning(warnings, code);
  return found ? std::string(to_text(found->severity)) : "none";
}

const std::vector<double> six = {10, 30, 20, 60, 50, 40};

}  // namespace

BOOST_AUTO_TEST_CASE(the_median_and_its_interval_are_over_the_medians_of_processes) {
  World world;
  world.add("a");
  for (std::size_t process = 0; process < six.size(); ++process)
    for (const double off : {-1.0, 0.0, 500.0})
      world.sample("a", process, six[process] + off);
  const Metric metric = world.metric("a");
  BOOST_TEST(metric.median.value() == 35.0);
  BOOST_TEST(metric.ci.value().low == 10.0);
  BOOST_TEST(metric.ci.value().high == 60.0);
  BOOST_TEST(metric.runs == 6u);
  BOOST_TEST(metric.samples == 18u);
  BOOST_TEST(metric.min.value() == 9.0);
  BOOST_TEST(metric.per_run.size() == 6u);
  for (std::size_t process = 0; process < six.size(); ++process) {
    BOOST_TEST(metric.per_run[process].process == process);
    BOOST_TEST(metric.per_run[process].median.value() == six[process]);
    BOOST_TEST(metric.per_run[process].values.size() == 3u);
  }
}

BOOST_AUTO_TEST_CASE(a_series_carries_its_plan_and_a_metric_its_description) {
  World world;
  auto& planned = world.add("a");
  planned.params = {{"size", "64"}};
  planned.relation = "smt";
  planned.cpus = {0, 1};
  planned.driver = "epoll";
  planned.floor = true;
  world.samples("a", six);
  const Series series = world.merged("a");
  BOOST_TEST((series.params == Fields{{"size", "64"}, {"role", "floor"}}));
  BOOST_TEST((series.placement == Placement{"smt", {0, 1}, {0, 1}}));
  BOOST_TEST(series.driver == "epoll");
  BOOST_TEST((series.status == Status::ok));
  BOOST_TEST_REQUIRE(series.metrics.size() == 1u);  // "total" and "never" were not filled in
  BOOST_TEST(series.metrics[0].name == "hop");
  BOOST_TEST(series.metrics[0].unit == "ns");
  BOOST_TEST((series.metrics[0].better == Better::lower));
  BOOST_TEST((series.metrics[0].kind == Kind::time));
}

BOOST_AUTO_TEST_CASE(the_clean_estimate_leaves_disturbed_samples_out) {
  World world;
  for (const auto* name : {"some", "none", "all"})
    world.add(name);
  for (std::size_t process = 0; process < six.size(); ++process) {
    world.sample("some", process, 100);
    world.sample("some", process, 900).proof.steal_ticks = 1;
    world.sample("none", process, 100);
    world.sample("all", process, 900).proof.on_cpu = false;
  }
  BOOST_TEST(world.metric("some").median.value() == 500.0);
  BOOST_TEST(world.metric("some").clean.value().median.value() == 100.0);
  BOOST_TEST(world.metric("some").clean.value().samples == 6u);
  const Metric none = world.metric("none");
  BOOST_TEST((none.clean.value() == static_cast<const Summary&>(none)));
  BOOST_TEST(!world.metric("all").clean);
  BOOST_TEST(world.metric("all").omitted.at("clean") == "no sample was undisturbed");
}

BOOST_AUTO_TEST_CASE(a_derived_metric_is_a_difference_within_each_process) {
  World world;
  world.add("ring",
            {{.metric = total, .value = {{"ring", hop, 1}, {"alone", hop, -2}}, .floors = {}}});
  world.add("alone");
  world.samples("alone", six);
  std::vector<double> ring;
  for (std::size_t process = 0; process < six.size(); ++process)
    ring.push_back(2 * six[process] + 5 + 0.1 * static_cast<double>(process));
  world.samples("ring", ring);
  const Metric metric = world.metric("ring", "total");
  // The processes differ by 100, their differences by 0.5: pairing is what makes the interval.
  BOOST_TEST(metric.median.value() == 5.25, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(metric.ci.value().low == 5.0, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(metric.ci.value().high == 5.5, boost::test_tools::tolerance(1e-9));
  BOOST_TEST(metric.samples == 6u);
  BOOST_TEST(!metric.clean);
}

BOOST_AUTO_TEST_CASE(a_derived_metric_that_is_not_above_zero_is_below_resolution) {
  World world;
  world.add("ring",
            {{.metric = total, .value = {{"ring", hop, 1}, {"alone", hop, -1}}, .floors = {}}});
  world.add("alone");
  world.samples("ring", {10, 11, 12, 13, 14, 15});
  world.samples("alone", {11, 10, 11, 12, 13, 14});
  const Metric metric = world.metric("ring", "total");
  BOOST_TEST(!metric.median);
  BOOST_TEST(metric.omitted.at("median") == "below resolution");
}

BOOST_AUTO_TEST_CASE(a_floor_may_itself_be_derived) {
  World world;
  const auto cost = [](const std::string& ring, const std::string& alone) {
    return std::vector<Term>{{ring, hop, 1}, {alone, hop, -1}};
  };
  world.add("ring0", {{.metric = total, .value = cost("ring0", "alone0"), .floors = {}}});
  world.add("alone0");
  world.add("ring1", {{.metric = total,
                       .value = cost("ring1", "alone1"),
                       .floors = {{"direct", {"ring0", total, 0.5}}}}});
  world.add("alone1");
  world.samples("ring0", {30, 31, 32, 33, 34, 35});
  world.samples("alone0", {10, 10, 10, 10, 10, 10});
  world.samples("ring1", {130, 131, 132, 133, 134, 135});
  world.samples("alone1", {40, 40, 40, 40, 40, 40});
  const Metric metric = world.metric("ring1", "total");
  BOOST_TEST(metric.median.value() == 92.5);
  BOOST_TEST_REQUIRE(metric.floors.size() == 1u);
  BOOST_TEST(metric.floors[0].name == "direct");
  BOOST_TEST(metric.floors[0].median.value() == 11.25);
  BOOST_TEST(metric.net.value().median.value() == 81.25);
  BOOST_TEST(metric.net.value().ci.value().low == 80.0);
  BOOST_TEST(metric.net.value().ci.value().high == 82.5);
  BOOST_TEST(!metric.net.value().below_resolution);
}

BOOST_AUTO_TEST_CASE(what_is_left_over_the_floors_is_below_resolution_unless_all_above_zero) {
  for (const auto& [floor, below] :
       {std::pair(9.0, false), std::pair(10.5, true), std::pair(20.0, true)}) {
    World world;
    world.add("a", {{.metric = hop,
                     .value = {},
                     .floors = {{"call", {"floor", hop, 1}}, {"clock", {"floor", hop, 0.01}}}}});
    world.add("floor");
    world.samples("a", {10, 11, 12, 13, 14, 15});
    world.samples("floor", std::vector<double>(6, floor));
    const Metric metric = world.metric("a");
    BOOST_TEST(metric.net.value().below_resolution == below);
    BOOST_TEST(metric.net.value().median.value() == 12.5 - 1.01 * floor,
               boost::test_tools::tolerance(1e-9));
    BOOST_TEST(metric.floors[1].median.value() == 0.01 * floor);
    BOOST_TEST(metric.median.value() == 12.5);
  }
}

BOOST_AUTO_TEST_CASE(a_floor_that_was_not_measured_gives_no_net_where_it_is_missing) {
  World world;
  world.add("a", {{.metric = hop, .value = {}, .floors = {{"call", {"floor", hop, 1}}}}});
  world.add("b", {{.metric = hop, .value = {}, .floors = {{"call", {"absent", hop, 1}}}}});
  world.add("c", {{.metric = total, .value = {{"absent", hop, 1}}, .floors = {}}});
  world.add("floor");
  world.add("absent").skip = "one CPU";
  for (const auto* name : {"a", "b", "c"})
    world.samples(name, six);
  world.samples("floor", {1, 1, 1});
  BOOST_TEST(world.metric("a").net.value().median.value() == 19.0);
  BOOST_TEST(!world.metric("a").net.value().ci);
  BOOST_TEST(!world.metric("b").net);
  BOOST_TEST(world.merged("c").metrics.size() == 1u);
}

BOOST_AUTO_TEST_CASE(a_process_that_lacks_a_series_leaves_a_gap_and_costs_the_interval) {
  World world;
  world.add("a");
  world.add("b");
  world.samples("a", six);
  world.samples("b", six);
  world.raw("a", 2).samples.clear();
  world.raw("a", 2).failure = "no pipe left";
  const Metric metric = world.metric("a");
  BOOST_TEST(metric.runs == 5u);
  BOOST_TEST(!metric.ci);
  BOOST_TEST(metric.omitted.at("ci") == "needs 6 processes");
  BOOST_TEST(metric.per_run.size() == 6u);
  BOOST_TEST(!metric.per_run[2].median);
  BOOST_TEST(world.merged("a").reason == "1 of 6 processes failed: no pipe left");
  BOOST_TEST((world.merged("a").status == Status::ok));
  BOOST_TEST(world.metric("b").runs == 6u);
  BOOST_TEST(world.merged("b").reason == "");
}

BOOST_AUTO_TEST_CASE(a_process_tells_on_which_cpus_its_samples_were_seen) {
  World world;
  world.add("a");
  world.sample("a", 0, 1).proof.cpus = {1, 3};
  world.sample("a", 0, 1).proof.cpus = {0, 3};
  world.sample("a", 1, 1).proof.cpus = {2};
  const Metric metric = world.metric("a");
  BOOST_TEST((metric.per_run.at(0).cpus == std::vector<unsigned>{0, 1, 3}));
  BOOST_TEST((metric.per_run.at(1).cpus == std::vector<unsigned>{2}));
}

BOOST_AUTO_TEST_CASE(a_series_without_samples_is_skipped_with_the_best_reason_there_is) {
  World world;
  world.add("lacking").skip = "no L3 is shared";
  world.add("failed");
  world.add("cut");
  world.add("ran");
  world.samples("ran", six);
  for (std::size_t process = 0; process < six.size(); ++process)
    world.raw("failed", process).failure = "no pipe left";
  const auto reason = [&](const std::string& name) {
    const Series series = world.merged(name);
    BOOST_TEST((series.status == Status::skipped));
    BOOST_TEST(series.metrics.empty());
    return series.reason;
  };
  BOOST_TEST(reason("lacking") == "no L3 is shared");
  BOOST_TEST(reason("failed") == "no pipe left");
  BOOST_TEST(reason("cut") == "no time was left for it");
  BOOST_TEST(world.merged("ran").reason == "");
  world.replies.clear();
  BOOST_TEST(reason("lacking") == "no L3 is shared");
  BOOST_TEST(reason("ran") == "no replicate process ended well");
}

BOOST_AUTO_TEST_CASE(fewer_switches_than_99_per_cent_of_the_expected_ones_are_told) {
  for (const auto& [counted, told] :
       {std::pair(989u, "noisy"), std::pair(990u, "none"), std::pair(1000u, "none")}) {
    World world;
    world.add("a");
    auto& proof = world.sample("a", 0, 1).proof;
    proof.expected_switches = 1000;
    proof.counted_switches = counted;
    const Series series = world.merged("a");
    BOOST_TEST(severity(series.warnings, "COUNT") == told);
    BOOST_TEST_REQUIRE(series.checks.size() == 1u);
    BOOST_TEST((series.checks[0].expected == Value(1000)));
    BOOST_TEST((series.checks[0].seen == Value(counted)));
    BOOST_TEST(series.checks[0].ok == (told == std::string("none")));
  }
}

// What a sample hides is the same few however short it is, and each sample hides it again.
BOOST_AUTO_TEST_CASE(short_samples_may_each_lack_a_few_switches_and_are_clean_by_the_same_rule) {
  for (const auto& [lacking, told] :
       {std::pair(1u, "none"), std::pair(4u, "none"), std::pair(5u, "noisy")}) {
    World world;
    world.add("a");
    for (int i = 0; i < 50; ++i) {
      auto& proof = world.sample("a", 0, 1).proof;
      proof.expected_switches = 18;
      proof.counted_switches = 18 - lacking;
    }
    const Series series = world.merged("a");
    BOOST_TEST(severity(series.warnings, "COUNT") == told);
    BOOST_TEST(series.checks.at(0).ok == (told == std::string("none")));
    BOOST_TEST(series.metrics.at(hop).clean.has_value() == (told == std::string("none")));
  }
}

BOOST_AUTO_TEST_CASE(a_sample_off_its_cpu_is_told_and_its_check_fails) {
  World world;
  world.add("pinned").cpus = {0};
  world.add("strayed").cpus = {0};
  world.add("unpinned");
  for (int i = 0; i < 1000; ++i)
    for (const auto* name : {"pinned", "strayed", "unpinned"})
      world.sample(name, 0, 1);
  world.sample("strayed", 0, 1).proof.on_cpu = false;
  const Series strayed = world.merged("strayed");
  BOOST_TEST(severity(strayed.warnings, "MIGRATED") == "invalid");
  BOOST_TEST((strayed.status == Status::invalid));
  BOOST_TEST_REQUIRE(strayed.checks.size() == 1u);
  BOOST_TEST(!strayed.checks[0].ok);
  BOOST_TEST((strayed.checks[0].seen == Value(1000)));
  BOOST_TEST(world.merged("pinned").checks.at(0).ok);
  BOOST_TEST((world.merged("pinned").status == Status::ok));
  BOOST_TEST(world.merged("unpinned").checks.empty());
}

void preempt(Proof& proof) {
  proof.expected_switches = 1000;
  proof.counted_switches = 1025;
}
void borrow(Proof& proof) {
  proof.foreign_ns = 31e3;  // of 1 ms
}
void wait(Proof& proof) {
  proof.waited_ns = 1.2e6;
}
void steal(Proof& proof) {
  proof.steal_ticks = 1;
}

// At most 1 % of the samples is nothing, at most 10 % a note.
BOOST_AUTO_TEST_CASE(disturbed_samples_are_a_note_above_1_per_cent_and_noisy_above_10) {
  using Disturb = void (*)(Proof&);
  for (const auto& [code, disturb] : std::initializer_list<std::pair<const char*, Disturb>>{
           {"PREEMPTED", preempt}, {"BUSY", borrow}, {"BUSY", wait}, {"STEAL", steal}})
    for (const auto& [disturbed, told] : {std::pair(2, "none"), std::pair(3, "note"),
                                          std::pair(20, "note"), std::pair(21, "noisy")}) {
      World world;
      world.add("a");
      for (int i = 0; i < 200; ++i) {
        auto& proof = world.sample("a", 0, 1).proof;
        if (i < disturbed)
          disturb(proof);
      }
      const Series series = world.merged("a");
      BOOST_TEST(severity(series.warnings, code) == told, code << " of " << disturbed);
      BOOST_TEST(series.warnings.size() == (told == std::string("none") ? 0u : 1u));
    }
}

BOOST_AUTO_TEST_CASE(a_sample_of_less_than_100_clock_readings_is_beyond_the_resolution) {
  World world;
  world.add("a");
  world.samples("a", six);
  world.replies[3].clock_pair_ns = 9.9e3;
  BOOST_TEST(severity(world.merged("a").warnings, "RESOLUTION") == "none");
  world.replies[3].clock_pair_ns = 10.1e3;
  BOOST_TEST(severity(world.merged("a").warnings, "RESOLUTION") == "noisy");
}

BOOST_AUTO_TEST_CASE(samples_in_two_groups_are_told) {
  World world;
  for (const auto* name : {"steady", "two groups"})
    world.add(name);
  for (int i = 0; i < 60; ++i) {
    const double small = 0.01 * (i * 7 % 10);
    world.sample("steady", 0, 100 + small);
    world.sample("two groups", 0, (i % 2 == 0 ? 100 : 150) + small);
  }
  BOOST_TEST(world.merged("steady").warnings.empty());
  BOOST_TEST(severity(world.merged("two groups").warnings, "BIMODAL") == "noisy");
}

BOOST_AUTO_TEST_CASE(a_drift_is_a_trend_of_the_processes_and_not_that_they_differ) {
  World world;
  for (const auto* name : {"rising", "clustered"})
    world.add(name);
  const double offsets[] = {0, 6, 2, 8, 4, 10};
  for (std::size_t process = 0; process < 6; ++process)
    for (int i = 0; i < 10; ++i) {
      const double small = 0.01 * (i * 7 % 10);
      world.sample("rising", process, 100 + 2 * static_cast<double>(process) + small);
      world.sample("clustered", process, 100 + offsets[process] + small);
    }
  BOOST_TEST(severity(world.merged("rising").warnings, "DRIFT") == "noisy");
  BOOST_TEST(severity(world.merged("clustered").warnings, "DRIFT") == "none");
}

BOOST_AUTO_TEST_CASE(of_a_lab_it_is_told_that_rounds_were_cut_and_that_processes_are_few) {
  World world;
  world.add("a");
  world.samples("a", six);
  BOOST_TEST(lab_warnings(world.plan, world.replies).empty());
  world.replies[1].rounds_planned = world.replies[0].rounds_planned = 4;
  world.replies[1].rounds_cut = 3;
  const auto cut = lab_warnings(world.plan, world.replies);
  BOOST_TEST(severity(cut, "CUT") == "note");
  BOOST_TEST(find_warning(cut, "CUT")->message.find("up to 3 of 4 rounds") != std::string::npos);
  world.replies.resize(5);
  BOOST_TEST(severity(lab_warnings(world.plan, world.replies), "FEW") == "note");
  World smoke(Preset::smoke);
  smoke.add("a");
  smoke.samples("a", {1});
  BOOST_TEST(lab_warnings(smoke.plan, smoke.replies).empty());
}

BOOST_AUTO_TEST_CASE(a_check_that_failed_in_one_process_is_told_and_makes_the_series_invalid) {
  World world;
  world.add("a");
  world.samples("a", six);
  for (auto& reply : world.replies)
    reply.series[0].checks = {{"pages", 1, 1, true}, {"node", "0", "0", true}};
  BOOST_TEST((world.merged("a").status == Status::ok));
  world.replies[4].series[0].checks[1] = {"node", "0", "1", false};
  const auto merged = world.merged("a");
  BOOST_TEST((merged.status == Status::invalid));
  BOOST_TEST(severity(merged.warnings, "CHECK") == "invalid");
  BOOST_TEST(find_warning(merged.warnings, "CHECK")->message.find("node") != std::string::npos);
  const auto failed = std::ranges::find(merged.checks, "node", &Check::name);
  BOOST_TEST_REQUIRE((failed != merged.checks.end()));
  BOOST_TEST((failed->seen == Value("1")));
  BOOST_TEST(std::ranges::count(merged.checks, "node", &Check::name) == 1);
}
