#include "lab/cli/measured.hh"

#include "lab/base/error.hh"
#include "lab/base/text.hh"
#include "lab/harness/document_json.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

namespace schedlab::cli {

using affinity::Quantity;
using affinity::Topology;
using harness::Matrix;

namespace {

constexpr std::string_view of_cpus = "core_to_core";
constexpr std::string_view of_nodes = "numa_matrix";
constexpr double mib = 1 << 20;

void refuse_another_machine(const Topology& topology, const ResultFile& file,
                            const std::string& machine_key) {
  const std::string shape = env_text(file.document, "/topology/shape");
  if (shape != topology.shape())
    throw BadInput(fmt::format("{}: was measured on another machine: {}; the topology has {}",
                               file.path, shape.empty() ? "of no known shape" : shape,
                               topology.shape()));
  if (!machine_key.empty() && env_text(file.document, "/machine_key") != machine_key)
    throw BadInput(file.path + ": was measured on another machine of the same shape: its " +
                   "processor or memory differs (env.machine_key)");
}

// "L#3(P#7)" or "node L#0(P#1)".
struct Label {
  bool node = false;
  unsigned logical = 0;
  unsigned os = 0;
};

std::optional<Label> read_label(std::string_view text) {
  constexpr std::string_view node = "node ", logical = "L#", os = "(P#", end = ")";
  Label label;
  label.node = text.starts_with(node);
  if (label.node)
    text.remove_prefix(node.size());
  const auto middle = text.find(os);
  if (!text.starts_with(logical) || middle == std::string_view::npos || !text.ends_with(end))
    return std::nullopt;
  const auto first = to_number(text.substr(logical.size(), middle - logical.size()));
  text.remove_prefix(middle + os.size());
  text.remove_suffix(end.size());
  const auto second = to_number(text);
  constexpr std::int64_t most = 1 << 24;
  if (!first || !second || *first < 0 || *second < 0 || *first > most || *second > most)
    return std::nullopt;
  label.logical = static_cast<unsigned>(*first);
  label.os = static_cast<unsigned>(*second);
  return label;
}

bool exists(const Topology& topology, const Label& label) {
  if (label.node)
    return label.logical < topology.nodes().size() &&
           topology.nodes()[label.logical].os == label.os;
  const auto* cpu = topology.find(label.os);
  return cpu && cpu->logical == label.logical;
}

// One matrix of a file, on its way into the topology.
class Import {
public:
  Import(const Topology& topology, const Matrix& matrix, const std::string& where, bool nodes)
      : topology_(topology), matrix_(matrix), where_(where), nodes_(nodes),
        rows_(objects(matrix.rows)), columns_(objects(matrix.columns)), row_of_(places(rows_)),
        column_of_(places(columns_)) {}

  [[nodiscard]] const std::vector<unsigned>& rows() const { return rows_; }
  [[nodiscard]] const std::vector<unsigned>& columns() const { return columns_; }

  // NaN where nothing was measured.
  [[nodiscard]] double at(std::size_t row, std::size_t column) const {
    if (row >= matrix_.values.size() || column >= matrix_.values[row].size())
      return std::nan("");
    const double value = matrix_.values[row][column];
    return value >= 0 ? value : std::nan("");
  }

  // From one object to another, as hwloc's distances want it.
  [[nodiscard]] double between(unsigned from, unsigned to) const {
    const double there = found(from, to);
    if (nodes_ || std::isfinite(there))
      return there;
    return from == to ? 0 : found(to, from);
  }

  // The objects that stand in rows and columns, less those with the most gaps until none is left.
  [[nodiscard]] std::vector<unsigned> complete() const {
    std::vector<unsigned> kept;
    std::ranges::copy_if(rows_, std::back_inserter(kept),
                         [&](unsigned object) { return column_of_.contains(object); });
    std::vector<std::size_t> gaps(kept.size());
    const auto gap = [&](std::size_t a, std::size_t b) {
      return !std::isfinite(between(kept[a], kept[b])) || !std::isfinite(between(kept[b], kept[a]));
    };
    for (std::size_t a = 0; a < kept.size(); ++a)
      for (std::size_t b = 0; b < kept.size(); ++b)
        gaps[a] += gap(a, b);
    while (!kept.empty()) {
      // Of equal ones the last: the first are more often in the classes that were measured first.
      const auto most =
          static_cast<std::size_t>(gaps.rend() - std::max_element(gaps.rbegin(), gaps.rend()) - 1);
      if (gaps[most] == 0)
        break;
      for (std::size_t other = 0; other < kept.size(); ++other)
        gaps[other] -= other != most && gap(other, most);
      const auto index = static_cast<std::ptrdiff_t>(most);
      kept.erase(kept.begin() + index);
      gaps.erase(gaps.begin() + index);
    }
    return kept;
  }

private:
  [[nodiscard]] std::vector<unsigned> objects(const std::vector<std::string>& labels) const {
    std::vector<unsigned> numbers;
    std::set<unsigned> seen;
    for (const auto& text : labels) {
      const auto label = read_label(text);
      if (!label || label->node != nodes_)
        throw BadInput(fmt::format("{}: '{}' names no {}", where_, text, nodes_ ? "node" : "CPU"));
      if (!exists(topology_, *label))
        throw BadInput(where_ + ": was measured on another machine: '" + text +
                       "' is not in the topology");
      if (!seen.insert(label->os).second)
        throw BadInput(where_ + ": '" + text + "' stands there twice");
      numbers.push_back(label->os);
    }
    return numbers;
  }

