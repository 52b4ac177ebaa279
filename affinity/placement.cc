#include "affinity/placement.hh"

#include "affinity/location.hh"
#include "lab/base/error.hh"
#include "lab/base/text.hh"

#include <array>
#include <cctype>

namespace schedlab::affinity {

namespace {

constexpr std::array<Strategy, 3> strategies = {Strategy::compact, Strategy::scatter,
                                                Strategy::per_core};
constexpr std::string_view list_mark = "cpus:";

std::optional<Strategy> strategy_from(std::string_view word) {
  for (const auto strategy : strategies)
    if (word == name(strategy))
      return strategy;
  return std::nullopt;
}

// All words of the language that are no location.
std::vector<std::string> known_words() {
  std::vector<std::string> words;
  for (int i = 0; i <= static_cast<int>(Relation::unpinned); ++i)
    words.emplace_back(name(static_cast<Relation>(i)));
  words.emplace_back("all");
  for (const auto strategy : strategies)
    words.emplace_back(name(strategy));
  return words;
}

[[noreturn]] void refuse_word(std::string_view word, const Topology& topology) {
  const auto words = known_words();
  std::string text = "'" + std::string(word) + "': no such place";
  if (const auto meant = nearest(word, words))
    text += "; did you mean '" + *meant + "'?";
  throw BadInput(text + " Known are " + join(words, ", ") + ", cpus:LIST, a mask such as 0x3, " +
                 "and the objects " + existing(topology));
}

bool is_number_or_range(std::string_view text) {
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text.front())) &&
         text.find_first_not_of("0123456789-:") == std::string_view::npos;
}

// The items between commas. "cpus:" swallows the numbers that follow it.
std::vector<std::string> items_of(std::string_view text) {
  std::vector<std::string> items;
  for (const auto part : split(text, ',')) {
    const bool goes_on =
        !items.empty() && items.back().starts_with(list_mark) && is_number_or_range(trim(part));
    if (goes_on)
      items.back().append(",").append(trim(part));
    else
      items.emplace_back(trim(part));
  }
  return items;
}

Placement::Item parse_item(const std::string& item, const Topology& topology) {
  if (item == "all")
    return Placement::All{};
  if (const auto relation = relation_from(item))
    return *relation;
  if (const auto strategy = strategy_from(item))
    return *strategy;
  if (item.starts_with(list_mark))
    return Placement::Location{
        item, list_cpus(std::string_view(item).substr(list_mark.size()), topology)};
  if (is_mask(item))
    return Placement::Location{item, mask_cpus(item, topology)};
  if (item.find_first_of(":.") != std::string::npos)
    return Placement::Location{item, location_cpus(item, topology)};
  refuse_word(item, topology);
}

}  // namespace

const char* name(Strategy strategy) {
  switch (strategy) {
  case Strategy::compact:
    return "compact";
  case Strategy::scatter:
    return "scatter";
  case Strategy::per_core:
    break;
  }
  return "per-core";
}

Placement parse_placement(std::string_view text, const Topology& topology) {
  Placement placement;
  placement.text = text;
  if (trim(text).empty())
    throw BadInput("an empty placement; known are " + join(known_words(), ", ") +
                   ", cpus:LIST and the objects " + existing(topology));
  if (is_mask(trim(text))) {  // its commas are part of the number
    placement.items.push_back(parse_item(std::string(trim(text)), topology));
    return placement;
  }
  for (const auto& item : items_of(text)) {
    if (item.empty())
      throw BadInput("'" + std::string(text) + "': item " +
                     std::to_string(placement.items.size() + 1) + " is empty");
    placement.items.push_back(parse_item(item, topology));
  }
  return placement;
}

}  // namespace schedlab::affinity
