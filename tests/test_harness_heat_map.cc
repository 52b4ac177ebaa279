#include "lab/harness/heat_map.hh"

#include "lab/base/text.hh"

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <regex>

namespace ut = boost::unit_test;
using namespace schedlab;
using namespace schedlab::harness;

namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();

// Two caches of two cores each.
const Matrix four = {{"L#0(P#0)", "L#1(P#2)", "L#2(P#1)", "L#3(P#3)"},
                     {"L#0(P#0)", "L#1(P#2)", "L#2(P#1)", "L#3(P#3)"},
                     {{none, 21.34, 84, 85}, {21.5, none, 83.96, 86}, {84, 84, none, 21}, {88, 89}},
                     {2}};

// Transfers within a core, a cache, and beyond.
Matrix machine(unsigned cpus, unsigned cache, bool borders) {
  Matrix matrix;
  for (unsigned cpu = 0; cpu < cpus; ++cpu) {
    matrix.rows.push_back("L#" + std::to_string(cpu) + "(P#" + std::to_string(cpus - 1 - cpu) +
                          ")");
    matrix.values.emplace_back();
    for (unsigned other = 0; other < cpus; ++other)
      matrix.values.back().push_back(cpu == other                   ? none
                                     : cpu / 2 == other / 2         ? 8.2
                                     : cpu / cache == other / cache ? 21.4
                                                                    : 93);
    if (borders && cpu % cache == 0)
      matrix.borders.push_back(cpu);
  }
  matrix.columns = matrix.rows;
  return matrix;
}

std::string plain(const Matrix& matrix, std::size_t width = 80) {
  return heat_map("transfer", matrix, "ns", {.width = width});
}

std::string without_colour(const std::string& text) {
  return std::regex_replace(text, std::regex("\033\\[[0-9;]*m"), "");
}

std::string line_of(const std::string& text, std::size_t index) {
  return std::string(split(text, '\n').at(index));
}

}  // namespace

BOOST_AUTO_TEST_CASE(numbers_stand_in_cells_and_rules_at_borders) {
  BOOST_TEST(plain(four) == "  transfer, ns\n"
                            "            L#0  L#1    L#2  L#3\n"
                            "  L#0(P#0)    . 21.3 | 84.0 85.0\n"
                            "  L#1(P#2) 21.5    . | 84.0 86.0\n"
                            "          -----------+----------\n"
                            "  L#2(P#1) 84.0 84.0 |    . 21.0\n"
                            "  L#3(P#3) 88.0 89.0 |    .    .\n");
}

BOOST_AUTO_TEST_CASE(two_cpus_need_no_border_and_large_values_another_unit) {
  const Matrix two = {{"node L#0(P#0)", "node L#1(P#2)"},
                      {"node L#0(P#0)", "node L#1(P#2)", "node L#2(P#1)"},
                      {{35.4e9, 11.2e9, 2.25e9}, {11.3e9, 36e9, 2.2e9}},
                      {}};
  BOOST_TEST(heat_map("bandwidth", two, "B/s", {}) == "  bandwidth, GB/s\n"
                                                      "                 L#0  L#1  L#2\n"
                                                      "  node L#0(P#0) 35.4 11.2  2.2\n"
                                                      "  node L#1(P#2) 11.3 36.0  2.2\n");
}

BOOST_AUTO_TEST_CASE(labels_of_another_kind_are_kept_whole) {
  const Matrix sizes = {{"load", "store"}, {"64 KiB", "1 MiB"}, {{1, 4}, {2, 8}}, {}};
  BOOST_TEST(heat_map("cost", sizes, "", {}) == "  cost\n"
                                                "        64 KiB  1 MiB\n"
                                                "  load    1.00   4.00\n"
                                                "  store   2.00   8.00\n");
}

BOOST_AUTO_TEST_CASE(where_numbers_do_not_fit_they_lose_digits_and_then_become_steps) {
  BOOST_TEST(plain(four, 29) == "  transfer, ns\n"
                                "           L#0 L#1   L#2 L#3\n"
                                "  L#0(P#0)   .  21 |  84  85\n"
                                "  L#1(P#2)  22   . |  84  86\n"
                                "          ---------+--------\n"
                                "  L#2(P#1)  84  84 |   .  21\n"
                                "  L#3(P#3)  88  89 |   .   .\n");
  BOOST_TEST(plain(four, 16) == "  transfer, ns\n"
                                "      0     2\n"
                                "  L#0 . 0 | 9 9\n"
                                "  L#1 0 . | 9 9\n"
                                "     -----+----\n"
                                "  L#2 9 9 | . 0\n"
                                "  L#3 9 9 | . .\n"
                                "  scale, each\n"
                                "  step from:\n"
                                "  0=21.0 1=24.3\n"
                                "  2=28.0 3=32.4\n"
                                "  4=37.4 5=43.2\n"
                                "  6=49.9 7=57.7\n"
                                "  8=66.7 9=77.0\n"
                                "  to 89.0 ns\n");
}

BOOST_AUTO_TEST_CASE(steps_are_of_equal_ratio_so_that_one_slow_pair_hides_nothing) {
  Matrix outlier = machine(30, 10, false);
  outlier.values[0][29] = 8200;  // ratio 1000: each step doubles
  const std::string text = plain(outlier);
  BOOST_TEST(line_of(text, 2).find(". 0 1 1 1 1 1 1 1 1 3 3") != std::string::npos, text);
  BOOST_TEST(line_of(text, 2).ends_with("3 9"), text);
}

