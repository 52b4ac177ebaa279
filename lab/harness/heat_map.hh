#pragma once
#include "lab/harness/document.hh"
#include "lab/harness/lab_text.hh"

#include <string>
#include <string_view>

namespace schedlab::harness {

// A matrix for a terminal, under a title: the number in each cell, rules at its borders, "." where
// nothing was measured. ASCII; with colour, a cell's shade says once more what its text says. No
// line is wider than the options allow. What does not fit loses digits, then becomes a step of a
// scale from 0 to 9 in each cell, then one cell for each block between borders or, without
// borders, of neighbours (its median), which a line says.
std::string heat_map(std::string_view title, const Matrix& matrix, std::string_view unit,
                     const TextOptions& options);

}  // namespace schedlab::harness
