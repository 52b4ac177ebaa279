#include "lab/harness/heat_map.hh"

#include "lab/base/text.hh"
#include "lab/harness/grid.hh"
#include "lab/harness/numbers.hh"
#include "lab/harness/statistics.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <optional>
#include <span>
#include <vector>

namespace schedlab::harness {

namespace {

constexpr std::size_t indent = 2;
constexpr std::size_t step_count = 10;

std::string short_label(const std::string& label) {
  const auto number = number_in(label);
  return number.empty() ? label : "L#" + std::string(number);
}

std::string bare_label(const std::string& label) {
  const auto number = number_in(label);
  return number.empty() ? label : std::string(number);
}

// Of a block the number it begins with.
std::string first_number(const std::string& label) {
  const auto number = number_in(label);
  return number.empty() ? label : std::string(number.substr(0, number.find('-')));
}

std::size_t widest(const std::vector<std::string>& texts) {
  std::size_t most = 0;
  for (const auto& text : texts)
    most = std::max(most, display_width(text));
  return most;
}

template <typename Change>
std::vector<std::string> changed(const std::vector<std::string>& labels, Change change) {
  std::vector<std::string> texts;
  std::ranges::transform(labels, std::back_inserter(texts), change);
  return texts;
}

// Ten steps of equal ratio, so that one slow pair does not make all others look alike; of equal
// difference where a value is not above zero. Values that hardly differ share few of them.
class Steps {
public:
  explicit Steps(std::span<const double> values)
      : low_(std::ranges::min(values)), high_(std::ranges::max(values)), by_ratio_(low_ > 0) {
    constexpr double least_span = 1.25;
    if (by_ratio_)
      high_ = std::max(high_, least_span * low_);
    else if (high_ == low_)
      high_ = low_ + 1;
  }

  [[nodiscard]] std::size_t of(double value) const {
    const double share = by_ratio_ ? std::log(value / low_) / std::log(high_ / low_)
                                   : (value - low_) / (high_ - low_);
    return static_cast<std::size_t>(std::clamp(share * step_count, 0.0, step_count - 1.0));
  }
  [[nodiscard]] double from(std::size_t step) const {
    const double share = static_cast<double>(step) / step_count;
    return by_ratio_ ? low_ * std::pow(high_ / low_, share) : low_ + share * (high_ - low_);
  }

private:
  double low_;
  double high_;
  bool by_ratio_;
};

// Of xterm's 256 colours, evenly lighter from step to step; with text that can be read on it.
struct Shade {
  int background;
  int text;
};
constexpr int black = 16, white = 231;
constexpr std::array<Shade, step_count> shades = {{{17, white},
                                                   {53, white},
                                                   {55, white},
                                                   {25, white},
                                                   {30, black},
                                                   {36, black},
                                                   {77, black},
                                                   {148, black},
                                                   {220, black},
                                                   {227, black}}};

// How the cells of a grid are written.
struct Layout {
  bool numbers = true;  // else steps
  int decimals = 0;
  std::vector<std::string> rows;
  std::vector<std::string> heads;
  std::size_t label = 0;  // widths
  std::size_t gap = 1;    // before each cell, and before a rule
  std::size_t cell = 1;

  [[nodiscard]] std::size_t width(const Grid& grid) const {
    return indent + label + grid.columns.size() * (gap + cell) +
           grid.borders_below(grid.columns.size()) * (gap + 1);
  }
};

class HeatMap {
public:
  HeatMap(Grid grid, std::string_view unit, const TextOptions& options)
      : grid_(std::move(grid)), options_(options), values_(measured(grid_.cells)), steps_(values_),
        notation_(notation_for(std::ranges::min(values_), median(values_), unit)) {}

  [[nodiscard]] std::string_view unit() const { return notation_.unit; }

  // Nothing if not even a character for each cell fits.
  [[nodiscard]] std::optional<std::string> text() const {
    for (const auto& layout : layouts())
      if (layout.width(grid_) <= options_.width)
        return written(layout);
    return std::nullopt;
  }

private:
  [[nodiscard]] std::string cell_text(double value, const Layout& layout) const {
    if (!std::isfinite(value))
      return ".";
    if (!layout.numbers)
      return std::to_string(steps_.of(value));
    Notation notation = notation_;
    notation.decimals = layout.decimals;
    return notation.number(value);
  }

