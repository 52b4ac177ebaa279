#pragma once
// What fetches tell over latency and number at once: series named ROW/NUMBER/METHOD, as
// "5ms/64/io_uring", with params "latency_us" and "fetches" and a metric "batch". Pure.

#include "lab/harness/findings.hh"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::apparatus {

// "0", "250us", "5ms".
std::string latency_name(std::int64_t us);

// The name of a series.
std::string fetch_cell(std::string_view row, std::int64_t count, std::string_view method);

// A place of the surface that a method was measured in.
struct FetchCell {
  std::string row;
  double latency_us = 0;
  double count = 0;
  [[nodiscard]] std::string with(std::string_view method) const;
};

// By latency, and then by number.
std::vector<FetchCell> fetch_cells(const harness::Findings& findings, std::string_view method);

// "1ms from N 3.1 [2.8, 3.5] on; 5ms at every N from 1 to 64": where `method` takes less time than
// `other`.
std::string fetch_crossovers(const harness::Findings& findings, std::string_view method,
                             std::string_view other);

// The batch of `method` as a share of that of `other`; rows by latency, columns by number. Nothing
// if no place has both.
std::optional<harness::Matrix> fetch_surface(const harness::Findings& findings,
                                             std::string_view method, std::string_view other);

}  // namespace schedlab::apparatus
