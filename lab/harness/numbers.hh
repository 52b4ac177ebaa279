#pragma once
// Numbers as people read them: three significant digits, the unit that keeps them between 1 and
// 1000, ASCII only.

#include "lab/harness/document.hh"

#include <string>
#include <string_view>

namespace schedlab::harness {

// "1.42 us", "64 KiB", "3.21 GB/s", "12.3 M/s", "0.980".
std::string quantity(double value, std::string_view unit);

// How to write values of one kind alike, as in the cells of a matrix.
struct Notation {
  double factor = 1;      // values are divided by it
  std::string_view unit;  // of the quotient: "us"
  int decimals = 0;

  [[nodiscard]] std::string number(double value) const;
};

// In the unit that suits `typical`, with three significant digits of it and two of `least`.
Notation notation_for(double least, double typical, std::string_view unit);

// Both bounds in the unit of `value`: "[1.40 1.45]"; empty without an interval.
std::string bounds(double value, const std::optional<Interval>& interval, std::string_view unit);

// "1.42 us [1.40 1.45]", or without bounds where there are none.
std::string with_interval(const Metric& metric);
// As above, or "below resolution".
std::string with_interval(const Net& net, std::string_view unit);

// A ratio as "104 % [101 108]".
std::string percent(const Estimate& ratio);

}  // namespace schedlab::harness
