#pragma once
#include "lab/harness/document.hh"

#include <cstddef>
#include <map>
#include <string>

namespace schedlab::harness {

struct TextOptions {
  std::size_t width = 80;
  bool colour = false;
};

// One lab's result for people: the answer first, then predictions, tables by placement, floors,
// what was skipped, warnings with their fixes, and verdicts. Made from the document alone, so that
// `run` and `show` print the same.
std::string lab_text(const LabResult& lab, const std::map<std::string, double>& predictions,
                     const TextOptions& options);

}  // namespace schedlab::harness