  // From the one that says most to the narrowest.
  [[nodiscard]] std::vector<Layout> layouts() const {
    const auto full_rows =
        changed(grid_.rows, [&](const std::string& label) { return cut(label); });
    const auto short_rows =
        changed(grid_.rows, [&](auto& label) { return cut(short_label(label)); });
    const auto heads = changed(grid_.columns, short_label);
    const auto bare_heads = changed(grid_.columns, bare_label);
    const auto first_heads = changed(grid_.columns, first_number);
    std::vector<Layout> all;
    const auto add_numbers = [&](const auto& rows, const auto& columns, int decimals) {
      Layout layout{true, decimals, rows, columns, widest(rows), 1, widest(columns)};
      for (const double value : {std::ranges::min(values_), std::ranges::max(values_)})
        layout.cell = std::max(layout.cell, cell_text(value, layout).size());
      all.push_back(std::move(layout));
    };
    for (int decimals = notation_.decimals; decimals >= 0; --decimals)
      for (const auto* columns : {&heads, &bare_heads, &first_heads})
        add_numbers(full_rows, *columns, decimals);
    add_numbers(short_rows, first_heads, 0);
    for (const std::size_t gap : {1u, 0u})
      for (const auto* rows : {&full_rows, &short_rows})
        all.push_back({false, 0, *rows, first_heads, widest(*rows), gap, 1});
    // The rule keeps a cell away from its label.
    for (auto& layout : all)
      layout.label += 1 - layout.gap;
    return all;
  }

  // A label must leave room for what it labels.
  [[nodiscard]] std::string cut(const std::string& label) const {
    const std::size_t room = options_.width / 3;
    std::string text = label;
    while (display_width(text) > room)
      text.pop_back();
    return text;
  }

  [[nodiscard]] std::string written(const Layout& layout) const {
    std::string out = layout.numbers ? head(layout) : ruler(layout);
    for (std::size_t row = 0; row < grid_.rows.size(); ++row) {
      if (grid_.begins(row))
        out += rule(layout);
      out += line(layout, row);
    }
    if (!layout.numbers || options_.colour)
      out += legend(layout);
    return out;
  }

  [[nodiscard]] std::string head(const Layout& layout) const {
    std::string text(indent + layout.label, ' ');
    for (std::size_t c = 0; c < grid_.columns.size(); ++c) {
      text.append(grid_.begins(c) ? layout.gap + 1 : 0, ' ');
      text.append(layout.gap + layout.cell - display_width(layout.heads[c]), ' ');
      text.append(layout.heads[c]);
    }
    return text + "\n";
  }

  // The numbers of the first columns of blocks, or of some columns where there are no blocks.
  [[nodiscard]] std::string ruler(const Layout& layout) const {
    constexpr std::size_t stride = 8;
    std::string text(indent + layout.label, ' ');
    std::size_t at = text.size();
    for (std::size_t c = 0; c < grid_.columns.size(); ++c) {
      at += (grid_.begins(c) ? layout.gap + 1 : 0) + layout.gap;
      const bool named = c == 0 || (grid_.borders.empty() ? c % stride == 0 : grid_.begins(c));
      const bool free = text.size() < at || c == 0;
      if (named && free && at + display_width(layout.heads[c]) <= options_.width) {
        text.resize(at, ' ');
        text += layout.heads[c];
      }
      at += layout.cell;
    }
    return text + "\n";
  }

  [[nodiscard]] std::string rule(const Layout& layout) const {
    std::string text(indent + layout.label, ' ');
    for (std::size_t c = 0; c < grid_.columns.size(); ++c) {
      if (grid_.begins(c))
        text.append(layout.gap, '-').append("+");
      text.append(layout.gap + layout.cell, '-');
    }
    return text + "\n";
  }

  [[nodiscard]] std::string line(const Layout& layout, std::size_t row) const {
    std::string text(indent, ' ');
    text += layout.rows[row];
    text.append(layout.label - display_width(layout.rows[row]), ' ');
    std::optional<std::size_t> shade;
    for (std::size_t c = 0; c < grid_.columns.size(); ++c) {
      const double value = grid_.at(row, c);
      if (grid_.begins(c)) {
        change_shade(text, shade, {});
        text.append(layout.gap, ' ').append("|");
      }
      change_shade(text, shade,
                   std::isfinite(value) ? std::optional(steps_.of(value)) : std::nullopt);
      const std::string cell = cell_text(value, layout);
      text.append(layout.gap + layout.cell - cell.size(), ' ').append(cell);
    }
    change_shade(text, shade, {});
    return text + "\n";
  }