BOOST_AUTO_TEST_CASE(values_that_hardly_differ_share_a_step) {
  Matrix even = machine(30, 30, false);
  for (auto& row : even.values)
    std::ranges::replace(row, 8.2, 21.2);
  const std::string text = plain(even);
  for (std::size_t row = 0; row < 30; ++row) {
    const std::string cells = line_of(text, 2 + row).substr(sizeof "  L#29(P#29)" - 1);
    BOOST_TEST(cells.find_first_not_of(" .0") == std::string::npos, cells);
  }
}

BOOST_AUTO_TEST_CASE(what_is_wider_still_is_summed_up_in_blocks_between_borders) {
  BOOST_TEST(plain(machine(128, 32, true)) ==
             "  transfer, ns\n"
             "  128 x 128 cells do not fit: each is the median of a block between borders\n"
             "             L#0-31  L#32-63  L#64-95 L#96-127\n"
             "  L#0-31       21.4     93.0     93.0     93.0\n"
             "  L#32-63      93.0     21.4     93.0     93.0\n"
             "  L#64-95      93.0     93.0     21.4     93.0\n"
             "  L#96-127     93.0     93.0     93.0     21.4\n");
}

BOOST_AUTO_TEST_CASE(without_borders_neighbours_make_a_block) {
  const std::string text = plain(machine(384, 16, false));
  BOOST_TEST(line_of(text, 1) ==
             "  384 x 384 cells do not fit: each is the median of 6 x 6 neighbours");
  BOOST_TEST(line_of(text, 3).starts_with("  L#0-5     0009999"), text);
  BOOST_TEST(line_of(text, 66).starts_with("  L#378-383 9999"), text);
}

BOOST_AUTO_TEST_CASE(the_rows_of_a_matrix_that_is_not_square_are_never_merged) {
  Matrix wide = machine(384, 16, false);
  wide.rows = {"cas", "two lines"};
  wide.values.resize(2);
  const std::string text = plain(wide);
  BOOST_TEST(line_of(text, 1) ==
             "  2 x 384 cells do not fit: each is the median of 1 x 6 neighbours");
  BOOST_TEST(line_of(text, 3).starts_with("  cas       "), text);
  BOOST_TEST(line_of(text, 4).starts_with("  two lines "), text);
}

BOOST_DATA_TEST_CASE(no_line_is_wider_than_the_terminal,
                     ut::data::make({1u, 2u, 17u, 128u, 384u}) *
                         ut::data::make({40u, 80u, 160u, 200u}) * ut::data::make({false, true}),
                     cpus, width, borders) {
  const std::string text = plain(machine(cpus, 16, borders), width);
  BOOST_TEST(widest_line(text) <= width);
  BOOST_TEST(text.find("too wide") == std::string::npos);
  BOOST_TEST(std::ranges::all_of(text, [](char c) { return c == '\n' || (c >= ' ' && c <= '~'); }));
}

BOOST_DATA_TEST_CASE(colour_changes_no_word_and_plain_has_none, ut::data::make({2u, 24u, 128u}),
                     cpus) {
  const Matrix matrix = machine(cpus, 8, true);
  const std::string coloured = heat_map("transfer", matrix, "ns", {.width = 80, .colour = true});
  const std::string text = plain(matrix);
  BOOST_TEST(text.find('\033') == std::string::npos);
  BOOST_TEST(coloured.find("\033[38;5;") != std::string::npos);
  BOOST_TEST(coloured.ends_with("ns\n"));  // where there is colour, there is its scale
  BOOST_TEST(without_colour(coloured).starts_with(text.substr(0, text.find("  scale"))));
  BOOST_TEST(widest_line(without_colour(coloured)) <= 80u);
}

BOOST_AUTO_TEST_CASE(dark_shades_have_white_text_and_light_ones_black) {
  const Matrix two = {{"a", "b"}, {"a", "b"}, {{1, 10}, {none, 10}}, {}};
  const std::string text = heat_map("x", two, "", {.width = 80, .colour = true});
  BOOST_TEST(line_of(text, 2) ==
             "  a\033[38;5;231;48;5;17m  1.0\033[38;5;16;48;5;227m 10.0\033[0m");
  BOOST_TEST(line_of(text, 3) == "  b    .\033[38;5;16;48;5;227m 10.0\033[0m");
}

BOOST_AUTO_TEST_CASE(a_matrix_without_values_says_so) {
  for (const auto& empty :
       {Matrix{}, Matrix{{"a"}, {"a"}, {{none}}, {}}, Matrix{{"a", "b"}, {"a"}, {}, {7}}})
    BOOST_TEST(heat_map("x", empty, "ns", {}) == "  x\n  no cell was measured\n");
}

BOOST_AUTO_TEST_CASE(values_that_are_not_above_zero_have_a_scale_too) {
  const Matrix two = {{"a"}, {"a", "b", "c"}, {{-5, 0, 5}}, {}};
  const std::string text = heat_map("x", two, "", {.width = 80, .colour = true});
  BOOST_TEST(without_colour(text).find("from: -5.00 -4.00 -3.00") != std::string::npos,
             without_colour(text));
}

BOOST_AUTO_TEST_CASE(labels_without_end_are_not_drawn) {
  const std::vector<std::string> many(1'000'000, "L#0(P#0)");
  BOOST_TEST(heat_map("x", {many, many, {}, {}}, "ns", {}) ==
             "  x\n  too large to draw; the result file has it\n");
}
