#pragma once
// What tests of labs ask of a plan.

#include "lab/harness/plan.hh"

#include <string>
#include <string_view>

namespace schedlab::harness {

// A parameter of a series; empty if there is none of that name.
inline std::string param_text(const SeriesPlan& series, std::string_view name) {
  for (const auto& [key, value] : series.params)
    if (key == name)
      return value;
  return "";
}

}  // namespace schedlab::harness
