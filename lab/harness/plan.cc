#include "lab/harness/plan.hh"

#include "lab/base/error.hh"
#include "lab/base/text.hh"

#include <algorithm>

namespace schedlab::harness {

namespace {

std::string preset_value(const Param& param, Preset preset) {
  switch (preset) {
  case Preset::smoke:
    return std::string(param.smoke);
  case Preset::quick:
    return std::string(param.quick);
  case Preset::full:
    break;
  }
  return std::string(param.full);
}

std::optional<std::int64_t> parse(const Param& param, std::string_view text) {
  return param.kind == Param::Kind::size ? to_size(text) : to_number(text);
}

std::vector<std::string_view> items(const Param& param, std::string_view value) {
  return param.list ? split(value, ',') : std::vector{value};
}

std::string allowed(const Param& param) {
  if (param.kind == Param::Kind::text)
    return "a text of at least one character";
  if (param.kind != Param::Kind::word)
    return "a number from " + std::to_string(param.min) + " to " + std::to_string(param.max) +
           (param.kind == Param::Kind::size ? " (K, M and G are taken)" : "");
  std::string text = param.list ? "some of" : "one of";
  for (const auto word : param.words)
    text.append(" ").append(word);
  return text;
}

bool is_allowed(const Param& param, std::string_view item) {
  if (param.kind == Param::Kind::text)
    return !item.empty();
  if (param.kind == Param::Kind::word)
    return std::ranges::find(param.words, item) != param.words.end();
  const auto number = parse(param, item);
  return number && *number >= param.min && *number <= param.max;
}

}  // namespace

std::string_view to_text(Preset preset) noexcept {
  switch (preset) {
  case Preset::smoke:
    return "smoke";
  case Preset::quick:
    return "quick";
  case Preset::full:
    break;
  }
  return "full";
}

void check_value(const Lab& lab, std::string_view param, std::string_view value) {
  const auto found = std::ranges::find(lab.params, param, &Param::name);
  if (found == lab.params.end()) {
    std::vector<std::string> names;
    for (const auto& known : lab.params)
      names.emplace_back(known.name);
    throw BadInput(std::string(lab.name) + " has no parameter '" + std::string(param) + "'" +
                   (names.empty() ? "; it has none" : "; it has " + join(names, ", ")));
  }
  const std::string where = std::string(lab.name) + "." + std::string(param);
  std::vector<std::string> given;
  for (const auto item : items(*found, value)) {
    if (!is_allowed(*found, item))
      throw BadInput(where + ": '" + std::string(item) + "' is not " + allowed(*found));
    const auto number = parse(*found, item);  // 64K and 65536 are the same
    given.push_back(number ? std::to_string(*number) : std::string(item));
    if (std::ranges::count(given, given.back()) > 1)
      throw BadInput(where + ": '" + std::string(item) + "' is given twice");
  }
}

Plan::Plan(const Lab& lab, const affinity::Topology& topology, const Settings& settings)
    : lab_(lab), topology_(topology), settings_(settings),
      placement_(affinity::parse_placement(settings.placement, topology)) {}

const Param& Plan::param(std::string_view name) const {
  const auto found = std::ranges::find(lab_.params, name, &Param::name);
  if (found == lab_.params.end())
    throw std::logic_error("no such parameter: " + std::string(name));
  return *found;
}

std::string Plan::text(std::string_view name) const {
  const auto set = settings_.values.find(std::string(name));
  return set != settings_.values.end() ? set->second : preset_value(param(name), settings_.preset);
}

std::int64_t Plan::number(std::string_view name) const {
  return numbers(name).at(0);
}

std::vector<std::string> Plan::words(std::string_view name) const {
  const std::string value = text(name);
  std::vector<std::string> result;
  for (const auto item : items(param(name), value))
    result.emplace_back(item);
  return result;
}

std::vector<std::int64_t> Plan::numbers(std::string_view name) const {
  std::vector<std::int64_t> result;
  for (const auto& word : words(name))
    result.push_back(parse(param(name), word).value());
  return result;
}

void Plan::add(SeriesPlan series) {
  if (find(series.name))
    throw std::logic_error("series planned twice: " + series.name);
  by_name_.emplace(series.name, series_.size());
  series_.push_back(std::move(series));
}

void Plan::add_absent(std::span<const affinity::Absent> absent) {
  for (const auto& [name, reason] : absent) {
    SeriesPlan series;
    series.name = name;
    series.relation = name;
    series.skip = reason;
    add(std::move(series));
  }
}

const SeriesPlan* Plan::find(std::string_view name) const noexcept {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &series_[found->second];
}

std::size_t Plan::runnable() const noexcept {
  return static_cast<std::size_t>(
      std::ranges::count_if(series_, &std::string::empty, &SeriesPlan::skip));
}

PlanOutcome plan_lab(const Lab& lab, const affinity::Topology& topology, const Settings& settings) {
  PlanOutcome outcome;
  outcome.plan = std::make_unique<Plan>(lab, topology, settings);
  const unsigned usable = topology.usable().count();
  if (usable < lab.min_cpus) {
    outcome.unsupported = "needs " + std::to_string(lab.min_cpus) + " CPUs; " +
                          std::to_string(usable) + " usable here";
    return outcome;
  }
  try {
    lab.plan(*outcome.plan);
  } catch (const Unsupported& reason) {
    outcome.unsupported = reason.what();
  }
  return outcome;
}

}  // namespace schedlab::harness
