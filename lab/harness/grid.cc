#include "lab/harness/grid.hh"

#include "lab/harness/statistics.hh"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

namespace schedlab::harness {

Grid grid_of(const Matrix& matrix) {
  Grid grid{matrix.rows, matrix.columns, {}, {}};
  grid.cells.resize(grid.rows.size() * grid.columns.size(), std::nan(""));
  for (std::size_t row = 0; row < std::min(grid.rows.size(), matrix.values.size()); ++row) {
    const auto& values = matrix.values[row];
    for (std::size_t c = 0; c < std::min(grid.columns.size(), values.size()); ++c)
      grid.cells[row * grid.columns.size() + c] = values[c];
  }
  for (const std::size_t border : matrix.borders)
    if (border > 0 && border < std::max(grid.rows.size(), grid.columns.size()))
      grid.borders.push_back(border);
  std::ranges::sort(grid.borders);
  const auto again = std::ranges::unique(grid.borders);
  grid.borders.erase(again.begin(), again.end());
  return grid;
}

std::vector<double> measured(const std::vector<double>& cells) {
  std::vector<double> values;
  std::ranges::copy_if(cells, std::back_inserter(values),
                       [](double v) { return std::isfinite(v); });
  return values;
}

std::string_view number_in(std::string_view label) {
  const auto at = label.find("L#");
  if (at == std::string_view::npos)
    return {};
  const std::string_view rest = label.substr(at + 2);
  return rest.substr(0, rest.find_first_not_of("0123456789-"));
}

Starts starts_at_borders(const Grid& grid, std::size_t count) {
  Starts starts = {0};
  starts.insert(starts.end(), grid.borders.begin(),
                grid.borders.begin() + static_cast<std::ptrdiff_t>(grid.borders_below(count)));
  return starts;
}

Starts starts_every(std::size_t size, std::size_t count) {
  Starts starts;
  for (std::size_t start = 0; start < count; start += size)
    starts.push_back(start);
  return starts;
}

namespace {

// "L#0-15" for the block from "L#0(P#0)" to "L#15(P#30)".
std::vector<std::string> block_labels(const std::vector<std::string>& labels,
                                      const Starts& starts) {
  std::vector<std::string> blocks;
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const auto& first = labels[starts[i]];
    const auto& last = labels[(i + 1 < starts.size() ? starts[i + 1] : labels.size()) - 1];
    if (&first == &last)
      blocks.push_back(first);
    else if (number_in(first).empty() || number_in(last).empty())
      blocks.push_back(first + ".." + last);
    else
      blocks.push_back(fmt::format("L#{}-{}", number_in(first), number_in(last)));
  }
  return blocks;
}

}  // namespace

Grid blocks_of(const Grid& grid, const Starts& rows, const Starts& columns) {
  Grid blocks{block_labels(grid.rows, rows), block_labels(grid.columns, columns), {}, {}};
  std::vector<std::vector<double>> members(rows.size() * columns.size());
  const auto block_at = [](const Starts& starts, std::size_t index) {
    return static_cast<std::size_t>(std::ranges::upper_bound(starts, index) - starts.begin()) - 1;
  };
  for (std::size_t row = 0; row < grid.rows.size(); ++row)
    for (std::size_t column = 0; column < grid.columns.size(); ++column)
      if (const double value = grid.at(row, column); std::isfinite(value))
        members[block_at(rows, row) * columns.size() + block_at(columns, column)].push_back(value);
  for (const auto& values : members)
    blocks.cells.push_back(values.empty() ? std::nan("") : median(values));
  return blocks;
}

}  // namespace schedlab::harness
