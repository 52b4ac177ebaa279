#include "procs/codec.hh"

#include <boost/test/unit_test.hpp>

#include <cmath>

using namespace schedlab::procs;

namespace {

struct Plain {
  int a = 0;
  double b = 0;
  friend bool operator==(const Plain&, const Plain&) = default;
};

struct Own {
  std::string text;
  void encode(Encoder& encoder) const { schedlab::procs::encode(encoder, text + "!"); }
  static Own decode(Decoder& decoder) { return Own{schedlab::procs::decode<std::string>(decoder)}; }
};

template <typename T>
T there_and_back(const T& value) {
  Encoder encoder;
  encode(encoder, value);
  Decoder decoder(encoder.bytes());
  T back = decode<T>(decoder);
  decoder.finish();
  return back;
}

template <typename T>
T cut_short(const T& value, std::size_t missing) {
  Encoder encoder;
  encode(encoder, value);
  Decoder decoder(encoder.bytes().first(encoder.bytes().size() - missing));
  return decode<T>(decoder);
}

using WithCapture = decltype([x = 1] { return x; });
using WithoutCapture = decltype([] { return 1; });
using GenericCapture = decltype([x = 1](auto y) { return x + y; });

static_assert(Encodable<int> && Encodable<Plain> && Encodable<Own> && Encodable<std::string>);
static_assert(Encodable<std::vector<std::tuple<std::string, std::optional<Own>>>>);
static_assert(Encodable<WithoutCapture>);
static_assert(detail::refusal<int*>() == Refusal::pointer);
static_assert(detail::refusal<std::unique_ptr<int>>() == Refusal::pointer);
static_assert(detail::refusal<void (*)()>() == Refusal::pointer);
static_assert(detail::refusal<int&>() == Refusal::reference);
static_assert(detail::refusal<std::string_view>() == Refusal::view);
static_assert(detail::refusal<std::span<int>>() == Refusal::view);
static_assert(detail::refusal<std::reference_wrapper<int>>() == Refusal::view);
static_assert(detail::refusal<WithCapture>() == Refusal::capture);
static_assert(detail::refusal<GenericCapture>() == Refusal::capture);
static_assert(detail::refusal<std::function<void()>>() == Refusal::form);
static_assert(detail::refusal<std::vector<std::pair<int, char*>>>() == Refusal::pointer);
static_assert(detail::refusal<std::variant<int, std::optional<std::string_view>>>() ==
              Refusal::view);

}  // namespace

BOOST_AUTO_TEST_CASE(values_come_back_as_they_went) {
  BOOST_TEST(there_and_back(42) == 42);
  BOOST_TEST(there_and_back(true));
  BOOST_TEST(std::isnan(there_and_back(std::nan(""))));
  BOOST_TEST((there_and_back(Plain{3, 0.5}) == Plain{3, 0.5}));
  BOOST_TEST(there_and_back(std::string("a\0b", 3)) == std::string("a\0b", 3));
  BOOST_TEST(there_and_back(std::string()).empty());
  const std::vector<double> numbers = {1, 2, 3};
  BOOST_TEST(there_and_back(numbers) == numbers);
  BOOST_TEST(there_and_back(std::vector<std::string>{"x", "", "zz"}).size() == 3u);
  BOOST_TEST((there_and_back(std::vector<bool>{true, false, true}) ==
              std::vector<bool>{true, false, true}));
  BOOST_TEST((there_and_back(std::array<std::string, 2>{"a", "b"}) ==
              std::array<std::string, 2>{"a", "b"}));
  BOOST_TEST(there_and_back(Own{"call"}).text == "call!");
}

BOOST_AUTO_TEST_CASE(parts_of_nested_values_keep_their_order) {
  using Nested = std::tuple<int, std::string, std::optional<std::vector<std::pair<int, char>>>,
                            std::variant<std::monostate, int, std::string>>;
  const Nested value(7, "seven", std::vector<std::pair<int, char>>{{1, 'a'}, {2, 'b'}}, "text");
  BOOST_TEST((there_and_back(value) == value));
  const Nested empty(0, "", std::nullopt, std::monostate());
  BOOST_TEST((there_and_back(empty) == empty));
}

BOOST_AUTO_TEST_CASE(an_encoder_goes_on_in_memory_of_its_own_when_its_first_is_full) {
  std::array<std::byte, 16> first{};
  Encoder encoder(first);
  encode(encoder, std::uint64_t{1});
  encode(encoder, std::uint64_t{2});
  BOOST_TEST(encoder.in_first());
  BOOST_TEST((encoder.bytes().data() == first.data()));
  encode(encoder, std::uint64_t{3});
  BOOST_TEST(!encoder.in_first());
  Decoder decoder(encoder.bytes());
  for (const std::uint64_t expected : {1u, 2u, 3u})
    BOOST_TEST(decode<std::uint64_t>(decoder) == expected);
}

BOOST_AUTO_TEST_CASE(what_is_cut_short_or_too_long_is_refused) {
  BOOST_CHECK_THROW(cut_short(42, 1), DecodeError);
  BOOST_CHECK_THROW(cut_short(std::string("text"), 1), DecodeError);
  BOOST_CHECK_THROW(cut_short(std::vector<std::uint64_t>(100), 1), DecodeError);
  BOOST_CHECK_THROW(cut_short(std::vector<std::string>(3), 8), DecodeError);
  BOOST_CHECK_THROW(cut_short(std::optional<int>(1), 1), DecodeError);
  Encoder encoder;
  encode(encoder, 1);
  encode(encoder, 2);
  Decoder decoder(encoder.bytes());
  decode<int>(decoder);
  BOOST_CHECK_THROW(decoder.finish(), DecodeError);
}

BOOST_AUTO_TEST_CASE(a_length_that_cannot_be_takes_no_memory) {
  Encoder encoder;
  encode(encoder, std::uint64_t{1} << 60);
  Decoder text(encoder.bytes());
  BOOST_CHECK_THROW(decode<std::string>(text), DecodeError);
  Decoder numbers(encoder.bytes());
  BOOST_CHECK_THROW(decode<std::vector<int>>(numbers), DecodeError);
  Decoder pairs(encoder.bytes());
  BOOST_CHECK_THROW((decode<std::vector<std::pair<int, int>>>(pairs)), DecodeError);
}

BOOST_AUTO_TEST_CASE(an_alternative_that_is_not_there_is_refused) {
  Encoder encoder;
  encode(encoder, std::uint32_t{2});
  Decoder decoder(encoder.bytes());
  BOOST_CHECK_THROW((decode<std::variant<int, char>>(decoder)), DecodeError);
}
