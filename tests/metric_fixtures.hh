#pragma once
// Metrics of results that nobody measured.

#include "lab/harness/document.hh"
#include "lab/harness/statistics.hh"

#include <string>
#include <vector>

namespace schedlab::harness {

// By its median in each process.
inline Metric metric(const std::string& name, const std::vector<double>& medians,
                     const std::string& unit = "") {
  Metric made;
  made.name = name;
  made.unit = unit;
  for (std::uint32_t process = 0; process < medians.size(); ++process)
    made.per_run.push_back({process, {}, 1, medians[process], {}, {}});
  made.median = median(medians);
  made.ci = median_interval(medians);
  return made;
}

// Six processes whose medians lie around a value.
inline Metric metric(const std::string& name, double value, const std::string& unit = "") {
  std::vector<double> medians;
  for (const double share : {0.98, 0.99, 1.0, 1.0, 1.01, 1.02})
    medians.push_back(share * value);
  return metric(name, medians, unit);
}

// The medians of six processes that differ by so much, up and down.
inline std::vector<double> about(double value, double scatter = 0.002) {
  return {value,
          value * (1 + scatter / 2),
          value * (1 - scatter / 2),
          value * (1 + scatter),
          value * (1 - scatter),
          value};
}

}  // namespace schedlab::harness
