#include "lab/base/text.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/lab_text.hh"
#include "lab/harness/validity.hh"

#include <boost/test/unit_test.hpp>

namespace schedlab::harness {

namespace {

constexpr MetricInfo metrics[] = {
    {.name = "round_trip", .unit = "ns", .help = ""},
    {.name = "switch", .unit = "ns", .help = "", .interval = true},
    {.name = "hidden", .unit = "ns", .help = "", .show = false},
};

constexpr Lab fake = {.name = "switch_cost",
                      .family = "switch",
                      .question = "what does a switch cost?",
                      .metrics = metrics,
                      .plan = nullptr,
                      .answer = nullptr};
constexpr const Lab* labs[] = {&fake};

}  // namespace

// The table of this program's labs, generated elsewhere.
std::span<const Lab* const> all_labs() {
  return labs;
}

}  // namespace schedlab::harness

using namespace schedlab;
using namespace schedlab::harness;

namespace {

Interval interval(double low, double high) {
  return {low, high, 0.96875, "order statistics"};
}

Metric metric(const std::string& name, double median, std::optional<Interval> ci = {}) {
  Metric made;
  made.name = name;
  made.unit = "ns";
  made.median = median;
  made.ci = std::move(ci);
  return made;
}

Series series(const std::string& mechanism, const std::string& tasks, double switch_ns) {
  Series made;
  made.name = "same-pu/" + mechanism + "/" + tasks;
  made.params = {{"mechanism", mechanism}, {"tasks", tasks}};
  made.placement = {"same-pu", {2, 2}, {0, 0}};
  made.metrics = {metric("round_trip", 2 * switch_ns),
                  metric("switch", switch_ns, interval(0.98 * switch_ns, 1.02 * switch_ns)),
                  metric("hidden", 1)};
  return made;
}

Series skipped(const std::string& name, const std::string& reason) {
  Series made;
  made.name = name;
  made.status = Status::skipped;
  made.reason = reason;
  return made;
}

LabResult small_result() {
  LabResult lab;
  lab.name = "switch_cost";
  lab.question = "what does a switch cost?";
  lab.answer = "A switch costs 1.42 us [1.39 1.45].";
  lab.series = {series("pipe", "threads", 1424), series("futex", "processes", 995)};
  return lab;
}

// A result with everything that can be shown.
LabResult full_result() {
  LabResult lab = small_result();
  lab.series[0].metrics[1].net = Net{900, interval(880, 930), false};
  lab.series[0].status = Status::noisy;
  lab.series[0].warnings = {make_warning(Code::steal, {}, {}, "3 of 24 samples")};
  lab.series[1].metrics[1].net = Net{3, interval(-5, 12), true};
  lab.series[1].warnings = {make_warning(Code::steal, {}, Severity::note, "1 of 24 samples")};
  Series floor = series("null syscall", "", 85.3);
  floor.params = {{"floor", "null syscall"}, {"role", "floor"}};
  lab.series.push_back(floor);
  for (const auto* name : {"smt/a", "smt/b", "smt/c", "smt/d"})
    lab.series.push_back(skipped(name, "no two CPUs share a core"));
  lab.series.push_back(skipped("die", "the machine reports no dies"));
  lab.series.push_back(skipped("l2", "no two CPUs share an L2 cache without sharing a core"));
  lab.warnings = {make_warning(Code::few, {{"processes", 3}})};
  lab.claims = {{"C12", "Processes switch slower", "S0", Verdict::confirmed, "112 % [108 115]", ""},
                {"C82", "Switching is slow", "S4", Verdict::inconclusive, "", "a quiet machine"}};
  return lab;
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_answer_comes_first_and_then_the_table) {
  BOOST_TEST(lab_text(small_result(), {}, {}) ==
             "switch_cost  what does a switch cost?\n"
             "  A switch costs 1.42 us [1.39 1.45].\n"
             "\n"
             "  same-pu L#0(P#2)\n"
             "                      round\n"
             "                       trip   switch\n"
             "  pipe   threads    2.85 us  1.42 us [1.40 1.45]\n"
             "  futex  processes  1.99 us   995 ns [975 1015]\n");
}

BOOST_AUTO_TEST_CASE(a_full_result_is_told_in_its_order_within_80_columns) {
  const std::string text = lab_text(full_result(), {{"switch_cost.switch", 1500}}, {});
  BOOST_TEST(text ==
             "switch_cost  what does a switch cost?\n"
             "  A switch costs 1.42 us [1.39 1.45].\n"
             "  predicted switch 1.50 us: measured 1.42 us [1.40 1.45] (same-pu/pipe/threads);\n"
             "  the prediction is +5 % off\n"
             "\n"
             "  same-pu L#0(P#2)\n"
             "                      round\n"
             "                       trip   switch                 net\n"
             "  pipe   threads    2.85 us  1.42 us [1.40 1.45]  900 ns [880 930]  ~\n"
             "  futex  processes  1.99 us   995 ns [975 1015]    below resolution\n"
             "\n"
             "  floors L#0(P#2)\n"
             "                 round\n"
             "                  trip   switch\n"
             "  null syscall  171 ns  85.3 ns [83.6 87.0]\n"
             "\n"
             "  skipped smt/a and 3 more: no two CPUs share a core\n"
             "  skipped l2: no two CPUs share an L2 cache without sharing a core\n"
             "  skipped die: the machine reports no dies\n"
             "\n"
             "  ~ noisy, read it with care:\n"
             "  FEW: There are too few processes for a 95 % interval.\n"
             "  ~ STEAL (2 series): The hypervisor ran something else on the measured CPUs:\n"
             "    3 of 24 samples. Repeat at a quieter time, or on a dedicated or bare-metal\n"
             "    host.\n"
             "\n"
             "  C12 confirmed: Processes switch slower. Here: 112 % [108 115].\n"
             "  C82 inconclusive: Switching is slow. Needs a quiet machine.\n");
  BOOST_TEST(widest_line(text) <= 80u);
}

BOOST_AUTO_TEST_CASE(a_column_of_numbers_has_the_name_of_its_parameter) {
  LabResult lab = small_result();
  lab.series[0].params = {{"tasks", "threads"}, {"ring", 2}, {"set_size", "16K"}};
  lab.series[1].params = {{"tasks", "processes"}, {"ring", 8}, {"set_size", "1M"}};
  const std::string text = lab_text(lab, {}, {});
  BOOST_TEST(text.find("                   set     round\n"
                       "             ring  size     trip   switch\n"
                       "  threads    2     16K   2.85 us") != std::string::npos,
             text);
}

BOOST_AUTO_TEST_CASE(the_signs_beside_rows_are_explained_where_there_are_any) {
  LabResult lab = small_result();
  lab.series[0].warnings = {make_warning(Code::steal, {}, Severity::invalid, "9 of 24 samples")};
  lab.series[1].warnings = {make_warning(Code::busy, {}, Severity::noisy, "3 of 24 samples")};
  BOOST_TEST(lab_text(lab, {}, {})
                 .find("\n  ~ noisy, read it with care; ! invalid, do not use it:\n  ! STEAL") !=
             std::string::npos);
  lab.series[0].warnings = {make_warning(Code::steal, {}, Severity::note, "1 of 24 samples")};
  lab.series[1].warnings.clear();
  BOOST_TEST(lab_text(lab, {}, {}).find("noisy") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_prediction_is_told_to_be_within_the_interval_or_how_far_off) {
  const auto line = [](double predicted) {
    const std::string text =
        lab_text(small_result(), {{"switch_cost.switch", predicted}}, {.width = 200});
    return std::string(split(text, '\n')[2]);
  };
  const std::string head = ": measured 1.42 us [1.40 1.45] (same-pu/pipe/threads); the prediction "
                           "is ";
  BOOST_TEST(line(1430) == "  predicted switch 1.43 us" + head + "within the interval");
  BOOST_TEST(line(712) == "  predicted switch 712 ns" + head + "-50 % off");
}

BOOST_AUTO_TEST_CASE(a_prediction_for_another_lab_or_metric_is_not_told_here) {
  const std::string plain = lab_text(small_result(), {}, {});
  BOOST_TEST(lab_text(small_result(), {{"switch.switch", 1}, {"switch_cost.none", 1}}, {}) ==
             plain);
}

BOOST_AUTO_TEST_CASE(a_table_too_wide_loses_side_metrics_first_and_intervals_last) {
  LabResult lab = small_result();
  for (auto& row : lab.series)
    row.metrics[1].net = Net{900, interval(880, 930), false};
  const std::string wide = lab_text(lab, {}, {.width = 80});
  BOOST_TEST(wide.find("round\n") != std::string::npos);
  const std::string narrower = lab_text(lab, {}, {.width = 62});
  BOOST_TEST(narrower.find("round\n") == std::string::npos);
  BOOST_TEST(narrower.find("[880 930]") != std::string::npos);
  const std::string narrow = lab_text(lab, {}, {.width = 45});
  BOOST_TEST(narrow.find("1.42 us") != std::string::npos);
  BOOST_TEST(narrow.find("900 ns") != std::string::npos);
  BOOST_TEST(narrow.find("[880 930]") == std::string::npos);
  BOOST_TEST(widest_line(wide) <= 80u);
  BOOST_TEST(widest_line(narrower) <= 62u);
  BOOST_TEST(widest_line(narrow) <= 45u);
}

// Only where they are too wide together: in one table they are easier to compare.
BOOST_AUTO_TEST_CASE(rows_with_different_parameters_have_a_table_each_where_one_is_too_wide) {
  LabResult lab = small_result();
  lab.series.push_back(series("sleep", "threads", 700));
  for (const auto* count : {"1000", "2000"}) {
    Series other = series("words", "threads", 500);
    other.params = {{"mechanism", "words"}, {"count", count}, {"share_written", "50"}};
    lab.series.push_back(other);
  }
  const auto lines_with = [](const std::string& text, const std::string& word) {
    return std::ranges::count_if(split(text, '\n'), [&](std::string_view line) {
      return line.find(word) != std::string_view::npos;
    });
  };
  const std::string wide = lab_text(lab, {}, {.width = 80});
  BOOST_TEST(lines_with(wide, "same-pu L#0(P#2)") == 1, wide);
  const std::string narrow = lab_text(lab, {}, {.width = 33});
  BOOST_TEST(lines_with(narrow, "same-pu L#0(P#2)") == 2, narrow);
  for (const auto* cell : {"pipe", "sleep", "1000", "2000"})
    BOOST_TEST(lines_with(narrow, cell) == 1, narrow);
  BOOST_TEST(widest_line(narrow) <= 33u, narrow);
}

BOOST_AUTO_TEST_CASE(a_long_question_and_a_long_answer_are_wrapped) {
  LabResult lab = small_result();
  lab.question = "what does a switch cost here when the tasks that are switched have something to "
                 "do besides switching?";
  lab.answer = std::string(300, 'a');
  for (std::size_t i = 10; i < lab.answer.size(); i += 10)
    lab.answer[i] = ' ';
  const std::string text = lab_text(lab, {}, {});
  BOOST_TEST(widest_line(text) <= 80u);
  BOOST_TEST(text.find("have\n             something to do") != std::string::npos, text);
}

BOOST_AUTO_TEST_CASE(a_matrix_stands_below_the_tables_and_makes_no_row_or_column) {
  LabResult lab = small_result();
  const std::string tables = lab_text(lab, {}, {});
  Series pairs;
  pairs.name = "matrix/two-lines";
  pairs.status = Status::noisy;
  pairs.metrics = {metric("round_trip", 0)};
  pairs.metrics[0].matrix = Matrix{{"a", "b"}, {"a", "b"}, {{1, 2}, {3, 4}}, {}};
  lab.series.push_back(pairs);
  BOOST_TEST(lab_text(lab, {}, {}) == tables + "\n"
                                               "  ~ matrix/two-lines, round trip, ns\n"
                                               "       a    b\n"
                                               "  a 1.00 2.00\n"
                                               "  b 3.00 4.00\n");
  lab.series.back().metrics[0].name = "hidden";  // which the lab keeps to the file
  BOOST_TEST(lab_text(lab, {}, {}) == tables);
}

BOOST_AUTO_TEST_CASE(a_series_that_some_processes_lack_says_so_once) {
  LabResult lab = small_result();
  for (auto& one : lab.series)
    one.reason = "2 of 6 processes failed: pipe: Too many open files";
  lab.series.push_back(skipped("smt/a", "no two CPUs share a core"));
  Series broken = skipped("smt/b", "no replicate process ended well");
  broken.status = Status::failed;
  lab.series.push_back(broken);
  const std::string text = lab_text(lab, {}, {.width = 120});
  BOOST_TEST(text.substr(text.find("\n\n  failed") + 1) ==
             "\n"
             "  failed smt/b: no replicate process ended well\n"
             "  measured in part same-pu/pipe/threads, same-pu/futex/processes: 2 of 6 processes "
             "failed: pipe: Too many open files\n"
             "  skipped smt/a: no two CPUs share a core\n");
}

BOOST_AUTO_TEST_CASE(a_skipped_or_failed_lab_says_why_and_shows_no_table) {
  LabResult lab;
  lab.name = "switch_cost";
  lab.question = "what does a switch cost?";
  lab.status = Status::skipped;
  lab.reason = "needs 2 CPUs; 1 usable here";
  lab.series = {skipped("l2", "needs 2 CPUs")};
  BOOST_TEST(lab_text(lab, {}, {}) == "switch_cost  what does a switch cost?\n"
                                      "  skipped: needs 2 CPUs; 1 usable here\n");
  lab.status = Status::failed;
  lab.reason = "a replicate process failed: killed by SIGSEGV";
  lab.series.clear();
  BOOST_TEST(lab_text(lab, {}, {}) == "switch_cost  what does a switch cost?\n"
                                      "  failed: a replicate process failed: killed by SIGSEGV\n");
}

BOOST_AUTO_TEST_CASE(a_lab_this_program_does_not_know_shows_all_its_metrics_with_intervals) {
  LabResult lab = small_result();
  lab.name = "from_the_future";
  lab.series.resize(1);
  lab.series[0].placement = {};
  BOOST_TEST(lab_text(lab, {}, {}) == "from_the_future  what does a switch cost?\n"
                                      "  A switch costs 1.42 us [1.39 1.45].\n"
                                      "\n"
                                      "                   round\n"
                                      "                    trip   switch               hidden\n"
                                      "  pipe  threads  2.85 us  1.42 us [1.40 1.45]  1.00 ns\n");
}

BOOST_AUTO_TEST_CASE(many_cpus_are_named_by_their_ranges) {
  LabResult lab = small_result();
  lab.series[0].placement = {"all", {0, 2, 4, 6, 1}, {0, 1, 2, 3, 5}};
  lab.series[1].placement = {"pair", {7, 9}, {3, 8}};
  const std::string text = lab_text(lab, {}, {});
  BOOST_TEST(text.find("all 5 CPUs L#0-3,5(P#0-2,4,6)") != std::string::npos);
  BOOST_TEST(text.find("pair L#3(P#7) L#8(P#9)") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(colour_marks_headings_and_changes_no_word) {
  std::string coloured = lab_text(full_result(), {}, {.width = 80, .colour = true});
  BOOST_TEST(coloured.starts_with("\033[1mswitch_cost\033[0m  what"));
  for (const std::string code : {"\033[1m", "\033[0m"})
    for (auto at = coloured.find(code); at != std::string::npos; at = coloured.find(code))
      coloured.erase(at, code.size());
  BOOST_TEST(coloured == lab_text(full_result(), {}, {}));
}
