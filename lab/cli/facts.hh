#pragma once
// How the checks of doctor read what was captured.

#include "lab/cli/doctor_checks.hh"
#include "lab/harness/validity.hh"

#include <nlohmann/json_fwd.hpp>

namespace schedlab::cli {

// The fact at a JSON pointer, "/power/boost"; null where it is missing.
const nlohmann::ordered_json& fact(const Facts& facts, const char* pointer);
// The same as text; empty where it is missing or no text.
std::string text_fact(const Facts& facts, const char* pointer);
std::optional<std::int64_t> number_fact(const Facts& facts, const char* pointer);
// Why it is missing.
std::string reason(const Facts& facts, const char* pointer);

// The worst warning with this code, or null.
const harness::Warning* warning(const Facts& facts, harness::Code code);

// What a warning says as a finding: a note stays a note, everything else warns.
Finding from_warning(std::string name, const harness::Warning& warning);

// "12.3 %"
std::string percent(double share);

}  // namespace schedlab::cli
