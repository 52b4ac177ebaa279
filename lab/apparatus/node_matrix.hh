#pragma once
// Cells measured for pairs of nodes, folded into a matrix: rows are the nodes that read, columns
// those whose memory is read.

#include "affinity/topology.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// "latency/P#0/P#1": the series of a cell.
std::string node_cell(std::string_view what, const affinity::Node& row,
                      const affinity::Node& column);

// What a matrix is made of: the metric that is in the cells, and those of the whole.
struct NodeMatrixInfo {
  std::string_view what;  // "latency"
  harness::MetricInfo cell;
  harness::MetricInfo local;   // a node's own memory, the median of the nodes in each process
  harness::MetricInfo remote;  // another node's memory, the median of the pairs
  harness::MetricInfo factor;  // remote divided by local
};

// The cells of one matrix, as they are in a lab's merged result.
class NodeCells {
public:
  // Of the rows, those with a cell that was measured stay.
  NodeCells(const affinity::Topology& topology, const harness::LabResult& result,
            const NodeMatrixInfo& info, const std::vector<affinity::Node>& rows,
            std::vector<affinity::Node> columns);

  [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }
  // "matrix/latency": the matrix, what is local and remote, and the warnings and checks of all
  // cells. Invalid or noisy if one of them is.
  [[nodiscard]] harness::Series folded() const;
  // The firmware's distances of the same nodes, "matrix/firmware"; nothing where it gives none.
  [[nodiscard]] std::optional<harness::Series> firmware(const harness::MetricInfo& distance) const;
  // Where the firmware calls one node nearer than another and the cells, with their intervals, say
  // the reverse by more than 5 %: a TOPOLOGY warning. For cells in which less is nearer.
  [[nodiscard]] std::optional<harness::Warning> contradiction() const;

private:
  using Runs = std::vector<std::vector<double>>;
  [[nodiscard]] const harness::Metric* cell(const affinity::Node& row,
                                            const affinity::Node& column) const;
  [[nodiscard]] Runs runs(bool of_local, bool of_remote) const;
  [[nodiscard]] harness::Metric matrix() const;
  [[nodiscard]] harness::Matrix blank() const;

  const affinity::Topology& topology_;
  harness::Findings findings_;
  NodeMatrixInfo info_;
  std::vector<affinity::Node> rows_;
  std::vector<affinity::Node> columns_;
};

}  // namespace schedlab::apparatus
