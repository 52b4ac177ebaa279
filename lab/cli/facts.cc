#include "lab/cli/facts.hh"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace schedlab::cli {

const nlohmann::ordered_json& fact(const Facts& facts, const char* pointer) {
  static const nlohmann::ordered_json missing;
  const auto& env = facts.environment.env.get();
  const nlohmann::ordered_json::json_pointer at(pointer);
  return env.contains(at) ? env.at(at) : missing;
}

std::string text_fact(const Facts& facts, const char* pointer) {
  const auto& value = fact(facts, pointer);
  return value.is_string() ? value.get<std::string>() : "";
}

std::optional<std::int64_t> number_fact(const Facts& facts, const char* pointer) {
  const auto& value = fact(facts, pointer);
  return value.is_number() ? std::optional(value.get<std::int64_t>()) : std::nullopt;
}

std::string reason(const Facts& facts, const char* pointer) {
  std::string path = std::string("env") + pointer;
  std::ranges::replace(path, '/', '.');
  const auto found = facts.environment.unavailable.find(path);
  return found == facts.environment.unavailable.end() ? "" : found->second;
}

const harness::Warning* warning(const Facts& facts, harness::Code code) {
  const harness::Warning* worst = nullptr;
  for (const auto& one : facts.warnings)
    if (one.code == harness::info(code).name && (!worst || one.severity > worst->severity))
      worst = &one;
  return worst;
}

Finding from_warning(std::string name, const harness::Warning& warning) {
  const bool note = warning.severity == harness::Severity::note;
  return {"",
          std::move(name),
          note ? Health::note : Health::warn,
          warning.message,
          warning.evidence,
          warning.fix};
}

std::string percent(double share) {
  return fmt::format("{:.2g} %", share * 100);
}

}  // namespace schedlab::cli
