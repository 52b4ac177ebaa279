// How a diagnosis is shown.
#include "lab/base/text.hh"
#include "lab/cli/doctor.hh"
#include "lab/cli/facts.hh"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace schedlab::cli {

namespace {

constexpr std::size_t name_column = 8;
constexpr std::size_t text_column = 24;

std::string coloured(Health state, const std::string& text, bool colour) {
  constexpr const char* codes[] = {"32", "33", "1;31"};
  if (!colour)
    return text;
  return fmt::format("\x1b[{}m{}\x1b[0m", codes[static_cast<std::size_t>(state)], text);
}

// Appends lines that all begin in the text column, the first behind `head`.
void append(std::string& text, std::string head, const std::string& body, std::size_t width) {
  const auto room = std::max<std::size_t>(width, text_column + 20) - text_column;
  for (const auto& line : wrap(body, room)) {
    text += head + line + "\n";
    head = std::string(text_column, ' ');
  }
}

void append(std::string& text, const Finding& finding, std::size_t width, bool colour) {
  const std::string state = fmt::format("{:<{}}", name(finding.state), name_column - 2);
  append(text,
         "  " + coloured(finding.state, state, colour) +
             fmt::format("{:<{}}", finding.name, text_column - name_column),
         finding.finding, width);
  if (!finding.fix.empty())
    append(text, fmt::format("{:<{}}fix: ", "", text_column - 5), finding.fix, width);
}

// "1 note", "2 notes"
std::string counted(const Diagnosis& diagnosis, Health state, const char* noun) {
  const auto count = std::ranges::count(diagnosis.findings, state, &Finding::state);
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

nlohmann::ordered_json evidence_json(const harness::Fields& fields) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [key, value] : fields) {
    if (const auto* number = value.number())
      json[key] = *number;
    else
      json[key] = *value.text();
  }
  return json;
}

}  // namespace

const char* name(Health health) noexcept {
  switch (health) {
  case Health::ok:
    return "ok";
  case Health::note:
    return "note";
  case Health::warn:
    break;
  }
  return "warn";
}

std::string doctor_text(const Diagnosis& diagnosis, unsigned width, bool colour) {
  std::string text;
  std::string group;
  for (const auto& finding : diagnosis.findings) {
    if (finding.group != group) {
      text += (group.empty() ? "" : "\n") + finding.group + "\n";
      group = finding.group;
    }
    append(text, finding, width, colour);
  }
  text += "\n";
  const std::string total = fmt::format(
      "{}, {}. Paired in one process for 2 s, what differs by {} or more can be "
      "told "
      "apart here; between processes it takes more. Nothing on this machine was changed.",
      counted(diagnosis, Health::warn, "warning"), counted(diagnosis, Health::note, "note"),
      percent(diagnosis.noise.smallest_difference));
  for (const auto& line : wrap(total, width))
    text += line + "\n";
  return text;
}

nlohmann::ordered_json doctor_json(const Diagnosis& diagnosis) {
  nlohmann::ordered_json findings = nlohmann::ordered_json::array();
  for (const auto& one : diagnosis.findings)
    findings.push_back(
        {{"group", one.group},
         {"name", one.name},
         {"state", name(one.state)},
         {"finding", one.finding},
         {"evidence", evidence_json(one.evidence)},
         {"fix", one.fix.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(one.fix)}});
  const auto& noise = diagnosis.noise;
  nlohmann::ordered_json interval;
  if (noise.ratio.interval)
    interval = {{"low", noise.ratio.interval->low},
                {"high", noise.ratio.interval->high},
                {"level", noise.ratio.interval->level},
                {"method", noise.ratio.interval->method}};
  return {{"schema", "schedlab.doctor/1"},
          {"findings", findings},
          {"noise_floor",
           {{"cpu", noise.cpu},
            {"pairs", noise.pairs},
            {"sample_ns", noise.sample_ns},
            {"p99_over_median", noise.tail},
            {"ratio", noise.ratio.value},
            {"ci", interval},
            {"smallest_difference", noise.smallest_difference}}}};
}

}  // namespace schedlab::cli