  [[nodiscard]] double found(unsigned from, unsigned to) const {
    const auto row = row_of_.find(from);
    const auto column = column_of_.find(to);
    return row == row_of_.end() || column == column_of_.end() ? std::nan("")
                                                              : at(row->second, column->second);
  }

  static std::map<unsigned, std::size_t> places(const std::vector<unsigned>& objects) {
    std::map<unsigned, std::size_t> index;
    for (std::size_t i = 0; i < objects.size(); ++i)
      index[objects[i]] = i;
    return index;
  }

  const Topology& topology_;
  const Matrix& matrix_;
  std::string where_;
  bool nodes_;
  std::vector<unsigned> rows_;  // kernel numbers
  std::vector<unsigned> columns_;
  std::map<unsigned, std::size_t> row_of_;
  std::map<unsigned, std::size_t> column_of_;
};

std::uint64_t whole(double value) {
  return static_cast<std::uint64_t>(std::llround(std::min(value, 1e18)));
}

// "cas" of the series "matrix/cas"; with the metric where that alone would not tell.
std::string short_name(const harness::Series& series, const harness::Metric& metric) {
  constexpr std::string_view folder = "matrix/";
  const auto matrices = std::ranges::count_if(
      series.metrics, [](const harness::Metric& one) { return one.matrix.has_value(); });
  std::string name = series.name.starts_with(folder) ? series.name.substr(folder.size())
                     : series.name == "matrix"       ? ""
                                                     : series.name;
  if (name.empty() || matrices > 1)
    name += (name.empty() ? "" : "/") + metric.name;
  return name;
}

class Collector {
public:
  explicit Collector(const Topology& topology) : topology_(topology) {}

  // Gives the number of matrices in the file.
  std::size_t add(const ResultFile& file) {
    std::size_t count = 0;
    for (const auto& lab : file.document.labs)
      if (lab.name == of_cpus || lab.name == of_nodes)
        for (const auto& series : lab.series)
          for (const auto& metric : series.metrics)
            if (metric.matrix && (metric.unit == "ns" || metric.unit == "B/s")) {
              ++count;
              add(file.path, lab, series, metric);
            }
    return count;
  }

  Measured result() { return std::move(measured_); }

private:
  void add(const std::string& path, const harness::LabResult& lab, const harness::Series& series,
           const harness::Metric& metric) {
    const std::string name = lab.name + "/" + short_name(series, metric);
    const std::string where = path + ": " + name;
    if (!names_.insert(name).second)
      throw BadInput(where + ": is in a file named before, or twice in this one");
    const bool nodes = lab.name == of_nodes;
    const Quantity quantity = metric.unit == "ns" ? Quantity::latency : Quantity::bandwidth;
    const Import matrix(topology_, *metric.matrix, where, nodes);
    if (series.status == harness::Status::invalid) {
      measured_.notes.push_back(where + ": is marked invalid and left out");
      return;
    }
    add_distances(matrix, name, where, nodes, quantity);
    if (nodes && have_.insert(quantity).second)
      add_memory(matrix, quantity);
  }

  void add_distances(const Import& matrix, const std::string& name, const std::string& where,
                     bool nodes, Quantity quantity) {
    affinity::Distances distances;
    distances.name = "schedlab:" + name + (quantity == Quantity::latency ? ":ps" : ":MiB/s");
    distances.quantity = quantity;
    distances.of_nodes = nodes;
    distances.objects = matrix.complete();
    const std::size_t all = std::max(matrix.rows().size(), matrix.columns().size());
    const char* what = nodes ? "nodes" : "CPUs";
    if (all < 2)  // a machine of one node
      return;
    if (distances.objects.size() < 2) {
      measured_.notes.push_back(
          fmt::format("{}: no two {} with all their pairs measured: no distances", where, what));
      return;
    }
    if (distances.objects.size() < all)
      measured_.notes.push_back(
          fmt::format("{}: distances between {} of {} {}; hwloc takes no gaps", where,
                      distances.objects.size(), all, what));
    for (const unsigned from : distances.objects)
      for (const unsigned to : distances.objects) {
        const double value = matrix.between(from, to);
        distances.values.push_back(
            whole(quantity == Quantity::latency ? value * 1000 : value / mib));
      }
    measured_.annotations.distances.push_back(std::move(distances));
  }

  // Rows are where the CPUs are, columns where the memory is.
  void add_memory(const Import& matrix, Quantity quantity) {
    for (std::size_t row = 0; row < matrix.rows().size(); ++row)
      for (std::size_t column = 0; column < matrix.columns().size(); ++column) {
        const double value = matrix.at(row, column);
        const auto node =
            std::ranges::find(topology_.nodes(), matrix.rows()[row], &affinity::Node::os);
        if (std::isfinite(value) && !node->cpus.empty())
          measured_.annotations.memory.push_back(
              {quantity, matrix.columns()[column], node->cpus,
               whole(quantity == Quantity::latency ? value : value / mib)});
      }
  }

  const Topology& topology_;
  Measured measured_;
  std::set<std::string> names_;
  std::set<Quantity> have_;
};

}  // namespace

Measured measured_on(const Topology& topology, std::span<const ResultFile> files,
                     const std::string& machine_key) {
  Collector collector(topology);
  for (const auto& file : files) {
    refuse_another_machine(topology, file, machine_key);
    if (collector.add(file) == 0)
      throw BadInput(file.path + ": holds no matrix of core_to_core or numa_matrix; measure them " +
                     "with schedlab run core_to_core numa_matrix");
  }
  Measured measured = collector.result();
  if (measured.annotations.distances.empty() && measured.annotations.memory.empty())
    throw BadInput(join(measured.notes, "; "));
  return measured;
}

}  // namespace schedlab::cli
