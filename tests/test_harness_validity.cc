#include "lab/harness/validity.hh"

#include <boost/test/unit_test.hpp>
#include <set>

using namespace schedlab::harness;

BOOST_AUTO_TEST_CASE(every_code_is_found_by_its_name_and_names_are_unique) {
  std::set<std::string_view> names;
  for (const auto& row : codes) {
    BOOST_TEST(find_code(row.name) == &row);
    BOOST_TEST(&info(row.code) == &row);
    names.insert(row.name);
  }
  BOOST_TEST(names.size() == code_count);
  BOOST_TEST(find_code("steal") == nullptr);
}

BOOST_AUTO_TEST_CASE(a_message_and_a_fix_are_one_line_that_ends_in_a_stop) {
  for (const auto& row : codes)
    for (const auto text : {row.message, row.fix}) {
      BOOST_TEST(!text.empty());
      BOOST_TEST(text.back() == '.');
      BOOST_TEST(text.find('\n') == text.npos);
      BOOST_TEST(text.size() <= 100u);
    }
}

BOOST_AUTO_TEST_CASE(a_warning_takes_the_severity_of_its_code_unless_another_is_given) {
  BOOST_TEST(to_text(make_warning(Code::quota).severity) == "invalid");
  BOOST_TEST(to_text(make_warning(Code::quota, {}, Severity::note).severity) == "note");
}

BOOST_AUTO_TEST_CASE(the_detail_of_a_warning_ends_its_message) {
  const auto warning = make_warning(Code::busy, {{"load", 3.2}}, {}, "load 3.2");
  BOOST_TEST(warning.message == "Other work ran on the machine: load 3.2.");
  BOOST_TEST(make_warning(Code::busy).message == "Other work ran on the machine.");
  BOOST_TEST(warning.code == "BUSY");
  BOOST_TEST(*warning.evidence.at(0).second.number() == 3.2);
}

BOOST_AUTO_TEST_CASE(the_worst_warning_decides_and_a_note_does_not) {
  const auto note = make_warning(Code::few);
  const auto noisy = make_warning(Code::steal);
  const auto invalid = make_warning(Code::swap);
  const auto of = [](std::vector<Warning> warnings) { return to_text(worst(warnings)); };
  BOOST_TEST(of({}) == "ok");
  BOOST_TEST(of({note}) == "ok");
  BOOST_TEST(of({note, noisy}) == "noisy");
  BOOST_TEST(of({invalid, noisy, note}) == "invalid");
}

BOOST_AUTO_TEST_CASE(a_skipped_part_counts_only_if_nothing_ran_and_a_failed_one_always) {
  const auto of = [](std::vector<Status> parts) { return to_text(overall(parts)); };
  BOOST_TEST(of({}) == "skipped");
  BOOST_TEST(of({Status::skipped, Status::skipped}) == "skipped");
  BOOST_TEST(of({Status::skipped, Status::ok}) == "ok");
  BOOST_TEST(of({Status::invalid, Status::skipped, Status::noisy}) == "invalid");
  BOOST_TEST(of({Status::ok, Status::noisy}) == "noisy");
  BOOST_TEST(of({Status::failed, Status::invalid}) == "failed");
}
