#pragma once
// A matrix made ready to be drawn, and the same in blocks.

#include "lab/harness/document.hh"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::harness {

// A matrix with its shape made sure of: a file may hold fewer values than labels.
struct Grid {
  std::vector<std::string> rows;
  std::vector<std::string> columns;
  std::vector<double> cells;         // by row, NaN where nothing was measured
  std::vector<std::size_t> borders;  // ascending, each within the larger side

  [[nodiscard]] double at(std::size_t row, std::size_t column) const {
    return cells[row * columns.size() + column];
  }
  [[nodiscard]] bool is_square() const { return rows.size() == columns.size(); }
  [[nodiscard]] bool begins(std::size_t index) const {
    return std::ranges::binary_search(borders, index);
  }
  [[nodiscard]] std::size_t borders_below(std::size_t count) const {
    return static_cast<std::size_t>(std::ranges::lower_bound(borders, count) - borders.begin());
  }
};

Grid grid_of(const Matrix& matrix);

// The values without those that were not measured.
std::vector<double> measured(const std::vector<double>& cells);

// "3" of "L#3(P#7)", "0-15" of "L#0-15"; empty for labels of another kind.
std::string_view number_in(std::string_view label);

// Where blocks begin, the first at 0.
using Starts = std::vector<std::size_t>;

Starts starts_at_borders(const Grid& grid, std::size_t count);
Starts starts_every(std::size_t size, std::size_t count);

// One cell for each block, with the median of what was measured there; no borders.
Grid blocks_of(const Grid& grid, const Starts& rows, const Starts& columns);

}  // namespace schedlab::harness
