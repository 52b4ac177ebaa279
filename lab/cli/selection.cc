#include "lab/cli/selection.hh"

#include "lab/base/error.hh"
#include "lab/base/text.hh"

#include <algorithm>

namespace schedlab::cli {

namespace {

bool stands_for(const std::string& name, const harness::Lab& lab) {
  return lab.family == name || matches_glob(name, lab.name);
}

[[noreturn]] void refuse(const std::string& name) {
  std::vector<std::string> known;
  for (const auto* lab : harness::all_labs()) {
    known.emplace_back(lab->name);
    if (std::ranges::find(known, lab->family) == known.end())
      known.emplace_back(lab->family);
  }
  const auto meant = nearest(name, known);
  throw BadInput("no lab or family '" + name + "'" +
                 (meant ? "; did you mean " + *meant + "?" : "; see schedlab list"));
}

}  // namespace

std::vector<const harness::Lab*> select_labs(const std::vector<std::string>& names) {
  const auto all = harness::all_labs();
  for (const auto& name : names)
    if (std::ranges::none_of(all, [&](const auto* lab) { return stands_for(name, *lab); }))
      refuse(name);
  std::vector<const harness::Lab*> chosen;
  for (const auto* lab : all)
    if (names.empty() ||
        std::ranges::any_of(names, [&](const auto& name) { return stands_for(name, *lab); }))
      chosen.push_back(lab);
  return chosen;
}

}  // namespace schedlab::cli
