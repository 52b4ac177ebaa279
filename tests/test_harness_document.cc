#include "lab/harness/document_json.hh"

#include "lab/base/error.hh"
#include "lab/base/random.hh"
#include "tests/sample_document.hh"
#include "tests/sanitized.hh"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

using namespace schedlab;
using namespace schedlab::harness;
using Json = nlohmann::ordered_json;

namespace {

// What parsing complains about, or "".
std::string complaint(std::string_view text) {
  try {
    parse_document(text, "a.json");
  } catch (const BadInput& error) {
    return error.what();
  }
  return "";
}

// The complaint after one place of the full document was given another value.
std::string complaint_with(const std::string& pointer, const Json& value) {
  auto tree = Json::parse(to_json(full_document()));
  tree.at(Json::json_pointer(pointer)) = value;
  return complaint(tree.dump());
}

std::string complaint_without(const std::string& pointer, const std::string& key) {
  auto tree = Json::parse(to_json(full_document()));
  BOOST_REQUIRE(tree.at(Json::json_pointer(pointer)).erase(key) == 1u);
  return complaint(tree.dump());
}

std::string repeated(std::string_view text, std::size_t times) {
  std::string result;
  for (std::size_t i = 0; i < times; ++i)
    result += text;
  return result;
}

const std::string hop = "/labs/0/series/0/metrics/0";

}  // namespace

BOOST_AUTO_TEST_CASE(a_document_comes_back_as_it_was_written) {
  for (const Document& document : {full_document(), minimal_document(), Document()}) {
    const std::string text = to_json(document);
    const Document again = parse_document(text, "a.json");
    BOOST_TEST((again == document));
    BOOST_TEST(to_json(again) == text);
  }
}

BOOST_AUTO_TEST_CASE(every_number_comes_back_to_the_last_bit) {
  Random random(1);
  Document document = full_document();
  auto& values = document.labs[0].series[0].metrics[0].per_run[0].values;
  values = {0.1,  1.0 / 3,  5e-324, 1.7976931348623157e308, -2.5, 9007199254740993.0,
            1e22, 123456789};
  for (int i = 0; i < 2000; ++i)
    values.push_back(
        std::ldexp(static_cast<double>(random() >> 11), static_cast<int>(random.below(200)) - 150));
  const Document again = parse_document(to_json(document), "a.json");
  BOOST_TEST((again == document));
}

BOOST_AUTO_TEST_CASE(what_is_no_number_is_written_as_null) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinite = std::numeric_limits<double>::infinity();
  Document document = full_document();
  Metric& metric = document.labs[0].series[0].metrics[0];
  metric.median = nan;
  metric.ci->high = infinite;
  metric.matrix->values[0][0] = nan;
  metric.net->median = -infinite;
  document.labs[0].series[0].checks[0].seen = nan;
  document.env.get()["clock"]["read_ns"] = nan;
  const std::string text = to_json(document);
  const auto tree = nlohmann::json::parse(text);
  const auto& written = tree["labs"][0]["series"][0]["metrics"][0];
  BOOST_TEST(written["median"].is_null());
  BOOST_TEST(written["ci"].is_null());
  BOOST_TEST(written["net"]["median"].is_null());
  BOOST_TEST(tree["env"]["clock"]["read_ns"].is_null());
  const Metric again = parse_document(text, "a.json").labs[0].series[0].metrics[0];
  BOOST_TEST(!again.median);
  BOOST_TEST(std::isnan(again.matrix->values[0][0]));
  BOOST_TEST(again.matrix->values[0][1] == 51.5);
}

BOOST_AUTO_TEST_CASE(a_nan_among_samples_is_refused_when_read_back) {
  Document document = full_document();
  document.labs[0].series[0].metrics[0].per_run[0].values[1] =
      std::numeric_limits<double>::quiet_NaN();
  BOOST_TEST(complaint(to_json(document)) ==
             "a.json: " + hop + "/per_run/0/values/1: expected a number");
}

BOOST_AUTO_TEST_CASE(keys_stand_in_the_order_of_the_contract) {
  const auto tree = Json::parse(to_json(full_document()));
  const auto keys = [](const Json& object) {
    std::string all;
    for (const auto& [key, value] : object.items())
      all += key + " ";
    return all;
  };
  BOOST_TEST(keys(tree) == "schema complete run tool env unavailable labs ");
  const auto& series = tree["labs"][0]["series"][0];
  BOOST_TEST(keys(series) == "name params status reason driver placement metrics checks warnings ");
  BOOST_TEST(keys(series["metrics"][0]) ==
             "name unit better kind runs samples median ci min mad p50 p90 p99 p999 omitted "
             "per_run clean floors net matrix ");
  BOOST_TEST(keys(series["params"]) == "size mode alpha ");
}

