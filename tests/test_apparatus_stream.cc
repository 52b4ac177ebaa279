#include "lab/apparatus/stream.hh"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

using namespace schedlab::apparatus;

namespace {

constexpr std::array kernels = {StreamKernel::read,  StreamKernel::write, StreamKernel::copy,
                                StreamKernel::scale, StreamKernel::add,   StreamKernel::triad};
constexpr std::array sets = {VectorSet::baseline, VectorSet::avx2, VectorSet::avx512};
constexpr std::array all_stores = {Stores::ordinary, Stores::nontemporal, Stores::library};
// Around the widths of vectors, of the blocks that the kernels work in, and of pages.
constexpr std::array<std::size_t, 15> counts = {0,  1,  2,  7,  8,   9,   31,  32,
                                                33, 63, 64, 65, 257, 512, 1023};
constexpr std::size_t longest = 1023;
constexpr double scalar = 0.75;
constexpr double untouched = -77;

std::string name_of(StreamKernel kernel, Stores stores, VectorSet set) {
  return std::string(to_text(kernel)) + ", " + std::string(to_text(stores)) + " stores, " +
         std::string(to_text(set));
}

// Calls back with every kernel, kind of store and vector set that can be had here.
template <typename Body>
void for_each_pass(Body body) {
  for (const auto kernel : kernels)
    for (const auto stores : all_stores)
      for (const auto set : sets)
        if (has_stores(stores) && has_vector_set(set))
          body(kernel, stores, set);
}

// Three arrays that begin anywhere between two lines, with room on both sides.
struct Field {
  static constexpr std::size_t margin = 24;
  std::vector<double> memory = std::vector<double>(3 * (longest + 2 * margin), untouched);
  StreamArrays arrays;

  Field(std::size_t count, std::size_t offset_a, std::size_t offset_b, std::size_t offset_c) {
    double* const base = memory.data();
    constexpr std::size_t row = longest + 2 * margin;
    arrays = {base + margin / 2 + offset_a, base + row + margin / 2 + offset_b,
              base + 2 * row + margin / 2 + offset_c, count};
    for (std::size_t i = 0; i < count; ++i) {
      arrays.a[i] = 1.0 + 0.5 * static_cast<double>(i % 13);
      arrays.b[i] = 3.0 - 0.25 * static_cast<double>(i % 17);
      arrays.c[i] = untouched;
    }
  }
};

// What the definition of a kernel says, written without the kernels.
double by_definition(StreamKernel kernel, double a, double b, double c) {
  const std::array results = {c, scalar, a, scalar * a, a + b, a + scalar * b};
  return results[static_cast<std::size_t>(kernel)];
}

// Memory after a pass against memory before it, every word of it.
bool as_defined(StreamKernel kernel, const Field& before, const Field& after) {
  const StreamArrays& was = before.arrays;
  std::vector<double> expected = before.memory;
  const auto first = static_cast<std::size_t>(was.c - before.memory.data());
  for (std::size_t i = 0; i < was.count; ++i)
    expected[first + i] = by_definition(kernel, was.a[i], was.b[i], was.c[i]);
  return expected == after.memory;
}

std::uint64_t sum_of_bits(const StreamArrays& arrays) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < arrays.count; ++i)
    sum += std::bit_cast<std::uint64_t>(arrays.a[i]);
  return sum;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_variant_does_what_its_kernel_says_and_touches_nothing_else) {
  for_each_pass([](StreamKernel kernel, Stores stores, VectorSet set) {
    for (const auto count : counts)
      for (std::size_t offset = 0; offset < 8; ++offset) {
        Field before(count, offset, (offset * 3) % 8, (offset * 5 + 1) % 8);
        Field after(count, offset, (offset * 3) % 8, (offset * 5 + 1) % 8);
        const std::uint64_t sum = stream_pass(kernel, stores, set)(after.arrays, scalar);
        const bool right = as_defined(kernel, before, after) &&
                           sum == (kernel == StreamKernel::read ? sum_of_bits(before.arrays) : 0);
        BOOST_TEST(right, name_of(kernel, stores, set)
                              << ": wrong for " << count << " elements, offset " << offset);
      }
  });
}

// The control: the comparison sees one wrong element, and one written beyond the end.
BOOST_AUTO_TEST_CASE(one_wrong_word_is_seen_wherever_it_is) {
  const Field before(100, 1, 2, 3);
  for (const std::ptrdiff_t at : {-1, 0, 50, 99, 100}) {
    Field after(100, 1, 2, 3);
    stream_pass(StreamKernel::triad, Stores::ordinary)(after.arrays, scalar);
    BOOST_TEST(as_defined(StreamKernel::triad, before, after));
    after.arrays.c[at] += 0.5;
    BOOST_TEST(!as_defined(StreamKernel::triad, before, after));
  }
}

