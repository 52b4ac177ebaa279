#include "lab/apparatus/pair_matrix.hh"

#include <cmath>
#include <map>
#include <set>

namespace schedlab::apparatus {

harness::Matrix pair_matrix(const affinity::Topology& topology,
                            std::span<const MeasuredPair> pairs) {
  std::set<unsigned> measured;
  for (const auto& [pair, ns, l3] : pairs)
    measured.insert({pair.first, pair.second});
  harness::Matrix matrix;
  std::map<unsigned, std::size_t> rows;
  const affinity::Cpu* before = nullptr;
  for (const auto& cpu : topology.cpus()) {
    if (!measured.contains(cpu.os))
      continue;
    const bool begins = before && (before->package != cpu.package || before->numa != cpu.numa ||
                                   before->l3 != cpu.l3);
    if (begins)
      matrix.borders.push_back(static_cast<std::uint32_t>(matrix.rows.size()));
    rows.emplace(cpu.os, matrix.rows.size());
    matrix.rows.push_back(topology.label(cpu.os));
    before = &cpu;
  }
  matrix.columns = matrix.rows;
  matrix.values.assign(rows.size(), std::vector<double>(rows.size(), std::nan("")));
  for (const auto& [pair, ns, l3] : pairs) {
    const std::size_t a = rows.at(pair.first), b = rows.at(pair.second);
    matrix.values[a][b] = matrix.values[b][a] = ns;
  }
  return matrix;
}

}  // namespace schedlab::apparatus
