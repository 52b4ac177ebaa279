#pragma once
// How answers and claims quote what was found.

#include "lab/harness/findings.hh"
#include "lab/harness/numbers.hh"

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace schedlab::apparatus {

// "1.42 us [1.40 1.45]" of a series, or empty.
inline std::string quote(const harness::Findings& findings, std::string_view series,
                         std::string_view metric) {
  const harness::Metric* found = findings.metric(series, metric);
  return found && found->median ? harness::with_interval(*found) : "";
}

// "17.3 [16.9 17.8]".
inline std::string times(const harness::Estimate& ratio) {
  std::string text = fmt::format("{:.3g}", ratio.value);
  if (ratio.interval)
    text += fmt::format(" [{:.3g} {:.3g}]", ratio.interval->low, ratio.interval->high);
  return text;
}

}  // namespace schedlab::apparatus