BOOST_AUTO_TEST_CASE(samples_stand_on_one_line_and_whole_numbers_have_no_point) {
  const std::string text = to_json(full_document());
  BOOST_TEST(text.find("\"values\": [5,5.5,0.1]\n") != text.npos);
  BOOST_TEST(text.find("\"bins\": [[1,2],[129,4],[300.5,1]]\n") != text.npos);
  BOOST_TEST(text.find("\n  \"complete\": true,\n  \"run\": {\n    \"uuid\"") != text.npos);
  BOOST_TEST(text.find("\"predictions\": {\n      \"switch_cost.hop\": 1500\n") != text.npos);
  BOOST_TEST(text.back() == '\n');
}

BOOST_AUTO_TEST_CASE(text_that_is_not_utf8_is_still_strict_json) {
  Document document;
  document.run.label = "bad \xff\xfe byte";
  BOOST_TEST(parse_document(to_json(document), "a.json").run.label == "bad \uFFFD\uFFFD byte");
}

BOOST_AUTO_TEST_CASE(keys_that_are_not_known_are_ignored) {
  auto tree = Json::parse(to_json(full_document()));
  tree["future"] = {{"a", {1, 2, 3}}};
  tree["labs"][0]["series"][0]["metrics"][0]["p9999"] = "x";
  BOOST_TEST((parse_document(tree.dump(), "a.json") == full_document()));
}

BOOST_AUTO_TEST_CASE(keys_that_were_added_to_the_contract_may_be_missing) {
  BOOST_TEST(complaint_without("/run", "host") == "");
  BOOST_TEST(complaint_without("/labs/0", "warnings") == "");
}

