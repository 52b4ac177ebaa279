#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace schedlab::harness {

// Lines up cells in columns, two spaces apart (one before `beside`, which is left-aligned too).
// Widths are counted in code points. A title may have several lines; the last stands lowest.
class Table {
public:
  enum class Align : unsigned char { left, right, beside };

  // One entry for each column; a header row is printed only if one of them is not empty.
  explicit Table(std::vector<std::pair<std::string, Align>> columns);
  // Shorter rows are filled up with empty cells.
  void add(std::vector<std::string> cells);
  [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }
  // Each line begins with `indent` spaces and ends without any. Columns that are empty in the
  // header and every row are left out.
  [[nodiscard]] std::string text(std::size_t indent) const;

private:
  std::vector<std::string> header_;
  std::vector<Align> align_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace schedlab::harness