BOOST_AUTO_TEST_CASE(the_widest_set_is_one_that_this_machine_has) {
  BOOST_TEST(has_vector_set(VectorSet::baseline));
  BOOST_TEST(has_vector_set(widest_stream_set()));
  for (const auto set : sets)
    BOOST_TEST((!has_vector_set(set) || set <= widest_stream_set()));
}

BOOST_AUTO_TEST_CASE(variants_are_different_functions) {
  std::set<StreamPass> seen;
  std::size_t passes = 0;
  for_each_pass([&](StreamKernel kernel, Stores stores, VectorSet set) {
    if (stores == Stores::library) {
      const bool other =
          stream_pass(kernel, stores, set) != stream_pass(kernel, Stores::ordinary, set);
      BOOST_TEST(other == (kernel == StreamKernel::copy));
      return;
    }
    if (kernel == StreamKernel::read && stores == Stores::nontemporal) {
      BOOST_TEST(stream_pass(kernel, stores, set) == stream_pass(kernel, Stores::ordinary, set));
      return;
    }
    ++passes;
    seen.insert(stream_pass(kernel, stores, set));
  });
  BOOST_TEST(seen.size() == passes);
}

BOOST_AUTO_TEST_CASE(bytes_are_counted_by_the_rule_of_stream) {
  const std::array<std::uint64_t, 6> words = {1, 1, 2, 2, 3, 3};
  for (std::size_t i = 0; i < kernels.size(); ++i)
    BOOST_TEST(stream_bytes(kernels[i]) == words[i] * sizeof(double));
}

BOOST_AUTO_TEST_CASE(what_is_expected_is_what_a_pass_leaves) {
  for_each_pass([](StreamKernel kernel, Stores stores, VectorSet set) {
    Field field(longest, 0, 0, 0);
    fill_stream(field.arrays);
    double result = stream_c;
    for (const double s : {0.25, 3.0, 0.1}) {
      const auto sum = stream_pass(kernel, stores, set)(field.arrays, s);
      result = expected_result(kernel, s, result);
      BOOST_TEST(sum == expected_sum(kernel, longest));
      BOOST_TEST(wrong_elements(field.arrays, result) == 0u, name_of(kernel, stores, set));
    }
  });
}

// Every kernel's result differs from what was there and from every other's, so that a pass that
// was left out, or one of another kernel, is found.
BOOST_AUTO_TEST_CASE(the_results_of_the_kernels_differ) {
  std::set<double> results = {stream_c, stream_b};
  for (const auto kernel : kernels)
    if (kernel != StreamKernel::read)
      results.insert(expected_result(kernel, scalar, stream_c));
  // Write and scale of a = 1 are both s.
  BOOST_TEST(results.size() == 2u + kernels.size() - 1 - 1);
}

BOOST_AUTO_TEST_CASE(a_corrupted_array_fails_the_validation) {
  Field field(longest, 0, 0, 0);
  fill_stream(field.arrays);
  stream_pass(StreamKernel::add, Stores::ordinary)(field.arrays, scalar);
  const double right = expected_result(StreamKernel::add, scalar, stream_c);
  BOOST_TEST(wrong_elements(field.arrays, right) == 0u);
  const auto& arrays = field.arrays;
  for (double* const word : {arrays.a, arrays.b + longest / 2, arrays.c + longest - 1})
    for (const double wrong : {std::nextafter(*word, 9.0), std::nan(""), -*word}) {
      const double kept = *word;
      *word = wrong;
      BOOST_TEST(wrong_elements(field.arrays, right) == 1u);
      *word = kept;
    }
  BOOST_TEST(wrong_elements(field.arrays, right + 1) == longest);
}

BOOST_AUTO_TEST_CASE(a_corrupted_array_fails_the_sum_of_read) {
  Field field(longest, 0, 0, 0);
  fill_stream(field.arrays);
  field.arrays.a[500] = stream_b;
  for (const auto set : sets)
    if (has_vector_set(set))
      BOOST_TEST(stream_pass(StreamKernel::read, Stores::ordinary, set)(field.arrays, 0) !=
                 expected_sum(StreamKernel::read, longest));
}

BOOST_AUTO_TEST_CASE(words_name_kernels_stores_and_sets) {
  BOOST_TEST(stream_kernel_words().size() == kernels.size());
  for (const auto kernel : kernels)
    BOOST_TEST((stream_kernel_from(to_text(kernel)) == kernel));
  for (const auto stores : all_stores)
    BOOST_TEST((stores_from(to_text(stores)) == stores));
  for (const auto set : sets)
    BOOST_TEST((vector_set_from(to_text(set)) == set));
  BOOST_CHECK_THROW(stream_kernel_from("dot"), std::invalid_argument);
  BOOST_CHECK_THROW(stores_from("stream"), std::invalid_argument);
  BOOST_CHECK_THROW(vector_set_from("widest"), std::invalid_argument);
}
