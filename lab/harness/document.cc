#include "lab/harness/document.hh"

#include <nlohmann/json.hpp>

namespace schedlab::harness {

using nlohmann::ordered_json;

namespace {

constexpr std::string_view statuses[] = {"ok", "noisy", "invalid", "skipped", "failed"};
constexpr std::string_view severities[] = {"note", "noisy", "invalid"};
constexpr std::string_view betters[] = {"lower", "higher", "none"};
constexpr std::string_view kinds[] = {"time", "rate", "count", "ratio", "size", "matrix"};
constexpr std::string_view verdicts[] = {"confirmed", "refuted", "inconclusive", "untestable"};

}  // namespace

JsonValue::JsonValue() : value_(std::make_unique<ordered_json>(ordered_json::object())) {}
JsonValue::JsonValue(ordered_json value)
    : value_(std::make_unique<ordered_json>(std::move(value))) {}
JsonValue::JsonValue(const JsonValue& other)
    : value_(std::make_unique<ordered_json>(other.get())) {}
JsonValue::JsonValue(JsonValue&& other) noexcept = default;
JsonValue& JsonValue::operator=(const JsonValue& other) {
  value_ = std::make_unique<ordered_json>(other.get());
  return *this;
}
JsonValue& JsonValue::operator=(JsonValue&& other) noexcept = default;
JsonValue::~JsonValue() = default;

bool JsonValue::operator==(const JsonValue& other) const {
  return get() == other.get();
}

std::span<const std::string_view> names_of(Status) noexcept {
  return statuses;
}
std::span<const std::string_view> names_of(Severity) noexcept {
  return severities;
}
std::span<const std::string_view> names_of(Better) noexcept {
  return betters;
}
std::span<const std::string_view> names_of(Kind) noexcept {
  return kinds;
}
std::span<const std::string_view> names_of(Verdict) noexcept {
  return verdicts;
}

}  // namespace schedlab::harness
