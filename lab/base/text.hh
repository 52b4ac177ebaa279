#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace schedlab {

std::string_view trim(std::string_view text);

// The parts between separators; an empty text has one empty part.
std::vector<std::string_view> split(std::string_view text, char separator);

std::string join(std::span<const std::string> parts, std::string_view separator);

// The whole text as a decimal number, else nothing.
std::optional<std::int64_t> to_number(std::string_view text);

// The number behind what begins a line: 12 behind "Pss:" in "Pss:     12 kB".
std::optional<std::int64_t> number_behind(std::string_view text, std::string_view key);

// A number of bytes: decimal digits with an optional K, M or G (powers of 1024).
std::optional<std::int64_t> to_size(std::string_view text);

// The candidate with the smallest edit distance (adjacent swaps count one), if it is close enough
// to be what the user meant.
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

// Does `name` match a pattern with * and ?
bool matches_glob(std::string_view pattern, std::string_view name);

// Columns a UTF-8 text takes in a terminal, one for each code point.
std::size_t display_width(std::string_view text);

// The same of the widest line.
std::size_t widest_line(std::string_view text);

// Breaks text into lines of at most `width` columns, at spaces.
std::vector<std::string> wrap(std::string_view text, std::size_t width);

}  // namespace schedlab