BOOST_AUTO_TEST_CASE(a_text_that_is_not_json_is_named_with_line_and_column) {
  BOOST_TEST(complaint("") == "a.json: is empty");
  BOOST_TEST(complaint(" \n ") == "a.json: is empty");
  BOOST_TEST(complaint(std::string(100'000, '\0')) == "a.json:1:1: holds zero bytes, not JSON");
  BOOST_TEST(complaint("hello") == "a.json:1:1: not JSON");
  BOOST_TEST(complaint("{\n  \"a\": 1,\n  b\n}") == "a.json:3:3: not JSON");
  BOOST_TEST(complaint("{} {}") == "a.json:1:4: not JSON");
  BOOST_TEST(complaint("{\"a\": NaN}") == "a.json:1:7: not JSON");
  BOOST_TEST(complaint("{\"a\": 1e999}") == "a.json: holds a number that is out of range");
  BOOST_TEST(complaint("{\"a\": \"\xff\"}") == "a.json:1:8: not JSON");
}

BOOST_AUTO_TEST_CASE(a_document_cut_anywhere_is_refused_with_one_line) {
  const std::string text = to_json(full_document());
  constexpr std::size_t step = testing::address_sanitizer ? 11 : 1;
  for (std::size_t length = 1; length + 2 < text.size(); length += step) {
    const std::string seen = complaint(std::string_view(text).substr(0, length));
    BOOST_REQUIRE(seen.ends_with("ends in the middle: the file is truncated"));
    BOOST_REQUIRE(seen.find('\n') == seen.npos);
  }
  BOOST_TEST(complaint("{\n\"a\": [") == "a.json:2:7: ends in the middle: the file is truncated");
}

BOOST_AUTO_TEST_CASE(another_schema_is_named) {
  BOOST_TEST(complaint(R"({"schema": "schedlab.result/2"})") ==
             "a.json: schema is 'schedlab.result/2', this program reads schedlab.result/1");
  BOOST_TEST(complaint("{}") == "a.json: names no schema; this program reads schedlab.result/1");
  BOOST_TEST(complaint("[1, 2]") ==
             "a.json: names no schema; this program reads schedlab.result/1");
  BOOST_TEST(complaint(R"({"schema": 1})") ==
             "a.json: names no schema; this program reads schedlab.result/1");
  const std::string hostile = complaint(R"({"schema": "a\nb)" + std::string(100'000, 'x') + "\"}");
  BOOST_TEST(hostile.size() < 300u);
  BOOST_TEST(hostile.find('\n') == hostile.npos);
}

BOOST_AUTO_TEST_CASE(a_value_of_the_wrong_type_is_named_by_its_place) {
  BOOST_TEST(complaint_with(hop + "/median", "fast") ==
             "a.json: " + hop + "/median: expected a number");
  BOOST_TEST(complaint_with(hop + "/better", "up") ==
             "a.json: " + hop + "/better: expected one of lower, higher, none");
  BOOST_TEST(complaint_with("/labs/0/name", 1) == "a.json: /labs/0/name: expected a text");
  BOOST_TEST(complaint_with("/complete", 1) == "a.json: /complete: expected true or false");
  BOOST_TEST(complaint_with("/labs", Json::object()) == "a.json: /labs: expected an array");
  BOOST_TEST(complaint_with("/labs/0", 7) == "a.json: /labs/0: expected an object");
  BOOST_TEST(complaint_with("/env", nullptr) == "a.json: /env: expected an object");
  BOOST_TEST(complaint_with("/unavailable", Json::array()) ==
             "a.json: /unavailable: expected an object");
  BOOST_TEST(complaint_with("/labs/0/series/0/params/size", Json::array()) ==
             "a.json: /labs/0/series/0/params/size: expected a number or a text");
  BOOST_TEST(complaint_with(hop + "/per_run/1/histogram/bins/1", 4) ==
             "a.json: " + hop + "/per_run/1/histogram/bins/1: expected [value, count]");
  BOOST_TEST(complaint_with(hop + "/per_run/1/histogram/bins/1/0", 1) ==
             "a.json: " + hop + "/per_run/1/histogram/bins/1: expected ascending values");
  BOOST_TEST(complaint_with(hop + "/per_run/1/histogram/scale", "linear") ==
             "a.json: " + hop + "/per_run/1/histogram: expected scale log2x64");
}

BOOST_AUTO_TEST_CASE(a_number_outside_the_range_of_its_place_is_refused) {
  const std::string expected =
      "a.json: /run/processes: expected a whole number from 0 to 4294967295";
  for (const char* wrong : {"-1", "4294967296", "1.5", "1e300", "-1e300", "1e18", "null"})
    BOOST_TEST(complaint_with("/run/processes", Json::parse(wrong)) == expected);
  BOOST_TEST(complaint_with("/run/processes", 3.0) == "");
  BOOST_TEST(complaint_with("/run/processes", 4294967295u) == "");
}

BOOST_AUTO_TEST_CASE(every_missing_key_of_the_contract_is_named) {
  BOOST_TEST(complaint_without("/run", "seed") == "a.json: /run/seed: is missing");
  BOOST_TEST(complaint_without(hop, "ci") == "a.json: " + hop + "/ci: is missing");
  BOOST_TEST(complaint_without("", "labs") == "a.json: /labs: is missing");
  BOOST_TEST(complaint_without(hop + "/per_run/0", "values") ==
             "a.json: " + hop + "/per_run/0/values: is missing");
}

BOOST_AUTO_TEST_CASE(depth_and_size_of_a_hostile_file_are_refused) {
  BOOST_TEST(complaint(std::string(100'000, '[')) == "a.json:1:65: nested deeper than 64 levels");
  BOOST_TEST(complaint(repeated("{\"a\":", 100'000)) ==
             "a.json:1:321: nested deeper than 64 levels");
  BOOST_TEST(complaint(repeated("]", 100'000)) == "a.json:1:1: not JSON");
  // Brackets inside a text do not nest.
  BOOST_TEST(complaint(R"({"schema": "\")" + std::string(1000, '[') + "\"}").find("schema is") !=
             std::string::npos);
  std::string keys = "{\"k\": 1";
  for (int i = 0; i < 5000; ++i)
    keys += ",\n\"k" + std::to_string(i) + "\": 1";
  BOOST_TEST(complaint(keys + "}") == "a.json:4097:8: more than 4096 keys in an object");
}

BOOST_AUTO_TEST_CASE(a_hostile_key_does_not_break_the_line) {
  auto tree = Json::parse(to_json(full_document()));
  tree["unavailable"]["a\nb\x1b[31m" + std::string(10'000, 'k')] = 5;
  const std::string seen = complaint(tree.dump());
  BOOST_TEST(seen.starts_with("a.json: /unavailable/a?b?[31mkkk"));
  BOOST_TEST(seen.ends_with(": expected a text"));
  BOOST_TEST(seen.size() < 300u);
}

BOOST_AUTO_TEST_CASE(damaged_documents_are_refused_or_read_but_never_crash) {
  const std::string text = to_json(full_document());
  Random random(2);
  constexpr int times = testing::address_sanitizer ? 1000 : 5000;
  int refused = 0;
  for (int i = 0; i < times; ++i) {
    std::string damaged = text;
    for (std::uint64_t hits = 1 + random.below(4); hits > 0; --hits)
      damaged[random.below(damaged.size())] = static_cast<char>(random.below(256));
    refused += !complaint(damaged).empty();
  }
  BOOST_TEST(refused > times / 2);
}

BOOST_AUTO_TEST_CASE(a_file_that_cannot_be_read_is_bad_input) {
  BOOST_CHECK_THROW(read_document("/"), BadInput);
  BOOST_CHECK_THROW(read_document("/nonexistent/a.json"), BadInput);
}