  void change_shade(std::string& text, std::optional<std::size_t>& now,
                    std::optional<std::size_t> wanted) const {
    if (!options_.colour || now == wanted)
      return;
    now = wanted;
    text += wanted ? fmt::format("\033[38;5;{};48;5;{}m", shades[*wanted].text,
                                 shades[*wanted].background)
                   : "\033[0m";
  }

  [[nodiscard]] std::string legend(const Layout& layout) const {
    std::string out(indent, ' ');
    std::size_t used = indent;
    const auto add = [&](const std::string& item, std::optional<std::size_t> step) {
      if (used + 1 + item.size() > options_.width) {
        out.append("\n").append(indent, ' ');
        used = indent;
      }
      out.append(used > indent ? " " : "");
      std::optional<std::size_t> shade;
      change_shade(out, shade, step);
      out += item;
      change_shade(out, shade, {});
      used += item.size() + 1;
    };
    for (const char* word : {"scale,", "each", "step", "from:"})
      add(word, {});
    for (std::size_t step = 0; step < step_count; ++step) {
      const std::string from = notation_.number(steps_.from(step));
      add(layout.numbers ? from : fmt::format("{}={}", step, from), step);
    }
    add("to " + notation_.number(steps_.from(step_count)), {});
    if (!notation_.unit.empty())
      add(std::string(notation_.unit), {});
    return out + "\n";
  }

  Grid grid_;
  TextOptions options_;
  std::vector<double> values_;
  Steps steps_;
  Notation notation_;
};

std::string titled(std::string_view title, std::string_view unit, const TextOptions& options) {
  const std::string text(title);
  return "  " + (options.colour ? "\033[1m" + text + "\033[0m" : text) +
         (unit.empty() ? "" : fmt::format(", {}", unit)) + "\n";
}

// A grid of blocks, with the line that says so; nothing if it does not fit either.
std::optional<std::string> in_blocks(std::string_view title, const Grid& grid, const Starts& rows,
                                     const Starts& columns, const std::string& blocks,
                                     std::string_view unit, const TextOptions& options) {
  const HeatMap map(blocks_of(grid, rows, columns), unit, options);
  const auto text = map.text();
  if (!text)
    return std::nullopt;
  std::string note;
  for (const auto& line : wrap(fmt::format("{} x {} cells do not fit: each is the median of {}",
                                           grid.rows.size(), grid.columns.size(), blocks),
                               options.width - indent))
    note += "  " + line + "\n";
  return titled(title, map.unit(), options) + note + *text;
}

}  // namespace

std::string heat_map(std::string_view title, const Matrix& matrix, std::string_view unit,
                     const TextOptions& options) {
  constexpr std::size_t most_cells = 1u << 26;  // 8192 CPUs; a file may hold anything
  if (!matrix.rows.empty() && matrix.columns.size() > most_cells / matrix.rows.size())
    return titled(title, "", options) + "  too large to draw; the result file has it\n";
  const Grid grid = grid_of(matrix);
  if (measured(grid.cells).empty())
    return titled(title, "", options) + "  no cell was measured\n";
  const HeatMap map(grid, unit, options);
  if (const auto text = map.text())
    return titled(title, map.unit(), options) + *text;
  // The rows of a matrix that is not square are things of another kind: they stay.
  const Starts all_rows = starts_every(1, grid.rows.size());
  if (grid.borders_below(grid.columns.size()) > 0) {
    const auto columns = starts_at_borders(grid, grid.columns.size());
    if (const auto text = in_blocks(title, grid, grid.is_square() ? columns : all_rows, columns,
                                    "a block between borders", unit, options))
      return *text;
  }
  for (std::size_t size = 2; size < grid.columns.size(); ++size) {
    const auto columns = starts_every(size, grid.columns.size());
    if (const auto text = in_blocks(
            title, grid, grid.is_square() ? columns : all_rows, columns,
            fmt::format("{0} x {1} neighbours", grid.is_square() ? size : 1, size), unit, options))
      return *text;
  }
  return titled(title, "", options) + "  too wide for this terminal; the result file has it\n";
}

}  // namespace schedlab::harness
