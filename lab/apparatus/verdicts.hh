#pragma once
// What verdicts and answers ask of findings, whatever their lab.

#include "lab/base/text.hh"
#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
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

// Decided by a check: no number has to be quoted.
inline harness::Judgement refuted(std::string evidence) {
  return {harness::Verdict::refuted, std::move(evidence), ""};
}

// A check of a series, or null.
inline const harness::Check* find_check(const harness::Series* series, std::string_view name) {
  if (series)
    for (const auto& check : series->checks)
      if (check.name == name)
        return &check;
  return nullptr;
}

// Whether a series has this check and it holds, or it failed: a claim about what a check looks at
// asks for that one. That another one failed, as after a migration, says nothing of the claim.
inline bool holds(const harness::Series* series, std::string_view check) {
  const harness::Check* found = find_check(series, check);
  return found && found->ok;
}
inline bool fails(const harness::Series* series, std::string_view check) {
  const harness::Check* found = find_check(series, check);
  return found && !found->ok;
}

// What a check saw; 0 if there is none, or it saw a text.
inline double seen_number(const harness::Check* check) {
  return check && check->seen.number() ? *check->seen.number() : 0;
}

// "3 of 80": what a check saw of what it expected.
inline std::string seen_of_expected(const harness::Check& check) {
  const double* expected = check.expected.number();
  return fmt::format("{:.0f} of {:.0f}", seen_number(&check), expected ? *expected : 0);
}

// All samples of a count in all processes together, also where it made the series invalid.
inline double total_of(const harness::Series& series, std::string_view name) {
  double total = 0;
  if (const harness::Metric* metric = harness::recorded_metric(series, name))
    for (const auto& run : metric->per_run)
      for (const double value : run.values)
        total += value;
  return total;
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
