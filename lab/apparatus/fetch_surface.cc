#include "lab/apparatus/fetch_surface.hh"

#include "lab/apparatus/crossover.hh"
#include "lab/base/text.hh"
#include "lab/harness/sample.hh"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace schedlab::apparatus {

namespace {

// Rows in the order of their latency.
using Row = std::pair<double, std::string>;

}  // namespace

std::string latency_name(std::int64_t us) {
  if (us == 0)
    return "0";
  return us % 1000 == 0 ? fmt::format("{}ms", us / 1000) : fmt::format("{}us", us);
}

std::string fetch_cell(std::string_view row, std::int64_t count, std::string_view method) {
  return fmt::format("{}/{}/{}", row, count, method);
}

std::string FetchCell::with(std::string_view method) const {
  return fetch_cell(row, static_cast<std::int64_t>(count), method);
}

std::vector<FetchCell> fetch_cells(const harness::Findings& findings, std::string_view method) {
  std::vector<FetchCell> cells;
  for (const auto& series : findings.result().series) {
    FetchCell one{series.name.substr(0, series.name.find('/')),
                  harness::param_number(series, "latency_us"),
                  harness::param_number(series, "fetches")};
    if (harness::find_metric(series, "batch") && series.name == one.with(method))
      cells.push_back(std::move(one));
  }
  std::ranges::sort(cells, {},
                    [](const FetchCell& one) { return std::pair(one.latency_us, one.count); });
  return cells;
}

std::string fetch_crossovers(const harness::Findings& findings, std::string_view method,
                             std::string_view other) {
  std::map<Row, std::vector<Rung>> rows;
  for (const FetchCell& one : fetch_cells(findings, method))
    rows[{one.latency_us, one.row}].push_back({one.count, one.with(method), one.with(other)});
  std::vector<std::string> parts;
  for (const auto& [row, rungs] : rows)
    if (const auto at = find_crossover(findings, rungs, "batch", harness::Better::lower))
      parts.push_back(row.second + " " + text_of(*at, "N"));
  return join(parts, "; ");
}

std::optional<harness::Matrix> fetch_surface(const harness::Findings& findings,
                                             std::string_view method, std::string_view other) {
  std::set<Row> rows;
  std::set<double> counts;
  std::map<std::pair<std::string, double>, double> shares;
  for (const FetchCell& one : fetch_cells(findings, method)) {
    rows.insert({one.latency_us, one.row});
    counts.insert(one.count);
    if (const auto ratio = findings.ratio(one.with(method), one.with(other), "batch"))
      shares[{one.row, one.count}] = ratio->value;
  }
  if (shares.empty())
    return {};
  harness::Matrix matrix;
  for (const double count : counts)
    matrix.columns.push_back(fmt::format("{:g}", count));
  for (const auto& [latency, row] : rows) {
    matrix.rows.push_back(row);
    auto& values = matrix.values.emplace_back();
    for (const double count : counts) {
      const auto found = shares.find({row, count});
      values.push_back(found == shares.end() ? harness::not_measured : found->second);
    }
  }
  return matrix;
}

}  // namespace schedlab::apparatus
