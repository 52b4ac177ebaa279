#include "lab/apparatus/node_matrix.hh"

#include "lab/apparatus/nodes.hh"
#include "lab/harness/merge.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/statistics.hh"
#include "lab/harness/validity.hh"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace schedlab::apparatus {

namespace {

using namespace harness;
using affinity::Node;
using affinity::Topology;

constexpr double beyond_doubt = 1.05;

// Where nodes lie in another package than the one before.
std::vector<std::uint32_t> borders_of(const Topology& topology, const std::vector<Node>& nodes) {
  const auto package = [&](const Node& node) {
    const auto* cpu = node.cpus.empty() ? nullptr : topology.find(node.cpus.first());
    return cpu ? cpu->package : -1;
  };
  std::vector<std::uint32_t> borders;
  for (std::uint32_t i = 1; i < nodes.size(); ++i)
    if (package(nodes[i]) != package(nodes[i - 1]))
      borders.push_back(i);
  return borders;
}

// What a cell's warnings and checks say; of each kind of warning one.
void take_over(const Series& cell, Series& folded) {
  for (const auto& warning : cell.warnings)
    if (std::ranges::find(folded.warnings, warning.code, &Warning::code) == folded.warnings.end())
      folded.warnings.push_back(warning);
  for (auto check : cell.checks) {
    check.name = fmt::format("{}: {}", cell.name, check.name);
    folded.checks.push_back(std::move(check));
  }
}

void add_if_measured(Series& series, const MetricInfo& info,
                     const std::vector<std::vector<double>>& runs) {
  if (std::ranges::any_of(runs, [](const auto& run) { return !run.empty(); }))
    series.metrics.push_back(make_metric(info, runs));
}

// One that is farther by the firmware but nearer by the cells.
struct Found {
  Node row;
  Node near;
  Node far;
  Estimate ratio;
};

Warning warning_of(const Topology& topology, const Found& found, std::size_t count) {
  const auto near = node_distance(topology, found.row.logical, found.near);
  const auto far = node_distance(topology, found.row.logical, found.far);
  return make_warning(
      Code::topology,
      {{"from", node_label(found.row)},
       {"near", node_label(found.near)},
       {"far", node_label(found.far)},
       {"near_distance", near},
       {"far_distance", far},
       {"near_to_far", found.ratio.value},
       {"contradictions", count}},
      {},
      fmt::format("from node {} the firmware calls node {} nearer than {} ({} against {}), but it "
                  "takes {} of the time",
                  node_label(found.row), node_label(found.near), node_label(found.far), near, far,
                  percent(found.ratio)));
}

}  // namespace

std::string node_cell(std::string_view what, const Node& row, const Node& column) {
  return fmt::format("{}/P#{}/P#{}", what, row.os, column.os);
}

NodeCells::NodeCells(const Topology& topology, const LabResult& result, const NodeMatrixInfo& info,
                     const std::vector<Node>& rows, std::vector<Node> columns)
    : topology_(topology), findings_(result), info_(info), columns_(std::move(columns)) {
  for (const auto& row : rows)
    if (std::ranges::any_of(columns_, [&](const Node& column) {
          const Series* series = findings_.series(node_cell(info.what, row, column));
          return series && recorded_metric(*series, info.cell.name);
        }))
      rows_.push_back(row);
}

const Metric* NodeCells::cell(const Node& row, const Node& column) const {
  return findings_.metric(node_cell(info_.what, row, column), info_.cell.name);
}

// The median over the cells for each process: those of local memory, of remote memory, or both.
NodeCells::Runs NodeCells::runs(bool of_local, bool of_remote) const {
  Runs cells;
  for (const auto& row : rows_)
    for (const auto& column : columns_)
      if (const Metric* metric = cell(row, column);
          metric && (row.os == column.os ? of_local : of_remote))
        for (const auto& run : metric->per_run) {
          cells.resize(std::max<std::size_t>(cells.size(), run.process + 1));
          if (run.median)
            cells[run.process].push_back(*run.median);
        }
  for (auto& process : cells)
    if (!process.empty())
      process.assign(1, median(process));
  return cells;
}

Matrix NodeCells::blank() const {
  Matrix matrix;
  for (const auto& row : rows_)
    matrix.rows.push_back("node " + node_label(row));
  for (const auto& column : columns_)
    matrix.columns.push_back("node " + node_label(column));
  matrix.values.assign(
      rows_.size(), std::vector<double>(columns_.size(), std::numeric_limits<double>::quiet_NaN()));
  // One list of borders serves rows and columns, which are the same where all nodes have CPUs.
  if (matrix.rows == matrix.columns)
    matrix.borders = borders_of(topology_, rows_);
  return matrix;
}

Metric NodeCells::matrix() const {
  Metric metric = make_metric(info_.cell, runs(true, true));
  metric.kind = Kind::matrix;
  metric.matrix = blank();
  for (std::size_t r = 0; r < rows_.size(); ++r)
    for (std::size_t c = 0; c < columns_.size(); ++c)
      if (const Metric* value = cell(rows_[r], columns_[c]); value && value->median)
        metric.matrix->values[r][c] = *value->median;
  return metric;
}

Series NodeCells::folded() const {
  Series series;
  series.name = fmt::format("matrix/{}", info_.what);
  series.params = {{"matrix", std::string(info_.what)}};
  series.metrics.push_back(matrix());
  const Runs near = runs(true, false);
  const Runs far = runs(false, true);
  Runs ratios(std::min(near.size(), far.size()));
  for (std::size_t process = 0; process < ratios.size(); ++process)
    if (!near[process].empty() && !far[process].empty() && near[process].front() > 0)
      ratios[process].push_back(far[process].front() / near[process].front());
  add_if_measured(series, info_.local, near);
  add_if_measured(series, info_.remote, far);
  add_if_measured(series, info_.factor, ratios);
  for (const auto& row : rows_)
    for (const auto& column : columns_)
      if (const Series* cell = findings_.series(node_cell(info_.what, row, column)))
        take_over(*cell, series);
  series.status = worst(series.warnings);
  return series;
}

std::optional<Series> NodeCells::firmware(const MetricInfo& distance) const {
  if (topology_.node_distances().empty())
    return std::nullopt;
  Metric metric;
  metric.name = distance.name;
  metric.kind = Kind::matrix;
  metric.matrix = blank();
  for (std::size_t r = 0; r < rows_.size(); ++r)
    for (std::size_t c = 0; c < columns_.size(); ++c)
      if (const auto value = node_distance(topology_, rows_[r].logical, columns_[c]); value > 0)
        metric.matrix->values[r][c] = static_cast<double>(value);
  Series series;
  series.name = "matrix/firmware";
  series.params = {{"matrix", "firmware"}};
  series.metrics.push_back(std::move(metric));
  return series;
}

std::optional<Warning> NodeCells::contradiction() const {
  std::vector<Found> found;
  for (const auto& row : rows_)
    for (const auto& near : columns_)
      for (const auto& far : columns_) {
        const auto short_way = node_distance(topology_, row.logical, near);
        if (short_way == 0 || short_way >= node_distance(topology_, row.logical, far))
          continue;
        const auto ratio = findings_.ratio(node_cell(info_.what, row, near),
                                           node_cell(info_.what, row, far), info_.cell.name);
        if (ratio && ratio->interval && ratio->interval->low > beyond_doubt)
          found.push_back({row, near, far, *ratio});
      }
  if (found.empty())
    return std::nullopt;
  const auto most =
      std::ranges::max_element(found, {}, [](const Found& one) { return one.ratio.value; });
  return warning_of(topology_, *most, found.size());
}

}  // namespace schedlab::apparatus
