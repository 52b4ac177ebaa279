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

namespace {

// The lines of a header whose titles end on the lowest line.
std::vector<std::vector<std::string>> title_lines(const std::vector<std::string>& titles) {
  std::size_t height = 0;
  for (const auto& title : titles)
    if (!title.empty())
      height = std::max(height, split(title, '\n').size());
  std::vector<std::vector<std::string>> lines(height, std::vector<std::string>(titles.size()));
  for (std::size_t c = 0; c < titles.size(); ++c) {
    const auto parts = split(titles[c], '\n');
    for (std::size_t i = 0; i < parts.size() && height > 0; ++i)
      lines[height - parts.size() + i][c] = parts[i];
  }
  return lines;
}

}  // namespace

std::string Table::text(std::size_t indent) const {
  auto lines = title_lines(header_);
  lines.insert(lines.end(), rows_.begin(), rows_.end());

  std::vector<std::size_t> widths(header_.size(), 0);
  std::vector<bool> used(header_.size(), false);
  for (const auto& row : rows_)
    for (std::size_t c = 0; c < row.size(); ++c)
      used[c] = used[c] || !row[c].empty();
  for (const auto& line : lines)
    for (std::size_t c = 0; c < line.size(); ++c)
      widths[c] = std::max(widths[c], display_width(line[c]));

  std::string text;
  for (const auto& line : lines) {
    std::string out(indent, ' ');
    bool first = true;
    for (std::size_t c = 0; c < line.size(); ++c) {
      if (!used[c])
        continue;
      const std::string padding(widths[c] - display_width(line[c]), ' ');
      out.append(first ? "" : align_[c] == Align::beside ? " " : "  ");
      out.append(align_[c] == Align::right ? padding + line[c] : line[c] + padding);
      first = false;
    }
    out.erase(out.find_last_not_of(' ') + 1);
    text.append(out).append("\n");
  }
  return text;
}

}  // namespace schedlab::harness
