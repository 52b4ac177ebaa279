#pragma once
// From which value of a swept parameter on does one way beat another? Found in each process from
// that process's medians, so that the place has an interval.

#include "lab/harness/findings.hh"

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

// Both ways at one value of the parameter.
struct Rung {
  double at = 0;  // > 0
  std::string challenger;
  std::string reference;
};

struct Crossover {
  harness::Estimate from;  // below `first`: it wins everywhere; above `last`: not even there
  double first = 0;        // the least and the largest value that were measured
  double last = 0;

  [[nodiscard]] bool everywhere() const noexcept { return from.value < first; }
  [[nodiscard]] bool nowhere() const noexcept { return from.value > last; }
};

// The value above which the challenger is better throughout, between two rungs where the ratio of
// the two reaches 1 on logarithmic scales. `rungs` ascend. Nothing without a rung that was
// measured.
std::optional<Crossover> find_crossover(const harness::Findings& findings,
                                        std::span<const Rung> rungs, std::string_view metric,
                                        harness::Better better);

// "from depth 3.1 [2.8 3.5] on", "at every depth from 1 to 128", "at no depth from 1 to 128", "from
// an unknown depth on (anywhere from 1 to 128)".
std::string text_of(const Crossover& crossover, std::string_view parameter);

}  // namespace schedlab::apparatus
