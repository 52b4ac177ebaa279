#include "lab/base/error.hh"
#include "lab/base/text.hh"
#include "lab/harness/plan.hh"
#include "lab/harness/runner.hh"

#include <boost/test/unit_test.hpp>

#include <set>

using namespace schedlab;
using namespace schedlab::harness;

namespace {

constexpr std::string_view mechanisms[] = {"pipe", "futex", "yield"};

constexpr Param params[] = {
    {.name = "count", .help = "", .smoke = "1", .quick = "2", .full = "3", .min = 1, .max = 9},
    {.name = "sizes",
     .help = "",
     .kind = Param::Kind::size,
     .list = true,
     .smoke = "0",
     .quick = "0,16K",
     .full = "0,16K,1M",
     .max = 1 << 30},
    {.name = "mechanism",
     .help = "",
     .kind = Param::Kind::word,
     .smoke = "pipe",
     .quick = "pipe",
     .full = "futex",
     .words = mechanisms},
    {.name = "mechanisms",
     .help = "",
     .kind = Param::Kind::word,
     .list = true,
     .smoke = "pipe",
     .quick = "pipe,futex",
     .full = "pipe,futex,yield",
     .words = mechanisms},
};

void plan_two(Plan& plan) {
  for (const auto* name : {"a", "b"}) {
    SeriesPlan series;
    series.name = name;
    plan.add(std::move(series));
  }
}

void plan_unsupported(Plan&) {
  throw Unsupported("no message queues; load the module");
}

constexpr Lab make_lab(void (*plan)(Plan&), unsigned min_cpus = 1) {
  return {.name = "fake",
          .family = "test",
          .question = "",
          .min_cpus = min_cpus,
          .params = params,
          .metrics = {},
          .plan = plan,
          .answer = nullptr};
}
constexpr Lab lab = make_lab(plan_two);
constexpr Lab bare = {.name = "bare",
                      .family = "test",
                      .question = "",
                      .metrics = {},
                      .plan = plan_two,
                      .answer = nullptr};

const affinity::Topology& machine() {
  static const auto topology = affinity::Topology::from_synthetic("core:2 pu:1");
  return topology;
}

Settings settings(Preset preset, std::map<std::string, std::string> values = {}) {
  return {.preset = preset, .placement = "all", .values = std::move(values), .driver = "auto"};
}

std::string refusal(std::string_view param, std::string_view value, const Lab& of = lab) {
  try {
    check_value(of, param, value);
  } catch (const BadInput& error) {
    return error.what();
  }
  return "";
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_value_within_the_descriptor_is_taken) {
  for (const auto& [param, value] :
       {std::pair("count", "1"), std::pair("count", "9"), std::pair("sizes", "0"),
        std::pair("sizes", "64K,1M,1G"), std::pair("mechanism", "yield"),
        std::pair("mechanisms", "yield,pipe")})
    BOOST_TEST(refusal(param, value) == "");
}

BOOST_AUTO_TEST_CASE(a_value_out_of_range_is_refused_with_what_is_allowed) {
  BOOST_TEST(refusal("count", "0") == "fake.count: '0' is not a number from 1 to 9");
  BOOST_TEST(refusal("count", "10") == "fake.count: '10' is not a number from 1 to 9");
  BOOST_TEST(refusal("count", "1,2") == "fake.count: '1,2' is not a number from 1 to 9");
  BOOST_TEST(refusal("count", "many") == "fake.count: 'many' is not a number from 1 to 9");
  BOOST_TEST(refusal("count", "1K") == "fake.count: '1K' is not a number from 1 to 9");
  BOOST_TEST(refusal("count", "") == "fake.count: '' is not a number from 1 to 9");
  BOOST_TEST(refusal("sizes", "0,2G") ==
             "fake.sizes: '2G' is not a number from 0 to 1073741824 (K, M and G are taken)");
  BOOST_TEST(refusal("sizes", "0,") ==
             "fake.sizes: '' is not a number from 0 to 1073741824 (K, M and G are taken)");
}

BOOST_AUTO_TEST_CASE(a_word_that_is_not_known_is_refused_with_those_that_are) {
  BOOST_TEST(refusal("mechanism", "pip") == "fake.mechanism: 'pip' is not one of pipe futex yield");
  BOOST_TEST(refusal("mechanisms", "pipe,pip") ==
             "fake.mechanisms: 'pip' is not some of pipe futex yield");
  BOOST_TEST(refusal("mechanisms", "all") ==
             "fake.mechanisms: 'all' is not some of pipe futex yield");
}

BOOST_AUTO_TEST_CASE(a_parameter_that_is_not_known_is_refused_with_those_that_are) {
  BOOST_TEST(refusal("size", "1") ==
             "fake has no parameter 'size'; it has count, sizes, mechanism, mechanisms");
  BOOST_TEST(refusal("size", "1", bare) == "bare has no parameter 'size'; it has none");
}

BOOST_AUTO_TEST_CASE(a_value_may_be_given_once_in_whatever_way_it_is_written) {
  BOOST_TEST(refusal("mechanisms", "pipe,futex,pipe") == "fake.mechanisms: 'pipe' is given twice");
  BOOST_TEST(refusal("sizes", "64K,0,65536") == "fake.sizes: '65536' is given twice");
}

BOOST_AUTO_TEST_CASE(a_parameter_has_the_value_of_the_preset_unless_one_is_set) {
  for (const auto& [preset, count, sizes] :
       {std::tuple(Preset::smoke, 1, std::vector<std::int64_t>{0}),
        std::tuple(Preset::quick, 2, std::vector<std::int64_t>{0, 16 << 10}),
        std::tuple(Preset::full, 3, std::vector<std::int64_t>{0, 16 << 10, 1 << 20})}) {
    const Plan plan(lab, machine(), settings(preset));
    BOOST_TEST(plan.number("count") == count);
    BOOST_TEST(plan.numbers("sizes") == sizes, boost::test_tools::per_element());
  }
  const Plan plan(lab, machine(), settings(Preset::smoke, {{"mechanisms", "yield,futex"}}));
  const std::vector<std::string> words = {"yield", "futex"};
  BOOST_TEST(plan.words("mechanisms") == words, boost::test_tools::per_element());
  BOOST_TEST(plan.text("mechanism") == "pipe");
  BOOST_CHECK_THROW(static_cast<void>(plan.text("no such")), std::logic_error);
}

BOOST_AUTO_TEST_CASE(a_placement_that_does_not_exist_is_the_users_error) {
  auto wrong = settings(Preset::smoke);
  wrong.placement = "core:7";
  BOOST_CHECK_THROW(Plan(lab, machine(), wrong), BadInput);
}

BOOST_AUTO_TEST_CASE(a_plan_knows_its_processes_and_may_set_its_budget) {
  auto six = settings(Preset::quick);
  six.processes = 6;
  Plan plan(lab, machine(), six);
  BOOST_TEST(plan.processes() == 6u);
  BOOST_TEST(!plan.budget_s().has_value());
  BOOST_TEST(budget_of(plan) == lab.budget.quick_s);
  plan.set_budget_s(90);
  BOOST_TEST(budget_of(plan) == 90.0);
}

BOOST_AUTO_TEST_CASE(what_is_foretold_is_the_budget_and_the_set_up_of_all_processes) {
  auto six = settings(Preset::quick);
  six.processes = 6;
  Plan plan(lab, machine(), six);
  const auto add = [&plan](const char* name, unsigned parts, const char* skip) {
    SeriesPlan series;
    series.name = name;
    series.parts = parts;
    series.skip = skip;
    series.set_up_s = 1.5;
    plan.add(std::move(series));
  };
  add("of all", 1, "");
  BOOST_TEST(foretold_s(plan) == lab.budget.quick_s + 6 * 1.5);
  add("of every third", 3, "");
  add("of none", 1, "cannot run here");
  BOOST_TEST(foretold_s(plan) == lab.budget.quick_s + 6 * 1.5 + 2 * 1.5);
}

BOOST_AUTO_TEST_CASE(two_series_of_one_name_are_the_labs_error) {
  Plan plan(lab, machine(), settings(Preset::smoke));
  plan_two(plan);
  BOOST_TEST(plan.find("a") == &plan.series()[0]);
  BOOST_TEST(plan.find("c") == nullptr);
  BOOST_CHECK_THROW(plan_two(plan), std::logic_error);
}

BOOST_AUTO_TEST_CASE(skipped_series_are_planned_but_do_not_run) {
  Plan plan(lab, machine(), settings(Preset::smoke));
  plan_two(plan);
  SeriesPlan absent;
  absent.name = "absent";
  absent.skip = "no L3 is shared";
  plan.add(std::move(absent));
  BOOST_TEST(plan.series().size() == 3u);
  BOOST_TEST(plan.runnable() == 2u);
}

BOOST_AUTO_TEST_CASE(what_the_machine_lacks_is_a_series_that_is_skipped_with_the_reason) {
  Plan plan(lab, machine(), settings(Preset::smoke));
  const affinity::Absent lacking[] = {{"l3", "no L3 is shared"}, {"smt", "no core has two CPUs"}};
  plan.add_absent(lacking);
  BOOST_TEST_REQUIRE(plan.series().size() == 2u);
  const SeriesPlan* l3 = plan.find("l3");
  BOOST_TEST_REQUIRE(l3);
  BOOST_TEST(l3->relation == "l3");
  BOOST_TEST(l3->skip == "no L3 is shared");
  BOOST_TEST(plan.runnable() == 0u);
}

BOOST_AUTO_TEST_CASE(a_lab_that_cannot_run_here_gives_the_reason) {
  const PlanOutcome fine = plan_lab(lab, machine(), settings(Preset::smoke));
  BOOST_TEST(fine.unsupported == "");
  BOOST_TEST(fine.plan->runnable() == 2u);
  constexpr Lab wide = make_lab(plan_two, 3);
  const PlanOutcome narrow = plan_lab(wide, machine(), settings(Preset::smoke));
  BOOST_TEST(narrow.unsupported == "needs 3 CPUs; 2 usable here");
  BOOST_TEST(narrow.plan->series().empty());
  constexpr Lab lacking = make_lab(plan_unsupported);
  BOOST_TEST(plan_lab(lacking, machine(), settings(Preset::smoke)).unsupported ==
             "no message queues; load the module");
}

BOOST_AUTO_TEST_CASE(every_default_of_every_lab_passes_its_own_check) {
  BOOST_TEST(all_labs().size() > 0u);
  for (const Lab* each : all_labs())
    for (const auto& param : each->params)
      for (const auto value : {param.smoke, param.quick, param.full})
        BOOST_TEST(refusal(param.name, value, *each) == "");
}

BOOST_AUTO_TEST_CASE(the_metrics_of_every_lab_have_room_in_a_sample) {
  for (const Lab* each : all_labs())
    BOOST_TEST(each->metrics.size() <= max_metrics, each->name);
}

BOOST_AUTO_TEST_CASE(every_lab_plans_its_series_on_every_shape_of_machine) {
  for (const auto* shape : {"pu:1", "core:2 pu:1", "core:1 pu:2", "pack:2 numa:1 l3:1 core:2 pu:2"})
    for (const Lab* each : all_labs())
      for (const auto preset : {Preset::smoke, Preset::quick, Preset::full}) {
        const auto topology = affinity::Topology::from_synthetic(shape);
        const PlanOutcome outcome = plan_lab(*each, topology, settings(preset));
        std::set<std::string> names;
        for (const auto& series : outcome.plan->series()) {
          names.insert(series.name);
          BOOST_TEST((series.make || !series.skip.empty()), each->name << ": " << series.name);
          for (const unsigned cpu : series.cpus)
            BOOST_TEST(topology.usable().contains(cpu));
          for (const auto& rule : series.derive)
            BOOST_TEST(rule.metric < each->metrics.size());
        }
        BOOST_TEST(names.size() == outcome.plan->series().size());
        BOOST_TEST((outcome.plan->runnable() > 0 || !outcome.unsupported.empty()),
                   each->name << " on " << shape);
      }
}

// A term of a series that is planned nowhere would make its difference vanish without a word.
BOOST_AUTO_TEST_CASE(every_term_of_a_derived_cost_names_a_series_of_the_plan) {
  const auto topology = affinity::Topology::from_synthetic("pack:2 numa:1 l3:1 core:2 pu:2");
  for (const Lab* each : all_labs()) {
    const PlanOutcome outcome = plan_lab(*each, topology, settings(Preset::full));
    for (const auto& series : outcome.plan->series())
      for (const auto& rule : series.derive) {
        for (const auto& term : rule.value)
          BOOST_TEST(outcome.plan->find(term.series), each->name << ": " << term.series);
        for (const auto& floor : rule.floors)
          BOOST_TEST(outcome.plan->find(floor.term.series),
                     each->name << ": " << floor.term.series);
      }
  }
}
