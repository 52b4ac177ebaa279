#include "lab/base/text.hh"

#include <boost/test/unit_test.hpp>

using namespace schedlab;

BOOST_AUTO_TEST_CASE(the_nearest_name_is_found_through_a_typo_a_swap_and_a_part) {
  const std::vector<std::string> labs = {"switch_cost", "switch_footprint", "clock", "null"};
  BOOST_TEST(nearest("swich_cost", labs).value() == "switch_cost");
  BOOST_TEST(nearest("clcok", labs).value() == "clock");
  BOOST_TEST(nearest("footprint", labs).value() == "switch_footprint");
}

BOOST_AUTO_TEST_CASE(a_word_that_resembles_nothing_has_no_nearest_name) {
  const std::vector<std::string> labs = {"switch_cost", "clock"};
  BOOST_TEST(!nearest("bandwidth", labs));
}

BOOST_AUTO_TEST_CASE(a_size_takes_binary_suffixes_and_refuses_the_rest) {
  BOOST_TEST(to_size("0").value() == 0);
  BOOST_TEST(to_size("64K").value() == 65536);
  BOOST_TEST(to_size("2m").value() == 2 << 20);
  BOOST_TEST(!to_size("64KB"));
  BOOST_TEST(!to_size("-1"));
  BOOST_TEST(!to_size(""));
  BOOST_TEST(!to_size("9223372036854775807G"));
}

BOOST_AUTO_TEST_CASE(a_number_is_the_whole_text_or_nothing) {
  BOOST_TEST(to_number("-12").value() == -12);
  BOOST_TEST(!to_number("12x"));
  BOOST_TEST(!to_number(" 12"));
  BOOST_TEST(!to_number("99999999999999999999"));
}

BOOST_AUTO_TEST_CASE(a_number_is_found_behind_what_begins_a_line_and_nowhere_else) {
  const std::string_view text = "Rss:  512 kB\nPss_Dirty: 3 kB\nPss:\t12\nnone:\nword: x kB";
  BOOST_TEST(number_behind(text, "Rss:").value() == 512);
  BOOST_TEST(number_behind(text, "Pss:").value() == 12);
  BOOST_TEST(number_behind("oom_kill_disable 0\noom_kill 3", "oom_kill ").value() == 3);
  for (const auto* key : {"ss:", "kB", "none:", "word:", "Private:"})
    BOOST_TEST(!number_behind(text, key), key);
}

BOOST_AUTO_TEST_CASE(a_glob_matches_with_stars_and_question_marks) {
  BOOST_TEST(matches_glob("switch_*", "switch_cost"));
  BOOST_TEST(matches_glob("*cost*", "switch_cost"));
  BOOST_TEST(matches_glob("c?ock", "clock"));
  BOOST_TEST(!matches_glob("switch_", "switch_cost"));
  BOOST_TEST(!matches_glob("", "clock"));
}

BOOST_AUTO_TEST_CASE(wrapping_keeps_words_whole_and_lines_short) {
  const auto lines = wrap("one two  three four", 9);
  const std::vector<std::string> expected = {"one two", "three", "four"};
  BOOST_TEST(lines == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(the_width_of_a_text_counts_code_points_not_bytes) {
  BOOST_TEST(display_width("µs ±") == 4u);
}

BOOST_AUTO_TEST_CASE(the_widest_line_of_a_text_is_wherever_it_is) {
  BOOST_TEST(widest_line("") == 0u);
  BOOST_TEST(widest_line("one\nµs ±\ntwo\n") == 4u);
  BOOST_TEST(widest_line("one\ntwo\nthree") == 5u);
}
