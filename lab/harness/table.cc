#include "lab/harness/table.hh"

#include "lab/base/text.hh"

#include <algorithm>

namespace schedlab::harness {

Table::Table(std::vector<std::pair<std::string, Align>> columns) {
  for (auto& [title, align] : columns) {
    header_.push_back(std::move(title));
    align_.push_back(align);
  }
}

void Table::add(std::vector<std::string> cells) {
  cells.resize(header_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text(std::size_t indent) const {
  const bool titled =
      std::ranges::any_of(header_, [](const auto& title) { return !title.empty(); });
  std::vector<const std::vector<std::string>*> lines;
  if (titled)
    lines.push_back(&header_);
  for (const auto& row : rows_)
    lines.push_back(&row);

  std::vector<std::size_t> widths(header_.size(), 0);
  std::vector<bool> used(header_.size(), false);
  for (const auto& row : rows_)
    for (std::size_t c = 0; c < row.size(); ++c)
      used[c] = used[c] || !row[c].empty();
  for (const auto* line : lines)
    for (std::size_t c = 0; c < line->size(); ++c)
      widths[c] = std::max(widths[c], display_width((*line)[c]));

  std::string text;
  for (const auto* line : lines) {
    std::string out(indent, ' ');
    bool first = true;
    for (std::size_t c = 0; c < line->size(); ++c) {
      if (!used[c])
        continue;
      const std::string& cell = (*line)[c];
      const std::string padding(widths[c] - display_width(cell), ' ');
      out.append(first ? "" : "  ");
      out.append(align_[c] == Align::right ? padding + cell : cell + padding);
      first = false;
    }
    out.erase(out.find_last_not_of(' ') + 1);
    text.append(out).append("\n");
  }
  return text;
}

}  // namespace schedlab::harness
