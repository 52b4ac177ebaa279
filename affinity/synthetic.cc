#include "affinity/synthetic.hh"

#include <algorithm>
#include <charconv>
#include <limits>

namespace schedlab::affinity {

namespace {

constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
constexpr std::string_view blanks = " \t\n";

// A number as strtoul reads it with base 0, which hwloc does: a negative one is a huge one.
// What is no number counts as 1.
std::uint64_t arity(std::string_view text) noexcept {
  if (text.starts_with('-'))
    return most;
  if (text.starts_with('+'))
    text.remove_prefix(1);
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.starts_with('0')) {
    base = 8;
  }
  std::uint64_t number = 1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc::result_out_of_range ? most : number;
}

std::uint64_t product(std::uint64_t a, std::uint64_t b) noexcept {
  return b != 0 && a > most / b ? most : a * b;
}

}  // namespace

std::uint64_t described_pus(std::string_view description) noexcept {
  std::uint64_t pus = 1;
  bool at_level = true;  // where a level begins, which may be an arity without a type
  for (std::size_t i = 0; i < description.size(); ++i) {
    const char c = description[i];
    if (c == '(' || c == '[') {  // attributes, and memory that hangs beside the levels
      i = std::min(description.find(c == '(' ? ')' : ']', i), description.size() - 1);
      continue;
    }
    const bool untyped = at_level && (c == '+' || c == '-' || (c >= '0' && c <= '9'));
    if (c == ':')
      i = std::min(description.find_first_not_of(blanks, i + 1), description.size() - 1);
    if (untyped || c == ':')
      pus = product(pus, arity(description.substr(i)));
    at_level = blanks.find(c) != std::string_view::npos;
  }
  return pus;
}

}  // namespace schedlab::affinity
