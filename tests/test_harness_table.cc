#include "lab/harness/table.hh"

#include <boost/test/unit_test.hpp>

using namespace schedlab::harness;
using Align = Table::Align;

BOOST_AUTO_TEST_CASE(cells_line_up_two_spaces_apart_and_no_line_ends_in_spaces) {
  Table table({{"name", Align::left}, {"cost", Align::right}, {"", Align::left}});
  table.add({"pipe", "1.42 us", "~"});
  table.add({"futex-private", "995 ns", ""});
  BOOST_TEST(table.text(2) == "  name              cost\n"
                              "  pipe           1.42 us  ~\n"
                              "  futex-private   995 ns\n");
}

BOOST_AUTO_TEST_CASE(a_table_without_titles_has_no_header_row) {
  Table table({{"", Align::left}, {"", Align::right}});
  table.add({"a", "1"});
  table.add({"b", "22"});
  BOOST_TEST(table.text(0) == "a   1\nb  22\n");
}

BOOST_AUTO_TEST_CASE(a_column_without_cells_is_left_out_also_if_it_has_a_title) {
  Table table({{"name", Align::left}, {"net", Align::right}, {"cost", Align::right}});
  table.add({"a", "", "1"});
  BOOST_TEST(table.text(0) == "name  cost\na        1\n");
}

BOOST_AUTO_TEST_CASE(a_short_row_is_filled_up_and_a_row_may_be_empty) {
  Table table({{"", Align::left}, {"", Align::right}, {"", Align::right}});
  table.add({"a"});
  table.add({"b", "1", "2"});
  table.add({});
  BOOST_TEST(table.text(1) == " a\n b  1  2\n\n");
}

BOOST_AUTO_TEST_CASE(widths_are_counted_in_characters_and_not_in_bytes) {
  Table table({{"", Align::left}, {"", Align::right}});
  table.add({"µµ", "±1"});
  table.add({"abc", "22"});
  BOOST_TEST(table.text(0) == "µµ   ±1\nabc  22\n");
}

BOOST_AUTO_TEST_CASE(a_table_without_rows_is_empty) {
  Table table({{"name", Align::left}});
  BOOST_TEST(table.empty());
  table.add({"a"});
  BOOST_TEST(!table.empty());
}
