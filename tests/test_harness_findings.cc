#include "lab/harness/findings.hh"

#include <boost/test/unit_test.hpp>

using namespace schedlab::harness;

namespace {

// A metric "hop" with these medians, one for each process; NaN where it was not measured.
Series series(const std::string& name, const std::vector<double>& medians) {
  Metric metric;
  metric.name = "hop";
  for (std::uint32_t process = 0; process < medians.size(); ++process) {
    PerRun run;
    run.process = process;
    if (medians[process] == medians[process])
      run.median = medians[process];
    metric.per_run.push_back(run);
  }
  Series made;
  made.name = name;
  made.metrics.push_back(metric);
  return made;
}

constexpr double gap = std::numeric_limits<double>::quiet_NaN();

LabResult result() {
  LabResult lab;
  lab.series = {series("a", {20, 40, 60, 80, 100, 120}), series("b", {10, 20, 30, 40, 50, 60}),
                series("gaps", {gap, 20, gap, 40, 50, 60}), series("zero", {0, 1, 2, 3, 4, 5}),
                series("other half", {10, gap, gap, gap, gap, gap})};
  lab.series.push_back({});
  lab.series.back().name = "skipped";
  return lab;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_series_and_its_metric_are_found_by_name_or_are_null) {
  const LabResult lab = result();
  const Findings findings(lab);
  BOOST_TEST(&findings.result() == &lab);
  BOOST_TEST(findings.series("b") == &lab.series[1]);
  BOOST_TEST(findings.metric("b", "hop") == &lab.series[1].metrics[0]);
  BOOST_TEST(findings.metric("b", "total") == nullptr);
  BOOST_TEST(findings.metric("c", "hop") == nullptr);
  BOOST_TEST(findings.metric("skipped", "hop") == nullptr);
  BOOST_TEST(find_metric(lab.series[0], "hop") == &lab.series[0].metrics[0]);
}

BOOST_AUTO_TEST_CASE(the_numbers_of_an_invalid_series_are_as_if_not_measured) {
  LabResult lab = result();
  lab.series[0].status = Status::noisy;
  const Findings findings(lab);
  BOOST_TEST(findings.ratio("a", "b", "hop").has_value());
  lab.series[0].status = Status::invalid;
  lab.series[0].checks = {{"hops counted", 6, 5, false}};
  BOOST_TEST(!findings.metric("a", "hop"));
  BOOST_TEST(!find_metric(lab.series[0], "hop"));
  for (const auto& [first, second] : {std::pair("a", "b"), std::pair("b", "a")}) {
    BOOST_TEST(!findings.ratio(first, second, "hop"));
    BOOST_TEST(!findings.difference(first, second, "hop"));
  }
  // What it says of itself can be asked for, and a table shows its numbers with their mark.
  BOOST_TEST(findings.series("a")->checks.size() == 1u);
  BOOST_TEST(recorded_metric(lab.series[0], "hop") == &lab.series[0].metrics[0]);
  BOOST_TEST(!recorded_metric(lab.series[0], "total"));
}

BOOST_AUTO_TEST_CASE(a_parameter_is_found_by_name_and_told_as_text_or_number) {
  Series one;
  one.params = {
      {"pages", Value("base")}, {"ratio", Value(0.25)}, {"count", Value(64)}, {"us", Value("100")}};
  BOOST_TEST(find_param(one, "ratio") == &one.params[1].second);
  BOOST_TEST(find_param(one, "page") == nullptr);
  BOOST_TEST(param_text(one, "pages") == "base");
  BOOST_TEST(param_text(one, "ratio") == "0.25");
  BOOST_TEST(param_text(one, "count") == "64");
  BOOST_TEST(param_text(one, "page") == "");
  BOOST_TEST(param_number(one, "ratio") == 0.25);
  BOOST_TEST(param_number(one, "us") == 100);
  BOOST_TEST(param_number(one, "pages") == 0);
  BOOST_TEST(param_number(one, "page") == 0);
}

BOOST_AUTO_TEST_CASE(a_ratio_and_a_difference_are_paired_by_process) {
  const LabResult lab = result();
  const Findings findings(lab);
  const auto ratio = findings.ratio("a", "b", "hop").value();
  BOOST_TEST(ratio.value == 2.0, boost::test_tools::tolerance(1e-12));
  // Every process says 2; unpaired, the bounds would be 0.33 and 12.
  BOOST_TEST(ratio.interval.value().low == 2.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(ratio.interval.value().high == 2.0, boost::test_tools::tolerance(1e-12));
  const auto difference = findings.difference("a", "b", "hop").value();
  BOOST_TEST(difference.value == 35.0);
  BOOST_TEST(difference.interval.value().low == 10.0);
  BOOST_TEST(difference.interval.value().high == 60.0);
}

BOOST_AUTO_TEST_CASE(a_process_that_lacks_one_of_both_is_left_out_and_not_shifted) {
  const LabResult lab = result();
  const Findings findings(lab);
  const auto ratio = findings.ratio("a", "gaps", "hop").value();
  BOOST_TEST(ratio.value == 2.0, boost::test_tools::tolerance(1e-12));
  BOOST_TEST(!ratio.interval);
  BOOST_TEST(findings.difference("gaps", "b", "hop").value().value == 0.0);
  BOOST_TEST(!findings.ratio("gaps", "other half", "hop"));
  BOOST_TEST(!findings.difference("gaps", "other half", "hop"));
}

BOOST_AUTO_TEST_CASE(what_was_not_measured_or_is_not_positive_has_no_ratio) {
  const LabResult lab = result();
  const Findings findings(lab);
  BOOST_TEST(!findings.ratio("a", "zero", "hop"));
  BOOST_TEST(findings.difference("a", "zero", "hop").has_value());
  BOOST_TEST(!findings.ratio("a", "skipped", "hop"));
  BOOST_TEST(!findings.ratio("nothing", "a", "hop"));
  BOOST_TEST(!findings.difference("a", "b", "total"));
}
