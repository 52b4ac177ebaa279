#pragma once
#include "lab/cli/options.hh"

#include <cstddef>
#include <string_view>

namespace schedlab::cli {

// Writes to standard output. Throws std::system_error naming it, as on a full device.
void print(std::string_view text);

// Writes to standard error, where a failure has nowhere to go.
void say(std::string_view text) noexcept;

// Columns of the terminal on standard output; 80 without one.
std::size_t output_width() noexcept;

// May this descriptor get colour? `automatic` asks for a terminal that can, and for NO_COLOR to be
// unset or empty.
bool use_colour(Colour choice, int fd) noexcept;

}  // namespace schedlab::cli
