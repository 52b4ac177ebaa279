#pragma once
// How a lab's answer and its claims look at the lab's own result.

#include "lab/harness/document.hh"
#include "lab/harness/statistics.hh"

#include <optional>
#include <string>
#include <string_view>

namespace schedlab::harness {

// A view of one lab's result; pure, and the same for a run and for a file.
//
// Nothing is concluded from the numbers of an invalid series: to everybody here they are as if they
// had not been measured. Its name, parameters and checks are there.
class Findings {
public:
  explicit Findings(const LabResult& result) : result_(result) {}

  [[nodiscard]] const LabResult& result() const noexcept { return result_; }
  // Null if the series does not exist, was skipped, or has no such metric; the metric also if the
  // series is invalid.
  [[nodiscard]] const Series* series(std::string_view name) const noexcept;
  [[nodiscard]] const Metric* metric(std::string_view series,
                                     std::string_view metric) const noexcept;

  // a / b and a - b of one metric, paired by process; nothing if either was not measured.
  [[nodiscard]] std::optional<Estimate> ratio(std::string_view series_a, std::string_view series_b,
                                              std::string_view metric) const;
  [[nodiscard]] std::optional<Estimate>
  difference(std::string_view series_a, std::string_view series_b, std::string_view metric) const;

private:
  const LabResult& result_;
};

// A metric of a series that is not invalid, or null.
const Metric* find_metric(const Series& series, std::string_view name) noexcept;

// The same of any series: for tables, which mark what is invalid, and for counts of the very
// failures that make a series invalid.
const Metric* recorded_metric(const Series& series, std::string_view name) noexcept;

// A parameter of a series, or null.
const Value* find_param(const Series& series, std::string_view name) noexcept;

// The same as text, a number in its shortest form; empty if there is none of that name.
std::string param_text(const Series& series, std::string_view name);

// The same as a number; 0 if there is none of that name, or a text that is none.
double param_number(const Series& series, std::string_view name);

// The median of a metric in one process; nothing if it was not measured there.
std::optional<double> median_in(const Metric& metric, std::uint32_t process) noexcept;

}  // namespace schedlab::harness
