#pragma once
// What verdicts and answers ask of findings, whatever their lab.

#include "lab/base/text.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

inline harness::Judgement undecided(std::string_view needs) {
  return {harness::Verdict::inconclusive, "", std::string(needs)};
}

// Is there such a series, and what it proves of itself holds?
inline bool checks_hold(const harness::Series* series) {
  return series && std::ranges::all_of(series->checks, &harness::Check::ok);
}

// The same of one that is also neither invalid nor failed.
inline bool is_sound(const harness::Series* series) {
  return checks_hold(series) && series->status != harness::Status::invalid &&
         series->status != harness::Status::failed;
}

// A check of a series, or null.
inline const harness::Check* find_check(const harness::Series* series, std::string_view name) {
  if (series)
    for (const auto& check : series->checks)
      if (check.name == name)
        return &check;
  return nullptr;
}

// A metric that has an interval, else null.
inline const harness::Metric* bounded(const harness::Metric* metric) {
  return metric && metric->ci ? metric : nullptr;
}

// The driver that stands for all: io_uring, or epoll where that alone was measured; empty if none
// was.
inline std::string_view measured_driver(const harness::Findings& findings) {
  for (const std::string_view driver : {"io_uring", "epoll"})
    for (const auto& series : findings.result().series)
      if (series.driver == driver && !series.metrics.empty())
        return driver;
  return {};
}

// The values of a swept parameter, ascending, each once: what `number_of` gives for the series
// that count, and nothing for the others.
template <typename F>
std::vector<std::int64_t> measured_numbers(const harness::Findings& findings, F number_of) {
  std::vector<std::int64_t> numbers;
  for (const auto& series : findings.result().series)
    if (const std::optional<std::int64_t> number = number_of(series))
      numbers.push_back(*number);
  std::ranges::sort(numbers);
  numbers.erase(std::ranges::unique(numbers).begin(), numbers.end());
  return numbers;
}

// The number that ends a name which begins so.
inline std::optional<std::int64_t> number_after(std::string_view head, std::string_view name) {
  return name.starts_with(head) ? to_number(name.substr(head.size())) : std::nullopt;
}

// A parameter of a series as a whole number, if it is one.
inline std::optional<std::int64_t> whole_param(const harness::Series& series,
                                               std::string_view name) {
  return to_number(harness::param_text(series, name));
}

}  // namespace schedlab::apparatus
