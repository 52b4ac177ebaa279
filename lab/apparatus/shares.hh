#pragma once
// Shares of rare events: how many runs showed a race, how many kills tore a record. The median over
// samples says 0 of an event that happens in one sample of three; the mean of a process says 1/3.

#include "lab/harness/findings.hh"
#include "lab/harness/lab.hh"
#include "lab/harness/plan.hh"

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace schedlab::apparatus {

// Makes each process's value of these metrics (by index into the lab's) the mean of its samples;
// median and interval are then over the processes. All samples of a series have the same number of
// operations.
void pool_shares(const harness::Plan& plan, std::span<const std::size_t> metrics,
                 harness::LabResult& result);

// "31 % [28 33]", "0.3 % [0.1 0.6]", or empty.
std::string share(const harness::Findings& findings, std::string_view series,
                  std::string_view metric);

// Of a share: did it happen at all, in every process or in none?
enum class Happened : std::uint8_t { not_measured, never, sometimes, unclear };
// `unclear` where the interval begins at 0 but does not end there, or there is none.
Happened happened(const harness::Findings& findings, std::string_view series,
                  std::string_view metric);

// Did its tasks have a CPU each?
bool is_apart(const harness::Series& series);
// Was a series measured whose name begins so, and whose tasks had?
bool measured_apart(const harness::Findings& findings, std::string_view head,
                    std::string_view metric);

}  // namespace schedlab::apparatus
